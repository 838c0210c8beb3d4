package groups

import (
	"context"
	"flag"
	"os"
	"sort"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"chronik/test/chaos/cluster"
)

var long = flag.Bool("long", os.Getenv("CHRONIK_LONG") == "1", "run the long versions (also CHRONIK_LONG=1)")

func TestMain(m *testing.M) {
	if seeds := os.Getenv(memberEnv); seeds != "" {
		consumerMain(seeds)
		return
	}
	flag.Parse()
	code := m.Run()
	cluster.RemoveBinary()
	os.Exit(code)
}

// sized returns the second value in long runs and the first otherwise.
func sized[T any](short, inLongRuns T) T {
	if *long {
		return inLongRuns
	}
	return short
}

// newClient makes a client for nodes that come and go. AlwaysRetryEOF is for a
// connection that is closed at its first request, which franz-go otherwise takes
// for a lack of SASL: that is what a kill looks like that comes just then.
func newClient(t *testing.T, c *cluster.Cluster, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(c.Addresses()...), kgo.AlwaysRetryEOF(), kgo.MetadataMinAge(100 * time.Millisecond), kgo.MetadataMaxAge(time.Second),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
		kgo.DialTimeout(time.Second), kgo.MaxVersions(byName()),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func createTopic(t *testing.T, client *kgo.Client, topic string, partitions int32) kadm.CreateTopicResponse {
	t.Helper()
	made, err := kadm.NewClient(client).CreateTopic(t.Context(), partitions, 3, nil, topic)
	if err != nil {
		t.Fatalf("create topic %s: %v", topic, err)
	}
	return made
}

// byName keeps requests on offsets to the versions that name topics.
func byName() *kversion.Versions {
	v := kversion.Stable()
	v.SetMaxKeyVersion(int16(kmsg.OffsetCommit), 9)
	v.SetMaxKeyVersion(int16(kmsg.OffsetFetch), 9)
	return v
}

// coordinator finds the node that coordinates the group, waiting for one.
func coordinator(t *testing.T, client *kgo.Client, group string) int {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKeys = []string{group}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		resp, err := req.RequestWith(ctx, client)
		cancel()
		if err == nil && len(resp.Coordinators) == 1 && resp.Coordinators[0].ErrorCode == 0 {
			return int(resp.Coordinators[0].NodeID)
		}
		if time.Now().After(end) {
			t.Fatalf("no coordinator for %s: %v", group, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// percentile of durations; they are sorted.
func percentile(list []time.Duration, p float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	sort.Slice(list, func(i, j int) bool { return list[i] < list[j] })
	return list[min(int(float64(len(list))*p), len(list)-1)]
}
