// Package servicepath watches what forwards a node's traffic from the address of a Service to its pods: kube-proxy, or
// what takes its place. A node whose service path does not work is no place for an address while another node is.
//
// It owns how the service path is asked and what counts as an answer. It must never decide what follows from it.
package servicepath

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// interval is how often the service path is asked; each question may take almost as long.
	interval = time.Second
	timeout  = 900 * time.Millisecond

	// failures in a row are a fault. One or two are a kube-proxy that is busy or being restarted.
	failures = 3

	// healthzPort and healthzPath are where kube-proxy tells how it is: 200 while it keeps up and its node may be used by
	// load balancers, 503 when it does not keep up or the node is about to be deleted.
	healthzPort = "10256"
	healthzPath = "/healthz"
)

// Target is whom to ask, as a user says it.
type Target struct {
	auto bool
	url  string // empty: nobody, or with auto whoever answers
}

// Parse reads off, auto or a URL. auto asks kube-proxy's usual port on this node, at a loopback address or at the node's
// own.
func Parse(s string) (Target, error) {
	switch s {
	case "off":
		return Target{}, nil
	case "auto":
		return Target{auto: true}, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return Target{}, fmt.Errorf("%q: want auto, off, or a URL such as http://127.0.0.1:%s%s", s, healthzPort, healthzPath)
	}
	return Target{url: s}, nil
}

// urls are those to ask on a node: the first that answers.
func (t Target) urls(node netip.Addr) (urls []string) {
	if t.url != "" {
		return []string{t.url}
	}
	if t.auto {
		for _, host := range []string{"127.0.0.1", "::1", node.String()} {
			urls = append(urls, "http://"+net.JoinHostPort(host, healthzPort)+healthzPath)
		}
	}
	return urls
}

// Prober asks one service path again and again.
type Prober struct {
	urls   []string // the one that answered, once one has
	state  state
	client *http.Client
	logger log.Logger
	down   prometheus.Gauge
	failed prometheus.Counter
}

// New makes a prober of a target on the node with this address.
func New(target Target, node netip.Addr, logger log.Logger, reg prometheus.Registerer) *Prober {
	p := &Prober{
		urls:  target.urls(node),
		state: state{certain: !target.auto},
		client: &http.Client{
			Timeout:       timeout,
			Transport:     &http.Transport{MaxIdleConnsPerHost: 1},                                       // and no proxy: it is on this node
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // an answer too
		},
		logger: logger,
		down: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_service_path_down",
			Help: "1 while this node's service path, kube-proxy or what takes its place, says that it does not work or says nothing.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "herald_service_path_probe_failures_total",
			Help: "Questions to this node's service path that it did not answer well.",
		}),
	}
	reg.MustRegister(p.down, p.failed)
	return p
}

// Run asks until ctx is done, and tells each change: down when it failed three times in a row, up when it answered well.
// It begins as up.
func (p *Prober) Run(ctx context.Context, report func(down bool)) {
	if len(p.urls) == 0 {
		return
	}
	defer p.client.CloseIdleConnections()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		answered, err := p.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && (answered || p.state.certain) {
			p.failed.Inc()
		}
		if p.state.observe(err == nil, answered) {
			p.changed(p.state.down, err)
			report(p.state.down)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *Prober) changed(down bool, err error) {
	if down {
		p.down.Set(1)
		level.Warn(p.logger).Log("msg", "this node's service path does not work; its addresses move where another node can serve", "err", err)
		return
	}
	p.down.Set(0)
	level.Info(p.logger).Log("msg", "this node's service path works again")
}

// ask asks one URL after the other until one answers, and keeps to that one then.
func (p *Prober) ask(ctx context.Context) (answered bool, err error) {
	for _, u := range p.urls {
		if answered, err = p.get(ctx, u); answered {
			p.urls = []string{u}
			break
		}
	}
	return answered, err
}

func (p *Prober) get(ctx context.Context, u string) (answered bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return false, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return false, err // names the URL
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4096) // so that the connection can be used again
	if resp.StatusCode/100 != 2 {
		return true, fmt.Errorf("%s: %s", u, resp.Status)
	}
	return true, nil
}

// state is what the answers amount to.
type state struct {
	certain bool // there is one that can be asked: silence is a failure
	down    bool
	failed  int // in a row
}

// observe takes in how a question ended, and tells whether down changed.
func (s *state) observe(well, answered bool) (changed bool) {
	s.certain = s.certain || answered
	was := s.down
	switch {
	case well:
		s.failed, s.down = 0, false
	case s.certain:
		s.failed++
		s.down = s.failed >= failures
	}
	return s.down != was
}
