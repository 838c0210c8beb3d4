package metrics

import "github.com/prometheus/client_golang/prometheus"

// Kind says how Prometheus is to take a value.
type Kind = prometheus.ValueType

// The kinds of values.
const (
	Gauge   = prometheus.GaugeValue
	Counter = prometheus.CounterValue
)

// Metric names one series or one family of series that is read when Prometheus
// asks, so that nothing is updated on the way of a request.
type Metric struct {
	Name   string // chronik_…, ending in its unit, and in _total for counters
	Help   string
	Kind   Kind
	Labels []string
}

// Sample is one value of the metric at that index of the list given to Status.
type Sample struct {
	Metric int
	Value  float64
	Labels []string // the values, in the order of Metric.Labels
}

// Status registers metrics whose values read gives: it is called once per
// scrape, from any goroutine, and calls emit for each value.
func (n *Node) Status(metrics []Metric, read func(emit func(Sample))) {
	c := &collector{metrics: metrics, read: read}
	for _, m := range metrics {
		c.descriptions = append(c.descriptions, prometheus.NewDesc(m.Name, m.Help, m.Labels, nil))
	}
	n.Registry.MustRegister(c)
}

type collector struct {
	metrics      []Metric
	descriptions []*prometheus.Desc
	read         func(emit func(Sample))
}

func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descriptions {
		to <- d
	}
}

func (c *collector) Collect(to chan<- prometheus.Metric) {
	c.read(func(s Sample) {
		m, err := prometheus.NewConstMetric(c.descriptions[s.Metric], c.metrics[s.Metric].Kind, s.Value, s.Labels...)
		if err != nil {
			m = prometheus.NewInvalidMetric(c.descriptions[s.Metric], err)
		}
		to <- m
	})
}
