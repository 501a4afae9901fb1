// Package metrics makes a process's metrics registry and serves it, with the probes beside it. Each package
// registers and owns its own metrics; this one knows only what every process has.
package metrics

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"heraldlb.io/herald/internal/cmdline"
)

// NewRegistry returns a registry that holds the metrics of the process, of Go's runtime, and herald_build_info.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "herald_build_info",
			Help:        "Always 1; the labels say which build this is.",
			ConstLabels: prometheus.Labels{"version": cmdline.Version(), "commit": cmdline.Commit()},
		}, func() float64 { return 1 }),
	)
	return reg
}

// Serve answers /metrics with the registry, /healthz with 200, and /readyz with 200 or, with what ready returned,
// 503. It returns nil once ctx is done, and an error when it cannot listen.
func Serve(ctx context.Context, addr string, reg *prometheus.Registry, ready func() error) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("serve metrics and probes on %s: %w (another address: --metrics-bind)", addr, err)
	}
	srv := &http.Server{Handler: handler(reg, ready), ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { srv.Close() })
	if err := srv.Serve(l); err != http.ErrServerClosed {
		return fmt.Errorf("serve metrics and probes on %s: %w", addr, err)
	}
	return nil
}

func handler(reg *prometheus.Registry, ready func() error) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}
