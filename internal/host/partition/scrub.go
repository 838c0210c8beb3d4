package partition

import (
	"errors"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/replica"
	"chronik/internal/format/record"
	"chronik/internal/storage/wal"
)

// noteDamage tells of damage that a reader has met. It is called without the lock.
func (p *Partition) noteDamage(err error) {
	var damage *wal.CorruptError
	if errors.As(err, &damage) {
		p.env.Damaged(p, damage)
	}
}

// Durable is what of the log is on disk: from its start to what is synced, and
// the end of what is committed of that.
func (p *Partition) Durable() (start, committed, end kafka.Offset) {
	b := p.log.Bounds()
	return b.Start, max(b.Start, min(p.HighWatermark(), b.Synced)), b.Synced
}

// Role is the part that this node plays.
func (p *Partition) Role() replica.Role { return p.view.Load().role }

// Verify is wal.Log.Verify. All of a topic that is to be compacted counts as
// compacted: a follower that was away has got what compaction had left on the
// leader, without having compacted anything itself.
func (p *Partition) Verify(from, limit kafka.Offset, maxBytes int64, sum uint32) (wal.Piece, error) {
	piece, err := p.log.Verify(from, limit, maxBytes, sum)
	piece.Compacted = piece.Compacted || p.settings.Load().config.Compact
	return piece, err
}

// LogBase is wal.Log.Base.
func (p *Partition) LogBase() kafka.Offset { return p.log.Base() }

// BeginRepair is wal.Log.Repair.
func (p *Partition) BeginRepair(offset kafka.Offset) (*wal.Repair, error) {
	return p.log.Repair(offset)
}

// CheckLog takes the partition offline if its log has failed in something that
// the partition has not asked of it: a repair.
func (p *Partition) CheckLog(now time.Time) {
	if err := p.log.Err(); err != nil {
		p.failLater(now, err)
	}
}

// ReadSound reads batches for another replica to repair its log with: whatever
// role this one plays, and nothing that is damaged.
func (p *Partition) ReadSound(from, limit kafka.Offset, maxBytes int, buf []byte) ([]byte, error) {
	before := len(buf)
	buf, err := p.log.Read(from, min(limit, p.log.Synced()), maxBytes, buf)
	if err != nil {
		p.noteDamage(err)
		return buf[:before], err
	}
	for rest := buf[before:]; len(rest) > 0; {
		b, next, err := record.Next(rest)
		if err != nil || !b.VerifyCRC() {
			buf = buf[:len(buf)-len(rest)]
			if len(buf) == before {
				damage := &wal.CorruptError{File: p.log.Dir(), Offset: from, Detail: "CRC does not match"}
				p.noteDamage(damage)
				return buf, damage
			}
			break
		}
		rest = next
	}
	return buf, nil
}
