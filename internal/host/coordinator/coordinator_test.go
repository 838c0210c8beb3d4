package coordinator

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/group"
	"chronik/internal/core/metadata"
	"chronik/internal/format/record"
	"chronik/internal/host/deadline"
)

// memoryLog is a Log that commits when it is told to.
type memoryLog struct {
	mu        sync.Mutex
	batches   [][]byte
	committed int // batches
	end       kafka.Offset
	waiting   []func(kafka.ErrorCode)
	refuse    kafka.ErrorCode // of the next appends
	auto      bool            // commit at once
	before    func()          // called once, before the next append
}

func (l *memoryLog) Append(_ time.Time, batch []byte, done func(kafka.ErrorCode)) {
	if before := l.before; before != nil {
		l.before = nil
		before()
	}
	l.mu.Lock()
	if l.refuse != kafka.None {
		code := l.refuse
		l.mu.Unlock()
		done(code)
		return
	}
	b := record.Batch(bytes.Clone(batch))
	record.Stamp(b, l.end, 1)
	l.end = b.NextOffset()
	l.batches = append(l.batches, b)
	l.waiting = append(l.waiting, done)
	auto := l.auto
	l.mu.Unlock()
	if auto {
		l.commit(1 << 30)
	}
}

func (l *memoryLog) AppendMarker(now time.Time, m record.Marker, _ bool, done func(kafka.ErrorCode)) {
	l.Append(now, m.Batch(), done)
}

// commit commits up to n batches.
func (l *memoryLog) commit(n int) {
	for ; n > 0; n-- {
		l.mu.Lock()
		if len(l.waiting) == 0 {
			l.committed = len(l.batches)
			l.mu.Unlock()
			return
		}
		done := l.waiting[0]
		l.waiting = l.waiting[1:]
		l.committed = len(l.batches) - len(l.waiting)
		l.mu.Unlock()
		done(kafka.None)
	}
}

// lose fails all that is not committed. With keep the batches stay in the log,
// and may be committed by the next leader.
func (l *memoryLog) lose(code kafka.ErrorCode, keep bool) {
	l.mu.Lock()
	waiting := l.waiting
	l.waiting = nil
	if !keep {
		l.batches = l.batches[:l.committed]
		l.end = 0
		if l.committed > 0 {
			l.end = record.Batch(l.batches[l.committed-1]).NextOffset()
		}
	}
	l.mu.Unlock()
	for _, done := range waiting {
		done(code)
	}
}

func (l *memoryLog) Read(_ time.Time, from kafka.Offset, bytesMax int) ([]byte, kafka.ErrorCode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []byte
	for _, b := range l.batches[:l.committed] {
		if record.Batch(b).NextOffset() <= from {
			continue
		}
		if len(out) > 0 && len(out)+len(b) > bytesMax {
			break
		}
		out = append(out, b...)
	}
	return out, kafka.None
}

func (l *memoryLog) Bounds() (start, committed, end kafka.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.committed > 0 {
		committed = record.Batch(l.batches[l.committed-1]).NextOffset()
	}
	return 0, committed, l.end
}

// fixture is the coordinators of one node, with a clock that tests move.
type fixture struct {
	t         *testing.T
	now       time.Time
	groups    *Groups
	deadlines *deadline.Queue
	log       *memoryLog
	lines     strings.Builder
	lease     bool
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, now: time.UnixMilli(1_700_000_000_000), deadlines: deadline.New(nil), log: &memoryLog{auto: true}, lease: true}
	f.groups = New(Options{
		Group: group.Options{InitialRebalanceDelay: -1},
		Log:   slog.New(slog.NewTextHandler(&f.lines, nil)),
		Rand:  rand.New(rand.NewPCG(1, 2)),
		At:    func(at time.Time, fn func(time.Time)) { f.deadlines.At(at, fn) },
		MayServe: func(time.Time) bool {
			return f.lease
		},
		LoadBytes: 200,
	})
	f.groups.SetPartitions(1)
	return f
}

func (f *fixture) pass(d time.Duration) {
	end := f.now.Add(d)
	for {
		next := f.deadlines.Run(f.now)
		if next.IsZero() || next.After(end) {
			f.now = end
			return
		}
		f.now = next
	}
}

// ask returns the place where the reply will be.
func (f *fixture) ask(req group.Request) *group.Response {
	var got group.Response
	f.groups.Handle(f.now, req, func(r group.Response) {
		if got != nil {
			f.t.Errorf("%T was answered twice", req)
		}
		got = r
	})
	return &got
}

func (f *fixture) commit(offset kafka.Offset) *group.Response {
	return f.ask(&group.OffsetCommit{Version: 9, Group: "g", Generation: -1, RetentionMs: -1,
		Offsets: []group.OffsetToCommit{{Topic: "t", Offset: offset}}})
}

// commitTo commits an offset to the topic that has the id.
func (f *fixture) commitTo(topic string, id byte, offset kafka.Offset) *group.Response {
	return f.ask(&group.OffsetCommit{Version: 9, Group: "g", Generation: -1, RetentionMs: -1,
		Offsets: []group.OffsetToCommit{{Topic: topic, TopicID: kafka.TopicID{id}, Offset: offset}}})
}

func (f *fixture) fetched() (kafka.Offset, kafka.ErrorCode) {
	f.t.Helper()
	r, ok := (*f.ask(&group.OffsetFetch{Group: "g", MemberEpoch: -1, Topics: []group.TopicToFetch{{Topic: "t", Partitions: []int32{0}}}})).(*group.OffsetFetchResponse)
	if !ok {
		f.t.Fatal("the offsets were not answered")
	}
	if r.Err != kafka.None {
		return -1, r.Err
	}
	return r.Topics[0].Partitions[0].Offset, kafka.None
}

func (f *fixture) wantCommit(r *group.Response, want kafka.ErrorCode) {
	f.t.Helper()
	resp, ok := (*r).(*group.OffsetCommitResponse)
	if !ok {
		f.t.Fatalf("the commit has not been answered, want %v", want)
	}
	if resp.Codes[0] != want {
		f.t.Errorf("commit = %v, want %v", resp.Codes[0], want)
	}
}

func (f *fixture) wantOffset(want kafka.Offset) {
	f.t.Helper()
	if got, code := f.fetched(); got != want || code != kafka.None {
		f.t.Errorf("offset = %d, %v, want %d", got, code, want)
	}
}

func TestPartitionOfHashesAsJava(t *testing.T) {
	for _, c := range []struct {
		group string
		want  int32
	}{{"", 0}, {"g", 103 % 50}, {"test-group", 12}, {"polygenelubricants", 0}, {"grüße-😀", 27}} {
		if got := PartitionOf(c.group, 50); got != c.want {
			t.Errorf("PartitionOf(%q, 50) = %d, want %d", c.group, got, c.want)
		}
	}
}

func TestAnswersWaitForTheCommit(t *testing.T) {
	f := newFixture(t)
	f.log.auto = false
	f.wantCommit(f.commit(1), kafka.ErrNotCoordinator)
	f.groups.OnLeader(f.now, 0, 1, f.log)
	first, second := f.commit(5), f.commit(6)
	read := f.ask(&group.OffsetFetch{Group: "g", MemberEpoch: -1, All: true})
	if *first != nil || *second != nil || *read != nil {
		t.Fatal("an answer came before the commit")
	}
	f.log.commit(1)
	f.wantCommit(first, kafka.None)
	if *second != nil || *read != nil {
		t.Fatal("an answer came before its commit")
	}
	f.log.commit(1)
	f.wantCommit(second, kafka.None)
	if got := (*read).(*group.OffsetFetchResponse).Topics[0].Partitions[0].Offset; got != 6 {
		t.Errorf("offset = %d, want 6", got)
	}
}

func TestWhatComesWhileAppendsAreUnderWaySharesABatch(t *testing.T) {
	f := newFixture(t)
	f.log.auto = false
	f.groups.OnLeader(f.now, 0, 1, f.log)
	var replies []*group.Response
	for i := range 20 {
		replies = append(replies, f.commit(kafka.Offset(i)))
	}
	f.log.commit(1 << 20)
	f.log.commit(1 << 20)
	for _, r := range replies {
		f.wantCommit(r, kafka.None)
	}
	if n := len(f.log.batches); n != inFlightMax+1 {
		t.Errorf("%d batches, want %d", n, inFlightMax+1)
	}
	f.wantOffset(19)
}

func TestLostAppendsAreForgottenAndWaitersSentAway(t *testing.T) {
	f := newFixture(t)
	f.groups.OnLeader(f.now, 0, 1, f.log)
	f.wantCommit(f.commit(5), kafka.None)
	f.log.auto = false
	lost := f.commit(6)
	f.log.lose(kafka.ErrNotLeaderOrFollower, false)
	f.wantCommit(lost, kafka.ErrNotCoordinator)
	if _, code := f.fetched(); code != kafka.ErrCoordinatorLoadInProgress {
		t.Errorf("while loading: %v", code)
	}
	f.pass(time.Second)
	f.wantOffset(5)
}

func TestWhatMayYetBeCommittedIsWaitedFor(t *testing.T) {
	f := newFixture(t)
	f.groups.OnLeader(f.now, 0, 1, f.log)
	f.wantCommit(f.commit(5), kafka.None)
	f.log.auto = false
	lost := f.commit(6)
	f.log.lose(kafka.ErrNotEnoughReplicasAfterAppend, true)
	f.wantCommit(lost, kafka.ErrCoordinatorNotAvailable)
	f.pass(10 * time.Second)
	if _, code := f.fetched(); code != kafka.ErrCoordinatorLoadInProgress {
		t.Errorf("while it may yet be committed: %v", code)
	}
	f.log.commit(1)
	f.pass(time.Second)
	f.wantOffset(6)
}

func TestAnAppendThatIsNotCommittedIsGivenUp(t *testing.T) {
	f := newFixture(t)
	f.log.auto = false
	f.groups.OnLeader(f.now, 0, 1, f.log)
	first := f.commit(1)
	f.pass(6 * time.Second)
	second := f.commit(2)
	f.wantCommit(first, kafka.ErrCoordinatorNotAvailable)
	f.wantCommit(second, kafka.ErrCoordinatorLoadInProgress)
}

func TestRefusedAppendsDoNotTurnInCircles(t *testing.T) {
	f := newFixture(t)
	f.groups.OnLeader(f.now, 0, 1, f.log)
	f.log.refuse = kafka.ErrNotEnoughReplicas
	f.wantCommit(f.commit(1), kafka.ErrCoordinatorNotAvailable)
	f.wantCommit(f.commit(1), kafka.ErrCoordinatorLoadInProgress)
	f.pass(time.Second)
	f.log.refuse = kafka.None
	f.wantCommit(f.commit(2), kafka.None)
	f.wantOffset(2)
}

func TestANewLeaderLoadsInPieces(t *testing.T) {
	f := newFixture(t)
	f.groups.OnLeader(f.now, 0, 1, f.log)
	for i := range 30 {
		f.wantCommit(f.ask(&group.OffsetCommit{Version: 9, Group: fmt.Sprint("g", i), Generation: -1, RetentionMs: -1,
			Offsets: []group.OffsetToCommit{{Topic: "t", Offset: kafka.Offset(i)}}}), kafka.None)
	}
	f.ask(&group.TxnOffsetCommit{Group: "g", ProducerID: 7, Generation: -1, Offsets: []group.OffsetToCommit{{Topic: "t", Offset: 70}}})
	f.groups.HandleAt(f.now, 0, &group.TxnMarker{ProducerID: 7, Commit: true}, func(group.Response) {})
	f.ask(&group.TxnOffsetCommit{Group: "g", ProducerID: 8, Generation: -1, Offsets: []group.OffsetToCommit{{Topic: "t", Offset: 80}}})
	f.groups.OnResign(f.now, 0)
	if _, code := f.fetched(); code != kafka.ErrNotCoordinator {
		t.Errorf("after resigning: %v", code)
	}
	f.groups.OnLeader(f.now, 0, 2, f.log)
	if _, code := f.fetched(); code != kafka.ErrCoordinatorLoadInProgress {
		t.Errorf("while loading: %v", code)
	}
	var list *group.ListGroupsResponse
	f.groups.List(f.now, &group.ListGroups{}, func(r *group.ListGroupsResponse) { list = r })
	if list.Err != kafka.ErrCoordinatorLoadInProgress {
		t.Errorf("list while loading: %v", list.Err)
	}
	f.pass(time.Millisecond)
	f.wantOffset(70)
	f.groups.HandleAt(f.now, 0, &group.TxnMarker{ProducerID: 8, Commit: true}, func(group.Response) {})
	f.wantOffset(80)
	f.groups.List(f.now, &group.ListGroups{}, func(r *group.ListGroupsResponse) { list = r })
	if len(list.Groups) != 31 || list.Groups[0].Group != "g" {
		t.Errorf("list = %+v", list)
	}
	n := 0
	f.groups.EachOffset(func(group.CommittedOffset) { n++ })
	f.groups.EachGroup(func(group.GroupStats) { n++ })
	if n != 62 {
		t.Errorf("%d offsets and groups, want 62", n)
	}
}

func TestNothingIsAnsweredWithoutALease(t *testing.T) {
	f := newFixture(t)
	f.groups.OnLeader(f.now, 0, 1, f.log)
	join := f.ask(&group.JoinGroup{Version: 3, Group: "g", ClientID: "c", SessionTimeoutMs: 6000, RebalanceTimeoutMs: 6000,
		ProtocolType: "consumer", Protocols: []group.Protocol{{Name: "range"}}})
	j := (*join).(*group.JoinGroupResponse)
	f.ask(&group.SyncGroup{Group: "g", MemberID: j.MemberID, Generation: 1})
	f.lease = false
	f.wantCommit(f.commit(1), kafka.ErrNotCoordinator)
	f.pass(time.Minute)
	if strings.Contains(f.lines.String(), "expired") {
		t.Error("a member's time ran out while this node could not serve")
	}
	f.lease = true
	f.pass(time.Minute)
	if !strings.Contains(f.lines.String(), "missed heartbeats for 6s") {
		t.Errorf("no line tells why the group rebalanced:\n%s", &f.lines)
	}
}

func TestThoseWhoWaitAreSentAwayOnResign(t *testing.T) {
	f := newFixture(t)
	f.groups.SetOptions(group.Options{InitialRebalanceDelay: time.Minute})
	f.groups.OnLeader(f.now, 0, 1, f.log)
	join := f.ask(&group.JoinGroup{Version: 3, Group: "g", ClientID: "c", SessionTimeoutMs: 6000, RebalanceTimeoutMs: 100000,
		ProtocolType: "consumer", Protocols: []group.Protocol{{Name: "range"}}})
	if *join != nil {
		t.Fatal("the join did not wait")
	}
	f.groups.Close(f.now)
	if j, ok := (*join).(*group.JoinGroupResponse); !ok || j.Err != kafka.ErrNotCoordinator {
		t.Errorf("join = %+v", *join)
	}
	f.pass(time.Hour)
	if n := f.deadlines.Len(); n != 0 {
		t.Errorf("%d deadlines are left", n)
	}
}

func TestIdlePartitionsCostNothing(t *testing.T) {
	f := newFixture(t)
	f.groups.OnLeader(f.now, 0, 1, f.log)
	ran := 0
	end := f.now.Add(time.Hour)
	for next := f.deadlines.Run(f.now); !next.IsZero() && next.Before(end); next = f.deadlines.Run(f.now) {
		f.now = next
		ran++
	}
	if ran > 6 {
		t.Errorf("woken %d times in an hour", ran)
	}
}

func TestManyGoroutinesCommitAndLoseNothing(t *testing.T) {
	f := newFixture(t)
	f.groups.OnLeader(f.now, 0, 1, f.log)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 50 {
				done := make(chan group.Response, 1)
				f.groups.Handle(f.now, &group.OffsetCommit{Version: 9, Group: fmt.Sprint("g", w), Generation: -1, RetentionMs: -1,
					Offsets: []group.OffsetToCommit{{Topic: "t", Offset: kafka.Offset(i)}}}, func(r group.Response) { done <- r })
				if code := (<-done).(*group.OffsetCommitResponse).Codes[0]; code != kafka.None {
					t.Errorf("commit: %v", code)
				}
			}
		}()
	}
	wg.Wait()
	f.groups.OnResign(f.now, 0)
	f.groups.OnLeader(f.now, 0, 2, f.log)
	f.pass(time.Second)
	n := 0
	f.groups.EachOffset(func(o group.CommittedOffset) {
		if n++; o.Offset != 49 {
			t.Errorf("%s has %d", o.Group, o.Offset)
		}
	})
	if n != 8 {
		t.Errorf("%d groups, want 8", n)
	}
}

func TestOffsetsOfATopicThatIsDeletedWhileLoadingGo(t *testing.T) {
	f := newFixture(t)
	f.groups.OnLeader(f.now, 0, 1, f.log)
	for range 5 { // more than is loaded in one piece
		f.wantCommit(f.commit(5), kafka.None)
	}
	f.groups.OnResign(f.now, 0)
	f.groups.OnLeader(f.now, 0, 2, f.log)
	if _, code := f.fetched(); code != kafka.ErrCoordinatorLoadInProgress {
		t.Fatalf("while loading: %v", code)
	}
	f.groups.TopicsDeleted(f.now, []string{"t"})
	f.pass(time.Second)
	f.wantOffset(-1)
	f.wantCommit(f.commit(6), kafka.None) // of a topic that has the name now
	f.groups.OnLeader(f.now, 0, 3, f.log)
	f.pass(time.Second)
	f.wantOffset(6)
}

// A coordinator that loads while its earlier self still appends would not know
// of what comes behind all that it reads: the offset would be another one with
// the next coordinator, though nobody has committed since.
func TestLoadingWaitsForAnAppendThatIsUnderWay(t *testing.T) {
	f := newFixture(t)
	f.groups.OnLeader(f.now, 0, 1, f.log)
	f.wantCommit(f.commit(5), kafka.None)
	f.log.before = func() {
		f.groups.OnResign(f.now, 0)
		f.groups.OnLeader(f.now, 0, 2, f.log)
		f.pass(time.Second)
	}
	f.wantCommit(f.commit(6), kafka.ErrNotCoordinator)
	f.pass(time.Second)
	here, code := f.fetched()
	f.groups.OnLeader(f.now, 0, 3, f.log)
	f.pass(time.Second)
	if next, _ := f.fetched(); here != next || code != kafka.None {
		t.Errorf("offset = %d, %v; the next coordinator has %d", here, code, next)
	}
}

// imageWith is the view of a cluster in which these topics were made, each with
// its place in the list as its id, or deleted, with a minus sign.
func imageWith(t *testing.T, names ...string) group.Topics {
	t.Helper()
	image := metadata.Empty()
	for i, name := range names {
		var change metadata.Record = &metadata.TopicRecord{ID: kafka.TopicID{byte(i + 1)}, Name: name}
		if gone, ok := strings.CutPrefix(name, "-"); ok {
			change = &metadata.RemoveTopicRecord{ID: image.TopicByName(gone).ID}
		}
		next, _, err := image.Apply(kafka.Offset(i+1), []metadata.Record{change})
		if err != nil {
			t.Fatal(err)
		}
		image = next
	}
	return TopicsOf(image)
}

// The coordinator that was told of a topic's end could not store it, and the next
// one was not told. The offsets stayed, for a topic of the same name to come.
func TestOffsetsOfATopicThatEndedWithTheCoordinatorGo(t *testing.T) {
	for _, next := range []string{"the same", "another"} {
		t.Run(next, func(t *testing.T) {
			f := newFixture(t)
			f.groups.SetTopics(imageWith(t, "other", "t"))
			f.groups.OnLeader(f.now, 0, 1, f.log)
			f.wantCommit(f.commit(5), kafka.None)
			f.wantCommit(f.ask(&group.OffsetCommit{Version: 9, Group: "g", Generation: -1, RetentionMs: -1,
				Offsets: []group.OffsetToCommit{{Topic: "other", Offset: 7}}}), kafka.None)
			f.log.auto = false
			f.groups.SetTopics(imageWith(t, "other"))
			f.groups.TopicsDeleted(f.now, []string{"t"})
			if next == "another" {
				f.groups.OnResign(f.now, 0)
				f.log.lose(kafka.ErrNotLeaderOrFollower, false)
				f.groups.OnLeader(f.now, 0, 2, f.log)
			} else {
				f.log.lose(kafka.ErrNotEnoughReplicas, false)
				f.groups.SetTopics(imageWith(t, "other", "t")) // made anew before this has loaded
			}
			f.log.auto = true
			f.pass(time.Second)
			f.wantOffset(-1)
			r := (*f.ask(&group.OffsetFetch{Group: "g", MemberEpoch: -1, All: true})).(*group.OffsetFetchResponse)
			if len(r.Topics) != 1 || r.Topics[0].Topic != "other" || r.Topics[0].Partitions[0].Offset != 7 {
				t.Errorf("left are %+v, want offset 7 of the other topic", r.Topics)
			}
		})
	}
}

// Topics of the same name follow each other while nobody coordinates: the name
// alone does not say whose an offset is.
func TestOffsetsOfATopicWithAnotherIDGo(t *testing.T) {
	f := newFixture(t)
	f.groups.SetTopics(imageWith(t, "t", "other"))
	f.groups.OnLeader(f.now, 0, 1, f.log)
	commit := func(topic string, id byte, number int32, offset kafka.Offset) {
		f.wantCommit(f.ask(&group.OffsetCommit{Version: 9, Group: "g", Generation: -1, RetentionMs: -1, Offsets: []group.OffsetToCommit{
			{Topic: topic, TopicID: kafka.TopicID{id}, Partition: number, Offset: offset},
		}}), kafka.None)
	}
	commit("t", 1, 0, 5)
	commit("t", 1, 1, 5)
	commit("other", 2, 0, 7)
	f.groups.OnResign(f.now, 0)
	f.groups.SetTopics(imageWith(t, "t", "other", "-t", "t"))
	f.groups.OnLeader(f.now, 0, 2, f.log)
	f.pass(time.Second)
	f.wantOffset(-1)
	commit("t", 4, 0, 6)
	f.groups.OnResign(f.now, 0)
	f.groups.OnLeader(f.now, 0, 3, f.log)
	f.pass(time.Second)
	f.wantOffset(6)
	r := (*f.ask(&group.OffsetFetch{Group: "g", MemberEpoch: -1, All: true})).(*group.OffsetFetchResponse)
	if len(r.Topics) != 2 || r.Topics[0].Topic != "other" || r.Topics[0].Partitions[0].Offset != 7 || len(r.Topics[1].Partitions) != 1 {
		t.Errorf("left are %+v", r.Topics)
	}
}

// A snapshot tells of a topic's end and of the next one of its name at once, when
// requests have seen the next one already.
func TestOffsetsOfATopicThatWasMadeAnewStay(t *testing.T) {
	f := newFixture(t)
	f.groups.SetTopics(imageWith(t, "t", "-t", "t"))
	f.groups.OnLeader(f.now, 0, 1, f.log)
	for range 5 { // more than is loaded in one piece
		f.wantCommit(f.commitTo("t", 3, 6), kafka.None)
	}
	f.groups.TopicsDeleted(f.now, []string{"t"})
	f.wantOffset(6)
	f.groups.OnResign(f.now, 0)
	f.groups.OnLeader(f.now, 0, 2, f.log)
	if _, code := f.fetched(); code != kafka.ErrCoordinatorLoadInProgress {
		t.Fatalf("while loading: %v", code)
	}
	f.groups.TopicsDeleted(f.now, []string{"t"})
	f.pass(time.Second)
	f.wantOffset(6)
}

// A commit may have found its topic just before that was deleted, and come to be
// decided after its offsets were removed: it would count for the next topic of
// the name.
func TestACommitIsOfATopicThatIsThere(t *testing.T) {
	f := newFixture(t)
	f.groups.SetTopics(imageWith(t, "t"))
	f.groups.OnLeader(f.now, 0, 1, f.log)
	f.wantCommit(f.commitTo("t", 1, 5), kafka.None)
	f.groups.SetTopics(imageWith(t, "t", "-t"))
	f.groups.TopicsDeleted(f.now, []string{"t"})
	f.wantCommit(f.commitTo("t", 1, 6), kafka.ErrUnknownTopicOrPartition)
	f.groups.SetTopics(imageWith(t, "t", "-t", "t"))
	f.wantCommit(f.commitTo("t", 1, 7), kafka.ErrUnknownTopicOrPartition)
	f.wantOffset(-1)
	f.wantCommit(f.commitTo("t", 3, 8), kafka.None)
	f.wantOffset(8)
}

// Nobody else may ask anything of the coordinator for long.
func TestACommitThatCannotBeStoredIsAnsweredInTime(t *testing.T) {
	for _, cutOff := range []bool{false, true} {
		f := newFixture(t)
		f.groups.OnLeader(f.now, 0, 1, f.log)
		f.wantCommit(f.commit(5), kafka.None)
		f.log.auto = false
		r := f.commit(6)
		f.lease = !cutOff
		f.pass(4 * time.Second)
		if *r != nil {
			t.Fatalf("answered after 4 s: %+v", *r)
		}
		f.pass(2 * time.Second)
		f.wantCommit(r, kafka.ErrCoordinatorNotAvailable)
	}
}

// It may come to its shard on its way while the topic is deleted there.
func TestACommitIsDecidedWithTheTopicsOfItsTurn(t *testing.T) {
	f := newFixture(t)
	f.groups.SetTopics(imageWith(t, "t"))
	f.groups.OnLeader(f.now, 0, 1, f.log)
	s := f.groups.shard(0)
	s.mu.Lock()
	commit := make(chan *group.Response)
	go func() { commit <- f.commitTo("t", 1, 6) }()
	for stacks := make([]byte, 1<<20); ; runtime.Gosched() { // until it waits for its turn
		all := string(stacks[:runtime.Stack(stacks, true)])
		if slices.ContainsFunc(strings.Split(all, "\n\n"), func(g string) bool {
			return strings.Contains(g, "(*shard).handle(") && strings.Contains(g, "sync.Mutex.Lock")
		}) {
			break
		}
	}
	f.groups.SetTopics(imageWith(t, "t", "-t"))
	s.mu.Unlock()
	f.wantCommit(<-commit, kafka.ErrUnknownTopicOrPartition)
}

// An offset of a transaction counts later: it would come up for a topic that
// has been gone for long.
func TestOffsetsOfATransactionGoWithTheirTopic(t *testing.T) {
	f := newFixture(t)
	f.groups.SetTopics(imageWith(t, "t"))
	f.groups.OnLeader(f.now, 0, 1, f.log)
	f.ask(&group.TxnOffsetCommit{Version: 3, Group: "g", ProducerID: 7, Generation: -1, Offsets: []group.OffsetToCommit{{Topic: "t", Offset: 5}}})
	f.groups.OnResign(f.now, 0)
	f.groups.SetTopics(imageWith(t))
	f.groups.OnLeader(f.now, 0, 2, f.log)
	f.pass(time.Second)
	f.groups.HandleAt(f.now, 0, &group.TxnMarker{ProducerID: 7, Commit: true}, func(group.Response) {})
	f.wantOffset(-1)
}
