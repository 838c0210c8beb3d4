package traffic

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/test/chaos/history"
	"chronik/test/chaos/netns"
)

// LoadOptions says what a load sends.
type LoadOptions struct {
	Topic      string
	First      int32 // the lowest partition, and how many from there on
	Partitions int32
	ValueBytes int // default 200
	// InFlightMax limits the records of one producer that are not answered
	// yet. Default 500. Raw loads have one per partition.
	InFlightMax int
	// Pause is a rest after each record. Default none.
	Pause time.Duration
	// Acks of a raw load: 1 or -1. Default 1.
	Acks int16
}

func (o LoadOptions) withDefaults() LoadOptions {
	if o.ValueBytes == 0 {
		o.ValueBytes = 200
	}
	if o.InFlightMax == 0 {
		o.InFlightMax = 500
	}
	if o.Acks == 0 {
		o.Acks = 1
	}
	return o
}

// Load is a running producer.
type Load struct {
	stop   context.CancelFunc
	done   chan struct{}
	mu     sync.Mutex
	errors []error
}

// Errors are what the producer's application saw: errors that its client did
// not retry.
func (l *Load) Errors() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]error(nil), l.errors...)
}

func (l *Load) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.errors) < 100 {
		l.errors = append(l.errors, err)
	}
}

// Stop ends the load when everything sent has been answered, within 30 s, and
// returns the errors that its application saw.
func (l *Load) Stop() []error {
	l.stop()
	<-l.done
	return l.Errors()
}

// ClientOptions are a client's options for brokers that come and go quickly.
// franz-go takes a connection that is closed at its first request for a lack of
// SASL and gives up, unless it is told better: that is what a stop or a kill
// looks like to a client that has just connected.
func ClientOptions(addresses []string) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(addresses...),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
		kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.AlwaysRetryEOF(),
		kgo.Dialer(netns.DialContext),
	}
}

// StartIdempotent starts an idempotent acks=all producer of franz-go on all
// partitions, which retries for as long as it takes.
func StartIdempotent(addresses []string, h *history.History, o LoadOptions) (*Load, error) {
	o = o.withDefaults()
	client, err := kgo.NewClient(append(ClientOptions(addresses),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),
		kgo.MaxBufferedRecords(o.InFlightMax),
		kgo.StopProducerOnDataLossDetected(),
		kgo.UnknownTopicRetries(-1),
		kgo.RequiredAcks(kgo.AllISRAcks()))...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		defer client.Close()
		l.produce(ctx, client, h, o)
		flush, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := client.Flush(flush); err != nil {
			l.failed(fmt.Errorf("flush: %w", err))
		}
	}()
	return l, nil
}

func (l *Load) produce(ctx context.Context, client *kgo.Client, h *history.History, o LoadOptions) {
	producer := NewProducer()
	room := make(chan struct{}, o.InFlightMax)
	for seq := uint64(1); ; seq++ {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if ctx.Err() != nil {
			return
		}
		s := history.Send{ID: history.ID{Producer: producer, Seq: seq},
			Place: history.Place{Topic: o.Topic, Partition: o.First + int32(seq%uint64(o.Partitions))}, Begin: time.Now()}
		r := &kgo.Record{Topic: o.Topic, Partition: s.Partition, Value: Value(s.ID, o.ValueBytes)}
		client.Produce(context.Background(), r, func(r *kgo.Record, err error) {
			s.End = time.Now()
			if err == nil {
				s.Outcome, s.Offset = history.Acked, r.Offset
			} else {
				s.Outcome = outcome(err)
				l.failed(err)
			}
			h.Sent(s)
			<-room
		})
		if o.Pause > 0 {
			time.Sleep(o.Pause)
		}
	}
}

// outcome is what an error says about the fate of the record. Most say nothing:
// the record may have been written before whatever went wrong.
func outcome(err error) history.Outcome {
	for _, definite := range []error{kerr.MessageTooLarge, kerr.NotEnoughReplicas, kerr.InvalidRecord, kerr.UnknownTopicOrPartition,
		kerr.InvalidTimestamp, kerr.PolicyViolation, kerr.TopicAuthorizationFailed} {
		if errors.Is(err, definite) {
			return history.Refused
		}
	}
	return history.Unknown
}

// StartRaw starts one plain producer per partition that has one record in
// flight, never sends one again, and reconnects at once. Errors of its requests
// are part of the history, not of Stop's result.
func StartRaw(addresses []string, h *history.History, o LoadOptions) *Load {
	o = o.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{stop: cancel, done: make(chan struct{})}
	var producers sync.WaitGroup
	for p := range o.Partitions {
		producers.Go(func() { rawProducer(ctx, addresses, h, o, o.First+p) })
	}
	go func() {
		producers.Wait()
		close(l.done)
	}()
	return l
}

func rawProducer(ctx context.Context, addresses []string, h *history.History, o LoadOptions, partition int32) {
	producer := NewProducer()
	var c *Conn
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for seq := uint64(1); ctx.Err() == nil; seq++ {
		for c == nil {
			var err error
			if c, err = DialLeader(addresses, o.Topic, partition, time.Second); err != nil && ctx.Err() != nil {
				return
			}
		}
		s := history.Send{ID: history.ID{Producer: producer, Seq: seq}, Place: history.Place{Topic: o.Topic, Partition: partition}, Begin: time.Now()}
		offset, err := c.Produce(o.Topic, partition, o.Acks, Value(s.ID, o.ValueBytes))
		s.End = time.Now()
		if err == nil {
			s.Outcome, s.Offset = history.Acked, offset
		} else {
			s.Outcome = outcome(err)
			c.Close()
			c = nil
		}
		h.Sent(s)
		if o.Pause > 0 {
			time.Sleep(o.Pause)
		}
	}
}

// FirstAck sends single records with acks=all until one is acknowledged, and
// returns when that was.
func FirstAck(addresses []string, h *history.History, topic string, partition int32, limit time.Duration) (time.Time, error) {
	producer := NewProducer()
	var last error
	begin := time.Now()
	for seq := uint64(1); time.Since(begin) < limit; seq++ {
		c, err := DialLeader(addresses, topic, partition, limit)
		if err != nil {
			return time.Time{}, err
		}
		s := history.Send{ID: history.ID{Producer: producer, Seq: seq}, Place: history.Place{Topic: topic, Partition: partition}, Begin: time.Now()}
		offset, err := c.Produce(topic, partition, -1, Value(s.ID, ValueBytesMin))
		s.End = time.Now()
		c.Close()
		if err == nil {
			s.Outcome, s.Offset = history.Acked, offset
			h.Sent(s)
			return s.End, nil
		}
		s.Outcome = outcome(err)
		h.Sent(s)
		last = err
		time.Sleep(2 * time.Millisecond)
	}
	return time.Time{}, fmt.Errorf("no acknowledgement within %v: %w", limit, last)
}

// Fill appends count records of size bytes with acks=all, many to a batch, and
// returns how many were acknowledged before the first error.
func (c *Conn) Fill(h *history.History, topic string, partition int32, count, size int) (int, error) {
	producer := NewProducer()
	perBatch := max(1, min(count, (128<<10)/max(size, 64)))
	for done := 0; done < count; {
		n := min(perBatch, count-done)
		sends := make([]history.Send, n)
		values := make([][]byte, n)
		for i := range n {
			sends[i] = history.Send{ID: history.ID{Producer: producer, Seq: uint64(done + i + 1)},
				Place: history.Place{Topic: topic, Partition: partition}, Begin: time.Now()}
			values[i] = Value(sends[i].ID, size)
		}
		base, err := c.Produce(topic, partition, -1, values...)
		for i := range sends {
			sends[i].End = time.Now()
			if err == nil {
				sends[i].Outcome, sends[i].Offset = history.Acked, base+int64(i)
			} else {
				sends[i].Outcome = outcome(err)
			}
			h.Sent(sends[i])
		}
		if err != nil {
			return done, err
		}
		done += n
	}
	return count, nil
}
