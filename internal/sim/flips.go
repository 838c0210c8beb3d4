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
	"chronik/internal/host/broker"
)

const (
	partFlips = 1<<15 + iota
	partScrub
)

// flipFault is the name of what the flipper does, among those of faults.
const flipFault = "flip bits"

// flipper damages what is on disks: bits, sectors, whole files. Of each
// partition only one replica is ever harmed, and only where another one that is
// in sync has the same records on its disk: the last good copy is left. It has
// chance of its own, so that a seed's other faults stay what they are.
type flipper struct {
	w       *world
	rng     *rand.Rand
	wanted  bool
	every   instant
	victims map[*topicPart]*node
	scrubs  map[*node]scrubBegun // once the world has healed
}

// scrubBegun is the pass that a process was told to begin.
type scrubBegun struct {
	life   uint64
	number uint64
}

func newFlipper(w *world, only []string) *flipper {
	f := &flipper{w: w, rng: w.fork(partFlips), victims: make(map[*topicPart]*node), scrubs: make(map[*node]scrubBegun)}
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

// victim is the replica of a partition that may be harmed.
func (f *flipper) victim(p *topicPart, state *metadata.Partition) *node {
	if n := f.victims[p]; n != nil {
		return n
	}
	n := f.w.nodes[state.Replicas[f.rng.IntN(len(state.Replicas))]-1]
	f.victims[p] = n
	return n
}

// harm does something to one sealed segment.
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
	n := f.victim(p, state)
	good := other(n)
	if n.wiped || good == nil || !state.IsReplica(n.id) {
		return
	}
	start, committed, _ := good.broker.Partition(p.topic.id, p.number).Durable()
	dir := logDir(p)
	var files []string
	var bases []kafka.Offset
	for _, s := range segmentsIn(n.disk.mem, dir) {
		if s.base >= start && s.end <= committed {
			files, bases = append(files, path.Join(dir, s.name)), append(bases, s.base)
		}
	}
	if len(files) == 0 {
		return
	}
	i := f.rng.IntN(len(files))
	name, base := files[i], bases[i]
	f.w.faults.done[flipFault]++
	what := f.change(n.disk.mem, name, files)
	f.w.faults.note("n%d: %s of %s", n.index, what, name)
	if f.rng.IntN(2) == 0 { // somebody reads it before it is looked over
		f.w.after(instant(f.rng.Int64N(int64(200*millisecond))), func() { f.w.load.skim.at(p, base) })
	}
}

// another is what the best informed node knows of a partition, and how to find a
// node but one that is in sync and runs.
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
			if n := f.w.nodes[id-1]; n != harmed && n.up && n.broker != nil && n.broker.Partition(p.topic.id, p.number) != nil {
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
		if b, err = vfs.ReadFile(fs, others[f.rng.IntN(len(others))]); err == nil {
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
	case "log is damaged", "segment is damaged":
		if f.w.faults.done[flipFault] == 0 {
			f.w.violate("nothing is damaged by itself", "node %d: %s", n.id, line)
		}
	}
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
	return true, ""
}
