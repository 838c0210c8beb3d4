package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
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
	var seeds []string
	for seed := range strings.SplitSeq(c.bootstrap, ",") {
		seed = strings.TrimSpace(seed)
		if !isAddress(seed) {
			return nil, usage("flag --bootstrap: got %q, takes HOST:PORT with commas between several", c.bootstrap)
		}
		seeds = append(seeds, seed)
	}
	// The client takes no less, and Kafka's requests have 32 bits for it in ms.
	if c.timeout < time.Second || c.timeout > 24*time.Hour {
		return nil, usage("flag --timeout: got %v, takes 1s to 24h", c.timeout)
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

// isAddress says whether text is HOST:PORT.
func isAddress(text string) bool {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
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
