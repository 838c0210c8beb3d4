package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// load sends a record to every partition once per interval.
func (r *failoverRun) load(ctx context.Context) {
	step := max(time.Millisecond, r.interval/time.Duration(r.count))
	begun := time.Now()
	sent := 0
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	for {
		due := int(int64(time.Since(begun)) * int64(r.count) / int64(r.interval))
		for ; sent < due; sent++ {
			r.send(sent % r.count)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (r *failoverRun) send(i int) {
	p := &r.parts[i]
	p.mu.Lock()
	seq := p.next
	p.next++
	p.mu.Unlock()
	now := time.Now()
	record := &kgo.Record{Partition: int32(i), Value: binary.BigEndian.AppendUint64(nil, seq)}
	r.client.TryProduce(context.Background(), record, func(_ *kgo.Record, err error) {
		acked := time.Now()
		p.mu.Lock()
		defer p.mu.Unlock()
		if err != nil {
			if !errors.Is(err, kgo.ErrMaxBuffered) {
				p.failed++
			}
			return
		}
		p.acked = append(p.acked, seq)
		if gap := acked.Sub(p.last); !p.last.IsZero() && gap > p.gap {
			p.gap = gap
		}
		if wait := acked.Sub(now); wait > p.wait {
			p.wait, p.waitEnd = wait, acked
		}
		p.last, p.sent = acked, now
	})
}

// reset forgets the gaps so far.
func (r *failoverRun) reset() {
	for i := range r.parts {
		p := &r.parts[i]
		p.mu.Lock()
		p.gap, p.wait, p.waitEnd = 0, 0, time.Time{}
		p.mu.Unlock()
	}
}

// everyAckedSince waits until each partition has acknowledged what was sent
// after t.
func (r *failoverRun) everyAckedSince(ctx context.Context, t time.Time) error {
	deadline := time.Now().Add(failoverWait)
	for i := range r.parts {
		p := &r.parts[i]
		for {
			p.mu.Lock()
			acked := p.sent.After(t)
			p.mu.Unlock()
			if acked {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("partition %d acknowledged nothing within %v", i, failoverWait)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	return nil
}

// verify reads everything back.
func (r *failoverRun) verify(ctx context.Context, result *failoverResult) error {
	if err := r.settle(ctx); err != nil {
		return err
	}
	ends, err := r.admin.ListEndOffsets(ctx, failoverTopic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(r.cluster.bootstrap(), ",")...), kgo.ConsumeTopics(failoverTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.Close()
	left := r.count
	read := make([][]uint64, r.count)
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset == 0 {
			left--
		}
	})
	ctx, cancel := context.WithTimeout(ctx, failoverWait)
	defer cancel()
	for left > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("not everything could be read back within %v", failoverWait)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			if len(record.Value) == 8 { // else it is a fresh client's
				read[record.Partition] = append(read[record.Partition], binary.BigEndian.Uint64(record.Value))
			}
			if end, _ := ends.Lookup(failoverTopic, record.Partition); record.Offset == end.Offset-1 {
				left--
			}
		})
	}
	for i := range r.parts {
		p := &r.parts[i]
		result.Acked += len(p.acked)
		result.Failed += p.failed
		seen := make(map[uint64]bool, len(read[i]))
		for j, seq := range read[i] {
			if seen[seq] {
				result.Duplicated++
			} else if j > 0 && seq < read[i][j-1] {
				result.Reordered++
			}
			seen[seq] = true
		}
		for _, seq := range p.acked {
			if !seen[seq] {
				result.Lost++
			}
		}
	}
	return nil
}
