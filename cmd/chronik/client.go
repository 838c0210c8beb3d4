package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
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
// The client is given those that do, for it asks no second one who coordinates
// a group. Of the others it learns from these.
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
	seeds, err := reach(ctx, seeds)
	if err != nil {
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

// reachGrace is how long the others may take when one broker has taken a connection.
const reachGrace = 250 * time.Millisecond

// reach returns the brokers that take a connection, or says why none does.
func reach(ctx context.Context, seeds []string) ([]string, error) {
	attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	reasons := make([]error, len(seeds))
	var all sync.WaitGroup
	for i, seed := range seeds {
		all.Go(func() {
			var dialer net.Dialer
			conn, err := dialer.DialContext(attempt, "tcp", seed)
			if reasons[i] = err; err == nil {
				conn.Close()
				time.AfterFunc(reachGrace, cancel)
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var reached, why []string
	for i, err := range reasons {
		if err == nil {
			reached = append(reached, seeds[i])
			continue
		}
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		why = append(why, fmt.Sprintf("%s: %v", seeds[i], err))
	}
	if len(reached) == 0 {
		return nil, fmt.Errorf("no broker can be reached (%s); start one with `chronik dev`, or say with -b where they are", strings.Join(why, "; "))
	}
	return reached, nil
}

// explain says what an error of Kafka's means for what was being done.
func explain(what string, err error, message string) error {
	if err == nil {
		return nil
	}
	var k *kerr.Error
	if !errors.As(err, &k) {
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, kgo.ErrRecordTimeout) {
			return fmt.Errorf("%s: no answer in time (%w); `chronik cluster status` shows whether there is a quorum and which nodes run, --timeout allows more", what, err)
		}
		var closed *kgo.ErrFirstReadEOF
		if errors.As(err, &closed) {
			return fmt.Errorf("%s: the broker closes the connection at once: -b takes the address that a node has for Kafka clients (--kafka, by default port 9092); the one for other nodes (--peer, 9192) and one that wants TLS answer so", what)
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	text, message := strings.TrimRight(k.Message, "."), strings.TrimRight(message, ".")
	if message != "" {
		text += ": " + message
	}
	switch {
	case errors.Is(k, kerr.UnknownTopicOrPartition):
		text += "; `chronik topic list` shows what there is, `chronik topic create` makes one"
	case errors.Is(k, kerr.NotEnoughReplicas), errors.Is(k, kerr.NotEnoughReplicasAfterAppend):
		text += "; fewer replicas are in sync than min.insync.replicas wants: `chronik topic describe` shows which are missing"
	case errors.Is(k, kerr.CoordinatorLoadInProgress), errors.Is(k, kerr.CoordinatorNotAvailable), errors.Is(k, kerr.NotController),
		errors.Is(k, kerr.RequestTimedOut), errors.Is(k, kerr.BrokerNotAvailable):
		text += "; no controller may be there to answer: `chronik cluster status` shows whether there is a quorum and which nodes run"
	case errors.Is(k, kerr.LeaderNotAvailable), errors.Is(k, kerr.NotLeaderForPartition):
		text += "; `chronik topic describe` shows which partitions have no leader"
	}
	return fmt.Errorf("%s: %s", what, text)
}
