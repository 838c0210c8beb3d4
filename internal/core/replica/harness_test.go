package replica

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
)

// fakeLog is a log in memory that can lose what was not synced.
type fakeLog struct {
	start, synced, end kafka.Offset
	batches            []record.Batch
	epochs             epochs
	snapshot           []byte
}

func (l *fakeLog) append(records []byte) {
	for rest := records; len(rest) > 0; {
		b, next, err := record.Next(bytes.Clone(rest))
		if err != nil {
			panic(err)
		}
		if b.BaseOffset() < l.end {
			panic(fmt.Sprintf("append of %d at end %d", b.BaseOffset(), l.end))
		}
		l.batches = append(l.batches, b)
		l.epochs.assign(b.LeaderEpoch(), b.BaseOffset())
		l.end = b.NextOffset()
		rest = next
	}
}

func (l *fakeLog) truncate(to kafka.Offset) {
	for n := len(l.batches); n > 0 && l.batches[n-1].NextOffset() > to; n-- {
		l.batches = l.batches[:n-1]
	}
	l.end, l.synced = to, min(l.synced, to)
	l.epochs.cut(to)
}

func (l *fakeLog) trim(to kafka.Offset) {
	for len(l.batches) > 0 && l.batches[0].NextOffset() <= to {
		l.batches = l.batches[1:]
	}
	l.start = to
	l.synced = max(l.synced, to)
	l.epochs.trim(to + 1)
	if len(l.epochs) > 0 { // what is on disk does not say where it began
		l.epochs[0].Start = to
	}
}

func (l *fakeLog) read(from kafka.Offset, limit int) (records []byte, end kafka.Offset) {
	end = from
	for _, b := range l.batches {
		if b.NextOffset() <= from {
			continue
		}
		if len(records) > 0 && len(records)+len(b) > limit {
			break
		}
		records = append(records, b...)
		end = b.NextOffset()
	}
	return records, end
}

// node is a replica with its log, driven as a host would.
type node struct {
	id     kafka.NodeID
	r      *Replica
	log    fakeLog
	incarn kafka.BrokerEpoch
	config Config
	opts   Options
	failed kafka.ErrorCode // what a write answers; None: it succeeds

	sent    []envelope
	changes []*InSyncChange
	events  []string // human-readable, since the last take
	acked   map[Ticket]Ack
	refused map[Ticket]kafka.ErrorCode
}

type envelope struct {
	from kafka.NodeID
	m    Message
}

func newNode(id kafka.NodeID, opts Options, config Config) *node {
	n := &node{id: id, opts: opts, config: config, incarn: 10 + kafka.BrokerEpoch(id),
		acked: map[Ticket]Ack{}, refused: map[Ticket]kafka.ErrorCode{}}
	n.opts.Node = id
	return n
}

// boot makes the replica from what is in the log.
func (n *node) boot(now time.Time) {
	n.r = New(n.opts, n.config, Log{Start: n.log.start, End: n.log.end, Synced: n.log.synced, Epochs: n.log.epochs, HighWatermark: kafka.NoOffset})
	n.rebuild(now, n.log.snapshot)
	n.r.SetBrokerEpoch(now, n.incarn)
	n.run(now)
}

func (n *node) rebuild(now time.Time, snapshot []byte) {
	from, err := n.r.Restore(snapshot)
	if err != nil {
		panic(err)
	}
	for _, b := range n.log.batches {
		if b.NextOffset() > from { // also the one that contains it
			n.r.Replay(now, b)
		}
	}
}

func (n *node) event(format string, args ...any) {
	n.events = append(n.events, fmt.Sprintf(format, args...))
}

// run acts on Ready until there is nothing more.
func (n *node) run(now time.Time) {
	for {
		rd, ok := n.r.Ready()
		if !ok {
			return
		}
		n.act(now, &rd)
	}
}

func (n *node) act(now time.Time, rd *Ready) {
	if rd.Reset != nil {
		at := rd.Reset.Start
		n.event("reset to %d", at)
		n.log = fakeLog{start: at, end: at, synced: at, snapshot: rd.Reset.State}
		n.r.Truncated(now, n.log.end)
	}
	if rd.Truncate != nil {
		n.event("truncate to %d", *rd.Truncate)
		n.log.truncate(*rd.Truncate)
		if n.r.Truncated(now, n.log.end) {
			n.rebuild(now, n.log.snapshot)
		}
	}
	if rd.Epoch != nil {
		n.event("epoch %d starts at %d", rd.Epoch.Epoch, rd.Epoch.Start)
		n.log.epochs.assign(rd.Epoch.Epoch, rd.Epoch.Start)
	}
	if rd.Write != nil {
		if n.failed != kafka.None {
			n.event("write fails")
			n.r.WriteFailed(now, n.failed)
		} else {
			from := n.log.end
			n.log.append(rd.Write)
			n.event("write [%d,%d)", from, n.log.end)
			n.r.Written(now)
		}
	}
	if rd.Trim != nil {
		n.event("trim to %d", rd.Trim.Start)
		n.log.trim(rd.Trim.Start)
		n.log.snapshot = rd.Trim.State
	}
	for i := range rd.Send {
		m := rd.Send[i]
		if m.ReadMax > 0 {
			if !n.r.Streams(&m) {
				continue
			}
			records, end := n.log.read(m.Offset, m.ReadMax)
			read := m
			m.Records, m.ReadMax = records, 0
			n.r.Loaded(now, &read, end, len(records))
		}
		m.Records = bytes.Clone(m.Records)
		n.sent = append(n.sent, envelope{n.id, m})
		n.event("send %s", describe(&m))
	}
	if c := rd.InSync; c != nil {
		n.changes = append(n.changes, c)
		ids := make([]kafka.NodeID, 0, 3)
		for _, m := range c.InSync {
			ids = append(ids, m.Node)
		}
		n.event("ask for in-sync set %v at partition epoch %d", ids, c.PartitionEpoch)
	}
	if rd.Slow != nil {
		n.event("disk is slow for %v", rd.Slow.Since)
	}
	for _, a := range rd.Acked {
		n.acked[a.Ticket] = a
		n.event("ack %d at %d", a.Ticket, a.Offset)
	}
	for _, x := range rd.Refused {
		n.refused[x.Ticket] = x.Code
		n.event("refuse %d: %v", x.Ticket, x.Code)
	}
}

func (n *node) sync(now time.Time) {
	n.log.synced = n.log.end
	n.r.Synced(now, n.r.Cuts(), n.log.end)
	n.run(now)
}

// describe is a message in one line, without the session's number, which
// depends on the clock.
func describe(m *Message) string {
	s := fmt.Sprintf("%v to %d", m.Kind, m.To)
	switch m.Kind {
	case Append:
		end := m.Offset
		for rest := m.Records; len(rest) > 0; {
			b, next, err := record.Next(rest)
			if err != nil {
				break
			}
			end, rest = b.NextOffset(), next
		}
		s += fmt.Sprintf(" [%d,%d) prev=%d hw=%d", m.Offset, end, m.Epoch, m.HighWatermark)
		if m.LogStart > 0 {
			s += fmt.Sprintf(" start=%d", m.LogStart)
		}
	case Truncate:
		s += fmt.Sprintf(" epoch %d ends at %d", m.Epoch, m.Offset)
	case Reset:
		s += fmt.Sprintf(" at %d", m.Offset)
	case Hello, State, Stored:
		s += fmt.Sprintf(" end=%d synced=%d last epoch=%d hw=%d", m.Offset, m.Synced, m.Epoch, m.HighWatermark)
	}
	return s
}

func (n *node) status() string {
	r := n.r
	var b strings.Builder
	fmt.Fprintf(&b, "%v epoch=%d log=[%d,%d) synced=%d hw=%d lso=%d epochs=", r.Role(), r.Assignment().LeaderEpoch,
		r.Start(), r.End(), r.SyncedEnd(), r.HighWatermark(), r.LastStableOffset())
	for _, e := range r.epochs {
		fmt.Fprintf(&b, "%d@%d ", e.Epoch, e.Start)
	}
	if r.Role() == Leader {
		fmt.Fprintf(&b, "isr=%v", r.Assignment().InSync)
	}
	return strings.TrimSpace(b.String())
}

// batch builds a batch of so many records.
func batch(records int, p *record.Producer, transactional bool, tag string) record.Batch {
	bd := record.NewBuilder(record.BuilderOptions{Producer: p, Transactional: transactional})
	for range records {
		bd.Append(1000, nil, []byte(tag))
	}
	return bd.Build()
}

func TestBatchesOfTheHarnessAreWhole(t *testing.T) {
	b := batch(3, nil, false, "x")
	if _, rest, err := record.Next(b); err != nil || len(rest) != 0 || b.Count() != 3 {
		t.Fatal(err)
	}
}
