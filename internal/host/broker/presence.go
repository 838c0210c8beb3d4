package broker

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/host/raftlog"
)

// Presence is what a node tells of itself and its cluster to one that asks
// before it has a part in any.
type Presence struct {
	Node      kafka.NodeID
	Fresh     bool // the node has no part in any cluster yet
	Directory string
	Cluster   string // "" when it is not known
	// Founders are the data directories that were there, and empty, when the
	// cluster was founded.
	Founders map[kafka.NodeID]string
	Members  map[kafka.NodeID]string // peer addresses of the brokers
	Led      bool                    // it knows a controller
	Rival    string                  // peer address of a live broker with the asker's id and another data directory
}

// Question is what a node asks that has no part in any cluster.
type Question struct {
	Node      kafka.NodeID
	Directory string
}

// Inspect says what dir holds, and makes it if it is not there. Nothing else
// may use the directory meanwhile.
func Inspect(fs vfs.FS, dir string, node kafka.NodeID, rng *rand.Rand) (Presence, error) {
	id, err := openIdentity(fs, dir, node, rng)
	if err != nil {
		return Presence{}, err
	}
	defer id.lock.Close()
	exists, err := id.metadataExist()
	if err != nil {
		return Presence{}, err
	}
	return Presence{
		Node: id.Node, Directory: hex.EncodeToString(id.Directory[:]), Cluster: id.ClusterID, Founders: id.Founders, Fresh: !exists,
	}, nil
}

func metadataDir(dataDir string) string { return path.Join(dataDir, "wal", "__meta") }

// metadataExist says whether the directory holds a part of a cluster's
// metadata. That it did, and does no more, is an error: what this node has
// voted and acknowledged is not known.
func (id *identity) metadataExist() (bool, error) {
	if id.Entering {
		return true, nil // who opens them says more
	}
	dir := metadataDir(id.dir)
	exists, err := raftlog.Exists(id.fs, dir)
	if raftlog.Damaged(err) {
		return true, nil // who opens them says more
	}
	if err != nil {
		return false, fmt.Errorf("open metadata in %s: %w", dir, err)
	}
	if !exists && id.Member {
		return false, fmt.Errorf("the metadata in %s are lost, though the rest of data directory %s is there: this node cannot know what it has promised to the others; move the whole data directory away and start again, and the node comes back as a new one", dir, id.dir)
	}
	return exists, nil
}

// incarnationOf is how the quorum tells a node that joined it from earlier
// lives of the node.
func incarnationOf(directory [16]byte) uint32 { return max(1, binary.BigEndian.Uint32(directory[:])) }

// Answer says to a node that has no part in any cluster what this one knows.
// Any goroutine may call it.
func (b *Broker) Answer(q Question) Presence {
	image := b.image.Load()
	p := Presence{
		Node: b.opts.Node, Directory: hex.EncodeToString(b.identity.Directory[:]), Founders: b.identity.Founders,
		Cluster: cmp.Or(image.ClusterID(), b.foundCluster), Led: b.Controller() != kafka.NoNode,
	}
	p.Members = maps.Clone(b.opts.Voters)
	for _, br := range image.Brokers() {
		p.Members[br.ID] = br.PeerAddress
		if br.ID == q.Node && br.Active() && hex.EncodeToString(br.Directory[:]) != q.Directory {
			p.Rival = br.PeerAddress
		}
	}
	p.Members[b.opts.Node] = b.opts.PeerAddress
	return p
}

// EncodeQuestion and its kin are how questions and presences travel.
func EncodeQuestion(q Question) []byte { return mustJSON(q) }

// DecodeQuestion reads what EncodeQuestion wrote.
func DecodeQuestion(data []byte) (q Question, err error) {
	err = json.Unmarshal(data, &q)
	return q, err
}

// EncodePresence is for the way between nodes.
func EncodePresence(p Presence) []byte { return mustJSON(p) }

// DecodePresence reads what EncodePresence wrote.
func DecodePresence(data []byte) (p Presence, err error) {
	err = json.Unmarshal(data, &p)
	return p, err
}

func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err))
	}
	return data
}
