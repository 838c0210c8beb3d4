package wal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
	"chronik/internal/storage/statefile"
)

// DumpOptions say what Dump prints.
type DumpOptions struct {
	Batches bool         // each batch, not only where something is wrong
	Index   bool         // each index entry
	From    kafka.Offset // first offset whose batch is printed
	Max     int          // batches to print of each log; 0 for all
}

// Dump prints what is in the directory of a log, or in all logs below dir. It
// only reads. Damage is printed where it is found; the error is one of reading
// or writing, or ErrCorrupt if there was damage anywhere.
func Dump(w io.Writer, fs vfs.FS, dir string, opts DumpOptions) error {
	out := bufio.NewWriter(w)
	d := dump{out: out, fs: fs, opts: opts}
	err := d.tree(dir)
	if ferr := out.Flush(); err == nil {
		err = ferr
	}
	if err == nil && d.logs == 0 {
		err = fmt.Errorf("there is no log in %s, nor below it", dir)
	}
	if err == nil && d.damage > 0 {
		err = fmt.Errorf("%w: found damage in %d places", ErrCorrupt, d.damage)
	}
	return err
}

type dump struct {
	out     *bufio.Writer
	fs      vfs.FS
	opts    DumpOptions
	damage  int
	logs    int
	printed int // batches of the present log
}

func (d *dump) printf(format string, args ...any) { fmt.Fprintf(d.out, format, args...) }

func (d *dump) bad(format string, args ...any) {
	d.damage++
	d.printf("  !! "+format+"\n", args...)
}

func (d *dump) tree(dir string) error {
	entries, err := d.fs.List(dir)
	if err != nil {
		return fmt.Errorf("dump %s: %w", dir, err)
	}
	var segments []*segment
	var states []string
	isLog := false
	for _, e := range entries {
		if base, generation, ok := parseSegmentName(e.Name, segmentSuffix); ok && !e.Dir {
			segments = append(segments, newSegment(dir, base, generation))
			isLog = true
		}
		if _, ok := parseName(e.Name, statePrefix, stateSuffix); ok && !e.Dir {
			states = append(states, e.Name)
		}
		isLog = isLog || e.Name == checkpointName && !e.Dir
	}
	if isLog {
		if err := d.log(dir, segments, states); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if e.Dir {
			if err := d.tree(filepath.Join(dir, e.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *dump) log(dir string, segments []*segment, states []string) error {
	d.printed = 0
	d.logs++
	d.printf("log %s\n", dir)
	b, err := vfs.ReadFile(d.fs, filepath.Join(dir, checkpointName))
	if err != nil && !errors.Is(err, vfs.ErrNotExist) {
		d.bad("checkpoint cannot be read: %v", err)
	}
	ck, id, found := decodeCheckpoint(b)
	if found {
		d.printf("  checkpoint: topic %s partition %d, starts at offset %d, synced up to offset %d in segment %d at byte %d, sequence %d%s%s\n",
			id.TopicID, id.Partition, ck.start, ck.point.offset, ck.point.segment, ck.point.pos, ck.seq,
			flag(ck.flags&flagClosed != 0, ", closed in order"), flag(ck.flags&flagResetting != 0, ", RESET NOT FINISHED"))
	} else {
		d.bad("no valid checkpoint")
	}
	end := kafka.NoOffset
	for i, s := range segments {
		if i+1 < len(segments) && segments[i+1].base == s.base || i > 0 && s.base < end && segments[i-1].generation > 0 {
			d.printf("  segment %d, generation %d: replaced by another\n", s.base, s.generation)
			continue
		}
		if i > 0 && end >= 0 && end != s.base {
			d.bad("segment %d follows, but offset %d was expected", s.base, end)
		}
		point := position{segment: kafka.NoOffset}
		if found {
			point = ck.point
		}
		if end, err = d.segment(s, i == len(segments)-1, point); err != nil {
			return err
		}
	}
	for _, name := range states {
		v, err := statefile.Load(d.fs, filepath.Join(dir, name))
		if err != nil {
			d.bad("%v", err)
			continue
		}
		d.printf("  state %s: %d bytes\n", name, len(v))
	}
	return nil
}

// epochList is written as 0 from 0, 3 from 120: epochs and their first offsets.
func epochList(epochs []EpochStart) string {
	if len(epochs) == 0 {
		return "none"
	}
	var list []string
	for _, e := range epochs {
		list = append(list, fmt.Sprintf("%d from %d", e.Epoch, e.Start))
	}
	return strings.Join(list, ", ")
}

// flag is text if it is set.
func flag(set bool, text string) string {
	if set {
		return text
	}
	return ""
}

func (d *dump) segment(s *segment, last bool, point position) (end kafka.Offset, err error) {
	f, err := d.fs.Open(s.path, vfs.ReadOnly)
	if err != nil {
		d.bad("%v", err)
		return kafka.NoOffset, nil
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		d.bad("%v", err)
		return kafka.NoOffset, nil
	}
	d.printf("  segment %d: %d bytes%s\n", s.base, size, flag(s.generation > 0, fmt.Sprintf(", generation %d", s.generation)))
	page := make([]byte, headerSize)
	n, err := readFull(f, page, 0)
	if err != nil {
		d.bad("header cannot be read: %v", err)
		return kafka.NoOffset, nil
	}
	if h, err := decodeHeader(page[:n]); err != nil {
		d.bad("byte 0: header: %v", err)
	} else {
		before := "first of its log"
		if h.prev >= 0 {
			before = fmt.Sprintf("follows segment %d of %d bytes", h.prev, h.prevSize)
		}
		d.printf("    header: topic %s partition %d, base offset %d, %s, synced up to offset %d, made at %s, leader epochs before it %s\n",
			h.id.TopicID, h.id.Partition, h.base, before, h.synced, time.UnixMilli(h.created).UTC().Format(time.RFC3339), epochList(h.epochs))
		if h.base != s.base || h.generation != s.generation {
			d.bad("base offset or generation differs from the file's name")
		}
		if h.end >= 0 {
			d.printf("    written as a whole: up to offset %d, %d bytes\n", h.end, h.wholeSize)
		}
		s.whole = h.end
		s.gaps.Store(h.gaps)
	}
	end = d.batches(s, f, size, last, point)
	if end >= 0 {
		end = max(end, s.whole)
	}
	return end, d.index(s)
}

func (d *dump) batches(s *segment, f vfs.File, size int64, last bool, point position) kafka.Offset {
	sc := &scanner{file: f, pos: headerSize, to: size, next: s.base, gaps: s.gaps.Load(), chunk: 1 << 20}
	count, epochs := 0, []EpochStart(nil)
	for {
		b, err := sc.batch(false)
		if err == errEnd {
			break
		}
		if ok, perr := padded(f, sc.pos, size); ok && perr == nil {
			d.printf("    %d zeros fill up the last block\n", size-sc.pos)
			break
		}
		if err != nil {
			synced := point.segment > s.base || point.segment == s.base && point.pos > sc.pos
			where := "above the recovery point: Open cuts it off"
			if synced || point.segment < 0 && !last {
				where = "below the recovery point: corruption"
			}
			d.bad("byte %d, offset %d: %v (%s); %d bytes not read", sc.pos, sc.next, err, where, size-sc.pos)
			return kafka.NoOffset
		}
		ok := b.VerifyCRC()
		if !ok {
			d.bad("byte %d, offsets %d to %d: CRC does not match", sc.pos, b.BaseOffset(), b.LastOffset())
		}
		if d.opts.Batches && b.LastOffset() >= d.opts.From && (d.opts.Max == 0 || d.printed < d.opts.Max) {
			d.printed++
			d.batch(sc.pos, b, ok)
		}
		if n := len(epochs); n == 0 || epochs[n-1].Epoch != b.LeaderEpoch() {
			epochs = append(epochs, EpochStart{b.LeaderEpoch(), b.BaseOffset()})
		}
		count++
		sc.skip(b)
	}
	if count == 0 {
		d.printf("    no batches\n")
	} else {
		d.printf("    %d batches, offsets %d to %d, leader epochs %s\n", count, s.base, sc.next-1, epochList(epochs))
	}
	return sc.next
}

func (d *dump) batch(pos int64, b record.Batch, ok bool) {
	crc := "ok"
	if !ok {
		crc = "BAD"
	}
	d.printf("    batch at %d: offsets %d to %d, epoch %d, %d records, %d bytes, crc %s, timestamps %d to %d %s, codec %s",
		pos, b.BaseOffset(), b.LastOffset(), b.LeaderEpoch(), b.Count(), len(b), crc,
		b.BaseTimestamp(), b.MaxTimestamp(), b.TimestampType(), b.Codec())
	if b.HasProducerID() {
		d.printf(", producer %d epoch %d sequence %d", b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	}
	d.printf("%s%s%s\n", flag(b.IsTransactional(), ", transactional"), flag(b.IsControl(), ", control"), flag(b.HasDeleteHorizon(), ", delete horizon"))
}

func (d *dump) index(s *segment) error {
	b, err := vfs.ReadFile(d.fs, s.indexPath)
	if errors.Is(err, vfs.ErrNotExist) {
		d.printf("    no index\n")
		return nil
	}
	if err != nil {
		d.bad("index cannot be read: %v", err)
		return nil
	}
	entries := decodeIndex(b, s.base)
	d.printf("    index: %d entries, %d bytes unreadable\n", len(entries), len(b)-len(entries)*entrySize)
	if !d.opts.Index {
		return nil
	}
	for e := range slices.Values(entries) {
		d.printf("      offset %d at %d, epoch %d, largest timestamp before it %d at offset %d\n", e.offset, e.pos, e.epoch, e.maxTs.ms, e.maxTs.base)
	}
	return nil
}
