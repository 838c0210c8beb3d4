package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
	"chronik/internal/host/partition"
)

// DescribeLogDirs: v1-5
//
// Behaviour: this node's one directory, and the size of each partition in it and
// its lag: what it lacks to the high watermark that it knows of.
// Null topics means all; partitions that are not here are left out, and each is
// there once, with its topic.
//
// Version notes: v2: flexible; v3: error at the top; v4: size of the disk
// (KIP-827); v5: cordoned directories, of which there are none (KIP-1066).
var describeLogDirs = Handler{Key: 35, Name: "DescribeLogDirs", Min: 1, Max: 5, Serve: serveDescribeLogDirs}

func serveDescribeLogDirs(s *Server, _ time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.DescribeLogDirsRequest)
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	resp.Version = in.Version
	dir := kmsg.NewDescribeLogDirsResponseDir()
	var err error
	dir.Dir, dir.TotalBytes, dir.UsableBytes, err = s.Broker.Disk()
	if err != nil {
		dir.ErrorCode, dir.TotalBytes, dir.UsableBytes = int16(kafka.ErrKafkaStorageError), -1, -1
	}
	image := s.Broker.Image()
	places, answered := make(map[*metadata.Topic]int), make(map[*partition.Partition]bool)
	add := func(topic *metadata.Topic, number int32) {
		hosted := s.Broker.Partition(topic.ID, number)
		if hosted == nil || answered[hosted] {
			return
		}
		answered[hosted] = true
		at, ok := places[topic]
		if !ok {
			at = len(dir.Topics)
			places[topic] = at
			dir.Topics = append(dir.Topics, kmsg.DescribeLogDirsResponseDirTopic{Topic: topic.Name})
		}
		p := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
		p.Partition, p.Size = number, hosted.Size()
		p.OffsetLag = max(0, int64(hosted.HighWatermark()-hosted.LogEnd()))
		t := &dir.Topics[at]
		t.Partitions = append(t.Partitions, p)
	}
	if in.Topics == nil {
		for _, topic := range image.Topics() {
			for number := range topic.Partitions {
				add(topic, int32(number))
			}
		}
	}
	for i := range in.Topics {
		if topic := image.TopicByName(in.Topics[i].Topic); topic != nil {
			for _, number := range in.Topics[i].Partitions {
				add(topic, number)
			}
		}
	}
	resp.Dirs = append(resp.Dirs, dir)
	reply.respond(resp)
}
