package fetchsession_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/host/fetchsession"
)

var start = time.Unix(1_800_000_000, 0)

func newCache(slots int) *fetchsession.Cache {
	return fetchsession.New(fetchsession.Options{SlotsMax: slots}, rand.New(rand.NewPCG(1, 2)))
}

func key(n int32) fetchsession.Key { return fetchsession.Key{Topic: "t", Partition: n} }

func at(n int32, offset kafka.Offset) fetchsession.Partition {
	return fetchsession.Partition{Key: key(n), Offset: offset, MaxBytes: 100}
}

// open makes a session of the partitions 0 to n-1 and returns its id.
func open(t *testing.T, c *fetchsession.Cache, now time.Time, n int32) int32 {
	t.Helper()
	var r fetchsession.Request
	for i := range n {
		r.Partitions = append(r.Partitions, at(i, 0))
	}
	f, code := c.Begin(now, r, nil)
	if code != kafka.None {
		t.Fatalf("a full fetch was refused: %v", code)
	}
	id, code := f.Finish(now, make([]fetchsession.Outcome, n))
	if code != kafka.None {
		t.Fatalf("a full fetch cannot end: %v", code)
	}
	return id
}

func TestACacheWithoutSlotsMakesNoSessions(t *testing.T) {
	c := newCache(-1)
	if id := open(t, c, start, 3); id != fetchsession.NoSession {
		t.Errorf("session %d was made", id)
	}
}

func TestUnchangedPartitionsAreNotTold(t *testing.T) {
	c := newCache(10)
	id := open(t, c, start, 3)
	f, code := c.Begin(start, fetchsession.Request{ID: id, Epoch: 1, Partitions: []fetchsession.Partition{at(3, 7)}, Forgotten: []fetchsession.Key{key(1)}}, nil)
	if code != kafka.None || len(f.Partitions) != 3 {
		t.Fatalf("got %v and %d partitions, want 3: 0, 2 and 3", code, len(f.Partitions))
	}
	outcomes := make([]fetchsession.Outcome, 3)
	outcomes[1].HighWatermark = 5
	if got, code := f.Finish(start, outcomes); got != id || code != kafka.None {
		t.Fatalf("Finish = %d, %v", got, code)
	}
	if outcomes[0].Tell || !outcomes[1].Tell || !outcomes[2].Tell {
		t.Errorf("told %v: want the one whose high watermark moved and the new one", outcomes)
	}
}

func TestErrorsAreToldEachTimeAndRecoveryOnce(t *testing.T) {
	c := newCache(10)
	id := open(t, c, start, 1)
	for epoch, step := range []struct {
		outcome fetchsession.Outcome
		tell    bool
	}{
		{fetchsession.Outcome{}, false},
		{fetchsession.Outcome{Failed: true, HighWatermark: -1, LogStart: -1}, true},
		{fetchsession.Outcome{Failed: true, HighWatermark: -1, LogStart: -1}, true},
		{fetchsession.Outcome{}, true},
		{fetchsession.Outcome{}, false},
		{fetchsession.Outcome{MustTell: true}, true},
		{fetchsession.Outcome{HasRecords: true}, true},
	} {
		f, code := c.Begin(start, fetchsession.Request{ID: id, Epoch: int32(epoch) + 1}, nil)
		if code != kafka.None {
			t.Fatalf("step %d: %v", epoch, code)
		}
		o := []fetchsession.Outcome{step.outcome}
		f.Finish(start, o)
		if o[0].Tell != step.tell {
			t.Errorf("step %d: told %v, want %v", epoch, o[0].Tell, step.tell)
		}
	}
}

func TestPartitionsWithRecordsGoToTheEnd(t *testing.T) {
	c := newCache(10)
	id := open(t, c, start, 3)
	f, _ := c.Begin(start, fetchsession.Request{ID: id, Epoch: 1}, nil)
	f.Finish(start, []fetchsession.Outcome{{HasRecords: true}, {}, {}})
	f, _ = c.Begin(start, fetchsession.Request{ID: id, Epoch: 2}, nil)
	for i, want := range []int32{1, 2, 0} {
		if f.Partitions[i].Partition != want {
			t.Fatalf("partition %d comes at place %d, want %d", f.Partitions[i].Partition, i, want)
		}
	}
}

func TestSessionsAreRefusedAsKafkaDoes(t *testing.T) { // bad-input 5.4: fetch session unknown, wrong epoch, topic-id mix
	c := newCache(10)
	id := open(t, c, start, 1)
	for _, tt := range []struct {
		name string
		r    fetchsession.Request
		want kafka.ErrorCode
	}{
		{"unknown id", fetchsession.Request{ID: id + 1, Epoch: 1}, kafka.ErrFetchSessionIDNotFound},
		{"no id", fetchsession.Request{ID: 0, Epoch: 1}, kafka.ErrFetchSessionIDNotFound},
		{"epoch too high", fetchsession.Request{ID: id, Epoch: 2}, kafka.ErrInvalidFetchSessionEpoch},
		{"epoch below -1", fetchsession.Request{ID: id, Epoch: -2}, kafka.ErrInvalidFetchSessionEpoch},
		{"topic ids in a session of names", fetchsession.Request{ID: id, Epoch: 1, ByID: true}, kafka.ErrFetchSessionTopicIDError},
	} {
		if _, code := c.Begin(start, tt.r, nil); code != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, code, tt.want)
		}
	}
	if _, code := c.Begin(start, fetchsession.Request{ID: id, Epoch: 1}, nil); code != kafka.None {
		t.Errorf("the session is not usable after refusals: %v", code)
	}
	if _, code := c.Begin(start, fetchsession.Request{ID: id, Epoch: 1}, nil); code != kafka.ErrInvalidFetchSessionEpoch {
		t.Errorf("an epoch was taken twice: %v", code)
	}
}

func TestALaterRequestVoidsTheOneUnderWay(t *testing.T) {
	c := newCache(10)
	id := open(t, c, start, 1)
	first, _ := c.Begin(start, fetchsession.Request{ID: id, Epoch: 1}, nil)
	second, _ := c.Begin(start, fetchsession.Request{ID: id, Epoch: 2}, nil)
	if _, code := first.Finish(start, make([]fetchsession.Outcome, 1)); code != kafka.ErrInvalidFetchSessionEpoch {
		t.Errorf("the first ended with %v", code)
	}
	if _, code := second.Finish(start, make([]fetchsession.Outcome, 1)); code != kafka.None {
		t.Errorf("the second ended with %v", code)
	}
}

func TestASessionEndsWithAFullRequestOrWithNothingLeft(t *testing.T) {
	c := newCache(10)
	id := open(t, c, start, 2)
	if _, code := c.Begin(start, fetchsession.Request{ID: id, Epoch: 1, Forgotten: []fetchsession.Key{key(0), key(1)}}, nil); code != kafka.None {
		t.Fatal(code)
	}
	if n, p := c.Len(); n != 0 || p != 0 {
		t.Errorf("%d sessions with %d partitions left of a session without partitions", n, p)
	}
	id = open(t, c, start, 2)
	f, _ := c.Begin(start, fetchsession.Request{ID: id, Epoch: fetchsession.EpochFinal, Partitions: []fetchsession.Partition{at(0, 0)}}, nil)
	if got, _ := f.Finish(start, make([]fetchsession.Outcome, 1)); got != fetchsession.NoSession {
		t.Errorf("a final request made session %d", got)
	}
	if n, p := c.Len(); n != 0 || p != 0 {
		t.Errorf("%d sessions with %d partitions left after a final request", n, p)
	}
}

func TestSlotsAreBounded(t *testing.T) {
	c := newCache(2)
	small, large := open(t, c, start, 1), open(t, c, start, 5)
	if id := open(t, c, start.Add(time.Second), 9); id != fetchsession.NoSession {
		t.Fatalf("session %d evicted a young one", id)
	}
	later := start.Add(119 * time.Second)
	for _, id := range []int32{small, large} {
		if _, code := c.Begin(later, fetchsession.Request{ID: id, Epoch: 1}, nil); code != kafka.None {
			t.Fatal(code)
		}
	}
	later = start.Add(125 * time.Second)
	if id := open(t, c, later, 1); id != fetchsession.NoSession {
		t.Fatal("a session evicted one that is not smaller")
	}
	if id := open(t, c, later, 2); id == fetchsession.NoSession {
		t.Fatal("a session did not evict an older, smaller one")
	}
	if _, code := c.Begin(later, fetchsession.Request{ID: small, Epoch: 2}, nil); code != kafka.ErrFetchSessionIDNotFound {
		t.Errorf("the smaller session: %v", code)
	}
	if id := open(t, c, later.Add(time.Hour), 1); id == fetchsession.NoSession {
		t.Error("a session did not evict one that nobody uses")
	}
	if n, _ := c.Len(); n != 2 {
		t.Errorf("%d sessions", n)
	}
}
