package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
	"chronik/internal/edge/metrics"
)

// Event is one line of the cluster's history, as /cluster/events gives it.
type Event struct {
	Offset    int64     `json:"offset"` // of the change in the metadata log
	Time      time.Time `json:"time"`
	Event     string    `json:"event"`
	Topic     string    `json:"topic,omitempty"`
	Partition *int32    `json:"partition,omitempty"`
	Node      *int32    `json:"node,omitempty"`
	Detail    string    `json:"detail,omitempty"`
	Cause     string    `json:"cause,omitempty"`
}

const eventsDefault = 100

// serveHTTP answers from the first moment on: a node that recovers or looks for
// its cluster is alive, and not ready.
func (n *node) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if pages := n.pages.Load(); pages != nil {
		(*pages).ServeHTTP(w, r)
		return
	}
	if r.URL.Path == "/healthz" {
		fmt.Fprintln(w, "ok")
		return
	}
	http.Error(w, "starting", http.StatusServiceUnavailable)
}

// handler serves what can be read of the node over HTTP. Nothing can be
// changed there, since it asks nobody who they are; but a pass of the scrubber
// can be begun, which reads at a bounded rate.
func (n *node) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", n.metrics.Handler(metrics.Health{Ready: n.ready}))
	mux.HandleFunc("GET /cluster/events", func(w http.ResponseWriter, r *http.Request) {
		limit := eventsDefault
		if text := r.URL.Query().Get("limit"); text != "" {
			var err error
			if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
				http.Error(w, fmt.Sprintf("limit: got %q, takes a number from 1 on", text), http.StatusBadRequest)
				return
			}
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(n.events(limit)) //nolint:errcheck // the client has gone
	})
	mux.HandleFunc("GET /cluster/unfit", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(n.unfit()) //nolint:errcheck // the client has gone
	})
	mux.HandleFunc("GET /cluster/scrub", n.serveScrub)
	mux.HandleFunc("POST /cluster/scrub", n.serveScrub)
	return mux
}

// Unfit is the replicas of a cluster that their nodes cannot use, as
// /cluster/unfit gives it.
type Unfit struct {
	ClusterID string         `json:"cluster_id"`
	Replicas  []UnfitReplica `json:"replicas"`
}

// UnfitReplica is one of them.
type UnfitReplica struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Node      int32  `json:"node"`
	Fitness   string `json:"fitness"` // failed, damaged, slow
	Cause     string `json:"cause"`
}

func (n *node) unfit() Unfit {
	image := n.broker.Image()
	out := Unfit{ClusterID: image.ClusterID(), Replicas: []UnfitReplica{}}
	for _, t := range image.Topics() {
		for i, p := range t.Partitions {
			for _, u := range p.Unfit {
				out.Replicas = append(out.Replicas, UnfitReplica{t.Name, int32(i), int32(u.Node), u.Fitness.String(), u.Cause})
			}
		}
	}
	return out
}

func (n *node) events(limit int) []Event {
	events := []Event{}
	for _, e := range n.broker.Image().Events(limit) {
		out := Event{
			Offset: int64(e.Offset), Time: time.UnixMilli(e.Time).UTC(), Event: e.Kind,
			Topic: e.Topic, Detail: e.Detail, Cause: e.Cause,
		}
		if e.Topic != "" && e.Partition != metadata.WholeTopic {
			out.Partition = &e.Partition
		}
		if e.Node != kafka.NoNode {
			id := int32(e.Node)
			out.Node = &id
		}
		events = append(events, out)
	}
	return events
}
