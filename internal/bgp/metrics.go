package bgp

import (
	"context"

	"github.com/osrg/gobgp/v4/api"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	established *prometheus.CounterVec

	speaker   *Speaker
	up        *prometheus.Desc
	state     *prometheus.Desc
	since     *prometheus.Desc
	sent      *prometheus.Desc
	announced *prometheus.Desc
	received  *prometheus.Desc
	prefixes  *prometheus.Desc
}

func newMetrics(reg prometheus.Registerer, s *Speaker) *metrics {
	perPeer := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"peer"}, more...), nil)
	}
	m := &metrics{
		established: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_bgp_sessions_established_total",
			Help: "Times that the BGP session with a peer was established.",
		}, []string{"peer"}),
		speaker:   s,
		up:        perPeer("herald_bgp_session_up", "1 when the BGP session with a peer is established, else 0."),
		state:     perPeer("herald_bgp_session_state", "1 for the state that the BGP session with a peer is in.", "state"),
		since:     perPeer("herald_bgp_session_established_timestamp_seconds", "Unix time at which the BGP session with a peer was established; no series while it is not."),
		sent:      perPeer("herald_bgp_updates_sent_total", "UPDATE messages sent to a peer."),
		announced: perPeer("herald_bgp_announced_prefixes", "Prefixes that a peer has been told."),
		received:  perPeer("herald_bgp_received_prefixes", "Prefixes that a peer sent, all of which are refused."),
		prefixes:  prometheus.NewDesc("herald_bgp_prefixes", "Prefixes that this node announces to any peer.", nil, nil),
	}
	reg.MustRegister(m.established, m)
	return m
}

func (m *metrics) appear(peer string) { m.established.WithLabelValues(peer) }
func (m *metrics) vanish(peer string) { m.established.DeleteLabelValues(peer) }

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.up, m.state, m.since, m.sent, m.announced, m.received, m.prefixes} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, s := range m.speaker.Sessions() {
		up := 0.0
		if s.State == Established {
			up = 1
			gauge(ch, m.since, float64(s.Since.UnixNano())/1e9, s.Peer)
		}
		gauge(ch, m.up, up, s.Peer)
		gauge(ch, m.state, 1, s.Peer, string(s.State))
		gauge(ch, m.announced, float64(s.Sent), s.Peer)
		gauge(ch, m.received, float64(s.Received), s.Peer)
	}
	m.speaker.mu.Lock()
	defer m.speaker.mu.Unlock()
	gauge(ch, m.prefixes, float64(len(m.speaker.table.byPrefix)))
	for _, e := range m.speaker.engines {
		m.collect(ch, e)
	}
}

// collect reads what only GoBGP knows.
func (m *metrics) collect(ch chan<- prometheus.Metric, e *engine) {
	names := map[string]string{}
	for name, p := range e.peers {
		names[p.Conf.NeighborAddress] = name
	}
	_ = e.server.ListPeer(context.Background(), &api.ListPeerRequest{}, func(p *api.Peer) {
		name, ok := names[p.State.NeighborAddress]
		if !ok {
			return
		}
		if sent := p.State.Messages.GetSent(); sent != nil {
			ch <- prometheus.MustNewConstMetric(m.sent, prometheus.CounterValue, float64(sent.Update), name)
		}
	}) // fails only once GoBGP has stopped
}

func gauge(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}
