package traffic

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/test/chaos/history"
)

const fetchBytes = 8 << 20

// ReadAll reads a partition from an offset (-1: from its start) to its high
// watermark, and checks every byte. What it read before an error is returned
// with it; the error of a broker's answer is a *kerr.Error.
func (c *Conn) ReadAll(topic string, partition int32, from int64) ([]history.Record, error) {
	if from < 0 {
		var err error
		if from, err = c.LogStart(topic, partition); err != nil {
			return nil, err
		}
	}
	var records []history.Record
	for {
		f, err := c.Fetch(topic, partition, from, fetchBytes)
		if err != nil {
			return records, err
		}
		for _, r := range f.Records {
			id, err := Identify(r.Value)
			if err != nil {
				return records, fmt.Errorf("%s-%d offset %d: %w", topic, partition, r.Offset, err)
			}
			records = append(records, history.Record{Offset: r.Offset, ID: id})
		}
		if f.Err != nil {
			return records, f.Err
		}
		if f.Next >= f.HighWatermark {
			return records, nil
		}
		if f.Next == from {
			return records, fmt.Errorf("%s-%d: nothing at offset %d, but the high watermark is %d", topic, partition, from, f.HighWatermark)
		}
		from = f.Next
	}
}

// LogStart asks for a partition's first offset, End for its high watermark.
func (c *Conn) LogStart(topic string, partition int32) (int64, error) {
	return c.listOffset(topic, partition, -2)
}

// End asks for the offset after the last record that consumers get.
func (c *Conn) End(topic string, partition int32) (int64, error) {
	return c.listOffset(topic, partition, -1)
}

func (c *Conn) listOffset(topic string, partition int32, timestamp int64) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = 6, -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp = partition, timestamp
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := c.Request(req)
	if err != nil {
		return 0, err
	}
	topics := resp.(*kmsg.ListOffsetsResponse).Topics
	if len(topics) != 1 || len(topics[0].Partitions) != 1 {
		return 0, errors.New("list offsets response without the partition")
	}
	p := topics[0].Partitions[0]
	return p.Offset, kerr.ErrorForCode(p.ErrorCode)
}

// Leader asks any broker for the address of a partition's leader.
func (c *Conn) Leader(topic string, partition int32) (string, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 9
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = &topic
	req.Topics = append(req.Topics, rt)
	resp, err := c.Request(req)
	if err != nil {
		return "", err
	}
	m := resp.(*kmsg.MetadataResponse)
	for _, t := range m.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return "", err
		}
		for _, p := range t.Partitions {
			if p.Partition != partition {
				continue
			}
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return "", err
			}
			for _, b := range m.Brokers {
				if b.NodeID == p.Leader {
					return fmt.Sprintf("%s:%d", b.Host, b.Port), nil
				}
			}
		}
	}
	return "", kerr.LeaderNotAvailable
}

// Patiently asks again, for some seconds, while the answer is an error of which
// every client knows that it passes: who leads may change at any time, above all
// on a machine that is busy, and then clients ask once more.
func Patiently[T any](ask func() (T, error)) (T, error) {
	const limit = 15 * time.Second
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		v, err := ask()
		if !passes(err) || time.Since(begin) > limit {
			return v, err
		}
	}
}

func passes(err error) bool {
	for _, code := range []error{kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.NotEnoughReplicas, kerr.CoordinatorLoadInProgress,
		kerr.CoordinatorNotAvailable} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// DialLeader connects to a partition's leader by way of any of the addresses,
// and tries until limit has passed.
func DialLeader(addresses []string, topic string, partition int32, limit time.Duration) (*Conn, error) {
	var last error
	for begin := time.Now(); time.Since(begin) < limit; time.Sleep(2 * time.Millisecond) {
		for _, a := range addresses {
			var c *Conn
			if c, last = dialLeaderBy(a, topic, partition); last == nil {
				return c, nil
			}
		}
	}
	return nil, fmt.Errorf("find the leader of %s-%d: %w", topic, partition, last)
}

func dialLeaderBy(address, topic string, partition int32) (*Conn, error) {
	const timeout = 10 * time.Second
	c, err := Dial(address, timeout)
	if err != nil {
		return nil, err
	}
	leader, err := c.Leader(topic, partition)
	if err == nil && leader == address {
		return c, nil
	}
	c.Close()
	if err != nil {
		return nil, err
	}
	return Dial(leader, timeout)
}

// ReadTopic reads all partitions of a topic to their ends from their leaders.
func ReadTopic(addresses []string, topic string, partitions int32) (map[history.Place][]history.Record, error) {
	all := make(map[history.Place][]history.Record)
	for p := range partitions {
		records, err := Patiently(func() ([]history.Record, error) {
			c, err := DialLeader(addresses, topic, p, 15*time.Second)
			if err != nil {
				return nil, err
			}
			defer c.Close()
			return c.ReadAll(topic, p, -1)
		})
		all[history.Place{Topic: topic, Partition: p}] = records
		if err != nil {
			return all, fmt.Errorf("read %s-%d: %w", topic, p, err)
		}
	}
	return all, nil
}
