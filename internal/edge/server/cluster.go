package server

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/edge/config"
	"chronik/internal/edge/transport"
	"chronik/internal/host/broker"
)

// listenPeers binds the port for other nodes. A node alone, whose port was not
// chosen by anybody, can do without it.
func (n *node) listenPeers() (net.Listener, error) {
	socket, err := listen("peer", n.cfg.Peer)
	if err != nil && len(n.cfg.Peers) <= 1 && n.cfg.Join == "" && n.cfg.Source("peer") == config.FromDefault {
		n.log.Info("other nodes cannot join this one: the peer port is taken; choose another with --peer", "peer", n.cfg.Peer, "err", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if _, port, e := net.SplitHostPort(n.cfg.Peer); e == nil && port == "0" {
		n.cfg.Peer = socket.Addr().String()
	}
	return transport.ClosedFirst(socket), nil
}

const (
	askInterval   = 100 * time.Millisecond
	waitLogEvery  = 10 * time.Second
	askTimeoutMax = time.Second
)

// findCluster decides, for a node with an empty data directory, whether it
// founds a cluster or enters one; see broker.Judge.
func (n *node) findCluster(ctx context.Context, o *broker.Options) error {
	own, err := broker.Inspect(vfs.Disk{}, o.DataDir, o.Node, newRand())
	if err != nil {
		return err
	}
	n.own.Store(&own)
	if !own.Fresh && (n.cfg.Join == "" || own.Cluster != "") {
		o.Joining = n.cfg.Join != ""
		return nil
	}
	if len(o.Voters) == 0 && n.cfg.Join == "" {
		return nil // alone
	}
	return n.seekCluster(ctx, o, own, slices.Sorted(maps.Keys(o.Voters)))
}

// comeBack opens a node whose metadata are damaged as another member of its
// cluster. Alone it has nobody to have the metadata from.
func (n *node) comeBack(ctx context.Context, o broker.Options, damage error) (*broker.Broker, error) {
	if len(o.Voters) < 2 && n.cfg.Join == "" {
		return nil, fmt.Errorf("%w; no other node has them: restore %s/wal/__meta from a backup, or move the whole data directory away and begin anew without its records", damage, o.DataDir)
	}
	n.log.Error("metadata are damaged; they are taken from the other nodes", "node", o.Node, "err", damage)
	own := *n.own.Load()
	if err := n.seekCluster(ctx, &o, own, nil); err != nil {
		return nil, err
	}
	o.Anew = true
	return broker.New(time.Now(), o, n.env())
}

// seekCluster asks the others until it is known what to do. Voters are those
// that may found a cluster.
func (n *node) seekCluster(ctx context.Context, o *broker.Options, own broker.Presence, voters []kafka.NodeID) error {
	started := time.Now()
	contested := started // since when another process is taken for alive with this id
	var logged time.Time
	reason := ""
	for {
		answers, err := n.askAround(ctx, o)
		if err != nil {
			return err
		}
		if !broker.Contested(answers) {
			contested = time.Now()
		}
		v := broker.Judge(own, voters, answers, time.Since(started), time.Since(contested))
		switch v.Step {
		case broker.Found:
			n.log.Info("founding a cluster", "node", o.Node, "founders", len(v.Founders), "peers", len(o.Voters))
			o.Founders = v.Founders
			return nil
		case broker.Join:
			entering := own
			entering.Fresh = false // no other may found a cluster with this node
			n.own.Store(&entering)
			n.log.Info("joining a cluster: this node has no metadata", "node", o.Node, "cluster", v.Cluster)
			o.Joining = true
			if o.Voters == nil {
				o.Voters = make(map[kafka.NodeID]string)
			}
			for id, address := range v.Members {
				if id != o.Node {
					o.Voters[id] = address
				}
			}
			return nil
		case broker.Refuse:
			return fmt.Errorf("%s", v.Reason)
		case broker.Wait:
			if v.Reason != reason && time.Since(started) > time.Second || time.Since(logged) > waitLogEvery && !logged.IsZero() {
				reason, logged = v.Reason, time.Now()
				n.log.Warn("waiting for the cluster", "node", o.Node, "cause", v.Reason, "asked", n.askedPeers(o))
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(askInterval):
		}
	}
}

// askedPeers are the addresses of those that know of the cluster if there is one.
func (n *node) askedPeers(o *broker.Options) []string {
	addresses := []string{}
	for id, address := range o.Voters {
		if id != o.Node {
			addresses = append(addresses, address)
		}
	}
	slices.Sort(addresses)
	if n.cfg.Join != "" {
		addresses = append(addresses, n.cfg.Join)
	}
	return addresses
}

// askAround asks all named peers at the same time for what they know. An error
// says that one belongs to another cluster than this data directory.
func (n *node) askAround(ctx context.Context, o *broker.Options) ([]broker.Presence, error) {
	own := n.own.Load()
	addresses := n.askedPeers(o)
	question := broker.EncodeQuestion(broker.Question{Node: o.Node, Directory: own.Directory})
	ctx, cancel := context.WithTimeout(ctx, askTimeoutMax)
	defer cancel()
	var mu sync.Mutex
	var answers []broker.Presence
	var asking sync.WaitGroup
	for _, address := range addresses {
		asking.Go(func() {
			data, local, err := transport.Probe(ctx, address, o.Node, own.Cluster, question)
			if err != nil {
				return
			}
			p, err := broker.DecodePresence(data)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, p)
			if address == n.cfg.Join {
				o.PeerAddress = reachable(o.PeerAddress, local)
			}
		})
	}
	asking.Wait()
	slices.SortFunc(answers, func(a, b broker.Presence) int { return int(a.Node - b.Node) })
	return answers, nil
}

// reachable is the address to tell others when the node listens on every
// interface: the one that has reached a member.
func reachable(address string, local net.Addr) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || host != "" && (ip == nil || !ip.IsUnspecified()) {
		return address
	}
	if tcp, ok := local.(*net.TCPAddr); ok {
		return net.JoinHostPort(tcp.IP.String(), port)
	}
	return address
}

// answer tells a node without a cluster what this one knows.
func (n *node) answer(_ kafka.NodeID, question []byte) []byte {
	q, err := broker.DecodeQuestion(question)
	if err != nil {
		return nil
	}
	if b := n.live.Load(); b != nil {
		return broker.EncodePresence(b.Answer(q))
	}
	if own := n.own.Load(); own != nil {
		return broker.EncodePresence(*own)
	}
	return nil
}

// strangers are the peers that refuse this node since they belong to another
// cluster.
type strangers struct {
	mu    sync.Mutex
	peers map[kafka.NodeID]bool
}

// refused ends the process when most of its peers are of another cluster: then
// it is this node that has the wrong data or the wrong addresses.
func (n *node) refused(peer kafka.NodeID, reason string, foreign bool) {
	if !foreign {
		return
	}
	s := &n.strangers
	s.mu.Lock()
	if s.peers == nil {
		s.peers = make(map[kafka.NodeID]bool)
	}
	s.peers[peer] = true
	count := len(s.peers)
	s.mu.Unlock()
	if others := max(1, len(n.cfg.Peers)-1); 2*count > others {
		select {
		case n.fatal <- fmt.Errorf("the other nodes refuse this one: %s; start it with the --data-dir that belongs to their cluster (or an empty one), or with the --peers of its own", reason):
		default:
		}
	}
}
