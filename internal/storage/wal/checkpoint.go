package wal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"path/filepath"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
)

const checkpointName = "checkpoint"

// The checkpoint file is two slots of one disk sector each, which are written
// in turn and in place; the valid one with the higher sequence counts. A crash
// leaves the slot that was written as it was or as it should be.
//
//	offset | size | field
//	     0 |    4 | magic "CHCP"
//	     4 |    2 | version of the format, 1
//	     6 |    2 | flags: 1 closed in order, 2 the log is being reset, 4 to what
//	       |      | there is a state of
//	     8 |   16 | topic id
//	    24 |    4 | partition
//	    28 |    4 | reserved, 0
//	    32 |    8 | sequence
//	    40 |    8 | log start offset
//	    48 |    8 | recovery point: offset up to which all is synced
//	    56 |    8 | recovery point: base offset of its segment
//	    64 |    8 | recovery point: position in the segment, in bytes
//	    72 |    4 | CRC-32C of bytes 0 to 71
//	    76 |  436 | reserved, 0
const (
	slotSize          = vfs.SectorSize
	checkpointMagic   = "CHCP"
	checkpointVersion = 1

	// firstSeq is the sequence of the checkpoint that a new log is made with.
	firstSeq = 2

	flagClosed    = 1
	flagResetting = 2
	flagHasState  = 4
)

// checkpoint is what a slot says.
type checkpoint struct {
	seq   uint64
	flags uint16
	start kafka.Offset
	point position // all before it is synced
}

// checkpointFile writes checkpoints. It is guarded by Log.syncing.
type checkpointFile struct {
	file    vfs.File
	id      Identity
	last    checkpoint
	durable bool  // the file and its name are known to be synced
	damaged bool  // the file had no checkpoint and was not empty either
	pending int64 // bytes synced in the log since the file was
	buf     [2 * slotSize]byte
}

func (c *checkpointFile) encode(dst []byte, ck checkpoint) {
	clear(dst[:slotSize])
	copy(dst, checkpointMagic)
	binary.BigEndian.PutUint16(dst[4:], checkpointVersion)
	binary.BigEndian.PutUint16(dst[6:], ck.flags)
	copy(dst[8:], c.id.TopicID[:])
	binary.BigEndian.PutUint32(dst[24:], uint32(c.id.Partition))
	binary.BigEndian.PutUint64(dst[32:], ck.seq)
	binary.BigEndian.PutUint64(dst[40:], uint64(ck.start))
	binary.BigEndian.PutUint64(dst[48:], uint64(ck.point.offset))
	binary.BigEndian.PutUint64(dst[56:], uint64(ck.point.segment))
	binary.BigEndian.PutUint64(dst[64:], uint64(ck.point.pos))
	binary.BigEndian.PutUint32(dst[72:], crc32.Checksum(dst[:72], castagnoli))
}

func decodeSlot(b []byte) (ck checkpoint, id Identity, ok bool) {
	if len(b) < slotSize || string(b[:4]) != checkpointMagic ||
		crc32.Checksum(b[:72], castagnoli) != binary.BigEndian.Uint32(b[72:]) ||
		binary.BigEndian.Uint16(b[4:]) != checkpointVersion {
		return ck, id, false
	}
	copy(id.TopicID[:], b[8:])
	id.Partition = int32(binary.BigEndian.Uint32(b[24:]))
	ck = checkpoint{
		seq:   binary.BigEndian.Uint64(b[32:]),
		flags: binary.BigEndian.Uint16(b[6:]),
		start: kafka.Offset(binary.BigEndian.Uint64(b[40:])),
		point: position{
			offset:  kafka.Offset(binary.BigEndian.Uint64(b[48:])),
			segment: kafka.Offset(binary.BigEndian.Uint64(b[56:])),
			pos:     int64(binary.BigEndian.Uint64(b[64:])),
		},
	}
	return ck, id, true
}

// decodeCheckpoint returns the newest valid slot of the file's bytes.
func decodeCheckpoint(b []byte) (ck checkpoint, id Identity, ok bool) {
	for len(b) >= slotSize {
		if s, sid, sok := decodeSlot(b[:slotSize]); sok && (!ok || s.seq > ck.seq) {
			ck, id, ok = s, sid, true
		}
		b = b[slotSize:]
	}
	return ck, id, ok
}

// openCheckpoint reads the file or makes it. Found says whether it held a
// checkpoint.
func openCheckpoint(fs vfs.FS, dir string, id Identity) (c checkpointFile, found bool, err error) {
	name := filepath.Join(dir, checkpointName)
	c.id = id
	if c.file, err = fs.Open(name, vfs.ReadWrite|vfs.Create); err != nil {
		return c, false, err
	}
	var n int
	if n, err = readFull(c.file, c.buf[:], 0); err != nil {
		c.file.Close()
		return c, false, err
	}
	ck, owner, found := decodeCheckpoint(c.buf[:n])
	if found && owner != id {
		c.file.Close()
		return c, false, fmt.Errorf("%w: %s is of topic %s partition %d", ErrForeign, name, owner.TopicID, owner.Partition)
	}
	// One that is as it was made may not have its name on disk yet.
	c.last, c.durable = ck, found && ck.seq > firstSeq
	if !found {
		// One that was never synced has sectors of zeros.
		c.damaged = bytes.IndexFunc(c.buf[:n], func(r rune) bool { return r != 0 }) >= 0
	}
	return c, found, nil
}

// note writes a checkpoint that may get lost in a crash; the one before it is
// then found. What goes wrong is of no consequence but for the time that the
// next Open takes.
func (c *checkpointFile) note(ck checkpoint) {
	ck.seq = c.last.seq + 1
	slot := ck.seq % 2 * slotSize
	c.encode(c.buf[slot:slot+slotSize], ck)
	c.last = ck
	_, _ = c.file.WriteAt(c.buf[slot:slot+slotSize], int64(slot))
}

// save writes a checkpoint into both slots and syncs it: no earlier one can be
// found again.
func (c *checkpointFile) save(ck checkpoint) error {
	for range 2 {
		ck.seq = c.last.seq + 1
		slot := ck.seq % 2 * slotSize
		c.encode(c.buf[slot:slot+slotSize], ck)
		c.last = ck
	}
	if _, err := c.file.WriteAt(c.buf[:], 0); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return c.sync()
}

// again writes what was read when the file was opened, so that the next sync
// does: one that failed has it in the page cache, where it counts as clean.
func (c *checkpointFile) again() error {
	if c.last.seq == 0 {
		return nil // nothing was there
	}
	if _, err := c.file.WriteAt(c.buf[:], 0); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return nil
}

// resync makes durable what was read when the file was opened, but for the
// file's name.
func (c *checkpointFile) resync() error {
	if err := c.again(); err != nil {
		return err
	}
	if err := c.file.Sync(); err != nil {
		return fmt.Errorf("sync checkpoint: %w", err)
	}
	return nil
}

func (c *checkpointFile) sync() error {
	if err := c.file.Sync(); err != nil {
		return fmt.Errorf("sync checkpoint: %w", err)
	}
	c.durable, c.pending = true, 0
	return nil
}
