package controller

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/core/metadata"
)

func (d *draft) ensureClusterID() {
	if d.image.ClusterID() == "" {
		d.records = append(d.records, &metadata.ClusterRecord{ID: d.c.newClusterID()})
	}
}

// newClusterID keeps the id once drawn, so that every answer names the same.
func (c *Controller) newClusterID() string {
	if c.opts.ClusterID == "" {
		id := c.drawID()
		c.opts.ClusterID = base64.RawURLEncoding.EncodeToString(id[:])
	}
	return c.opts.ClusterID
}

func (c *Controller) drawID() [16]byte { return DrawID(c.rng) }

// DrawID draws a random id of version 4. One that would be printed with a
// leading dash is drawn again: it looks like an option on a command line.
func DrawID(rng *rand.Rand) (id [16]byte) {
	for {
		binary.BigEndian.PutUint64(id[:8], rng.Uint64())
		binary.BigEndian.PutUint64(id[8:], rng.Uint64())
		id[6] = id[6]&0x0f | 0x40
		id[8] = id[8]&0x3f | 0x80
		if id[0]>>2 != 62 {
			return id
		}
	}
}

func (d *draft) registerBroker(r RegisterBroker) RegisterBrokerResult {
	d.ensureClusterID()
	clusterID := d.image.ClusterID()
	if clusterID == "" {
		clusterID = d.c.newClusterID()
	}
	refuse := func(code kafka.ErrorCode, message string) RegisterBrokerResult {
		return RegisterBrokerResult{Status: status(code, message), Epoch: kafka.NoBrokerEpoch, ClusterID: clusterID}
	}
	if r.Node < 0 {
		return refuse(kafka.ErrInvalidRegistration, fmt.Sprintf("Node id %d is negative.", r.Node))
	}
	if r.ClusterID != "" && r.ClusterID != clusterID {
		return refuse(kafka.ErrInconsistentClusterID,
			fmt.Sprintf("Node %d belongs to cluster %s, but this is cluster %s.", r.Node, r.ClusterID, clusterID))
	}
	if level := d.image.RecordsLevel(); r.RecordsLevel < level {
		return refuse(kafka.ErrUnsupportedVersion,
			fmt.Sprintf("The metadata have records of level %d, and node %d with version %s reads those up to level %d.", level, r.Node, r.Version, r.RecordsLevel))
	}
	state := metadata.Broker{
		ID: r.Node, Epoch: kafka.BrokerEpoch(d.image.Offset() + 1), Incarnation: r.Incarnation, Directory: r.Directory,
		Host: r.Host, Port: r.Port, PeerAddress: r.PeerAddress, Rack: r.Rack, Version: r.Version, Fenced: true,
		MinInSync: r.MinInSync, RecordsLevel: r.RecordsLevel,
	}
	old := d.image.Broker(r.Node)
	if old != nil {
		if same := *old; same.Incarnation == state.Incarnation {
			same.Epoch, same.Fenced, same.ShuttingDown = state.Epoch, true, false
			if same == state { // asked again because the answer was lost
				return RegisterBrokerResult{Epoch: old.Epoch, ClusterID: clusterID}
			}
		} else if d.hasRival(old, r) {
			return refuse(kafka.ErrDuplicateBrokerRegistration,
				fmt.Sprintf("Another process is alive as node %d at %s.", r.Node, old.PeerAddress))
		}
	}
	// It registers with nothing in sync: the process before is gone, and what
	// the new one has is known when it has caught up.
	d.setBroker(state)
	erased := old == nil || old.Directory != r.Directory && !mutant.On(mutant.EmptyEligible)
	cause := fmt.Sprintf("node %d registered with a new process", r.Node)
	switch {
	case old == nil:
		cause = fmt.Sprintf("node %d registered for the first time", r.Node)
	case erased:
		cause = fmt.Sprintf("node %d registered with a new data directory: its replicas are lost", r.Node)
	case !r.CleanShutdown:
		cause = fmt.Sprintf("node %d registered after a crash", r.Node)
	}
	d.retire(retirement{nodes: []kafka.NodeID{r.Node}, erased: erased, unsynced: !r.CleanShutdown, cause: cause})
	d.event(Event{Kind: "broker registered", Node: r.Node, Detail: fmt.Sprintf("broker epoch %d at %s", state.Epoch, r.PeerAddress), Cause: cause})
	d.c.sessions[r.Node] = &session{end: d.now.Add(d.c.opts.SessionTimeout), applied: kafka.NoOffset}
	return RegisterBrokerResult{Epoch: state.Epoch, ClusterID: clusterID}
}

// raiseRecordsLevel allows for the records that all registered brokers read.
func (d *draft) raiseRecordsLevel() {
	level := metadata.RecordsLevel
	for _, b := range d.image.Brokers() {
		level = min(level, b.RecordsLevel)
	}
	if len(d.image.Brokers()) == 0 || level <= d.image.RecordsLevel() {
		return
	}
	d.records = append(d.records, &metadata.FeatureRecord{Name: metadata.FeatureRecords, Level: level})
	d.event(Event{Kind: "metadata level raised", Node: kafka.NoNode, Detail: fmt.Sprintf("to %d", level), Cause: "all nodes read records of this level"})
}

// hasRival says whether the process of an earlier registration may still be
// alive. The same data directory, which is locked, at the same address, which
// is taken, is proof that it is not.
func (d *draft) hasRival(old *metadata.Broker, r RegisterBroker) bool {
	s := d.c.sessions[old.ID]
	alive := s != nil && d.now.Before(s.end)
	return alive && (old.Directory != r.Directory || old.PeerAddress != r.PeerAddress)
}

func (d *draft) heartbeat(r Heartbeat) HeartbeatResult {
	b := d.image.Broker(r.Node)
	if s := d.checkBroker(r.Node, r.Epoch); s.Error != kafka.None {
		return HeartbeatResult{Status: s, Fenced: true}
	}
	s := d.c.sessions[r.Node]
	if s == nil {
		s = &session{}
		d.c.sessions[r.Node] = s
	}
	s.end, s.applied = d.now.Add(d.c.opts.SessionTimeout), r.MetadataOffset
	// Until it knows what was decided while it was fenced it may take itself for
	// a leader, and granted a lease it would answer as one.
	fenced, known := d.c.fenced[r.Node]
	if !known {
		fenced = d.c.started
	}
	result := HeartbeatResult{CaughtUp: r.MetadataOffset >= fenced, Fenced: b.Fenced}
	switch {
	case b.Fenced && r.WantShutdown:
		result.ShouldShutDown = true
	case b.Fenced:
		if !r.WantFence && result.CaughtUp {
			d.unfence(b)
			result.Fenced = false
		}
	case r.WantShutdown && b.ShuttingDown:
		if d.mayStop(r.Node) {
			d.fence([]kafka.NodeID{r.Node}, "its controlled shutdown is done")
			result.Fenced, result.ShouldShutDown = true, true
		}
	case r.WantShutdown:
		if !d.handsOverLeads(r.Node, fmt.Sprintf("node %d is to shut down", r.Node)) {
			d.beginShutdown(b)
		}
	case r.WantFence:
		d.fence([]kafka.NodeID{r.Node}, "it asked to be")
		result.Fenced = true
	}
	return result
}

// checkBroker refuses requests of any but the present registration.
func (d *draft) checkBroker(node kafka.NodeID, epoch kafka.BrokerEpoch) Status {
	b := d.image.Broker(node)
	if b == nil {
		return status(kafka.ErrBrokerIDNotRegistered, fmt.Sprintf("Node %d is not registered.", node))
	}
	if b.Epoch != epoch {
		return status(kafka.ErrStaleBrokerEpoch, fmt.Sprintf("Node %d is registered with broker epoch %d, not %d.", node, b.Epoch, epoch))
	}
	return Status{}
}

func (d *draft) unfence(b *metadata.Broker) {
	state := *b
	state.Fenced, state.ShuttingDown = false, false
	d.setBroker(state)
	d.event(Event{Kind: "broker unfenced", Node: b.ID, Detail: fmt.Sprintf("broker epoch %d", b.Epoch), Cause: "it has caught up with the metadata"})
	d.electMissingLeaders(fmt.Sprintf("node %d is back", b.ID))
}

func (d *draft) beginShutdown(b *metadata.Broker) {
	state := *b
	state.ShuttingDown = true
	d.setBroker(state)
	d.event(Event{Kind: "broker shutdown began", Node: b.ID, Cause: "it asked to stop"})
	d.retire(retirement{nodes: []kafka.NodeID{b.ID}, cause: fmt.Sprintf("node %d is shutting down", b.ID)})
}

// mayStop says whether a broker in controlled shutdown leads nothing, and all
// others know that.
func (d *draft) mayStop(node kafka.NodeID) bool {
	for _, b := range d.image.Brokers() {
		if b.ID == node || !b.Active() {
			continue
		}
		if s := d.c.sessions[b.ID]; s == nil || s.applied < d.c.stopping[node] {
			return false
		}
	}
	leads := false
	d.eachPartition(func(_ *metadata.Topic, _ int32, p *metadata.Partition) { leads = leads || p.Leader == node })
	return !leads
}

func (d *draft) fenceExpired() {
	var gone []kafka.NodeID
	for _, b := range d.image.Brokers() {
		s := d.c.sessions[b.ID]
		if !b.Fenced && (s == nil || !d.now.Before(s.end)) {
			gone = append(gone, b.ID)
		}
	}
	if len(gone) > 0 {
		d.fence(gone, fmt.Sprintf("no heartbeat for %v", d.c.opts.SessionTimeout))
	}
}

func (d *draft) peerLost(r PeerLost) StatusResult {
	b := d.image.Broker(r.Node)
	if b == nil {
		return StatusResult{d.checkBroker(r.Node, r.Epoch)}
	}
	if r.Epoch != kafka.NoBrokerEpoch && r.Epoch != b.Epoch {
		return StatusResult{d.checkBroker(r.Node, r.Epoch)}
	}
	if !b.Fenced {
		d.fence([]kafka.NodeID{r.Node}, "its process is gone")
	}
	return StatusResult{}
}

// fence takes leadership and membership in in-sync sets from the brokers, all
// in one batch, so that those that fail together stay eligible together.
func (d *draft) fence(nodes []kafka.NodeID, cause string) {
	for _, n := range nodes {
		state := *d.image.Broker(n)
		state.Fenced, state.ShuttingDown = true, false
		d.setBroker(state)
		if s := d.c.sessions[n]; s != nil {
			s.end = d.now
		}
		d.event(Event{Kind: "broker fenced", Node: n, Detail: fmt.Sprintf("broker epoch %d", state.Epoch), Cause: cause})
	}
	d.retire(retirement{nodes: nodes, cause: fmt.Sprintf("node %v fenced: %s", printable(nodes), cause)})
}

func printable(nodes []kafka.NodeID) any {
	if len(nodes) == 1 {
		return nodes[0]
	}
	return nodes
}

func (d *draft) unregisterBroker(r UnregisterBroker) StatusResult {
	if s := d.mayUnregister(r); s.Error != kafka.None {
		delete(d.c.going, r.Node) // if it had waited
		if s.Error == kafka.ErrBrokerIDNotRegistered && r.Again && r.Known != kafka.NoBrokerEpoch {
			s = Status{} // the answer was lost with its controller
		}
		return StatusResult{s}
	}
	state := *d.image.Broker(r.Node)
	state.Fenced = true
	d.setBroker(state)
	if !mutant.On(mutant.RemovedInSync) {
		d.retire(retirement{nodes: []kafka.NodeID{r.Node}, erased: true, cause: fmt.Sprintf("node %d unregistered", r.Node)})
	}
	d.records = append(d.records, &metadata.RemoveBrokerRecord{Node: r.Node})
	d.event(Event{Kind: "broker unregistered", Node: r.Node, Cause: "an operator asked for it"})
	return StatusResult{}
}

func (d *draft) mayUnregister(r UnregisterBroker) Status {
	node := r.Node
	b := d.image.Broker(node)
	if b == nil {
		return d.checkBroker(node, kafka.NoBrokerEpoch)
	}
	if r.Again && b.Epoch != r.Known {
		return status(kafka.ErrRequestTimedOut, fmt.Sprintf("The controller was lost while it unregistered node %d, which has registered since.", node))
	}
	if b.Active() && !slices.ContainsFunc(d.image.Brokers(), func(o *metadata.Broker) bool { return o.ID != b.ID && o.Active() }) {
		return status(kafka.ErrInvalidRequest, fmt.Sprintf("Node %d is the only one that serves; without it there is no cluster.", node))
	}
	if only := d.onlyInSync(node); b.Active() && only != "" {
		return status(kafka.ErrInvalidRequest, fmt.Sprintf("Node %d serves, and no other has all records of %s: move them to other nodes first, or stop the node, if they may be lost.", node, only))
	}
	return Status{}
}

// onlyInSync names the partitions of which a node is the whole in-sync set:
// the first, and how many more; "" where there is none.
func (d *draft) onlyInSync(node kafka.NodeID) string {
	first, more := "", 0
	d.eachPartition(func(t *metadata.Topic, i int32, p *metadata.Partition) {
		switch {
		case len(p.InSync) != 1 || p.InSync[0] != node:
		case first == "":
			first = kafka.TopicPartition{Topic: t.Name, Partition: i}.String()
		default:
			more++
		}
	})
	if more > 0 {
		return fmt.Sprintf("%s and %d other partitions", first, more)
	}
	return first
}

// retirement is the reason for which brokers leave in-sync sets.
type retirement struct {
	nodes    []kafka.NodeID
	erased   bool // their replicas are lost
	unsynced bool // what they had not synced is lost, which matters where an acknowledgement does not mean on disk
	cause    string
}

// retire takes brokers, which the draft has made inactive, out of in-sync sets.
func (d *draft) retire(r retirement) {
	gone := func(n kafka.NodeID) bool { return slices.Contains(r.nodes, n) }
	d.eachPartition(func(t *metadata.Topic, i int32, p *metadata.Partition) {
		inSync := slices.ContainsFunc(p.InSync, gone)
		eligible := !mutant.On(mutant.LostEligible) && (r.erased || r.unsynced) && (slices.ContainsFunc(p.EligibleLeader, gone) || gone(p.LastLeader))
		if !inSync && !eligible && !gone(p.Leader) {
			return
		}
		w := keep(p, r.cause)
		w.inSync = without(p.InSync, gone)
		if r.erased {
			w.erased = r.nodes
		}
		if r.erased || r.unsynced && !d.syncsEach(t.Name) {
			w.forget = r.nodes
		}
		d.change(t, i, w)
	})
}

// syncsEach says whether what a replica acknowledged is on its disk.
func (d *draft) syncsEach(topic string) bool {
	c := d.topicConfig(topic)
	return c.FlushEach()
}
