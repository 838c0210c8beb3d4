package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// cluster is how client commands reach a cluster.
type cluster struct {
	bootstrap string
	timeout   time.Duration
}

func addCluster(cmd *cobra.Command) *cluster {
	c := &cluster{}
	cmd.PersistentFlags().StringVarP(&c.bootstrap, "bootstrap", "b", "127.0.0.1:9092", "HOST:PORT of brokers, with commas between them")
	cmd.PersistentFlags().DurationVar(&c.timeout, "timeout", 30*time.Second, "how long to try before giving up")
	return c
}

// connect makes a client once at least one of the brokers takes a connection.
func (c *cluster) connect(ctx context.Context, options ...kgo.Opt) (*kgo.Client, error) {
	seeds := strings.Split(c.bootstrap, ",")
	for _, seed := range seeds {
		if _, _, err := net.SplitHostPort(seed); err != nil {
			return nil, usage("flag --bootstrap: got %q, takes HOST:PORT with commas between several", c.bootstrap)
		}
	}
	if c.timeout <= 0 {
		return nil, usage("flag --timeout: got %v, takes more than 0", c.timeout)
	}
	if err := reach(ctx, seeds); err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(seeds...), kgo.ClientID("chronik"), kgo.RetryTimeout(c.timeout),
		kgo.RecordDeliveryTimeout(c.timeout), kgo.MetadataMinAge(250 * time.Millisecond),
	}, options...)...)
	if err != nil {
		return nil, usage("%v", err)
	}
	return client, nil
}

// reach says why none of the brokers can be reached, if so.
func reach(ctx context.Context, seeds []string) error {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	var reasons []string
	for _, seed := range seeds {
		conn, err := dialer.DialContext(ctx, "tcp", seed)
		if err == nil {
			conn.Close()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		reasons = append(reasons, fmt.Sprintf("%s: %v", seed, err))
	}
	return fmt.Errorf("no broker can be reached (%s); start one with `chronik dev`, or say with -b where they are", strings.Join(reasons, "; "))
}

// explain says what an error of Kafka's means for what was being done.
func explain(what string, err error, message string) error {
	if err == nil {
		return nil
	}
	var k *kerr.Error
	if !errors.As(err, &k) {
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, kgo.ErrRecordTimeout) {
			return fmt.Errorf("%s: no answer in time (%w); look at the brokers' logs, or allow more with --timeout", what, err)
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	text := k.Message
	if message != "" {
		text += ": " + message
	}
	switch {
	case errors.Is(k, kerr.UnknownTopicOrPartition):
		text += "; `chronik topic list` shows what there is, `chronik topic create` makes one"
	case errors.Is(k, kerr.NotEnoughReplicas), errors.Is(k, kerr.NotEnoughReplicasAfterAppend):
		text += "; fewer replicas are in sync than min.insync.replicas wants: `chronik topic describe` shows which are missing"
	case errors.Is(k, kerr.LeaderNotAvailable), errors.Is(k, kerr.NotLeaderForPartition):
		text += "; `chronik topic describe` shows which partitions have no leader"
	}
	return fmt.Errorf("%s: %s", what, text)
}
