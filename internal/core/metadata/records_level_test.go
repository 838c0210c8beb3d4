package metadata

import (
	"errors"
	"testing"
)

// A node that reads less would die of the next record, or lose fields of it.
func TestALevelThatIsNotKnownIsRefused(t *testing.T) {
	known := &FeatureRecord{FeatureRecords, RecordsLevel}
	m, _, err := Empty().Apply(1, []Record{known})
	if err != nil || m.RecordsLevel() != RecordsLevel {
		t.Fatalf("level %d, %v; want %d", m.RecordsLevel(), err, RecordsLevel)
	}
	if m, err = DecodeSnapshot(m.EncodeSnapshot(nil)); err != nil || m.RecordsLevel() != RecordsLevel {
		t.Fatalf("out of a snapshot: %v", err)
	}
	later := &FeatureRecord{FeatureRecords, RecordsLevel + 1}
	if _, _, err := m.Apply(2, []Record{later}); !errors.Is(err, ErrNewer) {
		t.Errorf("a later level: %v", err)
	}
	m.features[FeatureRecords]++
	if _, err := DecodeSnapshot(m.EncodeSnapshot(nil)); !errors.Is(err, ErrNewer) || errors.Is(err, ErrCorrupt) {
		t.Errorf("a snapshot of a later level: %v", err)
	}
}
