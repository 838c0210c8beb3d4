package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
)

// A segment begins with a header of one page:
//
//	offset | size | field
//	     0 |    4 | magic "CHWL"
//	     4 |    2 | version of the format, 1
//	     6 |    2 | flags: 1 older leader epochs were left out, 2 offsets may leave gaps
//	     8 |   16 | topic id
//	    24 |    4 | partition
//	    28 |    4 | number of leader epochs
//	    32 |    8 | base offset: no batch in the segment is below it
//	    40 |    8 | base offset of the segment before it when it was made, -1 for none
//	    48 |    8 | size of the segment before it in bytes when it was made, 0 for none
//	    56 |    8 | end offset if the segment was written as a whole, -1 otherwise
//	    64 |    8 | offset up to which the log was synced when the segment was made
//	    72 |    8 | time when the segment was made, in ms
//	    80 |    4 | CRC-32C of the page with this field 0
//	    84 |    4 | generation: how often the segment was rewritten
//	    88 |    8 | size of the file if the segment was written as a whole, 0 otherwise
//	    96 | 12*n | leader epochs with a batch below the base offset: epoch 4, start offset 8
//
// and batches follow one another from byte 4096 to the end of the file.
const (
	headerSize     = 4096
	headerMagic    = "CHWL"
	headerVersion  = 1
	headerFixed    = 96
	headerEpochs   = (headerSize - headerFixed) / 12
	flagEpochsLeft = 1
	flagGaps       = 2

	// Flags and the end of a segment that was written as a whole are changed in
	// place. They are in one sector, with the checksum.
	headerSector = vfs.SectorSize
)

type segmentHeader struct {
	id        Identity
	base      kafka.Offset
	prev      kafka.Offset
	prevSize  int64
	end       kafka.Offset
	synced    kafka.Offset
	created   int64
	epochs    []EpochStart
	epochsCut bool
	gaps      bool

	generation uint32
	wholeSize  int64
}

func (h *segmentHeader) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, headerMagic)
	binary.BigEndian.PutUint16(b[4:], headerVersion)
	epochs, flags := h.epochs, uint16(0)
	if h.epochsCut || len(epochs) > headerEpochs {
		epochs = epochs[max(0, len(epochs)-headerEpochs):]
		flags |= flagEpochsLeft
	}
	if h.gaps {
		flags |= flagGaps
	}
	binary.BigEndian.PutUint16(b[6:], flags)
	copy(b[8:], h.id.TopicID[:])
	binary.BigEndian.PutUint32(b[24:], uint32(h.id.Partition))
	binary.BigEndian.PutUint32(b[28:], uint32(len(epochs)))
	binary.BigEndian.PutUint64(b[32:], uint64(h.base))
	binary.BigEndian.PutUint64(b[40:], uint64(h.prev))
	binary.BigEndian.PutUint64(b[48:], uint64(h.prevSize))
	binary.BigEndian.PutUint64(b[56:], uint64(h.end))
	binary.BigEndian.PutUint64(b[64:], uint64(h.synced))
	binary.BigEndian.PutUint64(b[72:], uint64(h.created))
	binary.BigEndian.PutUint32(b[84:], h.generation)
	binary.BigEndian.PutUint64(b[88:], uint64(h.wholeSize))
	for i, e := range epochs {
		binary.BigEndian.PutUint32(b[headerFixed+12*i:], uint32(e.Epoch))
		binary.BigEndian.PutUint64(b[headerFixed+12*i+4:], uint64(e.Start))
	}
	binary.BigEndian.PutUint32(b[80:], crc32.Checksum(b, castagnoli))
	return b
}

// decodeHeader reads the header page at the begin of b, which it leaves as it
// was.
func decodeHeader(b []byte) (h segmentHeader, err error) {
	if len(b) < headerSize {
		return h, fmt.Errorf("%d bytes are less than a header", len(b))
	}
	b = b[:headerSize]
	if string(b[:4]) != headerMagic {
		return h, fmt.Errorf("magic %q", b[:4])
	}
	var zero [4]byte
	crc := crc32.Checksum(b[:80], castagnoli)
	crc = crc32.Update(crc, castagnoli, zero[:])
	crc = crc32.Update(crc, castagnoli, b[84:])
	if crc != binary.BigEndian.Uint32(b[80:]) {
		return h, errors.New("checksum of the header does not match")
	}
	if v := binary.BigEndian.Uint16(b[4:]); v != headerVersion {
		return h, fmt.Errorf("version %d of the format, this program reads %d", v, headerVersion)
	}
	n := int(binary.BigEndian.Uint32(b[28:]))
	if n > headerEpochs {
		return h, fmt.Errorf("%d leader epochs", n)
	}
	copy(h.id.TopicID[:], b[8:])
	h.id.Partition = int32(binary.BigEndian.Uint32(b[24:]))
	h.base = kafka.Offset(binary.BigEndian.Uint64(b[32:]))
	h.prev = kafka.Offset(binary.BigEndian.Uint64(b[40:]))
	h.prevSize = int64(binary.BigEndian.Uint64(b[48:]))
	h.end = kafka.Offset(binary.BigEndian.Uint64(b[56:]))
	h.synced = kafka.Offset(binary.BigEndian.Uint64(b[64:]))
	h.created = int64(binary.BigEndian.Uint64(b[72:]))
	h.generation = binary.BigEndian.Uint32(b[84:])
	h.wholeSize = int64(binary.BigEndian.Uint64(b[88:]))
	flags := binary.BigEndian.Uint16(b[6:])
	h.epochsCut, h.gaps = flags&flagEpochsLeft != 0, flags&flagGaps != 0
	for i := range n {
		h.epochs = append(h.epochs, EpochStart{
			Epoch: kafka.LeaderEpoch(binary.BigEndian.Uint32(b[headerFixed+12*i:])),
			Start: kafka.Offset(binary.BigEndian.Uint64(b[headerFixed+12*i+4:])),
		})
	}
	return h, nil
}

const (
	segmentPrefix = "segment_"
	segmentSuffix = ".wal"
	indexSuffix   = ".offset_index"
)

func offsetName(prefix string, o kafka.Offset, suffix string) string {
	return fmt.Sprintf("%s%020d%s", prefix, int64(o), suffix)
}

// parseName reads what offsetName writes.
func parseName(name, prefix, suffix string) (kafka.Offset, bool) {
	s, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	if s, ok = strings.CutSuffix(s, suffix); !ok || len(s) != 20 {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return kafka.Offset(n), err == nil && n >= 0
}

// segmentName is the name of a segment's file or of its index. A segment that
// was rewritten has its generation in it, so that no file is ever replaced.
func segmentName(base kafka.Offset, generation uint32, suffix string) string {
	if generation == 0 {
		return offsetName(segmentPrefix, base, suffix)
	}
	return fmt.Sprintf("%s%020d_%010d%s", segmentPrefix, int64(base), generation, suffix)
}

// parseSegmentName reads what segmentName writes.
func parseSegmentName(name, suffix string) (base kafka.Offset, generation uint32, ok bool) {
	if base, ok = parseName(name, segmentPrefix, suffix); ok {
		return base, 0, true
	}
	s, ok := strings.CutSuffix(name, suffix)
	if !ok {
		return 0, 0, false
	}
	s, g, ok := strings.Cut(strings.TrimPrefix(s, segmentPrefix), "_")
	if !ok || len(g) != 10 {
		return 0, 0, false
	}
	if base, ok = parseName(segmentPrefix+s, segmentPrefix, ""); !ok {
		return 0, 0, false
	}
	n, err := strconv.ParseUint(g, 10, 32)
	return base, uint32(n), err == nil && n > 0
}

// unknownEpoch is none that a batch can have, so that the next one gets an
// index entry.
const unknownEpoch kafka.LeaderEpoch = -2

// segment is one file of a log.
type segment struct {
	base       kafka.Offset
	generation uint32
	prev       kafka.Offset
	prevSize   int64
	created    int64
	path       string
	indexPath  string
	damage     *CorruptError // set by Open: nothing of it can be read

	gaps atomic.Bool // offsets may leave gaps; it does not become false again

	// Guarded by Log.mu; they change only while the segment is active.
	whole        kafka.Offset // the end in its header: it was rewritten and not written since; else NoOffset
	size         int64        // bytes with the header; all before it is written
	firstMs      int64        // timestamp of the first batch; of no meaning while empty
	maxTs        timestampAt
	statsKnown   bool  // maxTs is that of the whole segment
	firstAppend  int64 // ms; 0: nothing was appended by this process
	lastAppend   int64
	preallocated int64             // space is reserved, or the file filled up, to here
	behind       behind            // appended and not written; a lock of its own
	sincePos     int64             // of the last index entry, -1 for none
	lastEpoch    kafka.LeaderEpoch // of the last batch; unknownEpoch at first

	mu        sync.Mutex
	file      vfs.File
	writable  bool
	users     int  // who hold the file
	idleClose bool // close the file when the last user lets go
	gone      bool // it is not in the log any more, nor are its files on disk for long
	index     []entry
	loaded    bool // index is in memory
	flushed   int  // entries that are in the index file
	indexFile vfs.File
}

func newSegment(dir string, base kafka.Offset, generation uint32) *segment {
	return &segment{
		base:       base,
		generation: generation,
		prev:       kafka.NoOffset,
		path:       filepath.Join(dir, segmentName(base, generation, segmentSuffix)),
		indexPath:  filepath.Join(dir, segmentName(base, generation, indexSuffix)),
		whole:      kafka.NoOffset,
		behind:     behind{end: -1},
		size:       headerSize,
		maxTs:      noTimestamp,
		sincePos:   -1,
		lastEpoch:  unknownEpoch,
	}
}

// hold opens the file if it is not open and keeps it so until release.
func (s *segment) hold(fs vfs.FS) (vfs.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		if s.gone {
			return nil, fmt.Errorf("%s: %w", s.path, vfs.ErrNotExist)
		}
		f, err := fs.Open(s.path, vfs.ReadOnly)
		if err != nil {
			return nil, err
		}
		s.file, s.writable = behindFile{f, &s.behind}, false
	}
	s.users++
	s.idleClose = s.gone
	return s.file, nil
}

// holdWritable is hold for the active segment's writer. Nobody else may hold
// a file that is open for reading only and that the writer replaces; they keep
// the one that they have.
func (s *segment) holdWritable(fs vfs.FS) (vfs.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil || !s.writable {
		f, err := fs.Open(s.path, vfs.ReadWrite)
		if err != nil {
			return nil, err
		}
		if s.file != nil && s.users == 0 {
			s.file.Close()
		}
		// A reader that still holds the old file goes on with it; the system
		// closes it when it is collected.
		s.file, s.writable = behindFile{f, &s.behind}, true
	}
	s.users++
	s.idleClose = false
	return s.file, nil
}

// release lets go of what hold returned.
func (s *segment) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users--
	if s.users == 0 && s.idleClose {
		s.drop()
	}
}

// evict closes the file and forgets the index as soon as nobody uses them.
func (s *segment) evict() { s.letGo(false) }

// abandon is evict for a segment that is not in the log any more: nobody opens
// it again.
func (s *segment) abandon() { s.letGo(true) }

// letGoAll is evict where nobody else can be using the segment, the writer
// included.
func (s *segment) letGoAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users = 0
	s.drop()
}

func (s *segment) letGo(gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idleClose, s.gone = true, s.gone || gone
	if s.users == 0 {
		s.drop()
	}
}

func (s *segment) drop() {
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
	s.behind.reset()
	s.index, s.loaded, s.flushed = nil, false, 0
	s.closeIndex()
}

func (s *segment) closeIndex() {
	if s.indexFile != nil {
		s.indexFile.Close()
		s.indexFile = nil
	}
}

// flushIndex writes the entries that are not in the file yet. What goes wrong
// is tried again with the next ones: the index can be made from the batches.
func (s *segment) flushIndex(fs vfs.FS) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.flushIndexLocked(fs)
}

func (s *segment) flushIndexLocked(fs vfs.FS) error {
	if s.flushed == len(s.index) && s.indexFile != nil || s.gone {
		return nil
	}
	if s.indexFile == nil {
		f, err := fs.Open(s.indexPath, vfs.ReadWrite|vfs.Create)
		if err != nil {
			return err
		}
		s.indexFile = f
	}
	var buf [flushEntries * entrySize]byte
	for s.flushed < len(s.index) {
		b := buf[:0]
		n := min(len(s.index)-s.flushed, flushEntries)
		for _, e := range s.index[s.flushed : s.flushed+n] {
			b = appendEntry(b, s.base, e)
		}
		if _, err := s.indexFile.WriteAt(b, int64(s.flushed)*entrySize); err != nil {
			return err
		}
		s.flushed += n
	}
	return nil
}

// cutIndex drops the entries behind pos, durably. Those before it are written as
// flushIndex does, which a full disk may put off.
func (s *segment) cutIndex(fs vfs.FS, pos int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.index)
	for n > 0 && s.index[n-1].pos >= pos {
		n--
	}
	s.index = s.index[:n]
	s.flushed = min(s.flushed, n)
	if s.indexFile == nil {
		f, err := fs.Open(s.indexPath, vfs.ReadWrite)
		if errors.Is(err, vfs.ErrNotExist) {
			_ = s.flushIndexLocked(fs)
			return nil
		}
		if err != nil {
			return err
		}
		s.indexFile = f
	}
	if err := s.indexFile.Truncate(int64(s.flushed) * entrySize); err != nil {
		return err
	}
	if err := s.indexFile.Sync(); err != nil {
		return err
	}
	if err := s.flushIndexLocked(fs); vfs.Broken(err) {
		return err
	}
	return nil
}

// resume makes the header of a segment that was rewritten say that it is
// written again, so that its end is not taken for the next segment's base. It
// is durable with the file.
func (s *segment) resume(f vfs.File) error {
	if s.whole == kafka.NoOffset {
		return nil
	}
	err := editHeader(f, func(page []byte) {
		end := kafka.NoOffset
		binary.BigEndian.PutUint64(page[56:], uint64(end))
		binary.BigEndian.PutUint64(page[88:], 0)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", s.path, err)
	}
	s.whole = kafka.NoOffset
	return nil
}

// allowGaps makes the header of the active segment say that offsets may leave
// gaps from now on. It is durable with the batches behind the gap.
func (s *segment) allowGaps() error {
	if s.gaps.Load() {
		return nil
	}
	err := editHeader(s.file, func(page []byte) {
		binary.BigEndian.PutUint16(page[6:], binary.BigEndian.Uint16(page[6:])|flagGaps)
	})
	if err != nil {
		return fmt.Errorf("note a gap in %s: %w", s.path, err)
	}
	s.gaps.Store(true)
	return nil
}

// editHeader changes a header within its first sector.
func editHeader(f vfs.File, change func(page []byte)) error {
	page := make([]byte, headerSize)
	if n, err := readFull(f, page, 0); err != nil {
		return err
	} else if n < headerSize {
		return fmt.Errorf("%d bytes are less than a header", n)
	}
	change(page)
	clear(page[80:84])
	binary.BigEndian.PutUint32(page[80:], crc32.Checksum(page, castagnoli))
	_, err := f.WriteAt(page[:headerSector], 0)
	return err
}

// entryAfter returns the first index entry of a batch behind pos.
func (s *segment) entryAfter(pos int64) (entry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := sort.Search(len(s.index), func(i int) bool { return s.index[i].pos > pos })
	for ; i < len(s.index); i++ {
		if s.index[i].epoch >= 0 {
			return s.index[i], true
		}
	}
	return entry{}, false
}

// crosses says whether the index has another end for the batch at pos.
func (s *segment) crosses(pos, size int64, next kafka.Offset, gaps bool) bool {
	e, ok := s.entryAfter(pos)
	return ok && (e.pos < pos+size || e.pos == pos+size && (e.offset < next || e.offset != next && !gaps))
}

// contradicts says whether the index has another offset for the batch at pos.
func (s *segment) contradicts(pos int64, offset kafka.Offset) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := sort.Search(len(s.index), func(i int) bool { return s.index[i].pos >= pos })
	for ; i < len(s.index) && s.index[i].pos == pos; i++ {
		if s.index[i].epoch >= 0 && s.index[i].offset != offset {
			return true
		}
	}
	return false
}
