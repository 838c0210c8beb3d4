package broker

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/base/vfs"
	"chronik/internal/core/metadata"
	"chronik/internal/core/replica"
	"chronik/internal/host/partition"
	"chronik/internal/storage/wal"
)

// partitionKey names a partition for the whole life of its topic.
type partitionKey struct {
	topic     kafka.TopicID
	partition int32
}

func (k partitionKey) compare(o partitionKey) int {
	return cmp.Or(bytes.Compare(k.topic[:], o.topic[:]), cmp.Compare(k.partition, o.partition))
}

// partitionTable is the partitions that this node holds a replica of. It is
// immutable; the control loop publishes a new one.
type partitionTable struct {
	open map[partitionKey]*partition.Partition
}

// Partition is this node's replica of a partition, nil when it has none or
// when its log could not be opened.
func (b *Broker) Partition(topic kafka.TopicID, number int32) *partition.Partition {
	return b.partitions.Load().open[partitionKey{topic, number}]
}

// Partitions lists this node's replicas in no particular order.
func (b *Broker) Partitions() []*partition.Partition {
	open := b.partitions.Load().open
	out := make([]*partition.Partition, 0, len(open))
	for _, p := range open {
		out = append(out, p)
	}
	slices.SortFunc(out, func(x, y *partition.Partition) int {
		if x.Topic() != y.Topic() {
			if x.Topic() < y.Topic() {
				return -1
			}
			return 1
		}
		return int(x.Number() - y.Number())
	})
	return out
}

func (b *Broker) partitionsDir() string { return path.Join(b.opts.DataDir, "wal", "partitions") }

func (b *Broker) partitionDir(topic string, number int32) string {
	return path.Join(b.partitionsDir(), kafka.TopicPartition{Topic: topic, Partition: number}.String())
}

// asideDir holds what this node found on its disk and could not place.
func (b *Broker) asideDir() string { return path.Join(b.opts.DataDir, "wal", "aside") }

// goneDir holds deleted partitions until their space has been given back.
func (b *Broker) goneDir() string { return path.Join(b.opts.DataDir, "wal", "deleted") }

// placeAll opens this node's partitions for the first time. The image holds
// this process's registration, so it knows all that the cluster had committed
// before it started.
func (b *Broker) placeAll(now time.Time) {
	image := b.image.Load()
	if err := b.identity.setCluster(image.ClusterID()); err != nil {
		b.fail(err)
		return
	}
	// Registered again: only the broker epoch is another.
	for _, p := range b.Partitions() {
		p.SetBrokerEpoch(now, b.lifecycle.epoch)
	}
	if b.lifecycle.placed {
		b.reviewFitness(now)
		return
	}
	if b.opening.first {
		return // under way; place uses the broker epoch that is known by then
	}
	if err := vfs.MkdirDurable(b.env.FS, b.partitionsDir()); err != nil {
		b.fail(fmt.Errorf("make %s: %w", b.partitionsDir(), err))
		return
	}
	b.sortOut(image)
	b.opening.first = true
	for _, t := range image.Topics() {
		for i, p := range t.Partitions {
			if p.IsReplica(b.opts.Node) {
				b.openLater(partitionKey{t.ID, int32(i)})
			}
		}
	}
	b.reviewThrottles(now)
	b.openSome(now)
}

// sortOut deals with directories of partitions that the image does not place
// here: deleted while this node was away, or unknown. Nothing is deleted that
// a committed deletion does not name.
func (b *Broker) sortOut(image *metadata.Image) {
	b.env.Background(func(time.Time) { b.emptyGone() })
	entries, err := b.env.FS.List(b.partitionsDir())
	if err != nil {
		b.fail(fmt.Errorf("list %s: %w", b.partitionsDir(), err))
		return
	}
	type placed struct {
		topic  *metadata.Topic
		number int32
	}
	here := make(map[string]placed)
	for _, t := range image.Topics() {
		for i, p := range t.Partitions {
			if p.IsReplica(b.opts.Node) {
				here[path.Base(b.partitionDir(t.Name, int32(i)))] = placed{t, int32(i)}
			}
		}
	}
	for _, e := range entries {
		dir := path.Join(b.partitionsDir(), e.Name)
		if !e.Dir {
			continue
		}
		want, isHere := here[e.Name]
		id, ok, err := wal.ReadIdentity(b.env.FS, dir)
		if !ok {
			nothing, herr := wal.HoldsNothing(b.env.FS, dir)
			switch {
			case nothing && herr == nil && isHere: // opening it begins anew
			case nothing && herr == nil:
				b.removeEmpty(dir)
			case err != nil || herr != nil:
				b.env.Log.Warn("partition directory not understood", "dir", dir, "err", errors.Join(err, herr)) // opening it, if it belongs here, says more
			}
			continue
		}
		if !isHere || b.givesWay(id, want.topic, want.topic.Partition(want.number)) {
			b.clear(dir, id)
		}
	}
}

// removeEmpty removes the directory of a log that a loss of power has left nothing
// of: it does not say whether its topic was deleted.
func (b *Broker) removeEmpty(dir string) {
	if err := b.env.FS.RemoveAll(dir); err != nil {
		b.env.Log.Error("empty partition directory could not be removed", "dir", dir, "err", err)
		return
	}
	b.env.Log.Info("empty partition directory removed: the cluster does not place it here", "dir", dir)
}

// givesWay says whether a directory that should hold a partition of t may be
// moved away for a new, empty log, given whose log is in it. It may not when it
// is the partition's own or has another one's files mixed in, nor when this
// node counts as in sync: it would lead, and acknowledge, with nothing.
func (b *Broker) givesWay(id wal.Identity, t *metadata.Topic, state *metadata.Partition) bool {
	return id.TopicID != t.ID && (b.deleted[id.TopicID] || !state.IsInSync(b.opts.Node))
}

// clear moves a directory out of the way: for good when the deletion of its
// topic is committed.
func (b *Broker) clear(dir string, id wal.Identity) {
	if b.deleted[id.TopicID] {
		b.discard(dir, id)
	} else {
		b.setAside(dir, path.Base(dir), id)
	}
}

// setAside moves a directory out of the way without losing it.
func (b *Broker) setAside(dir, name string, id wal.Identity) {
	to := path.Join(b.asideDir(), fmt.Sprintf("%s.%s", name, id.TopicID))
	for i := 1; ; i++ {
		if _, err := b.env.FS.Stat(to); errors.Is(err, vfs.ErrNotExist) {
			break
		}
		to = path.Join(b.asideDir(), fmt.Sprintf("%s.%s.%d", name, id.TopicID, i))
	}
	if err := b.move(dir, to); err != nil {
		b.env.Log.Error("partition directory could not be set aside", "dir", dir, "err", err)
		return
	}
	b.env.Log.Warn("partition directory set aside: the cluster's metadata do not place it here and do not say that it was deleted; delete it by hand once you are sure that nobody needs it",
		"dir", dir, "moved_to", to, "topic_id", id.TopicID.String(), "partition", id.Partition)
}

// discard moves a partition whose deletion is committed out of the way at
// once, so that a topic of the same name can be made. settleGone does the rest.
func (b *Broker) discard(dir string, id wal.Identity) {
	if mutant.On(mutant.DeletedFilesKept) {
		return
	}
	to := path.Join(b.goneDir(), fmt.Sprintf("%s.%s.%d", path.Base(dir), id.TopicID, b.env.Rand.Uint32()))
	err := vfs.MkdirAllSync(b.env.FS, b.goneDir())
	if err == nil {
		err = b.env.FS.Rename(dir, to)
	}
	switch {
	case err == nil:
		b.gone.moved = true
	case !errors.Is(err, vfs.ErrNotExist):
		b.env.Log.Error("deleted partition could not be removed: it takes space until that is tried again",
			"dir", dir, "again_in", discardRetry, "err", err)
		b.env.Post(func(now time.Time) {
			b.At(now.Add(discardRetry), func(time.Time) { b.env.Post(func(time.Time) { b.discardLeft(dir, id) }) })
		})
	}
}

// discardRetry is the time after which a directory that could not be moved out
// of the way is tried again.
const discardRetry = 10 * time.Second

// discardLeft discards what could not be, unless this node has the partition
// again or another one has taken its place.
func (b *Broker) discardLeft(dir string, left wal.Identity) {
	if b.closed {
		return
	}
	if t := b.image.Load().Topic(left.TopicID); t != nil {
		if p := t.Partition(left.Partition); p != nil && p.IsReplica(b.opts.Node) {
			return
		}
	}
	if id, ok, _ := wal.ReadIdentity(b.env.FS, dir); !ok || id != left {
		return // it has gone with another one's making, or the next start sees to it
	}
	b.discard(dir, left)
	b.settleGone()
}

// discardUnopened is discard for a partition that could not be opened: another
// one may have taken its place in the directory.
func (b *Broker) discardUnopened(topic string, key partitionKey) {
	dir := b.partitionDir(topic, key.partition)
	id, ok, err := wal.ReadIdentity(b.env.FS, dir)
	switch {
	case err != nil && !errors.Is(err, vfs.ErrNotExist):
		b.env.Log.Warn("directory of a partition that could not be opened was left though it does not belong here any more: it does not say whose it is", "dir", dir, "err", err)
	case ok && id.TopicID == key.topic && id.Partition == key.partition:
		b.discard(dir, id)
	}
}

func (b *Broker) move(from, to string) error {
	if err := vfs.MkdirDurable(b.env.FS, path.Dir(to)); err != nil {
		return err
	}
	if err := b.env.FS.Rename(from, to); err != nil {
		return err
	}
	return errors.Join(b.env.FS.SyncDir(path.Dir(to)), b.env.FS.SyncDir(path.Dir(from)))
}

// gone is what is known of the directory of deleted partitions.
type gone struct {
	moved    bool       // something was moved there that settleGone has not seen; the control loop's
	emptying sync.Mutex // held while the directory is emptied
}

// settleGone makes durable what discard has moved, however many partitions in
// one go, and gives back their space in the background.
func (b *Broker) settleGone() {
	if !b.gone.moved {
		return
	}
	b.gone.moved = false
	if err := errors.Join(b.env.FS.SyncDir(b.goneDir()), b.env.FS.SyncDir(b.partitionsDir())); err != nil {
		b.env.Log.Error("deleted partitions may come back at the next start", "dir", b.partitionsDir(), "err", err)
	}
	b.env.Background(func(time.Time) { b.emptyGone() })
}

// emptyGone leaves the directory itself: one more partition may be on its way.
func (b *Broker) emptyGone() {
	b.gone.emptying.Lock()
	defer b.gone.emptying.Unlock()
	entries, err := b.env.FS.List(b.goneDir())
	for i := 0; err == nil && i < len(entries); i++ {
		err = b.env.FS.RemoveAll(path.Join(b.goneDir(), entries[i].Name))
	}
	if err != nil && !errors.Is(err, vfs.ErrNotExist) {
		b.env.Log.Error("deleted partitions still take space", "dir", b.goneDir(), "err", err)
	}
}

// follow acts on a change of the metadata.
func (b *Broker) follow(now time.Time, d *metadata.Delta) {
	for _, t := range d.Topics {
		if t.New == nil {
			b.deleted[t.Old.ID] = true
		}
	}
	if len(d.Brokers) > 0 {
		b.noteBrokers(d)
		b.reviewReady(now)
	}
	if !b.lifecycle.placed && !b.opening.first {
		return
	}
	elected := b.counts.note(b.opts.Node, d)
	edit := b.openNew(now, d)
	touched := make(map[partitionKey]bool, len(d.Partitions))
	for _, p := range d.Partitions {
		key := partitionKey{p.Topic, p.Partition}
		touched[key] = true
		here := p.New != nil && p.New.IsReplica(b.opts.Node)
		b.markFitness(key, p.New)
		switch _, waits := b.opening.waits[key]; {
		case here && waits:
			continue // it is told its part when it is open
		case waits: // deleted or moved away before its turn; if it is being opened, opened sees to it
			b.opening.waits[key] = false
			b.discard(b.partitionDir(p.Name, p.Partition), wal.Identity{TopicID: p.Topic, Partition: p.Partition})
			continue
		case !here && b.Partition(p.Topic, p.Partition) == nil:
			if p.Old != nil && p.Old.IsReplica(b.opts.Node) {
				b.discardUnopened(p.Name, key)
			}
			continue
		}
		if edit == nil {
			edit = b.editPartitions()
		}
		if here {
			b.place(now, edit, d.To.Topic(p.Topic), p.Partition, p.New)
		} else {
			b.displace(now, edit, key)
		}
	}
	b.followBrokers(now, d, touched)
	b.followConfigs(now, d)
	if edit != nil {
		b.publish(edit)
	}
	b.goOnOpening()
	b.reviewFitness(now)
	b.reviewThrottles(now)
	if elected > 0 {
		b.env.Log.Info("leads partitions", "node", b.opts.Node, "count", elected, "offset", d.To.Offset())
	}
	b.settleGone()
	b.coordinated.imageChanged(now, d)
}

// followBrokers tells partitions of changes to brokers that have a replica.
func (b *Broker) followBrokers(now time.Time, d *metadata.Delta, touched map[partitionKey]bool) {
	if len(d.Brokers) == 0 {
		return
	}
	changed := make(map[kafka.NodeID]bool, len(d.Brokers))
	for _, br := range d.Brokers {
		changed[br.Node] = true
	}
	for _, p := range b.Partitions() {
		key := partitionKey{p.TopicID(), p.Number()}
		t := d.To.Topic(key.topic)
		if touched[key] || t == nil {
			continue
		}
		state := t.Partition(key.partition)
		if slices.ContainsFunc(state.Replicas, func(n kafka.NodeID) bool { return changed[n] }) {
			p.Assign(now, b.assignment(state))
		}
	}
}

func (b *Broker) followConfigs(now time.Time, d *metadata.Delta) {
	topics := make(map[string]bool)
	all := false
	for _, r := range d.Configs {
		switch r.Type {
		case metadata.ResourceTopic:
			topics[r.Name] = true
		case metadata.ResourceBroker:
			all = true
		}
	}
	if !all && len(topics) == 0 || mutant.On(mutant.ConfigsNotFollowed) {
		return
	}
	for _, p := range b.Partitions() {
		if all || topics[p.Topic()] {
			p.Configure(now, b.topicConfig(d.To, p.Topic()))
		}
	}
}

// assignment is what a partition's replica core is told.
func (b *Broker) assignment(p *metadata.Partition) replica.Assignment {
	image := b.image.Load()
	a := replica.Assignment{
		LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch, Leader: p.Leader,
		Replicas: p.Replicas, InSync: p.InSync, Adding: p.Adding, Removing: p.Removing, Recovering: p.Recovering,
	}
	for _, n := range p.Replicas {
		if br := image.Broker(n); br != nil {
			a.Brokers = append(a.Brokers, replica.Broker{Node: n, Epoch: br.Epoch, Active: br.Active() && !p.IsUnfit(n)})
		}
	}
	return a
}

// partitionEdit is a partition table in the making.
type partitionEdit struct {
	open map[partitionKey]*partition.Partition
}

func (b *Broker) editPartitions() *partitionEdit {
	open := maps.Clone(b.partitions.Load().open)
	if open == nil {
		open = make(map[partitionKey]*partition.Partition)
	}
	return &partitionEdit{open}
}

func (b *Broker) publish(e *partitionEdit) { b.partitions.Store(&partitionTable{e.open}) }

// placed is a partition with a replica on this node.
type placed struct {
	topic  *metadata.Topic
	number int32
	state  *metadata.Partition
}

// place opens the partition if it is not, and tells it its part. A directory
// of an earlier topic of the same name is moved away first.
func (b *Broker) place(now time.Time, e *partitionEdit, t *metadata.Topic, number int32, state *metadata.Partition) {
	key := partitionKey{t.ID, number}
	p := e.open[key]
	if p == nil {
		if b.fitness.found[key] == nil && b.reopens(key) {
			b.findUnfit(now, key, metadata.Failed, "a log is still being opened in its directory")
		}
		if b.fitness.found[key] != nil {
			return // reopen tries again
		}
		dir := b.partitionDir(t.Name, number)
		var err error
		if p, err = b.openPartition(now, dir, b.partitionOptions(t, number)); errors.Is(err, wal.ErrForeign) {
			if id, ok, idErr := wal.ReadIdentity(b.env.FS, dir); idErr == nil && ok && b.givesWay(id, t, state) {
				b.clear(dir, id)
				p, err = b.openPartition(now, dir, b.partitionOptions(t, number))
			}
		}
		if err != nil {
			b.env.Log.Error("partition could not be opened and is offline on this node", "topic", t.Name, "partition", number, "dir", dir, "err", err)
			b.findUnfit(now, key, metadata.Failed, err.Error())
			b.noteUnopened(now, key, t.Name, err)
			return
		}
		p.SetFenced(now, b.lifecycle.lapsed)
		e.open[key] = p
	}
	p.Assign(now, b.assignment(state))
}

// openPartition opens a partition and has repaired what is found damaged in it.
func (b *Broker) openPartition(now time.Time, dir string, o partition.Options) (*partition.Partition, error) {
	p, rec, err := b.openLog(now, dir, o)
	if err == nil {
		b.noteFound(p, rec)
	}
	return p, err
}

// mayOpen says why no more logs may be opened. Any goroutine may ask.
func (b *Broker) mayOpen() error {
	if b.env.MayOpen == nil {
		return nil
	}
	return b.env.MayOpen()
}

// openLog may be called from any goroutine.
func (b *Broker) openLog(now time.Time, dir string, o partition.Options) (*partition.Partition, partition.Recovery, error) {
	if err := b.mayOpen(); err != nil {
		return nil, partition.Recovery{}, err
	}
	p, rec, err := partition.Open(now, b.env.FS, dir, o, partitionEnv{b})
	if err != nil {
		return nil, rec, err
	}
	b.logRecovery(o.Topic, o.Partition, rec)
	return p, rec, nil
}

// logMemoryBytes is what all logs together leave in memory for their next sync.
const logMemoryBytes = 256 << 20

func (b *Broker) partitionOptions(t *metadata.Topic, number int32) partition.Options {
	return b.optionsAt(b.image.Load(), b.lifecycle.epoch, t, number)
}

// optionsAt may be called from any goroutine.
func (b *Broker) optionsAt(image *metadata.Image, epoch kafka.BrokerEpoch, t *metadata.Topic, number int32) partition.Options {
	return partition.Options{
		Node: b.opts.Node, BrokerEpoch: epoch,
		Topic: t.Name, TopicID: t.ID, Partition: number,
		Config: b.topicConfig(image, t.Name), Replica: b.replicaOptions(), NoteBytes: b.opts.NoteBytes,
		Log: b.env.Log, WAL: wal.Options{CacheBytes: b.opts.LogCacheBytes, DirectBytesMin: b.opts.LogDirectMin, Memory: b.logMemory},
	}
}

// displace takes away a partition that was deleted or moved to other nodes;
// either is committed.
func (b *Broker) displace(now time.Time, e *partitionEdit, key partitionKey) {
	p := e.open[key]
	if p == nil {
		return
	}
	delete(e.open, key)
	dir := b.partitionDir(p.Topic(), key.partition)
	p.Abandon(now)
	b.discard(dir, wal.Identity{TopicID: key.topic, Partition: key.partition})
}

func (b *Broker) closePartitions(now time.Time) error {
	open := b.Partitions()
	errs := make([]error, len(open))
	b.env.Each(len(open), func(i int) {
		if err := open[i].Close(now); err != nil {
			errs[i] = fmt.Errorf("close %s-%d: %w", open[i].Topic(), open[i].Number(), err)
		}
	})
	b.partitions.Store(&partitionTable{})
	return errors.Join(errs...)
}
