package wal

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
)

// list sorts out what is in the directory.
func (r *recovery) list() error {
	l := r.log
	entries, err := l.fs.List(l.dir)
	if errors.Is(err, vfs.ErrNotExist) {
		// The directory's own name is synced by the first Sync.
		if err := vfs.MkdirAllSync(l.fs, filepath.Dir(l.dir)); err != nil {
			return err
		}
		return l.fs.MkdirAll(l.dir)
	}
	if err != nil {
		return err
	}
	type file struct {
		base       kafka.Offset
		generation uint32
	}
	r.files = map[kafka.Offset]uint32{}
	var indices []file
	for _, e := range entries {
		if base, generation, ok := parseSegmentName(e.Name, segmentSuffix); ok {
			newest, known := r.files[base]
			switch {
			case !known:
				r.bases = append(r.bases, base)
				r.files[base] = generation
			case generation > newest:
				r.replaced = append(r.replaced, newSegment(l.dir, base, newest))
				r.files[base] = generation
			default:
				r.replaced = append(r.replaced, newSegment(l.dir, base, generation))
			}
		} else if base, generation, ok := parseSegmentName(e.Name, indexSuffix); ok {
			indices = append(indices, file{base, generation})
		} else if o, ok := parseName(e.Name, statePrefix, stateSuffix); ok {
			l.states = append(l.states, o)
		} else if i := slices.Index(notedNames[:], e.Name); i >= 0 {
			l.findNote(i)
		} else if e.Name == cleanedName {
			l.loadCleaned()
		} else if strings.HasSuffix(e.Name, tempSuffix) &&
			(strings.HasPrefix(e.Name, statePrefix) || strings.HasPrefix(e.Name, segmentPrefix) || strings.HasPrefix(e.Name, cleanedName)) {
			r.stray = append(r.stray, e.Name)
		}
	}
	slices.Sort(r.bases)
	for _, i := range indices {
		if generation, ok := r.files[i.base]; !ok || generation != i.generation {
			r.stray = append(r.stray, segmentName(i.base, i.generation, indexSuffix))
		}
	}
	for _, name := range r.stray {
		if err := r.remove(filepath.Join(l.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// dropReplaced removes the segments that others have replaced, which Rewrite
// had not removed yet.
func (r *recovery) dropReplaced() error {
	l := r.log
	end := kafka.NoOffset // of the last segment that was written as a whole
	kept := r.bases[:0]
	for _, base := range r.bases {
		if base < end {
			r.replaced = append(r.replaced, newSegment(l.dir, base, r.files[base]))
			delete(r.files, base)
			continue
		}
		kept = append(kept, base)
		if r.files[base] == 0 {
			continue
		}
		// One that cannot be read replaces nothing; it is looked at again.
		if h, err := r.readHeader(r.segment(base)); err == nil {
			end = max(end, h.end)
		}
	}
	r.bases = kept
	if len(r.replaced) == 0 {
		return nil
	}
	// What replaces them may be in the page cache only.
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	for _, s := range r.replaced {
		if err := r.remove(s.indexPath); err != nil {
			return err
		}
		if err := r.remove(s.path); err != nil {
			return err
		}
	}
	return l.fs.SyncDir(l.dir)
}

// segment is the one with this base offset, of the generation found.
func (r *recovery) segment(base kafka.Offset) *segment {
	return newSegment(r.log.dir, base, r.files[base])
}

func (r *recovery) remove(name string) error {
	if err := r.log.fs.Remove(name); err != nil && !errors.Is(err, vfs.ErrNotExist) {
		return err
	}
	return nil
}

func (r *recovery) removeSegment(base kafka.Offset) error {
	s := r.segment(base)
	if err := r.remove(s.indexPath); err != nil {
		return err
	}
	return r.remove(s.path)
}

// finishReset does again what Reset was doing.
func (r *recovery) finishReset() error {
	l := r.log
	if err := l.checkpoint.resync(); err != nil { // it may be in the page cache only
		return err
	}
	for _, base := range slices.Backward(r.bases) {
		if err := r.removeSegment(base); err != nil {
			return err
		}
	}
	if err := l.dropStates(r.ck.start, r.ck.flags&flagHasState != 0); err != nil {
		return err
	}
	if err := l.dropCleaned(); err != nil {
		return err
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	if err := r.makeFirst(r.ck.start); err != nil {
		return err
	}
	if err := l.active().file.Sync(); err != nil {
		return err
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	l.namesUnsynced = false
	return l.checkpoint.save(checkpoint{start: r.ck.start, point: r.ck.point})
}

// forgetLost drops what is kept beside the log about records that are gone.
func (r *recovery) forgetLost() error {
	l := r.log
	if err := l.lowerCleaned(l.End()); err != nil {
		return err
	}
	return l.pruneStates(l.Start(), l.End())
}

func (r *recovery) makeFirst(start kafka.Offset) error {
	l := r.log
	l.start.Store(int64(start))
	l.end.Store(int64(start))
	l.synced.Store(int64(start))
	s, err := l.create(start, nil)
	if err != nil {
		return err
	}
	l.segments = []*segment{s}
	l.namesUnsynced = true
	return nil
}

// dropTrimmed removes segments below the log start offset, which Trim had not
// removed yet.
func (r *recovery) dropTrimmed(found bool) error {
	if !found {
		r.CheckpointLost = r.log.checkpoint.damaged || len(r.bases) > 1 || r.bases[0] > 0
		return nil
	}
	n := 0
	for n+1 < len(r.bases) && r.bases[n+1] <= r.ck.start && r.bases[n] < r.ck.point.segment {
		// The checkpoint may be in the page cache only.
		if n == 0 {
			if err := r.log.checkpoint.resync(); err != nil {
				return err
			}
		}
		if err := r.removeSegment(r.bases[n]); err != nil {
			return err
		}
		n++
	}
	r.bases = r.bases[n:]
	return nil
}
