package history

import (
	"testing"
	"time"
)

var begin = time.Unix(1000, 0)

func at(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }

func id(producer uint32, seq uint64) ID { return ID{producer, seq} }

func ack(i ID, p Place, offset int64, from, to int) Send {
	return Send{ID: i, Place: p, Begin: at(from), End: at(to), Outcome: Acked, Offset: offset}
}

// Each case is one broken promise that Check must name, and nothing else.
func TestCheckFindsEachBrokenPromise(t *testing.T) {
	p := Place{"t", 0}
	a, b, c := id(1, 1), id(1, 2), id(1, 3)
	all := []Send{ack(a, p, 0, 0, 1), ack(b, p, 1, 2, 3), ack(c, p, 2, 4, 5)}
	log := []Record{{0, a}, {1, b}, {2, c}}
	cases := map[string]struct {
		sends []Send
		reads []Read
		final []Record
	}{
		"":                     {all, []Read{{p, log}}, log},
		"lost-write":           {all, nil, log[:2]},
		"inconsistent-offsets": {[]Send{all[0], ack(b, p, 1, 2, 3), {ID: c, Place: p}}, nil, []Record{{0, a}, {1, c}}},
		"duplicate":            {all, nil, append(log[:3:3], Record{3, c})},
		"refused-read":         {[]Send{all[0], {ID: b, Place: p, Outcome: Refused}}, nil, log[:2]},
		"vanished-read":        {all[:2], []Read{{p, log}}, log[:2]},
		"foreign-read":         {all[:2], nil, log},
		"nonmonotonic-send":    {[]Send{{ID: a, Place: p}, {ID: b, Place: p}}, nil, []Record{{0, b}, {1, a}}},
		"realtime-order":       {[]Send{ack(a, p, 1, 0, 1), ack(id(2, 1), p, 0, 2, 3)}, nil, []Record{{0, id(2, 1)}, {1, a}}},
		"nonmonotonic-poll":    {all, []Read{{p, []Record{{1, b}, {0, a}}}}, log},
		"poll-skip":            {all, []Read{{p, []Record{{0, a}, {2, c}}}}, log},
	}
	for want, tc := range cases {
		found := Check(tc.sends, tc.reads, map[Place][]Record{p: tc.final}, Promise{Once: true, Ordered: true})
		var kinds []string
		for _, v := range found {
			kinds = append(kinds, v.Kind)
		}
		switch {
		case want == "" && len(found) > 0:
			t.Errorf("sound history: found %v", found)
		case want != "" && (len(found) != 1 || kinds[0] != want):
			t.Errorf("%s: found %v", want, found)
		}
	}
}

func TestCheckAllowsWhatIsLegal(t *testing.T) {
	p := Place{"t", 0}
	a, b := id(1, 1), id(1, 2)
	sends := []Send{ack(a, p, 0, 0, 1), {ID: b, Place: p}, ack(id(2, 1), p, 7, 0, 9)}
	// An unknown record is there, offsets have a gap, and what was below the log start is gone.
	final := map[Place][]Record{p: {{3, b}, {7, id(2, 1)}}}
	if found := Check(sends, nil, final, Promise{Once: true, Ordered: true, LogStart: map[Place]int64{p: 3}}); len(found) > 0 {
		t.Error(found)
	}
}

func TestLongestGap(t *testing.T) {
	p := Place{"t", 0}
	var h History
	for i, ms := range []int{1, 2, 40, 41} {
		h.Sent(ack(id(1, uint64(i)), p, int64(i), 0, ms))
	}
	if got := h.LongestGap()[p]; got != 38*time.Millisecond {
		t.Error(got)
	}
}

func TestWatchesMayOnlyGrow(t *testing.T) {
	watch := func(value int64, from, to int) Watch {
		return Watch{Kind: HighWatermark, Key: "t-0", Begin: at(from), End: at(to), Value: value}
	}
	sound := []Watch{watch(5, 0, 10), watch(3, 5, 20), watch(5, 11, 12), watch(9, 13, 14), watch(9, 15, 16)}
	if found := CheckWatches(sound, 5); len(found) > 0 {
		t.Errorf("sound: %v", found)
	}
	found := CheckWatches(append(sound, watch(8, 15, 30)), 5)
	if len(found) != 1 || found[0].Kind != "high-watermark-went-back" {
		t.Errorf("8 after 9: %v", found)
	}
	if found := CheckWatches(append(sound, EndsOf([]Send{ack(id(1, 1), Place{"t", 0}, 3, 20, 21)})...), 5); len(found) != 0 {
		t.Errorf("of another partition's name: %v", found)
	}
}

func TestUnseenRecordsAreFound(t *testing.T) {
	p := Place{"t", 0}
	final := map[Place][]Record{p: {{0, id(1, 1)}, {1, id(1, 2)}}}
	if found := CheckSeen("g", final, map[Place]map[int64]bool{p: {0: true}}); len(found) != 1 || found[0].Kind != "unseen" {
		t.Error(found)
	}
	if found := CheckSeen("g", final, map[Place]map[int64]bool{p: {0: true, 1: true}}); len(found) != 0 {
		t.Error(found)
	}
}
