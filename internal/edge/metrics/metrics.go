// Package metrics tells Prometheus what a node does, and health checks whether
// it does it.
package metrics

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/edge/listener"
)

// Node is the registry of one node. Nothing in it has a label whose values
// clients choose.
type Node struct {
	Registry *prometheus.Registry

	requests [keys]atomic.Pointer[request]
	latency  *prometheus.HistogramVec
	bytesIn  *prometheus.CounterVec
	bytesOut *prometheus.CounterVec
}

// keys is one more than the greatest API key that gets its own label value.
const keys = 128

// request is what is counted of one API key.
type request struct {
	latency  prometheus.Observer
	bytesIn  prometheus.Counter
	bytesOut prometheus.Counter
}

// New makes a registry with the metrics of the Go runtime, the process and the
// build.
func New(version string) *Node {
	n := &Node{Registry: prometheus.NewRegistry()}
	n.latency = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "chronik_request_duration_seconds",
		Help: "Time from a request's last byte to its encoded response, by API.",
		Buckets: []float64{
			.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30,
		},
	}, []string{"api"})
	n.bytesIn = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "chronik_request_bytes_total", Help: "Bytes of requests, by API."}, []string{"api"})
	n.bytesOut = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "chronik_response_bytes_total", Help: "Bytes of responses, by API."}, []string{"api"})
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "chronik_build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()}})
	build.Set(1)
	n.Registry.MustRegister(n.latency, n.bytesIn, n.bytesOut, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return n
}

// Observe counts one answered request; it is listener.Options.Observe.
func (n *Node) Observe(key, version int16, took time.Duration, requestBytes, responseBytes int) {
	r := n.request(key)
	r.latency.Observe(took.Seconds())
	r.bytesIn.Add(float64(requestBytes))
	r.bytesOut.Add(float64(responseBytes))
}

// request finds the counters of a key. Keys that Kafka does not have share one.
func (n *Node) request(key int16) *request {
	if key < 0 || key >= keys-1 {
		key = keys - 1
	}
	if r := n.requests[key].Load(); r != nil {
		return r
	}
	if kmsg.RequestForKey(key) == nil && key != keys-1 {
		r := n.request(keys - 1)
		n.requests[key].Store(r)
		return r
	}
	name := "unknown"
	if key != keys-1 {
		name = kmsg.NameForKey(key)
	}
	r := &request{n.latency.WithLabelValues(name), n.bytesIn.WithLabelValues(name), n.bytesOut.WithLabelValues(name)}
	n.requests[key].Store(r)
	return r
}

// Listener shows what a listener counts, under the label listener.
func (n *Node) Listener(name string, c *listener.Counters) {
	labels := prometheus.Labels{"listener": name}
	gauge := func(metric, help string, value *atomic.Int64) {
		n.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: metric, Help: help, ConstLabels: labels},
			func() float64 { return float64(value.Load()) }))
	}
	counter := func(metric, help, label, labelValue string, value *atomic.Int64) {
		l := labels
		if label != "" {
			l = prometheus.Labels{"listener": name, label: labelValue}
		}
		n.Registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: metric, Help: help, ConstLabels: l},
			func() float64 { return float64(value.Load()) }))
	}
	gauge("chronik_connections", "Connections of clients at present.", &c.Open)
	gauge("chronik_requests_waiting", "Requests that have been handled and not answered.", &c.Waiting)
	gauge("chronik_queued_bytes", "Bytes of requests and responses in memory.", &c.QueuedBytes)
	counter("chronik_connections_accepted_total", "Connections of clients since the start.", "", "", &c.Accepted)
	const refused = "Connections that were refused, by limit."
	counter("chronik_connections_refused_total", refused, "limit", "total", &c.RefusedTotal)
	counter("chronik_connections_refused_total", refused, "limit", "per_ip", &c.RefusedPerIP)
	const closed = "Connections that the node closed, by reason."
	counter("chronik_connections_closed_total", closed, "reason", "idle", &c.ClosedIdle)
	counter("chronik_connections_closed_total", closed, "reason", "slow", &c.ClosedSlow)
	counter("chronik_connections_closed_total", closed, "reason", "invalid", &c.ClosedInvalid)
	counter("chronik_handler_panics_total", "Handlers that panicked; each is a bug.", "", "", &c.Panics)
	counter("chronik_network_received_bytes_total", "Bytes received from clients.", "", "", &c.BytesIn)
	counter("chronik_network_sent_bytes_total", "Bytes sent to clients.", "", "", &c.BytesOut)
	counter("chronik_requests_total", "Requests received.", "", "", &c.Requests)
	counter("chronik_connections_paused_total", "Times that a connection was not read because of a limit.", "", "", &c.Paused)
}
