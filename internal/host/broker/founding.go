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
// whoever finds a cluster that does not know it joins that.

// foundingGrace is how long a majority of the founders waits for the others.
const foundingGrace = 5 * time.Second

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

// Judge says what a node with an empty data directory should do. Voters are
// the named founders, itself among them; none when it was told to join.
// Answers are those of the nodes that could be reached.
func Judge(own Presence, voters []kafka.NodeID, answers []Presence, waited time.Duration) Verdict {
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
			if waited >= rivalGrace {
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
	var missing []string
	present := 0
	for _, v := range voters {
		if _, ok := founders[v]; ok {
			present++
		} else {
			missing = append(missing, fmt.Sprint(v))
		}
	}
	switch {
	case len(voters) == 0:
		return Verdict{Step: Wait, Reason: "no node of the cluster to join can be reached"}
	case present == len(voters), present > len(voters)/2 && waited >= foundingGrace:
		return Verdict{Step: Found, Founders: founders}
	}
	slices.Sort(missing)
	return Verdict{Step: Wait, Reason: fmt.Sprintf("this node has no data, and node %s cannot be reached, which may know the cluster; a new one is founded when a majority of the named peers is there and as empty", strings.Join(missing, ", "))}
}
