package wire

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func fetch(topics, partitions int) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version = 13
	for i := range topics {
		topic := kmsg.FetchRequestTopic{TopicID: [16]byte{byte(i), 1}}
		for p := range partitions {
			partition := kmsg.NewFetchRequestTopicPartition()
			partition.Partition, partition.FetchOffset = int32(p), 1000
			topic.Partitions = append(topic.Partitions, partition)
		}
		req.Topics = append(req.Topics, topic)
	}
	return req
}

func BenchmarkDecodeRequest(b *testing.B) {
	for _, c := range []struct {
		name string
		req  kmsg.Request
	}{
		{"Produce-v9/records=1MiB", produce(make([]byte, 1<<20), 9)},
		{"Fetch-v13/partitions=1", fetch(1, 1)},
		{"Fetch-v13/partitions=100", fetch(10, 10)},
		{"Fetch-v13/partitions=10000", fetch(100, 100)},
	} {
		b.Run(c.name, func(b *testing.B) {
			body := c.req.AppendTo(nil)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeRequest(c.req.Key(), c.req.GetVersion(), body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGuard(b *testing.B) {
	for _, partitions := range []int{1, 100} {
		b.Run(fmt.Sprintf("Fetch-v13/partitions=%d", partitions), func(b *testing.B) {
			body := fetch(1, partitions).AppendTo(nil)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := Guard(1, 13, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReader(b *testing.B) {
	for _, size := range []int{100, 16 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("frame=%d", size), func(b *testing.B) {
			stream := bytes.Repeat(framed(make([]byte, size)), max(1, (4<<20)/size))
			src := bytes.NewReader(stream)
			r := NewReader(endless{src}, ReaderOptions{})
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				f, err := r.Next()
				if err != nil {
					b.Fatal(err)
				}
				f.Release()
			}
		})
	}
}

// endless starts again at the end.
type endless struct{ src *bytes.Reader }

func (e endless) Read(b []byte) (int, error) {
	if e.src.Len() == 0 {
		_, _ = e.src.Seek(0, io.SeekStart)
	}
	return e.src.Read(b)
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		compileAll()
	}
}
