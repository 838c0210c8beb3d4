package loop

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestSerialRunsCallsInOrderAndCloseWaitsForThem(t *testing.T) {
	after := 0
	s := NewSerial(func() { after++ })
	var got []int
	for i := range 1000 {
		s.Post(func(time.Time) { got = append(got, i) })
	}
	s.Close()
	if len(got) != 1000 || after != 1000 {
		t.Fatalf("ran %d calls and %d times after", len(got), after)
	}
	for i, v := range got {
		if i != v {
			t.Fatalf("call %d ran at place %d", v, i)
		}
	}
}

func TestClockRunsADeadlineThatIsAddedBeforeAllOthers(t *testing.T) {
	c := NewClock(nil)
	defer c.Close()
	ran := make(chan string, 2)
	c.Deadlines.At(time.Now().Add(time.Hour), func(time.Time) { ran <- "late" })
	c.Deadlines.At(time.Now().Add(time.Millisecond), func(time.Time) { ran <- "soon" })
	if got := <-ran; got != "soon" {
		t.Errorf("ran %q", got)
	}
}

// A pool that is busy does what it has room for, and the rest not at all.
func TestPoolDropsWhatItHasNoRoomFor(t *testing.T) {
	p := NewPool(2, 3)
	started, goOn := make(chan bool), make(chan bool)
	var ran atomic.Int32
	block := func() { started <- true; <-goOn; ran.Add(1) }
	p.Try(block)
	p.Try(block)
	<-started
	<-started
	for range 10 {
		p.Try(func() { ran.Add(1) })
	}
	close(goOn)
	p.Close()
	p.Try(func() { ran.Add(1) })
	if p.Close(); ran.Load() != 5 {
		t.Errorf("ran %d, want the two that blocked and three that waited", ran.Load())
	}
}

type fakeLog struct {
	running atomic.Int32
	twice   atomic.Bool
	asked   atomic.Int64
	synced  atomic.Int64
}

func (f *fakeLog) RunSync(time.Time) {
	if f.running.Add(1) != 1 {
		f.twice.Store(true)
	}
	covers := f.asked.Load()
	f.synced.Store(covers)
	f.running.Add(-1)
}

func TestEverySyncThatIsAskedForHappensAndNeverTwoAtATime(t *testing.T) {
	s := NewSyncer[*fakeLog](4, nil)
	logs := make([]*fakeLog, 10)
	for i := range logs {
		logs[i] = new(fakeLog)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				log := logs[(g+i)%len(logs)]
				log.asked.Add(1)
				s.Schedule(log)
				s.Kick(i%3 == 0)
			}
		})
	}
	wg.Wait()
	s.Close()
	for i, log := range logs {
		if log.synced.Load() != log.asked.Load() {
			t.Errorf("log %d: asked %d, synced %d", i, log.asked.Load(), log.synced.Load())
		}
		if log.twice.Load() {
			t.Errorf("log %d: two syncs ran at a time", i)
		}
	}
}
