package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Health is asked by /healthz and /readyz. A nil func answers that all is well.
type Health struct {
	Alive func() error // nil: the process works and should be left alone
	Ready func() error // nil: clients may be sent here
}

// Handler serves /metrics, /healthz and /readyz.
func (n *Node) Handler(health Health) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.Registry, promhttp.HandlerOpts{
		Registry: n.Registry, MaxRequestsInFlight: 4, Timeout: 10 * time.Second, ErrorHandling: promhttp.ContinueOnError}))
	mux.HandleFunc("GET /healthz", probe(health.Alive))
	mux.HandleFunc("GET /readyz", probe(health.Ready))
	return mux
}

func probe(ask func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if ask != nil {
			if err := ask(); err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				fmt.Fprintln(w, err)
				return
			}
		}
		fmt.Fprintln(w, "ok")
	}
}

// Server is a running HTTP server.
type Server struct {
	socket net.Listener
	http   *http.Server
	done   chan error
}

// Serve serves handler on socket, which is its own from now on, until Stop.
func Serve(socket net.Listener, handler http.Handler, log *slog.Logger) *Server {
	s := &Server{socket: socket, done: make(chan error, 1), http: &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
	go func() { s.done <- s.http.Serve(socket) }()
	return s
}

// Addr is the address bound.
func (s *Server) Addr() net.Addr { return s.socket.Addr() }

// Stop lets requests that are being served end while ctx allows. That one takes
// longer, or that somebody has connected and asks nothing, is no error.
func (s *Server) Stop(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	if ctx.Err() != nil {
		err = nil
	}
	if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
		return served
	}
	return err
}
