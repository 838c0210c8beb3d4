package broker

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/host/deadline"
	"chronik/internal/host/quorum"
)

func TestWhoFindsAnExistingClusterNeverFoundsOne(t *testing.T) {
	own := Presence{Node: 3, Directory: "c", Fresh: true}
	voters := []kafka.NodeID{1, 2, 3}
	fresh1, fresh2 := Presence{Node: 1, Directory: "a", Fresh: true}, Presence{Node: 2, Directory: "b", Fresh: true}
	founders := map[kafka.NodeID]string{1: "a", 2: "b", 3: "c"}
	for name, c := range map[string]struct {
		voters  []kafka.NodeID
		answers []Presence
		waited  time.Duration
		want    Step
	}{
		"alone among three":                      {voters, nil, time.Hour, Wait},
		"all are empty":                          {voters, []Presence{fresh1, fresh2}, 0, Found},
		"all but one are empty":                  {voters, []Presence{fresh1}, time.Hour, Wait},
		"a founder has gone ahead with this one": {voters, []Presence{{Node: 1, Founders: founders, Cluster: "x"}, fresh2}, 0, Found},
		"the disk was lost":                      {voters, []Presence{{Node: 1, Founders: map[kafka.NodeID]string{1: "a", 2: "b", 3: "old"}}, {Node: 2}}, 0, Join},
		"another disk was lost as well":          {voters, []Presence{{Node: 1, Cluster: "x"}, fresh2}, time.Hour, Join},
		"it was not there at the founding":       {voters, []Presence{{Node: 1, Founders: map[kafka.NodeID]string{1: "a", 2: "b"}}}, 0, Join},
		"it was told to join":                    {nil, []Presence{{Node: 1, Cluster: "x"}}, 0, Join},
		"it was told to join what is not there":  {nil, nil, time.Hour, Wait},
		"its id is in use, at first":             {voters, []Presence{{Node: 1, Cluster: "x", Rival: "h:1"}}, 0, Wait},
		"its id is in use":                       {voters, []Presence{{Node: 1, Cluster: "x", Rival: "h:1"}}, rivalGrace, Refuse},
		"its id is in use, as one node says":     {voters, []Presence{{Node: 1, Cluster: "x", Rival: "h:1"}, {Node: 2, Cluster: "x"}}, rivalGrace, Refuse},
		"it has reached another with its id":     {voters, []Presence{{Node: 3, Directory: "z"}}, 0, Refuse},
	} {
		if v := Judge(own, c.voters, c.answers, c.waited, c.waited); v.Step != c.want {
			t.Errorf("%s: step %d, want %d (%s)", name, v.Step, c.want, v.Reason)
		}
	}
}

func TestOnlyAControllerKnowsARivalForAlive(t *testing.T) {
	for name, c := range map[string]struct {
		answers []Presence
		want    bool
	}{
		"none answers":            {nil, false},
		"no rival":                {[]Presence{{Node: 1, Led: true}}, false},
		"a rival, no controller":  {[]Presence{{Node: 1, Rival: "h:1"}}, false},
		"a rival, so one says":    {[]Presence{{Node: 1}, {Node: 2, Led: true, Rival: "h:1"}}, true},
		"a controller elsewhere ": {[]Presence{{Node: 1, Rival: "h:1"}, {Node: 2, Led: true}}, false},
	} {
		if got := Contested(c.answers); got != c.want {
			t.Errorf("%s: contested is %v", name, got)
		}
	}
}

// A new controller takes everybody for alive, at first, and one that was paused
// for a while has heard of nobody meanwhile.
func TestANodeIsNotGivenUpForARivalThatIsDead(t *testing.T) {
	b := openBroker(t, vfs.NewMem(), Options{})
	var failed error
	b.env.Fatal = func(err error) { failed = err }
	now := time.Unix(2000, 0)
	refuse := func(term kafka.LeaderEpoch, after time.Duration) {
		state := quorum.State{Leader: 2, Epoch: term}
		b.quorumView.Store(&state)
		b.giveUp(now.Add(after), kafka.ErrDuplicateBrokerRegistration, "Another process is alive as node 1 at h:2.")
	}
	refuse(4, 0)
	refuse(5, 2*rivalGrace)
	refuse(5, 3*rivalGrace-1)
	if failed != nil {
		t.Fatalf("gave up before one controller said so for %v: %v", rivalGrace, failed)
	}
	b.giveUp(now.Add(3*rivalGrace-1), kafka.ErrRequestTimedOut, "")
	refuse(5, 4*rivalGrace)
	refuse(5, 5*rivalGrace-1)
	if failed != nil {
		t.Fatalf("gave up though the controller had not answered in between: %v", failed)
	}
	refuse(5, 5*rivalGrace)
	if failed == nil || !strings.Contains(failed.Error(), "Another process is alive as node 1") {
		t.Fatalf("a second process with the same id was not ended: %v", failed)
	}
}

// A node that was away while others joined does not find them in its metadata.
func TestAPeerIsFoundWhereItSaysThatItIs(t *testing.T) {
	b := openBroker(t, vfs.NewMem(), Options{})
	var peers map[kafka.NodeID]string
	b.env.Peers = func(p map[kafka.NodeID]string) { peers = p }
	if err := b.HandleControl(time.Unix(1001, 0), 4, append([]byte{frameAddress}, "h:4"...)); err != nil {
		t.Fatal(err)
	}
	if peers[4] != "h:4" {
		t.Errorf("peers are %v", peers)
	}
	if err := b.HandleControl(time.Unix(1001, 0), 4, []byte{frameAddress}); err == nil {
		t.Error("no address was taken for one")
	}
}

// A node that enters knows those that it was started with; the controller may be
// one that has come since.
func TestAWishToJoinReachesTheController(t *testing.T) {
	b := openBroker(t, vfs.NewMem(), Options{})
	sent := make(map[kafka.NodeID][]byte)
	b.env.Send = func(to kafka.NodeID, _ Class, pieces ...[]byte) { sent[to] = slices.Concat(pieces...) }
	now := time.Unix(1001, 0)
	hear := func(at *Broker, from kafka.NodeID, frame []byte) {
		t.Helper()
		if err := at.HandleControl(now, from, frame); err != nil {
			t.Fatal(err)
		}
	}
	hear(b, 5, append([]byte{frameJoin}, wish(7, "h:5")...))
	if len(sent) > 0 {
		t.Errorf("without a controller %v was sent", sent)
	}
	b.quorumView.Store(&quorum.State{Leader: 4, Epoch: 1})
	hear(b, 5, append([]byte{frameJoin}, wish(7, "h:5")...))
	if len(sent) != 1 || sent[4] == nil {
		t.Fatalf("sent was %v, and not to the controller, node 4, alone", sent)
	}

	controller := openBroker(t, vfs.NewMem(), Options{})
	controller.env.Send = func(to kafka.NodeID, _ Class, _ ...[]byte) { t.Errorf("passed on to %d", to) }
	controller.quorumView.Store(&quorum.State{Leader: 2, Epoch: 2}) // which it was, when it was sent
	hear(controller, 1, sent[4])
	want := joiner{quorum.Member{Node: 5, Incarnation: 7}, "h:5", now}
	if got := controller.membership.joiners; len(got) != 1 || got[5] != want {
		t.Errorf("joiners are %v", got)
	}
	if err := controller.HandleControl(now, 1, sent[4][:9]); err == nil {
		t.Error("a wish without an address was taken for one")
	}
}

func inspect(t *testing.T, fs vfs.FS) (Presence, error) {
	t.Helper()
	return Inspect(fs, "data", 1, rand.New(rand.NewPCG(1, 2)))
}

// openBroker makes a broker that nobody runs.
func openBroker(t *testing.T, fs vfs.FS, o Options) *Broker {
	t.Helper()
	o.Node, o.DataDir, o.PeerAddress = 1, "data", "h:1"
	b, err := New(time.Unix(1000, 0), o, Env{
		FS: fs, Log: slog.New(slog.DiscardHandler), Rand: rand.New(rand.NewPCG(3, 4)), Deadlines: deadline.New(nil),
		Post: func(func(time.Time)) {}, Send: func(kafka.NodeID, Class, ...[]byte) {}, Peers: func(map[kafka.NodeID]string) {},
		Ready: func(bool) {}, Fatal: func(err error) { t.Error(err) }, Background: func(func(time.Time)) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLookingAtADataDirectoryChangesNothing(t *testing.T) {
	fs := vfs.NewMem()
	p, err := inspect(t, fs)
	if err != nil || !p.Fresh || p.Directory == "" {
		t.Fatalf("%+v, %v", p, err)
	}
	b := openBroker(t, fs, Options{})
	if b.Recovery().CleanShutdown {
		t.Error("the first start is said to follow a clean stop")
	}
	if err := b.Close(time.Unix(1001, 0)); err != nil {
		t.Fatal(err)
	}
	again, err := inspect(t, fs)
	if err != nil || again.Fresh || again.Directory != p.Directory {
		t.Fatalf("%+v, %v", again, err)
	}
	if !openBroker(t, fs, Options{}).Recovery().CleanShutdown {
		t.Error("a clean stop was forgotten by looking at the directory")
	}
}

func TestLostMetadataAreNotMadeAnew(t *testing.T) {
	fs := vfs.NewMem()
	b := openBroker(t, fs, Options{})
	if err := b.Close(time.Unix(1001, 0)); err != nil {
		t.Fatal(err)
	}
	if err := fs.RemoveAll(metadataDir("data")); err != nil {
		t.Fatal(err)
	}
	if p, err := inspect(t, fs); err == nil || !strings.Contains(err.Error(), "are lost") {
		t.Fatalf("%+v, %v", p, err)
	}
}

func TestOneThatJoinsIsAnotherMemberThanAFounder(t *testing.T) {
	founder := openBroker(t, vfs.NewMem(), Options{})
	joined := openBroker(t, vfs.NewMem(), Options{Joining: true, Voters: map[kafka.NodeID]string{2: "h:2"}})
	if founder.identity.Incarnation != 0 || joined.identity.Incarnation == 0 {
		t.Fatalf("incarnations %d and %d", founder.identity.Incarnation, joined.identity.Incarnation)
	}
	if voters, _ := joined.quorum.Members(); len(voters) != 0 {
		t.Fatalf("a node that joins begins with the voters %v", voters)
	}
}
