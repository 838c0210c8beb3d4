package sim

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/core/metadata"
	"chronik/internal/format/record"
	"chronik/internal/host/broker"
	"chronik/internal/storage/wal"
)

const (
	partFlips = 1<<15 + iota
	partScrub
)

// flipFault is the name of what the flipper does, among those of faults.
const flipFault = "flip bits"

// flipper damages what is on disks: bits, sectors, whole files, of segments that are
// full and of the one that is written. Of each partition one replica is never harmed,
// and a second one only while three are in sync, where its log can still be opened:
// a good copy of all is left. It has chance of its own, so that a seed's other faults
// stay what they are.
type flipper struct {
	w       *world
	rng     *rand.Rand
	wanted  bool
	every   instant
	victims map[*topicPart][]*node
	scrubs  map[*node]scrubBegun // once the world has healed
	watch   damageWatch
}

// scrubBegun is the pass that a process was told to begin.
type scrubBegun struct {
	life   uint64
	number uint64
}

func newFlipper(w *world, only []string) *flipper {
	f := &flipper{w: w, rng: w.fork(partFlips), victims: make(map[*topicPart][]*node), scrubs: make(map[*node]scrubBegun)}
	f.watch.known = make(map[watchedReplica]*watched)
	f.watch.lines = make(map[*node]*scrubLines)
	f.wanted = f.rng.IntN(3) == 0 && !w.plan.mayLoseDisk && !w.plan.relaxed
	if len(only) > 0 {
		f.wanted = slices.Contains(only, flipFault)
	}
	f.every = 500*millisecond + instant(f.rng.Int64N(int64(8*second)))
	return f
}

func (f *flipper) start() {
	if !f.wanted {
		return
	}
	f.w.after(f.every/2+instant(f.rng.Int64N(int64(f.every))), func() {
		if !f.w.calm() {
			f.harm()
			f.start()
		}
	})
}

// victim is a replica of a partition that may be harmed, and whether others are.
func (f *flipper) victim(p *topicPart, state *metadata.Partition) (n *node, second bool) {
	list := f.victims[p]
	any := f.w.nodes[state.Replicas[f.rng.IntN(len(state.Replicas))]-1]
	switch {
	case len(list) == 0, len(list) == 1 && len(state.InSync) > 2 && any != list[0] && f.rng.IntN(3) == 0:
		f.victims[p] = append(list, any)
		return any, len(list) > 0
	}
	i := f.rng.IntN(len(list))
	return list[i], i > 0
}

// harm does something to the log of one replica, and perhaps to its process or
// another one when that comes to know.
func (f *flipper) harm() {
	parts := f.w.load.parts()
	if len(parts) == 0 {
		return
	}
	p := parts[f.rng.IntN(len(parts))]
	if p.topic.minSync < 2 {
		return // the damaged replica may be the only one in sync when it starts again, and cannot be read
	}
	if p.topic.keyed() {
		return // a damaged log is copied as a whole, which takes what another has left of it
	}
	state, other := f.another(p)
	if state == nil {
		return
	}
	n, second := f.victim(p, state)
	good := other(n)
	if n.wiped || good == nil || !state.IsReplica(n.id) {
		return
	}
	start, committed, _ := good.broker.Partition(p.topic.id, p.number).Durable()
	dir := logDir(p)
	var files, indices []string
	var bases []kafka.Offset
	for _, s := range segmentsIn(n.disk.mem, dir) {
		if s.base >= start && s.end <= committed {
			files, bases = append(files, path.Join(dir, s.name)), append(bases, s.base)
			indices = append(indices, path.Join(dir, strings.TrimSuffix(s.name, ".wal")+".offset_index"))
		}
	}
	if active, to := f.active(n, p, committed); f.rng.IntN(4) == 0 && to > 0 && !second {
		f.did("n%d: %s of %s", n.index, f.flip(n.disk.mem, active, 0, to), active)
		f.thenEnds(n)
		return
	}
	if len(files) == 0 {
		return
	}
	i, many := f.rng.IntN(len(files)), 1
	if f.rng.IntN(3) == 0 {
		many += f.rng.IntN(4)
	}
	for k := i; k < min(i+many, len(files)); k++ {
		switch {
		case second:
			f.did("n%d: %s of %s", n.index, f.flip(n.disk.mem, files[k], headerBytes, sizeOf(n.disk.mem, files[k])), files[k])
		case f.rng.IntN(8) == 0 && sizeOf(n.disk.mem, indices[k]) > 0:
			f.did("n%d: %s of %s", n.index, f.change(n.disk.mem, indices[k], indices), indices[k])
		case sizeOf(n.disk.mem, files[k]) > 0:
			f.did("n%d: %s of %s", n.index, f.change(n.disk.mem, files[k], files), files[k])
		}
	}
	base := bases[i]
	if f.rng.IntN(2) == 0 { // somebody reads it before it is looked over
		f.w.after(instant(f.rng.Int64N(int64(200*millisecond))), func() { f.w.load.skim.at(p, base) })
	}
	if f.rng.IntN(4) == 0 {
		f.thenEnds(n)
	}
}

func (f *flipper) did(format string, args ...any) {
	f.w.faults.done[flipFault]++
	f.w.faults.note(format, args...)
}

// thenEnds has the process on a node end soon, where such faults come: it finds the
// damage, if nobody does before, when it starts again.
func (f *flipper) thenEnds(n *node) {
	if !f.w.faults.has("kill") || f.rng.IntN(3) == 0 {
		return
	}
	f.end(n, instant(f.rng.Int64N(int64(300*millisecond))), n.kill)
}

// end does harm to a process after a while, and starts it again.
func (f *flipper) end(n *node, after instant, harm func()) {
	life := n.life
	f.w.after(after, func() {
		if f.w.calm() || n.life != life {
			return
		}
		harm()
		faults := f.w.faults
		i := len(faults.undo)
		faults.undo = append(faults.undo, func() {
			n.disk.crash = nil
			n.resume()
			n.start()
		})
		f.w.after(instant(f.rng.Int64N(int64(2*faults.lasting))), func() { faults.mend(i) })
	})
}

// disturb does harm while a node has just found damage, which it is about to tell of
// and to repair: its process ends, or that of another one, which may lead or be asked
// for what is damaged.
func (f *flipper) disturb(n *node) {
	faults := f.w.faults
	if f.w.calm() || f.rng.IntN(3) > 0 {
		return
	}
	after := instant(f.rng.Int64N(int64(60 * millisecond)))
	other := f.w.nodes[(n.index+1+f.rng.IntN(len(f.w.nodes)-1))%len(f.w.nodes)]
	changes, power := 1+f.rng.IntN(60), f.rng.IntN(2) == 0
	switch k := f.rng.IntN(4); {
	case k == 0 && faults.has("end in a call") && n.disk.crash == nil:
		f.end(n, 0, func() { n.disk.crashIn(changes, false, func() { n.perish(power, 0) }) })
	case k == 1 && faults.has("lose power"):
		f.end(n, after, func() { n.losePower(0) })
	case k == 2 && faults.has("kill"):
		f.end(n, after, n.kill)
	case k == 3 && faults.has("kill"):
		f.end(other, after, other.kill)
	}
}

// headerBytes is what of a segment comes before its records.
const headerBytes = 4096

// active is the segment of a replica that is written, and up to where it is what
// others have too and what any loss of power leaves.
func (f *flipper) active(n *node, p *topicPart, committed kafka.Offset) (name string, to int64) {
	dir := logDir(p)
	list, err := n.disk.mem.List(dir)
	if err != nil {
		return "", 0
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name, "segment_") && strings.HasSuffix(e.Name, ".wal") {
			name = path.Join(dir, e.Name)
		}
	}
	after := n.disk.mem.Crash(nil, 0)
	after.SetCapacity(0)
	log, rec, err := wal.Open(after, dir, wal.Identity{TopicID: p.topic.id, Partition: p.number}, wal.Options{}, n.time())
	if err != nil {
		return "", 0
	}
	log.Abandon()
	b, err := vfs.ReadFile(n.disk.mem, name)
	if err != nil || len(b) <= headerBytes {
		return "", 0
	}
	for rest := b[headerBytes:]; len(rest) > 0; {
		batch, next, err := record.Next(rest)
		if err != nil || batch.NextOffset() > min(committed, rec.SyncedBefore) {
			break
		}
		rest, to = next, int64(len(b)-len(next))
	}
	return name, to
}

func sizeOf(fs vfs.FS, name string) int64 {
	info, err := fs.Stat(name)
	if err != nil {
		return 0
	}
	return info.Size
}

// flip flips a bit of a file, from a byte on up to another one.
func (f *flipper) flip(fs vfs.FS, name string, from, to int64) string {
	if to <= from {
		return "nothing was done to a file"
	}
	at := from + f.rng.Int64N(to-from)
	b, err := vfs.ReadFile(fs, name)
	if err == nil {
		var file vfs.File
		if file, err = fs.Open(name, vfs.ReadWrite); err == nil {
			defer file.Close()
			if _, err = file.WriteAt([]byte{b[at] ^ 1<<f.rng.IntN(8)}, at); err == nil {
				err = file.Sync()
			}
		}
	}
	if err != nil {
		f.w.violate("the simulator's own disk works", "%s: %v", name, err)
	}
	return fmt.Sprintf("a bit of byte %d was flipped", at)
}

// another is what the best informed node knows of a partition, and how to find a
// node but one that is in sync, runs and was not harmed.
func (f *flipper) another(p *topicPart) (state *metadata.Partition, but func(*node) *node) {
	var image *metadata.Image
	for _, n := range f.w.nodes {
		if n.up && n.broker != nil && (image == nil || n.broker.Image().Offset() > image.Offset()) {
			image = n.broker.Image()
		}
	}
	if image == nil || p.topic.id == (kafka.TopicID{}) {
		return nil, nil
	}
	state = image.Topic(p.topic.id).Partition(p.number)
	if state == nil || state.Reassigning() {
		return nil, nil
	}
	return state, func(harmed *node) *node {
		for _, id := range state.InSync {
			n := f.w.nodes[id-1]
			if n != harmed && n.up && n.broker != nil && n.broker.Partition(p.topic.id, p.number) != nil && !slices.Contains(f.victims[p], n) {
				return n
			}
		}
		return nil
	}
}

// logDir is where a node has the log of a partition.
func logDir(p *topicPart) string {
	return path.Join("/data/wal/partitions", fmt.Sprintf("%s-%d", p.topic.name, p.number))
}

type segmentFile struct {
	name      string
	base, end kafka.Offset
}

// segmentsIn lists the sealed segments of a log, by the names of its files.
func segmentsIn(fs vfs.FS, dir string) []segmentFile {
	entries, err := fs.List(dir)
	if err != nil {
		return nil
	}
	var list []segmentFile
	for _, e := range entries {
		var base int64
		if _, err := fmt.Sscanf(e.Name, "segment_%020d", &base); err != nil || !strings.HasSuffix(e.Name, ".wal") {
			continue
		}
		if n := len(list); n > 0 {
			list[n-1].end = kafka.Offset(base)
		}
		list = append(list, segmentFile{name: e.Name, base: kafka.Offset(base)})
	}
	if len(list) == 0 {
		return nil
	}
	return list[:len(list)-1]
}

// change damages a file and says how.
func (f *flipper) change(fs *vfs.Mem, name string, others []string) string {
	file, err := fs.Open(name, vfs.ReadWrite)
	if err != nil {
		return "nothing was done to a file"
	}
	defer file.Close()
	size, _ := file.Size()
	var what string
	switch f.rng.IntN(8) {
	case 0:
		what = "a sector was lost"
		at := f.rng.Int64N(size) &^ (vfs.SectorSize - 1)
		_, err = file.WriteAt(make([]byte, min(vfs.SectorSize, size-at)), at)
	case 1:
		what = "the file was lost"
		err = fs.Remove(name)
		if err == nil {
			err = fs.SyncDir(path.Dir(name))
		}
	case 2:
		what = "the end was lost"
		err = file.Truncate(f.rng.Int64N(size))
	case 3:
		what = "another file's bytes came"
		var b []byte
		b, err = vfs.ReadFile(fs, others[f.rng.IntN(len(others))])
		if errors.Is(err, vfs.ErrNotExist) { // that one was lost just now
			return "nothing was done to a file"
		}
		if err == nil {
			_, err = file.WriteAt(b, 0)
		}
		if errors.Is(err, vfs.ErrNoSpace) { // the disk has no room for more than there was
			_, err = file.WriteAt(b[:min(int64(len(b)), size)], 0)
		}
	default:
		at := f.rng.Int64N(size)
		what = fmt.Sprintf("a bit of byte %d was flipped", at)
		var b [1]byte
		if _, err = file.ReadAt(b[:], at); err == nil || err == io.EOF {
			b[0] ^= 1 << f.rng.IntN(8)
			_, err = file.WriteAt(b[:], at)
		}
	}
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		f.w.violate("the simulator's own disk works", "%s: %v", name, err)
	}
	return what
}

// options are the scrubber's of a node: in some worlds it goes round all the time.
func (f *flipper) options(o *broker.Options) {
	o.ScrubBytesPerSecond = 1 << 30
	if rng := f.w.fork(partScrub); f.wanted || rng.IntN(3) == 0 {
		o.ScrubInterval = time.Duration(2+rng.IntN(20)) * time.Second
	}
}

// logged looks at what a node writes of its scrubber.
func (f *flipper) logged(n *node, message, line string) {
	switch message {
	case "replicas differ":
		f.w.violate("sound replicas are the same", "node %d: %s", n.id, line)
	case "unfit replica stays in use: the partition cannot do without it":
		at := lineTopicID.FindStringSubmatch(line)
		for _, p := range f.w.load.parts() {
			if at != nil && p.topic.id.String() == at[1] && p.number == int32(offsetOf(at[2])) {
				p.forgetful = true
			}
		}
	case "log is damaged", "segment is damaged":
		if f.w.faults.done[flipFault] == 0 {
			f.w.violate("nothing is damaged by itself", "node %d: %s", n.id, line)
		}
		if f.wanted && message == "log is damaged" {
			f.disturb(n)
		}
	}
	f.watch.logged(n, message, line)
}

// atRest has every node go over all its logs once everything else is at rest,
// and says whether that is done and all that was damaged is repaired.
func (f *flipper) atRest() (bool, string) {
	if f.w.faults.done[flipFault] == 0 {
		return true, ""
	}
	for _, n := range f.w.nodes {
		if !n.up || n.broker == nil {
			return false, fmt.Sprintf("node %d is down", n.id)
		}
		begun := f.scrubs[n]
		if begun.life != n.life {
			n.call(func() {
				begun = scrubBegun{n.life, n.broker.Scrub(n.time(), broker.ScrubRequest{Start: true}).Started}
			})
			f.scrubs[n] = begun
		}
		if why := n.broker.ScrubUnfinished(begun.number); why != "" {
			return false, fmt.Sprintf("node %d: %s", n.id, why)
		}
	}
	for _, n := range f.w.nodes {
		f.scrubbed(n)
	}
	return true, ""
}
