// Package traffic is the client side of a test that harms brokers: loads that
// record what they saw, and single requests whose exact answers count.
package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/test/chaos/netns"
)

// Conn is one connection with one request at a time and no retries. It is for
// one goroutine.
type Conn struct {
	net       net.Conn
	formatter *kmsg.RequestFormatter
	next      int32
	timeout   time.Duration
}

// Dial connects to a broker; timeout bounds the dial and each request.
func Dial(address string, timeout time.Duration) (*Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := netns.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &Conn{net: c, formatter: kmsg.NewRequestFormatter(kmsg.FormatterClientID("chaos")), timeout: timeout}, nil
}

// Close closes the connection.
func (c *Conn) Close() { c.net.Close() }

// Request sends a request and reads its response. After an error the
// connection is of no more use.
func (c *Conn) Request(req kmsg.Request) (kmsg.Response, error) {
	c.next++
	if err := c.net.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return nil, err
	}
	if _, err := c.net.Write(c.formatter.AppendRequest(nil, req, c.next)); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(c.net, size[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c.net, body); err != nil {
		return nil, err
	}
	if len(body) < 4 || int32(binary.BigEndian.Uint32(body)) != c.next {
		return nil, fmt.Errorf("answer to another request than %d", c.next)
	}
	body = body[4:]
	if req.IsFlexible() && req.Key() != int16(kmsg.ApiVersions) {
		if len(body) == 0 || body[0] != 0 {
			return nil, errors.New("response header with tags")
		}
		body = body[1:]
	}
	resp := req.ResponseKind()
	if err := resp.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("decode %s response: %w", kmsg.NameForKey(req.Key()), err)
	}
	return resp, nil
}

// Produce sends one batch and returns the offset of its first record. A code
// in the answer is returned as a *kerr.Error, everything else as it came.
func (c *Conn) Produce(topic string, partition int32, acks int16, values ...[]byte) (int64, error) {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 9, acks, int32(c.timeout/time.Millisecond)
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, Batch(values...)
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := c.Request(req)
	if err != nil {
		return 0, err
	}
	topics := resp.(*kmsg.ProduceResponse).Topics
	if len(topics) != 1 || len(topics[0].Partitions) != 1 {
		return 0, errors.New("produce response without the partition")
	}
	p := topics[0].Partitions[0]
	return p.BaseOffset, kerr.ErrorForCode(p.ErrorCode)
}

// Fetched is what one fetch of one partition brought.
type Fetched struct {
	Records       []*kgo.Record
	Next          int64 // where to go on
	HighWatermark int64
	LogStart      int64
	Err           error // the partition's code, or that its bytes were no sound batches
}

// Fetch reads from one partition.
func (c *Conn) Fetch(topic string, partition int32, offset int64, bytesMax int32) (Fetched, error) {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = 12, 100, 1, bytesMax, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = partition, offset, bytesMax
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := c.Request(req)
	if err != nil {
		return Fetched{}, err
	}
	r := resp.(*kmsg.FetchResponse)
	if r.ErrorCode != 0 {
		return Fetched{Err: kerr.ErrorForCode(r.ErrorCode), Next: offset}, nil
	}
	if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return Fetched{}, errors.New("fetch response without the partition")
	}
	p := &r.Topics[0].Partitions[0]
	f, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Offset: offset, Topic: topic, Partition: partition},
		p, kgo.DefaultDecompressor(), nil)
	return Fetched{Records: f.Records, Next: next, HighWatermark: p.HighWatermark, LogStart: p.LogStartOffset, Err: f.Err}, nil
}

// Batch is a record batch without compression and without a producer id.
func Batch(values ...[]byte) []byte {
	now := time.Now().UnixMilli()
	b := kmsg.RecordBatch{PartitionLeaderEpoch: -1, Magic: 2, LastOffsetDelta: int32(len(values) - 1), FirstTimestamp: now,
		MaxTimestamp: now, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(len(values))}
	for i, v := range values {
		r := kmsg.Record{OffsetDelta: int32(i), Value: v}
		r.Length = int32(len(r.AppendTo(nil)) - 1) // less the byte of a zero length
		b.Records = r.AppendTo(b.Records)
	}
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

// CreateTopic makes a topic with one replica of each partition.
func (c *Conn) CreateTopic(topic string, partitions int32, configs map[string]string) error {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis = 5, int32(c.timeout/time.Millisecond)
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, partitions, 1
	for name, value := range configs {
		rc := kmsg.NewCreateTopicsRequestTopicConfig()
		rc.Name, rc.Value = name, &value
		rt.Configs = append(rt.Configs, rc)
	}
	req.Topics = append(req.Topics, rt)
	resp, err := c.Request(req)
	if err != nil {
		return err
	}
	for _, t := range resp.(*kmsg.CreateTopicsResponse).Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return err
		}
	}
	return nil
}
