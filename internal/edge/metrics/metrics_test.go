package metrics

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"chronik/internal/edge/listener"
)

func get(t *testing.T, s *Server, path string) (int, string) {
	t.Helper()
	r, err := http.Get("http://" + s.Addr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

func TestScrapeShowsRequestsConnectionsAndStatus(t *testing.T) {
	n := New("1.2.3")
	var counters listener.Counters
	counters.Open.Store(7)
	n.Listener("PLAINTEXT", &counters)
	n.Status([]Metric{
		{Name: "chronik_partition_high_watermark", Help: "The high watermark.", Kind: Gauge, Labels: []string{"topic", "partition"}},
		{Name: "chronik_log_syncs_total", Help: "Syncs.", Kind: Counter},
	}, func(emit func(Sample)) {
		emit(Sample{0, 42, []string{"orders", "3"}})
		emit(Sample{1, 5, nil})
	})
	n.Observe(0, 9, 3*time.Millisecond, 1000, 50)
	n.Observe(0, 9, 3*time.Millisecond, 1000, 50)
	n.Observe(-5, 0, time.Millisecond, 10, 0)
	n.Observe(32000, 0, time.Millisecond, 10, 0)

	ready := errors.New("not caught up")
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(socket, n.Handler(Health{Ready: func() error { return ready }}), slog.New(slog.DiscardHandler))
	defer s.Stop(context.Background())
	code, body := get(t, s, "/metrics")
	if code != 200 {
		t.Fatalf("%d: %s", code, body)
	}
	for _, want := range []string{
		`chronik_build_info{goversion="go`, `version="1.2.3"} 1`,
		`chronik_connections{listener="PLAINTEXT"} 7`,
		`chronik_connections_refused_total{limit="per_ip",listener="PLAINTEXT"} 0`,
		`chronik_request_duration_seconds_count{api="Produce"} 2`,
		`chronik_request_bytes_total{api="Produce"} 2000`,
		`chronik_request_bytes_total{api="unknown"} 20`,
		`chronik_response_bytes_total{api="Produce"} 100`,
		`chronik_partition_high_watermark{partition="3",topic="orders"} 42`,
		`chronik_log_syncs_total 5`, "go_goroutines ", "process_cpu_seconds_total ",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in the scrape", want)
		}
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "chronik_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if code, body := get(t, s, "/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	if code, body := get(t, s, "/readyz"); code != 503 || body != "not caught up\n" {
		t.Errorf("readyz: %d %q", code, body)
	}
	ready = nil
	if code, _ := get(t, s, "/readyz"); code != 200 {
		t.Errorf("readyz: %d", code)
	}
	if code, _ := get(t, s, "/"); code != 404 {
		t.Errorf("/: %d", code)
	}
}

func BenchmarkObserve(b *testing.B) {
	n := New("test")
	b.ReportAllocs()
	for b.Loop() {
		n.Observe(0, 9, time.Millisecond, 1000, 50)
	}
}

// A node that was told to stop has not failed because somebody reads slowly.
func TestAStopDoesNotFailForThoseWhoAreSlow(t *testing.T) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked, done := make(chan struct{}), make(chan struct{})
	s := Serve(socket, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(asked); <-done }), slog.New(slog.DiscardHandler))
	go http.Get("http://" + s.Addr().String() + "/") //nolint:errcheck,bodyclose // it gets none
	<-asked
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
	close(done)
}
