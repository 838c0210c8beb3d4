package metadata

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
)

// EncodeSnapshot appends the whole image to dst. Equal images give equal bytes.
func (m *Image) EncodeSnapshot(dst []byte) []byte {
	dst = append(dst, snapshotMagic[:]...)
	dst = append(dst, snapshotVersion)
	dst = binary.AppendVarint(dst, int64(m.offset))
	return EncodeBatch(dst, m.Records())
}

// DecodeSnapshot reads what EncodeSnapshot wrote. Errors are ErrCorrupt and ErrNewer.
func DecodeSnapshot(b []byte) (*Image, error) {
	if len(b) < 6 || !bytes.Equal(b[:4], snapshotMagic[:]) {
		return nil, fmt.Errorf("decode metadata snapshot: %w: no header", ErrCorrupt)
	}
	if b[4] > snapshotVersion {
		return nil, fmt.Errorf("decode metadata snapshot: %w: version %d", ErrNewer, b[4])
	}
	offset, n := binary.Varint(b[5:])
	if n <= 0 || offset < int64(kafka.NoOffset) {
		return nil, fmt.Errorf("decode metadata snapshot: %w: offset", ErrCorrupt)
	}
	records, err := DecodeBatch(b[5+n:])
	if err != nil {
		return nil, fmt.Errorf("decode metadata snapshot: %w", err)
	}
	empty := Empty()
	empty.offset = kafka.Offset(offset) - 1
	m, _, err := empty.Apply(kafka.Offset(offset), records)
	if errors.Is(err, ErrNewer) {
		return nil, fmt.Errorf("decode metadata snapshot: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("decode metadata snapshot: %w: %w", ErrCorrupt, err)
	}
	return m, nil
}

// Records returns records that make an equal image out of an empty one.
func (m *Image) Records() []Record {
	var records []Record
	if m.clusterID != "" {
		records = append(records, &ClusterRecord{m.clusterID})
	}
	for _, name := range m.Features() {
		records = append(records, &FeatureRecord{name, m.features[name]})
	}
	if m.nextProducer != 0 && !mutant.On(mutant.SnapshotWithoutProducerIDs) {
		records = append(records, &ProducerIDsRecord{m.nextProducer})
	}
	for _, b := range m.Brokers() {
		records = append(records, &BrokerRecord{b})
	}
	for _, t := range m.Topics() {
		records = append(records, &TopicRecord{t.ID, t.Name})
		for i, p := range t.Partitions {
			if mutant.On(mutant.SnapshotWithoutEligible) {
				poor := *p
				poor.EligibleLeader = nil
				p = &poor
			}
			records = append(records, &PartitionRecord{t.ID, int32(i), p})
		}
	}
	for _, r := range m.ConfigResources() {
		values := m.configs[r]
		if mutant.On(mutant.SnapshotWithoutConfigs) {
			break
		}
		for _, key := range slices.Sorted(maps.Keys(values)) {
			records = append(records, &ConfigRecord{Resource: r, Key: key, Value: values[key]})
		}
	}
	for _, e := range m.Events(eventsMax) {
		records = append(records, &EventRecord{e})
	}
	return records
}

// Equal says whether both images hold the same at the same offset.
func (m *Image) Equal(o *Image) bool {
	return bytes.Equal(m.EncodeSnapshot(nil), o.EncodeSnapshot(nil))
}

// Diff returns what differs between two images, as if one batch of records
// had led from the one to the other: for a node that takes over a snapshot.
// Topics and partitions are in the order of topic names, deleted ones first.
func Diff(from, to *Image) *Delta {
	d := &Delta{From: from, To: to}
	for _, t := range from.Topics() {
		if to.topics[t.ID] == nil {
			d.Topics = append(d.Topics, TopicDelta{Old: t})
			d.diffPartitions(t, nil)
		}
	}
	for _, t := range to.Topics() {
		old := from.topics[t.ID]
		if old == nil {
			d.Topics = append(d.Topics, TopicDelta{New: t})
		}
		if old != t {
			d.diffPartitions(old, t)
		}
	}
	d.diffBrokers()
	d.diffConfigs()
	return d
}

func (d *Delta) diffPartitions(from, to *Topic) {
	t := to
	if t == nil {
		t = from
	}
	for i := range max(from.count(), to.count()) {
		before, after := from.Partition(int32(i)), to.Partition(int32(i))
		if !before.Equal(after) {
			d.Partitions = append(d.Partitions, PartitionDelta{
				Topic: t.ID, Name: t.Name, Partition: int32(i), Old: before, New: after,
			})
		}
	}
}

func (t *Topic) count() int {
	if t == nil {
		return 0
	}
	return len(t.Partitions)
}

func (d *Delta) diffBrokers() {
	for _, b := range d.From.Brokers() {
		if d.To.brokers[b.ID] == nil {
			d.Brokers = append(d.Brokers, BrokerDelta{Node: b.ID, Old: b})
		}
	}
	for _, b := range d.To.Brokers() {
		if old := d.From.brokers[b.ID]; old == nil || *old != *b {
			d.Brokers = append(d.Brokers, BrokerDelta{Node: b.ID, Old: old, New: b})
		}
	}
	slices.SortFunc(d.Brokers, func(a, b BrokerDelta) int { return cmp.Compare(a.Node, b.Node) })
}

func (d *Delta) diffConfigs() {
	for _, r := range d.From.ConfigResources() {
		if !maps.Equal(d.From.configs[r], d.To.configs[r]) {
			d.Configs = append(d.Configs, r)
		}
	}
	for _, r := range d.To.ConfigResources() {
		if d.From.configs[r] == nil {
			d.Configs = append(d.Configs, r)
		}
	}
	slices.SortFunc(d.Configs, ConfigResource.compare)
}
