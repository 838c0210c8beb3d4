package raftlog

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
)

var (
	testNow  = time.Unix(1000, 0)
	errPower = errors.New("power is gone")
	voters   = []kafka.NodeID{0, 1, 2}
)

const testDir = "meta"

func hard(term, vote, commit uint64) *raftpb.HardState {
	return &raftpb.HardState{Term: proto.Uint64(term), Vote: proto.Uint64(vote), Commit: proto.Uint64(commit)}
}

// entry's data do not fit into one sector.
func entry(term, index uint64) *raftpb.Entry {
	return &raftpb.Entry{Term: proto.Uint64(term), Index: proto.Uint64(index), Type: raftpb.EntryNormal.Enum(),
		Data: fmt.Appendf(nil, "%0700d", term*1000+index)}
}

func conf() *raftpb.ConfState {
	return &raftpb.ConfState{Voters: []uint64{1, 2, 3}, AutoLeave: proto.Bool(false)}
}

func snapshot(term, index uint64) *raftpb.Snapshot {
	return &raftpb.Snapshot{Data: fmt.Appendf(nil, "state after %d", index), Metadata: &raftpb.SnapshotMetadata{
		Index: proto.Uint64(index), Term: proto.Uint64(term), ConfState: conf(),
	}}
}

// state is what a member must find again: its vote, its snapshot, and the
// entries behind that.
type state struct {
	term, vote uint64
	snap       *raftpb.Snapshot
	entries    []*raftpb.Entry
}

func (s *state) last() uint64 { return s.snap.GetMetadata().GetIndex() + uint64(len(s.entries)) }

// behind is the state with all entries dropped up to the snapshot.
func (s state) behind(snap *raftpb.Snapshot) state {
	n := min(s.last(), snap.GetMetadata().GetIndex()) - s.snap.GetMetadata().GetIndex()
	s.snap, s.entries = snap, s.entries[n:]
	return s
}

// read is what a log says that it holds.
func read(t *testing.T, l *Log) state {
	t.Helper()
	hard, _, err := l.InitialState()
	if err != nil {
		t.Fatal(err)
	}
	s := state{term: hard.GetTerm(), vote: hard.GetVote()}
	if s.snap, err = l.Snapshot(); err != nil {
		t.Fatal(err)
	}
	first := l.SnapshotIndex() + 1
	last, err := l.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	if first <= last {
		if s.entries, err = l.Entries(first, last+1, math.MaxUint64); err != nil {
			t.Fatal(err)
		}
	}
	if c := hard.GetCommit(); c < l.SnapshotIndex() || c > last {
		t.Fatalf("committed up to %d, the log is from %d to %d", c, first, last)
	}
	return s
}

// begins says whether the entries are the first of another state's, and so many
// at least.
func (s *state) begins(o state, least int) bool {
	n := len(s.entries)
	return n >= least && n <= len(o.entries) &&
		slices.EqualFunc(s.entries, o.entries[:n], func(a, b *raftpb.Entry) bool { return proto.Equal(a, b) })
}

func (s *state) String() string {
	text := fmt.Sprintf("term %d, vote %d, snapshot at %d of term %d, entries", s.term, s.vote, s.snap.GetMetadata().GetIndex(), s.snap.GetMetadata().GetTerm())
	for _, e := range s.entries {
		text += fmt.Sprintf(" %d/%d", e.GetIndex(), e.GetTerm())
	}
	return text
}

// member writes to a log, and knows what must be in it: what was there before
// the step that runs, or what is there after it, or half of it.
type member struct {
	l             *Log
	before, after state
}

func (m *member) save(h *raftpb.HardState, entries ...*raftpb.Entry) error {
	m.after = m.before
	if h != nil {
		m.after.term, m.after.vote = h.GetTerm(), h.GetVote()
	}
	if len(entries) > 0 {
		kept := entries[0].GetIndex() - 1 - m.before.snap.GetMetadata().GetIndex()
		m.after.entries = slices.Concat(m.before.entries[:kept], entries)
	}
	return m.done(m.l.Save(testNow, h, entries, true))
}

func (m *member) install(snap *raftpb.Snapshot) error {
	m.after = m.before
	m.after.snap, m.after.entries = snap, nil
	return m.done(m.l.ApplySnapshot(testNow, snap))
}

func (m *member) compact(term, index, keep uint64) error {
	snap := snapshot(term, index)
	m.after = m.before.behind(snap)
	return m.done(m.l.Compact(testNow, index, conf(), snap.GetData(), keep))
}

func (m *member) mend(term, index uint64) error {
	snap := snapshot(term, index)
	if index > m.l.SnapshotIndex() {
		m.after = m.before.behind(snap)
	}
	return m.done(m.l.Mend(testNow, index, conf(), snap.GetData()))
}

func (m *member) done(err error) error {
	if err == nil {
		m.before = m.after
	}
	return err
}

// script does all that a member may do to its log.
func (m *member) script(disk vfs.FS) error {
	open := func() (err error) {
		m.l, _, err = Open(disk, testDir, testNow)
		return err
	}
	for _, step := range []func() error{
		open,
		func() error { return m.save(hard(1, 2, 1)) },
		func() error { return m.save(hard(1, 2, 1), entry(1, 2), entry(1, 3), entry(1, 4)) },
		func() error { return m.save(hard(2, 0, 3)) }, // a new term, no vote yet
		func() error { return m.save(hard(2, 3, 3)) }, // a vote in the same term
		func() error { return m.save(nil, entry(2, 5), entry(2, 6)) },
		func() error { return m.save(hard(3, 1, 4), entry(3, 5)) }, // replaces two by one
		func() error { return m.compact(1, 4, 2) },
		func() error { return m.save(nil, entry(3, 6), entry(3, 7), entry(3, 8)) },
		func() error { return m.mend(3, 4) },
		func() error { return m.mend(3, 6) },
		func() error { return m.install(snapshot(4, 20)) },
		func() error { return m.save(hard(4, 0, 20)) },
		func() error { return m.save(hard(4, 3, 20), entry(4, 21), entry(4, 22), entry(4, 23)) },
		func() error { return m.install(snapshot(5, 22)) }, // over a log that diverges, and is longer
		func() error { return m.save(hard(5, 0, 22), entry(5, 23)) },
		func() error { return m.compact(5, 23, 0) },
		func() error { return m.install(snapshot(5, 40)) },
		func() error { return m.save(hard(5, 2, 40), entry(5, 41)) },
		func() error { return m.l.Close(testNow) },
		open,
		func() error { return m.save(hard(6, 1, 40), entry(6, 41), entry(6, 42)) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// check says what is wrong with what was found after a crash.
func (m *member) check(got state) error {
	voted := func(s state) bool { return got.term == s.term && got.vote == s.vote }
	if !voted(m.before) && !voted(m.after) {
		return fmt.Errorf("neither the vote before the step nor that after it")
	}
	// A snapshot is saved first, and then entries are dropped for it.
	if !proto.Equal(m.before.snap, m.after.snap) {
		if proto.Equal(got.snap, m.before.snap) && got.begins(m.before, len(m.before.entries)) ||
			proto.Equal(got.snap, m.after.snap) && got.begins(m.before.behind(m.after.snap), len(m.after.entries)) {
			return nil
		}
		return fmt.Errorf("entries are missing, or the snapshot")
	}
	common := 0
	for common < min(len(m.before.entries), len(m.after.entries)) && proto.Equal(m.before.entries[common], m.after.entries[common]) {
		common++
	}
	if proto.Equal(got.snap, m.after.snap) && (got.begins(m.before, common) || got.begins(m.after, common)) {
		return nil
	}
	return fmt.Errorf("neither what was there before the step nor what is there after it")
}

func open(t *testing.T, disk vfs.FS) *member {
	t.Helper()
	l, _, err := Open(disk, testDir, testNow)
	if err != nil {
		t.Fatal(err)
	}
	s := read(t, l)
	return &member{l: l, before: s, after: s}
}

func TestWhatWasSavedIsThereAfterACrashAtAnyMoment(t *testing.T) {
	for n := int64(1); ; n++ {
		disk := vfs.NewMem()
		if err := Bootstrap(disk, testDir, voters, snapshot(1, 1).GetData()); err != nil {
			t.Fatal(err)
		}
		fresh := state{snap: snapshot(1, 1)}
		m := &member{before: fresh, after: fresh}
		faulty := vfs.NewFaulty(disk)
		faulty.FailNth(n, errPower)
		err := m.script(faulty)
		if err != nil && !errors.Is(err, errPower) {
			t.Fatal(err)
		}
		for seed := range uint64(5) {
			rng := rand.New(rand.NewPCG(uint64(n), seed))
			m.found(t, rng, disk.Crash(rng, []float64{0, 1, 0.5}[min(seed, 2)]), fmt.Sprintf("crash at call %d, seed %d", n, seed))
		}
		if err == nil && faulty.Persisted() < n {
			if n < 80 {
				t.Fatalf("the script has only %d persistence calls", n)
			}
			return
		}
	}
}

// found opens what a crash has left, with another crash at each call of that, and
// goes on as a member does.
func (m *member) found(t *testing.T, rng *rand.Rand, disk *vfs.Mem, when string) {
	t.Helper()
	for n, opened := int64(1), false; !opened; n++ {
		once := disk.Crash(nil, 1)
		faulty := vfs.NewFaulty(once)
		faulty.FailNth(n, errPower)
		_, _, err := Open(faulty, testDir, testNow)
		opened = err == nil
		if !opened && !errors.Is(err, errPower) {
			t.Fatalf("%s: %v\nbefore %v\n after %v", when, err, &m.before, &m.after)
		}
		got := open(t, once.Crash(rng, 0.5)).before
		if err := m.check(got); err != nil {
			t.Fatalf("%s, then at call %d of opening: %v\n   got %v\nbefore %v\n after %v", when, n, err, &got, &m.before, &m.after)
		}
	}
	again := open(t, disk)
	if err := again.save(hard(90, 3, 0), entry(90, again.before.last()+1)); err != nil {
		t.Fatal(err)
	}
	got, want := open(t, disk.Crash(rng, 0)).before, again.before
	if err := again.check(got); err != nil || got.last() != want.last() {
		t.Fatalf("%s, then saved: %v\n got %v\nwant %v", when, err, &got, &want)
	}
}

func TestANewMemberIsThereWholeOrNotAtAll(t *testing.T) {
	for n := int64(1); ; n++ {
		disk := vfs.NewMem()
		faulty := vfs.NewFaulty(disk)
		faulty.FailNth(n, errPower)
		err := Bootstrap(faulty, testDir, voters, nil)
		for seed := range uint64(5) {
			after := disk.Crash(rand.New(rand.NewPCG(uint64(n), seed)), []float64{0, 1, 0.5}[min(seed, 2)])
			exists, existsErr := Exists(after, testDir)
			if existsErr != nil || err == nil && !exists {
				t.Fatalf("crash at call %d, seed %d: exists %v, %v", n, seed, exists, existsErr)
			}
			if !exists { // it is made again
				if err := Bootstrap(after, testDir, voters, nil); err != nil {
					t.Fatal(err)
				}
			}
			if s := open(t, after).before; s.term != 0 || s.vote != 0 || s.last() != 1 {
				t.Fatalf("crash at call %d, seed %d: %v", n, seed, &s)
			}
		}
		if err == nil {
			return
		}
	}
}

// A member that has told its vote must not give another one in the same term.
func TestAVoteIsOnDiskWhenSaveReturns(t *testing.T) {
	disk := vfs.NewMem()
	if err := Bootstrap(disk, testDir, voters, nil); err != nil {
		t.Fatal(err)
	}
	m := open(t, disk)
	for _, h := range []*raftpb.HardState{hard(1, 0, 1), hard(1, 2, 1), hard(2, 2, 1), hard(2, 2, 1), hard(3, 0, 1), hard(3, 3, 1), hard(4, 1, 1)} {
		if err := m.save(h); err != nil {
			t.Fatal(err)
		}
		if got := open(t, disk.Crash(nil, 0)).before; got.term != h.GetTerm() || got.vote != h.GetVote() {
			t.Errorf("after a crash the vote is %d in term %d, it was %d in term %d", got.vote, got.term, h.GetVote(), h.GetTerm())
		}
	}
}
