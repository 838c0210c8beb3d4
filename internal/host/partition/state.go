package partition

import (
	"encoding/binary"
	"errors"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/storage/wal"
)

// The state saved with a log is the high watermark, 8 bytes big-endian, and
// then the core's snapshot of producers.
const stateHeader = 8

func splitState(b []byte) (highWatermark kafka.Offset, snapshot []byte) {
	if len(b) < stateHeader {
		return kafka.NoOffset, nil
	}
	return kafka.Offset(binary.BigEndian.Uint64(b)), b[stateHeader:]
}

func joinState(highWatermark kafka.Offset, snapshot []byte) []byte {
	b := make([]byte, 0, stateHeader+len(snapshot))
	return append(binary.BigEndian.AppendUint64(b, uint64(highWatermark)), snapshot...)
}

// loadState finds the newest state of a log that ends at end, be it one that
// could not be saved; nil if there is none, so that the log is replayed from its
// start.
func (p *Partition) loadState(end kafka.Offset) ([]byte, error) {
	at, b, ok, err := p.log.LoadState(end)
	if u := p.untrimmed; err == nil && u != nil && u.State != nil && (!ok || at < u.Start) {
		return joinState(p.core.HighWatermark(), u.State), nil
	}
	return b, err
}

// saveState saves the state as of the log's end; durably if it is asked for or
// due, else so that it outlives the process. That it cannot is no harm but a
// longer replay, except to forgetAborted.
func (p *Partition) saveState(durable bool) error {
	p.mu.Lock()
	if p.unlearned() {
		p.mu.Unlock()
		return errUnlearned
	}
	snapshot, end := p.core.Snapshot()
	hw, truncations := p.core.HighWatermark(), p.log.Truncations()
	unchanged := end == p.saved && (!durable || p.noted == 0)
	p.noted += p.saveNext
	durable = durable || p.noted >= saveFactor*p.noteEvery()
	if durable {
		p.noted = 0
	}
	p.saved, p.saveNext, p.saveSize = end, 0, int64(len(snapshot))
	p.mu.Unlock()
	if unchanged {
		return nil
	}
	save := p.log.NoteState
	if durable {
		save = p.log.SaveState
	}
	return p.keepState(save, end, hw, snapshot, truncations)
}

// errUnlearned says that a state would not have the producers of batches that
// could not be read.
var errUnlearned = errors.New("batches are damaged whose producers are to be known")

// unlearned says whether there are such batches, as far as they have not been
// deleted.
func (p *Partition) unlearned() bool { return p.lost > p.core.Start() }

// Relearn makes the state of producers from the log again, if batches could not
// be read when that was last done: they have been repaired since, and a replica
// that does not know who wrote them would take them twice. Damage that is met is
// told before it returns.
func (p *Partition) Relearn(now time.Time) error {
	fx := p.enter()
	defer p.leave(now, fx)
	if !p.unlearned() || p.usable() != nil {
		return nil
	}
	state, err := p.loadState(p.core.End())
	if err != nil {
		return err
	}
	_, snapshot := splitState(state)
	from, _ := p.core.Restore(snapshot)        // after an error it is the log's start
	if err = p.replay(now, from); err != nil { // what the core knows now is a part of it
		p.fail(err, fx)
	}
	return err
}

// keepState saves or notes the state as of an offset, if the log was truncated
// only so often.
func (p *Partition) keepState(save func(kafka.Offset, []byte, uint64) error, at, hw kafka.Offset, snapshot []byte, truncations uint64) error {
	// Without the lock the log may be truncated, and grow past the end again.
	err := save(at, joinState(hw, snapshot), truncations)
	if err != nil && !errors.Is(err, wal.ErrStale) {
		p.slog.Warn("state not saved", "topic", p.opts.Topic, "partition", p.opts.Partition, "error", err)
	}
	return err
}
