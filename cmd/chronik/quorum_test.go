package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestStatusWithoutAQuorumSaysSoAndWhoAnswers(t *testing.T) {
	live, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	s := &clusterStatus{ClusterID: "c", Controller: -1, Quorum: new(bool), Nodes: []nodeStatus{
		{Node: 1, Kafka: live.Addr().String(), State: "serving"}, {Node: 2, Kafka: "127.0.0.1:1", State: "serving"}, {Node: 3, Kafka: "127.0.0.1:2", State: "fenced"},
	}}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	s.probe(over) // the time for the question may be over by then
	var out bytes.Buffer
	if err := s.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"NO QUORUM", "take a connection: 1; that do not: 2,3", "Start the nodes that are down"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	for _, not := range []string{"serving", "fenced", "controller -1"} {
		if strings.Contains(out.String(), not) {
			t.Errorf("%q in\n%s", not, out.String())
		}
	}
}

// Whoever may not ask for the quorum, or asks a broker that does not know the
// question, must not be told that the quorum is lost.
func TestStatusTellsALostQuorumFromAQuestionThatWasRefused(t *testing.T) {
	code := func(e *kerr.Error) map[int16]func(kmsg.Request) kmsg.Response {
		return map[int16]func(kmsg.Request) kmsg.Response{55: func(r kmsg.Request) kmsg.Response {
			d := r.ResponseKind().(*kmsg.DescribeQuorumResponse)
			d.ErrorCode = e.Code
			return d
		}}
	}
	partition := func(e *kerr.Error) map[int16]func(kmsg.Request) kmsg.Response {
		return map[int16]func(kmsg.Request) kmsg.Response{55: func(r kmsg.Request) kmsg.Response {
			d := r.ResponseKind().(*kmsg.DescribeQuorumResponse)
			p := kmsg.NewDescribeQuorumResponseTopicPartition()
			p.ErrorCode, p.LeaderID = e.Code, 1
			d.Topics = []kmsg.DescribeQuorumResponseTopic{{Topic: "__cluster_metadata", Partitions: []kmsg.DescribeQuorumResponseTopicPartition{p}}}
			return d
		}}
	}
	for name, c := range map[string]struct {
		answers    map[int16]func(kmsg.Request) kmsg.Response
		exit       int
		text, json string
	}{
		"there is one":     {partition(&kerr.Error{}), 0, "controller 1", `"quorum": true`},
		"lost":             {code(kerr.RequestTimedOut), 1, "NO QUORUM", `"quorum": false`},
		"lost, as a voter": {partition(kerr.NotLeaderForPartition), 1, "NO QUORUM", `"quorum": false`},
		"no right": {code(kerr.ClusterAuthorizationFailed), 0,
			"not known: describe the quorum: CLUSTER_AUTHORIZATION_FAILED; the broker gives this client no right", `"quorum": null`},
		"an answer that is too old": {code(kerr.UnsupportedVersion), 0, "UNSUPPORTED_VERSION; the broker is older", `"quorum": null`},
		"a question that is not known": {nil, 0,
			"not known: describe the quorum: the broker is older than what was asked of it", `"quorum": null`},
		"the wrong password": {code(kerr.SaslAuthenticationFailed), 0, "not known: describe the quorum: SASL_AUTHENTICATION_FAILED", `"quorum": null`},
		"nothing in it":      {code(&kerr.Error{}), 0, "has no quorum in it", `"quorum": null`},
	} {
		t.Run(name, func(t *testing.T) {
			address := fakeBroker(t, c.answers)
			exit, out, errs := cli(nil, "cluster", "status", "-b", address)
			if exit != c.exit || !strings.Contains(out, c.text) {
				t.Errorf("exit %d, want %d and %q in\n%s%s", exit, c.exit, c.text, out, errs)
			}
			if lost := strings.Contains(out, "NO QUORUM"); lost != strings.HasPrefix(name, "lost") {
				t.Errorf("no quorum: %v\n%s", lost, out)
			}
			exit, out, errs = cli(nil, "cluster", "status", "-b", address, "-o", "json")
			if exit != c.exit || !strings.Contains(out, c.json) || !json.Valid([]byte(out)) {
				t.Errorf("exit %d, want %d and %q in\n%s%s", exit, c.exit, c.json, out, errs)
			}
		})
	}
}

// Ctrl-C is not a minute that is over.
func TestAnInterruptedWaitSaysSo(t *testing.T) {
	address := fakeBroker(t, map[int16]func(kmsg.Request) kmsg.Response{55: func(r kmsg.Request) kmsg.Response {
		d := r.ResponseKind().(*kmsg.DescribeQuorumResponse)
		d.ErrorCode = kerr.RequestTimedOut.Code
		return d
	}})
	client, err := kgo.NewClient(kgo.SeedBrokers(address))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	r := &failoverRun{cluster: &localCluster{}, admin: &administrator{kadm.NewClient(client), client}, count: 1}
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	if err := r.settle(ctx); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "in sync") {
		t.Errorf("wait for replicas: %v", err)
	}
	if _, err := r.controller(ctx); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "no controller") {
		t.Errorf("wait for a controller: %v", err)
	}
	for line, want := range map[string]string{
		"cluster add-node --wait 7 -b " + address: "interrupted",
		"topic list -b " + address:                "chronik: interrupted\n",
		"bench failover":                          "interrupted",
	} {
		var out, errs bytes.Buffer
		if code := run(ctx, strings.Fields(line), nil, strings.NewReader(""), &out, &errs); code != exitFailed || !strings.Contains(errs.String(), want) || strings.Contains(errs.String(), "cancel") {
			t.Errorf("chronik %s: exit %d, %q, want %q", line, code, errs.String(), want)
		}
	}
}

func TestErrorsPointAtWhatHelps(t *testing.T) {
	for want, err := range map[string]error{
		"COORDINATOR_LOAD_IN_PROGRESS; no controller": kerr.CoordinatorLoadInProgress,
		"`chronik cluster status`":                    kerr.RequestTimedOut,
		"--peer, 9192":                                &kgo.ErrFirstReadEOF{},
		"do: interrupted":                             fmt.Errorf("ask: %w", context.Canceled),
		"do: no answer in time; `chronik":             context.DeadlineExceeded,
		"do: no connection to the node at 127.0.0.1:1 (connection refused); `chronik cluster status`": &kadm.ShardErrors{Name: "ListOffsets", Errs: []kadm.ShardError{{
			Err: fmt.Errorf("unable to dial: %w", &net.OpError{Op: "dial", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, Err: syscall.ECONNREFUSED})}}},
		"the answer is HTTP: -b takes": errors.New("invalid large response size; the beginning of an HTTP response"),
		"ASCII letters, digits":        kerr.InvalidTopicException,
		"-c max.message.bytes=N":       kerr.MessageTooLarge,
		"gives this client no right":   kerr.TopicAuthorizationFailed,
	} {
		if got := explain("do", err, ""); !strings.Contains(got.Error(), want) {
			t.Errorf("%v, want %q", got, want)
		}
	}
	if got := explain("do", errors.Join(kerr.UnknownTopicOrPartition), "It is not there.").Error(); strings.Contains(got, ".;") {
		t.Errorf("a full stop before a semicolon: %s", got)
	}
}
