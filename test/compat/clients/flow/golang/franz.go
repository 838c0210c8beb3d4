package main

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"
)

func franzProduce(addrs []string, topic string, values <-chan string) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer c.Close()
	for v := range values {
		c.Produce(context.Background(), kgo.StringRecord(v), func(_ *kgo.Record, err error) { told(v, err) })
	}
	return c.Flush(context.Background())
}

func franzConsume(addrs []string, topic, group string, stop <-chan struct{}) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group))
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-stop; cancel() }()
	for ctx.Err() == nil {
		c.PollFetches(ctx).EachRecord(func(r *kgo.Record) { say("got", string(r.Value)) })
	}
	return nil
}
