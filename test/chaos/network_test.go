package chaos

import (
	"slices"
	"testing"
	"time"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/harm"
	"chronik/test/chaos/history"
	"chronik/test/chaos/netns"
	"chronik/test/chaos/traffic"
)

// networked is a cluster whose links can be cut, under load.
type networked struct {
	*testing.T
	net  *netns.Network
	c    *cluster.Cluster
	h    history.History
	load *traffic.Load
}

const networkedPartitions = 3

func runNetworked(t *testing.T) *networked {
	t.Helper()
	n := &networked{T: t, net: netns.New(t, 3)}
	n.c = runThree(t, cluster.Options{Network: n.net, Flags: []string{"--replica-lag-time-max-ms", "1000"}}, networkedPartitions)
	n.load = startLoad(t, n.c, &n.h, networkedPartitions)
	return n
}

func (n *networked) must(err error) {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
}

// healthy waits until everything is as it should be, and returns partition 0.
func (n *networked) healthy() traffic.Partition {
	n.Helper()
	n.must(n.net.Heal())
	awaitInSync(n.T, n.c, networkedPartitions, 3)
	awaitAcks(n.T, &n.h, networkedPartitions, 10)
	p, err := partitionAt(n.c.Nodes[0], replicated, 0)
	n.must(err)
	return p
}

func (n *networked) stop() {
	n.Helper()
	n.healthy()
	stopLoad(n.T, n.c, &n.h, n.load, networkedPartitions)
	checkFiles(n.T, n.c.Nodes, &n.h, networkedPartitions)
}

// other is a node other than the one named.
func (n *networked) other(than int) *cluster.Node { return n.c.Node(n.net.Others(than)[0]) }

// N1, N5: a leader that is cut from its followers, and the controller from the
// other voters, while clients still reach them.
func TestIsolatedLeaderAcknowledgesNothing(t *testing.T) {
	t.Parallel()
	n := runNetworked(t)
	for range sized(1, 10) {
		was := n.healthy()
		n.must(n.net.Cut([]int{was.Leader}, n.net.Others(was.Leader)))
		conn, err := traffic.Dial(n.c.Node(was.Leader).Kafka, 4*time.Second)
		n.must(err)
		if offset, err := conn.Produce(replicated, 0, -1, traffic.Value(history.ID{Producer: traffic.NewProducer(), Seq: 1}, 50)); err == nil {
			n.Errorf("the leader that is cut off acknowledged offset %d", offset)
		} else {
			n.Logf("the leader that is cut off answered %v", err)
		}
		conn.Close()
		await(n.T, n.other(was.Leader), 0, "led by another", func(p traffic.Partition) bool { return p.Leader != was.Leader && p.Epoch > was.Epoch })
		awaitAcks(n.T, &n.h, networkedPartitions, 10)
		now := n.healthy()
		n.must(n.net.Cut([]int{now.Controller}, n.net.Others(now.Controller)))
		await(n.T, n.other(now.Controller), 0, "with another controller", func(p traffic.Partition) bool {
			return p.Controller != now.Controller && p.Leader > 0 && p.Brokers == 2
		})
		awaitAcks(n.T, &n.h, networkedPartitions, 10)
	}
	// The record above is not in the history: it must not be in the log.
	n.stop()
}

// undisturbed says whether a partition is led and controlled for a second by
// those who did so before. Who disturbs does so all the time; a busy machine may
// do it once. So there are three tries.
func (n *networked) undisturbed(at *cluster.Node, before traffic.Partition) bool {
	n.Helper()
	for range 3 {
		time.Sleep(time.Second)
		now, err := partitionAt(at, replicated, 0)
		n.must(err)
		if now.Leader == before.Leader && now.Epoch == before.Epoch && now.Controller == before.Controller {
			return true
		}
		n.Logf("disturbed: %+v, and then %+v", before, now)
		before = now
	}
	return false
}

// N2: a leader that only clients cannot reach goes on to lead.
func TestLeaderCutFromClientsGoesOn(t *testing.T) {
	t.Parallel()
	n := runNetworked(t)
	for _, v := range []func(leader int) error{
		func(leader int) error { return n.net.Set(netns.Clients, leader, netns.Drop) },
		func(leader int) error { return n.net.Set(leader, netns.Clients, netns.Drop) },
		func(leader int) error { return n.net.Set(netns.Clients, leader, netns.Reset) },
	} {
		// A busy machine may take the lead from it once, and not each time.
		const tries = 3
		for try := 1; ; try++ {
			was := n.healthy()
			n.must(v(was.Leader))
			time.Sleep(1500 * time.Millisecond) // longer than a session
			now, err := partitionAt(n.other(was.Leader), replicated, 0)
			n.must(err)
			n.must(n.net.Heal())
			if now.Leader == was.Leader && now.Epoch == was.Epoch {
				break
			}
			n.Logf("led by %d at epoch %d, and then by %d at %d", was.Leader, was.Epoch, now.Leader, now.Epoch)
			if try == tries {
				n.Errorf("a leader that clients cannot reach has lost the lead %d times", tries)
				break
			}
		}
		awaitAcks(n.T, &n.h, networkedPartitions, 10)
	}
	n.stop()
}

// N3: a node that hears nobody, and one that nobody hears, lose what they lead,
// and do not disturb the others.
func TestOneWayLinksCostTheLeadership(t *testing.T) {
	t.Parallel()
	n := runNetworked(t)
	for round := range sized(2, 12) {
		was := n.healthy()
		victim := was.Leader
		if round%4 >= 2 {
			victim = was.Controller
		}
		for _, o := range n.net.Others(victim) {
			if round%2 == 0 {
				n.must(n.net.Set(o, victim, netns.Drop))
			} else {
				n.must(n.net.Set(victim, o, netns.Drop))
			}
		}
		now := await(n.T, n.other(victim), 0, "led and controlled by others",
			func(p traffic.Partition) bool {
				return p.Leader > 0 && p.Leader != victim && p.Controller != victim && p.Brokers == 2
			})
		awaitAcks(n.T, &n.h, networkedPartitions, 10)
		if !n.undisturbed(n.other(victim), now) {
			n.Errorf("round %d: node %d disturbs the other two", round, victim)
		}
	}
	n.stop()
}

// N4: one node reaches all, the other two do not reach each other.
func TestBridgeKeepsServing(t *testing.T) {
	t.Parallel()
	n := runNetworked(t)
	for middle := range sized(1, 6) {
		n.healthy()
		ends := n.net.Others(middle%3 + 1)
		n.must(n.net.Cut(ends[:1], ends[1:]))
		time.Sleep(1500 * time.Millisecond)
		awaitAcks(n.T, &n.h, networkedPartitions, 20)
	}
	n.stop()
}

// N6: links that come and go do not lead to elections without end.
func TestFlappingLinksSettle(t *testing.T) {
	t.Parallel()
	n := runNetworked(t)
	was := n.healthy()
	for _, period := range sized([]time.Duration{300 * time.Millisecond}, []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, time.Second}) {
		for begin := time.Now(); time.Since(begin) < 3*time.Second; {
			n.must(n.net.Cut([]int{was.Leader}, n.net.Others(was.Leader)))
			time.Sleep(period / 2)
			n.must(n.net.Heal())
			time.Sleep(period / 2)
		}
		now := n.healthy()
		if now.Epoch-was.Epoch > 10 {
			n.Errorf("%d elections in 3 s", now.Epoch-was.Epoch)
		}
		n.Logf("%d changes of the leader", now.Epoch-was.Epoch)
		was = now
	}
	n.stop()
}

// P5: a follower that its leader alone does not reach leaves the in-sync set
// after replica.lag.time.max.ms, although it lives, and comes back.
func TestFollowerCutFromItsLeaderLeavesTheInSyncSet(t *testing.T) {
	t.Parallel()
	n := runNetworked(t)
	for range sized(1, 10) {
		was := n.healthy()
		follower := n.net.Others(was.Leader)[0]
		if follower == was.Controller {
			follower = n.net.Others(was.Leader)[1]
		}
		n.must(n.net.Cut([]int{was.Leader}, []int{follower}))
		await(n.T, n.c.Node(was.Leader), 0, "without the follower", func(p traffic.Partition) bool {
			return p.Leader != was.Leader || !slices.Contains(p.InSync, int32(follower))
		})
		awaitAcks(n.T, &n.h, networkedPartitions, 10)
	}
	n.stop()
}

// N10: one node is paused while the others go on; another one loses its power
// with what it had not synced; the first, which missed all that, goes on.
func TestPauseAndLossOfPowerLoseNothing(t *testing.T) {
	t.Parallel()
	const partitions = 3
	var mounts, dirs []string
	for range 3 {
		mount := harm.FileSystem(t, 512<<20)
		mounts, dirs = append(mounts, mount), append(dirs, mount+"/data")
	}
	c := runThree(t, cluster.Options{DataDirs: dirs}, partitions)
	var h history.History
	load := startLoad(t, c, &h, partitions)
	for round := range sized(1, 12) {
		awaitInSync(t, c, partitions, 3)
		a, b, d := c.Nodes[round%3], c.Nodes[(round+1)%3], c.Nodes[(round+2)%3]
		if err := a.Pause(); err != nil {
			t.Fatal(err)
		}
		await(t, b, 0, "without the paused one", inSync(2))
		for p := range int32(partitions) {
			if _, err := traffic.FirstAck([]string{b.Kafka, d.Kafka}, &h, replicated, p, 10*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		b.Kill()
		if err := harm.LosePower(mounts[b.ID-1]); err != nil {
			t.Fatal(err)
		}
		if err := d.Pause(); err != nil {
			t.Fatal(err)
		}
		a.Resume()
		if err := b.Start(); err != nil {
			t.Fatal(err)
		}
		// Two nodes are a quorum, of which one missed what the third and b acknowledged.
		time.Sleep(time.Second)
		d.Resume()
		if _, err := b.WaitReady(); err != nil {
			t.Fatal(err)
		}
		awaitAcks(t, &h, partitions, 20)
	}
	awaitInSync(t, c, partitions, 3)
	stopLoad(t, c, &h, load, partitions)
	checkFiles(t, c.Nodes, &h, partitions)
}
