// Package metrics makes a process's metrics registry and serves it, with the probes beside it, to whom it may concern:
// over TLS and to bearers of tokens alone when asked for. Each package registers and owns its own metrics; this one
// knows only what every process has, and asks others who may read.
package metrics

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"heraldlb.io/herald/internal/cmdline"
)

// MaxServiceSeries is how many series about single Services a process has at most, with --metrics-per-service. Beyond
// it they would cost Prometheus, and this process, more than they tell; herald_service_series_omitted counts the rest.
const MaxServiceSeries = 10_000

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

// Server serves one process's registry.
type Server struct {
	// Options are what the command line says.
	Options  cmdline.Metrics
	Registry *prometheus.Registry
	// Ready is what /readyz answers with: 200, or 503 and the error.
	Ready func() error
	// Reviewer knows who may read; it is asked only with --metrics-auth=token.
	Reviewer Reviewer
	Logger   log.Logger
}

// Run answers /metrics with the registry, and /healthz and /readyz to everybody, until ctx is done; then it returns nil.
// An error is of what the options say, or of listening.
func (s Server) Run(ctx context.Context) error {
	o := s.Options
	h, err := s.handler()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", o.Bind)
	if err != nil {
		return fmt.Errorf("serve metrics and probes on %s: %w (another address: --metrics-bind)", o.Bind, err)
	}
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          stdlog.New(log.NewStdlibAdapter(level.Debug(s.Logger)), "", 0), // of clients that give up
	}
	context.AfterFunc(ctx, func() { srv.Close() })
	if s.encrypted() {
		if srv.TLSConfig, err = tlsConfig(o.TLSCertFile, o.TLSKeyFile, s.Logger); err != nil {
			l.Close()
			return err
		}
		err = srv.ServeTLS(l, "", "")
	} else {
		err = srv.Serve(l)
	}
	if err != http.ErrServerClosed {
		return fmt.Errorf("serve metrics and probes on %s: %w", o.Bind, err)
	}
	return nil
}

// guarded tells whether readers must show a token. On a loopback address whatever stands before it does the asking.
func (s Server) guarded() bool { return s.Options.Auth == "token" && !loopback(s.Options.Bind) }

// encrypted tells whether TLS is spoken: with a certificate, and wherever tokens travel.
func (s Server) encrypted() bool { return s.Options.TLSCertFile != "" || s.guarded() }

func loopback(bind string) bool {
	host, _, err := net.SplitHostPort(bind)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (s Server) handler() (http.Handler, error) {
	o := s.Options
	switch {
	case o.Auth != "none" && o.Auth != "token":
		return nil, fmt.Errorf("--metrics-auth=%s: write none or token", o.Auth)
	case (o.TLSCertFile == "") != (o.TLSKeyFile == ""):
		return nil, errors.New("--metrics-tls-cert-file and --metrics-tls-key-file: one is of no use without the other, name both or none")
	}
	read := promhttp.HandlerFor(s.Registry, promhttp.HandlerOpts{})
	if s.guarded() {
		read = newGuard(s.Reviewer, s.Logger).admit(read)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", read)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux, nil
}
