package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestStatusWithoutAQuorumSaysSoAndWhoAnswers(t *testing.T) {
	live, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	s := &clusterStatus{ClusterID: "c", Controller: -1, Nodes: []nodeStatus{
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

func TestErrorsPointAtWhatHelps(t *testing.T) {
	for want, err := range map[string]error{
		"COORDINATOR_LOAD_IN_PROGRESS; no controller": kerr.CoordinatorLoadInProgress,
		"`chronik cluster status`":                    kerr.RequestTimedOut,
		"--peer, 9192":                                &kgo.ErrFirstReadEOF{},
	} {
		if got := explain("do", err, ""); !strings.Contains(got.Error(), want) {
			t.Errorf("%v, want %q", got, want)
		}
	}
	if got := explain("do", errors.Join(kerr.UnknownTopicOrPartition), "It is not there.").Error(); strings.Contains(got, ".;") {
		t.Errorf("a full stop before a semicolon: %s", got)
	}
}
