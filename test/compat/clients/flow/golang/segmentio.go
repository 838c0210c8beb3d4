package main

import (
	"context"
	"errors"
	"sync"

	"github.com/segmentio/kafka-go"
)

// segmentioProduce writes from several goroutines, since each call waits for
// its acknowledgement.
func segmentioProduce(addrs []string, topic string, values <-chan string) error {
	w := &kafka.Writer{Addr: kafka.TCP(addrs...), Topic: topic, RequiredAcks: kafka.RequireAll}
	var wait sync.WaitGroup
	for v := range values {
		wait.Go(func() { told(v, w.WriteMessages(context.Background(), kafka.Message{Value: []byte(v)})) })
	}
	wait.Wait()
	return w.Close()
}

// segmentioConsume fetches and commits in two steps: its ReadMessage drops the
// message when the commit fails.
func segmentioConsume(addrs []string, topic, group string, stop <-chan struct{}) error {
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: addrs, GroupID: group, Topic: topic})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-stop; cancel() }()
	for {
		m, err := r.FetchMessage(ctx)
		if errors.Is(err, context.Canceled) {
			return r.Close()
		}
		if err == nil {
			say("got", string(m.Value))
			_ = r.CommitMessages(ctx, m)
		}
	}
}
