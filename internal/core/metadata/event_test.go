package metadata

import (
	"fmt"
	"testing"
)

func TestHistorySurvivesASnapshotAndIsBounded(t *testing.T) {
	m := Empty()
	var err error
	for i := range 3*eventsMax + 7 {
		if m, _, err = m.Apply(m.Offset()+1, []Record{&EventRecord{Event{Time: int64(i), Kind: fmt.Sprint("event ", i), Node: 3}}}); err != nil {
			t.Fatal(err)
		}
		if n := m.history.length(); n > 2*eventsMax {
			t.Fatalf("%d events are remembered", n)
		}
	}
	decoded, err := DecodeSnapshot(m.EncodeSnapshot(nil))
	if err != nil {
		t.Fatal(err)
	}
	if !decoded.Equal(m) {
		t.Fatal("the snapshot holds another history")
	}
	last := decoded.Events(2)
	if len(last) != 2 || last[1].Kind != fmt.Sprint("event ", 3*eventsMax+6) || last[1].Offset != m.Offset() || last[0].Offset != m.Offset()-1 {
		t.Fatalf("the last events are %+v", last)
	}
	if n := len(decoded.Events(1 << 30)); n != eventsMax {
		t.Fatalf("%d events are listed", n)
	}
}

func TestImagesShareTheirPastOnly(t *testing.T) {
	base, _, _ := Empty().Apply(1, []Record{&EventRecord{Event{Kind: "a"}}})
	left, _, _ := base.Apply(2, []Record{&EventRecord{Event{Kind: "l"}}})
	right, _, _ := base.Apply(2, []Record{&EventRecord{Event{Kind: "r"}}})
	if l, r := left.Events(9), right.Events(9); len(l) != 2 || len(r) != 2 || l[1].Kind != "l" || r[1].Kind != "r" {
		t.Fatalf("left %+v, right %+v", l, r)
	}
}
