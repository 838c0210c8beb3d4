package server

import (
	"encoding/json"
	"net/http"
	"time"

	"chronik/internal/edge/metrics"
	"chronik/internal/host/broker"
)

// scrubWait is how long other nodes have to say how far their scrubbers are.
const scrubWait = 3 * time.Second

var scrubMetrics = []metrics.Metric{
	{Kind: metrics.Counter, Name: "chronik_scrub_bytes_total", Help: "Bytes of logs read to verify them."},
	{Kind: metrics.Counter, Name: "chronik_scrub_passes_total", Help: "Finished verifications of all logs of this node, or of those of a topic."},
	{Kind: metrics.Gauge, Name: "chronik_scrub_last_pass_timestamp_seconds", Help: "When the last one was finished; 0 before the first."},
	{Kind: metrics.Counter, Name: "chronik_scrub_damaged_segments_total", Help: "Segments and logs of this node that were found damaged."},
	{Kind: metrics.Counter, Name: "chronik_scrub_mismatches_total", Help: "Ranges of offsets in which a replica of this node had other records than the others."},
	{Kind: metrics.Counter, Name: "chronik_scrub_compared_total", Help: "Ranges of offsets of which this node, as leader, has compared its records with a follower's."},
	{Kind: metrics.Counter, Name: "chronik_scrub_uncompared_total", Help: "Those of which a follower told no sum: compacted, trimmed, damaged, or no answer."},
	{Kind: metrics.Counter, Name: "chronik_scrub_repairs_total", Help: "Segments that were made anew from another replica, metadata files from memory."},
	{Kind: metrics.Counter, Name: "chronik_scrub_logs_set_aside_total", Help: "Damaged logs that were set aside as a whole and copied anew."},
	{Kind: metrics.Counter, Name: "chronik_scrub_repair_failures_total", Help: "Repairs that found no good copy, or no place for it."},
	{Kind: metrics.Counter, Name: "chronik_scrub_indices_rebuilt_total", Help: "Indices that were damaged and made anew."},
	{Kind: metrics.Gauge, Name: "chronik_scrub_repairing", Help: "Replicas of this node that are damaged and not repaired yet."},
}

func (n *node) readScrub(emit func(metrics.Sample)) {
	c, repairing, last := n.broker.ScrubCounts()
	finished := 0.0
	if !last.IsZero() {
		finished = float64(last.UnixMilli()) / 1000
	}
	for i, v := range []float64{
		float64(c.Bytes), float64(c.Passes), finished, float64(c.Damages), float64(c.Mismatches), float64(c.Compared), float64(c.Uncompared),
		float64(c.Repairs), float64(c.StartedOver), float64(c.Failures), float64(c.Indices), float64(repairing),
	} {
		emit(metrics.Sample{Metric: i, Value: v})
	}
}

// serveScrub gives the state of the scrubbers of all nodes; POST begins a pass
// on each first, over the topic that the query names or over all.
func (n *node) serveScrub(w http.ResponseWriter, r *http.Request) {
	request := broker.ScrubRequest{Start: r.Method == http.MethodPost, Topic: r.URL.Query().Get("topic")}
	if request.Topic != "" && request.Topic != broker.MetadataTopic && n.broker.Image().TopicByName(request.Topic) == nil {
		http.Error(w, "there is no topic "+request.Topic, http.StatusNotFound)
		return
	}
	states := make(chan []broker.ScrubState, 1)
	n.broker.ScrubAll(time.Now(), request, scrubWait, func(s []broker.ScrubState) { states <- s })
	n.kick(false)
	select {
	case <-r.Context().Done():
	case s := <-states:
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(s) //nolint:errcheck // the client has gone
	}
}
