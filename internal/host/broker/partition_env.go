package broker

import (
	"fmt"
	"sync"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/config"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
	"chronik/internal/core/replica"
	"chronik/internal/host/partition"
	"chronik/internal/host/peer"
)

// partitionEnv is what the node offers its partitions.
type partitionEnv struct{ b *Broker }

// outgoing is a frame on its way to the transport: a header, and the records
// from where they are.
type outgoing struct {
	header []byte
	frame  [2][]byte
}

var outgoings = sync.Pool{New: func() any { return new(outgoing) }}

// Send implements partition.Env.
func (e partitionEnv) Send(p *partition.Partition, msg *replica.Message) {
	o := outgoings.Get().(*outgoing)
	o.header = peer.EncodeHeader(o.header[:0], p.TopicID(), p.Number(), msg)
	o.frame = [2][]byte{o.header, msg.Records}
	e.b.env.Send(msg.To, ClassBulk, o.frame[:]...)
	o.frame = [2][]byte{}
	outgoings.Put(o)
}

// HandleBulk takes a frame of ClassBulk from a peer, on any goroutine. The
// frame is valid during the call only.
func (b *Broker) HandleBulk(now time.Time, from kafka.NodeID, frame []byte) error {
	for len(frame) > 0 {
		if rest, unknown := peer.Unknown(frame); unknown { // of a later release
			frame = rest
			continue
		}
		if peer.IsScrub(frame) {
			m, rest, err := peer.DecodeScrub(frame)
			if err != nil {
				return fmt.Errorf("%w: %w", errFrame, err)
			}
			frame = rest
			b.handleScrub(now, from, &m)
			continue
		}
		id, number, msg, rest, err := peer.Decode(frame)
		if err != nil {
			return fmt.Errorf("%w: %w", errFrame, err)
		}
		frame = rest
		// One that is not placed here yet, or no more, is passed over: the
		// sender asks again.
		if p := b.Partition(id, number); p != nil {
			p.HandleMessage(now, from, &msg)
		}
	}
	return nil
}

// ScheduleSync implements partition.Env.
func (e partitionEnv) ScheduleSync(p *partition.Partition) { e.b.env.ScheduleSync(p) }

// At implements partition.Env.
func (e partitionEnv) At(t time.Time, fn func(now time.Time)) { e.b.env.Deadlines.At(t, fn) }

// Slow implements partition.Env.
func (e partitionEnv) Slow(p *partition.Partition, since time.Duration) {
	e.b.env.Post(func(now time.Time) { e.b.noteSlow(now, p, since) })
}

// Failed implements partition.Env.
func (e partitionEnv) Failed(p *partition.Partition, err error) {
	e.b.env.Log.Error("partition failed and is offline on this node; its log is opened again once others can do without it",
		"topic", p.Topic(), "partition", p.Number(), "err", err)
	e.b.env.Post(func(now time.Time) { e.b.noteFailure(now, p, err) })
}

// inSyncWishes collects the wishes of partitions for other in-sync sets, so
// that many go to the controller in one request.
type inSyncWishes struct {
	mu      sync.Mutex
	waiting []inSyncWish
}

type inSyncWish struct {
	p      *partition.Partition
	change replica.InSyncChange
}

const inSyncTimeout = 2 * time.Second

// RequestInSync implements partition.Env.
func (e partitionEnv) RequestInSync(p *partition.Partition, change replica.InSyncChange) {
	w := &e.b.inSync
	w.mu.Lock()
	first := len(w.waiting) == 0
	w.waiting = append(w.waiting, inSyncWish{p, change})
	w.mu.Unlock()
	if first {
		e.b.env.Post(e.b.askInSync)
	}
}

func (b *Broker) askInSync(now time.Time) {
	b.inSync.mu.Lock()
	wishes := b.inSync.waiting
	b.inSync.waiting = nil
	b.inSync.mu.Unlock()
	req := controller.AlterPartition{Node: b.opts.Node, Epoch: b.lifecycle.epoch}
	for _, w := range wishes {
		c := controller.InSyncChange{
			Topic: w.p.TopicID(), Partition: w.p.Number(), Recovering: w.change.Recovering,
			LeaderEpoch: w.change.LeaderEpoch, PartitionEpoch: w.change.PartitionEpoch,
		}
		for _, m := range w.change.InSync {
			c.InSync = append(c.InSync, controller.InSyncMember(m))
		}
		req.Changes = append(req.Changes, c)
	}
	b.ask(now, req, inSyncTimeout, false, func(now time.Time, r controller.Response, code kafka.ErrorCode) {
		res, _ := r.(controller.AlterPartitionResult)
		if code == kafka.None {
			code = res.Error
		}
		for i, w := range wishes {
			out := replica.InSyncResult{Seq: w.change.Seq, Code: code}
			if code == kafka.None && i < len(res.Partitions) {
				got := res.Partitions[i]
				out.Code = got.Error
				if got.State != nil {
					out.LeaderEpoch, out.PartitionEpoch, out.InSync = got.State.LeaderEpoch, got.State.PartitionEpoch, got.State.InSync
				}
			}
			w.p.HandleInSyncResult(now, out)
		}
	})
}

// topicConfig is what a partition needs of its topic's effective configs.
func (b *Broker) topicConfig(image *metadata.Image, topic string) partition.TopicConfig {
	c := b.resolver.Topic(image, topic)
	return partition.TopicConfig{
		MaxMessageBytes:     int(c.MaxMessageBytes),
		CompressionType:     c.CompressionType,
		CompressionLevel:    compressionLevel(&c),
		LogAppendTime:       c.LogAppendTime,
		TimestampBeforeMax:  c.TimestampBeforeMax,
		TimestampAfterMax:   c.TimestampAfterMax,
		Compact:             c.Compact,
		Delete:              c.Delete,
		RetentionTime:       noLimit(c.RetentionTime),
		RetentionBytes:      c.RetentionBytes,
		SegmentBytes:        int64(c.SegmentBytes),
		SegmentTime:         c.SegmentTime,
		SegmentIndexBytes:   int64(c.SegmentIndexBytes),
		IndexIntervalBytes:  int64(c.IndexIntervalBytes),
		MinInSync:           int(c.MinInSync),
		FlushMessages:       c.FlushMessages,
		FlushTime:           c.FlushTime,
		DeleteRetentionTime: c.DeleteRetention,
		MinCompactionLag:    c.MinCompactionLag,
		MaxCompactionLag:    c.MaxCompactionLag,
		MinDirtyRatio:       c.MinCleanableDirtyRatio,
		LeaderThrottled:     c.LeaderThrottled,
		FollowerThrottled:   c.FollowerThrottled,
		ProducerExpiration:  time.Duration(b.resolver.BrokerInt(image, "producer.id.expiration.ms")) * time.Millisecond,
	}
}

func compressionLevel(c *config.TopicConfig) int {
	switch c.CompressionType {
	case "gzip":
		return c.GzipLevel
	case "lz4":
		return c.LZ4Level
	case "zstd":
		return c.ZstdLevel
	}
	return partition.LevelDefault
}

// noLimit writes "for ever" as partitions have it.
func noLimit(d time.Duration) time.Duration {
	if d == config.Forever {
		return -1
	}
	return d
}

func (b *Broker) replicaOptions() replica.Options {
	lag := b.resolver.BrokerInt(b.image.Load(), "replica.lag.time.max.ms")
	return replica.Options{
		LagTimeMax:    time.Duration(lag) * time.Millisecond,
		LagRecordsMax: b.opts.LagRecordsMax,
	}
}

// logRecovery writes what opening a partition found, when it is worth a line.
func (b *Broker) logRecovery(topic string, number int32, rec partition.Recovery) {
	log := b.env.Log.Debug
	if rec.CutBytes > 0 || rec.BadSnapshot != nil {
		log = b.env.Log.Info
	}
	log("partition recovered", "topic", topic, "partition", number, "scanned_bytes", rec.ScannedBytes,
		"cut_bytes", rec.CutBytes, "cut_from", rec.CutFrom, "cause", rec.CutReason)
}

// scheduleRetention looks at all logs now and then for segments to drop.
func (b *Broker) scheduleRetention(now time.Time) {
	interval := time.Duration(b.resolver.BrokerInt(b.image.Load(), "log.retention.check.interval.ms")) * time.Millisecond
	b.At(now.Add(interval), func(time.Time) {
		b.env.Background(func(now time.Time) {
			for _, p := range b.Partitions() {
				p.ApplyRetention(now)
			}
			b.scheduleRetention(now)
		})
	})
}
