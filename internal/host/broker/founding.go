package broker

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"chronik/internal/base/kafka"
)

// A node whose data directory is empty is either one of the founders of a new
// cluster, or it has lost its disk. The two must not be confused: what a node
// has voted and acknowledged is gone with its disk, so that it may come back
// only as another member of the quorum. The founders' data directories have
// random names, and every founder keeps the names of those that were there and
// empty when it took part: who is known by the name may take part as well,
// whoever finds a cluster that does not know it joins that. Nobody founds
// while a named founder cannot be reached: it may be the one that still has
// the data of a cluster whose other disks are lost.

// rivalGrace is how long a node waits for another process with its id to turn
// out to be dead.
const rivalGrace = 5 * time.Second

// Step is what a node with an empty data directory should do next.
type Step uint8

// The steps of a node with an empty data directory.
const (
	Wait   Step = iota // and ask again; Verdict.Reason says for what
	Found              // take part in founding the cluster
	Join               // enter the cluster that Verdict.Members are of
	Refuse             // give up; Verdict.Reason says why
)

// Verdict is a step and what belongs to it.
type Verdict struct {
	Step     Step
	Reason   string
	Founders map[kafka.NodeID]string // Found: data directories, this node's among them
	Members  map[kafka.NodeID]string // Join: peer addresses
	Cluster  string                  // Join
}

// Contested says whether nodes that have a controller take another process for
// alive with the asker's id. The controller ends the session of one that died
// long before rivalGrace is over; without a controller nobody does.
func Contested(answers []Presence) bool {
	return slices.ContainsFunc(answers, func(p Presence) bool { return p.Rival != "" && p.Led })
}

// Judge says what a node with an empty data directory should do. Voters are
// the named founders, itself among them; none when it was told to join.
// Answers are those of the nodes that could be reached. Waited is the time since
// the first question, contested that since when all answers are Contested.
func Judge(own Presence, voters []kafka.NodeID, answers []Presence, waited, contested time.Duration) Verdict {
	founders := map[kafka.NodeID]string{own.Node: own.Directory}
	var existing *Presence
	for i := range answers {
		a := &answers[i]
		if a.Node == own.Node && a.Directory != own.Directory {
			return Verdict{Step: Refuse, Reason: fmt.Sprintf("another process runs as node %d: give this one another --node-id", own.Node)}
		}
		switch {
		case a.Fresh:
			founders[a.Node] = a.Directory
		case existing == nil || existing.Cluster == "" || a.Rival != "":
			existing = a
		}
	}
	if existing != nil {
		if existing.Rival != "" {
			reason := fmt.Sprintf("another process is alive as node %d at %s, with another data directory: give this one another --node-id, or stop that one", own.Node, existing.Rival)
			if contested >= rivalGrace {
				return Verdict{Step: Refuse, Reason: reason}
			}
			return Verdict{Step: Wait, Reason: reason}
		}
		for _, a := range answers {
			if !a.Fresh && a.Founders[own.Node] == own.Directory && len(voters) > 0 {
				return Verdict{Step: Found, Founders: a.Founders}
			}
		}
		return Verdict{Step: Join, Members: existing.Members, Cluster: existing.Cluster}
	}
	if len(voters) == 0 {
		return Verdict{Step: Wait, Reason: "no node of the cluster to join can be reached"}
	}
	var missing []string
	for _, v := range slices.Sorted(slices.Values(voters)) {
		if _, ok := founders[v]; !ok {
			missing = append(missing, fmt.Sprint(v))
		}
	}
	if len(missing) == 0 {
		return Verdict{Step: Found, Founders: founders}
	}
	return Verdict{Step: Wait, Reason: fmt.Sprintf("this node has no data, and node %s of --peers cannot be reached, which may have the data of this cluster; a new cluster is founded when every node of --peers is there and as empty: start it, or, if this is to be a new cluster without it, take it out of --peers on every node", strings.Join(missing, ", "))}
}
