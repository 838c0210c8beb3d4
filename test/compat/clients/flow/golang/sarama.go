package main

import (
	"context"

	"github.com/IBM/sarama"
)

func saramaProduce(addrs []string, topic string, values <-chan string) error {
	config := sarama.NewConfig()
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	p, err := sarama.NewAsyncProducer(addrs, config)
	if err != nil {
		return err
	}
	failed := make(chan struct{})
	go func() {
		defer close(failed)
		for e := range p.Errors() {
			told(e.Msg.Metadata.(string), e.Err)
		}
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m := range p.Successes() {
			told(m.Metadata.(string), nil)
		}
	}()
	for v := range values {
		p.Input() <- &sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(v), Metadata: v}
	}
	p.AsyncClose()
	<-failed
	<-done
	return nil
}

// saramaReader reads all partitions that it is given.
type saramaReader struct{}

func (saramaReader) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (saramaReader) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (saramaReader) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for m := range claim.Messages() {
		say("got", string(m.Value))
		s.MarkMessage(m, "")
	}
	return nil
}

func saramaConsume(addrs []string, topic, group string, stop <-chan struct{}) error {
	config := sarama.NewConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	g, err := sarama.NewConsumerGroup(addrs, group, config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-stop; cancel() }()
	for ctx.Err() == nil {
		// Its documentation has Consume called again whenever a session ends, and it ends with any error.
		_ = g.Consume(ctx, []string{topic}, saramaReader{})
	}
	return g.Close()
}
