package bfd

import (
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	up         *prometheus.GaugeVec
	failures   *prometheus.CounterVec
	sent       *prometheus.CounterVec
	received   *prometheus.CounterVec
	sendErrors *prometheus.CounterVec
	detection  *prometheus.GaugeVec
	dropped    *prometheus.CounterVec
	delay      prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	byPeer := []string{"peer"}
	m := &metrics{
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "herald_bfd_session_up",
			Help: "1 when the BFD session with the peer is up.",
		}, byPeer),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_bfd_session_failures_total",
			Help: "How often the BFD session with the peer failed after it was up.",
		}, byPeer),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_bfd_packets_sent_total",
			Help: "BFD control packets sent to the peer.",
		}, byPeer),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_bfd_packets_received_total",
			Help: "Valid BFD control packets received from the peer.",
		}, byPeer),
		sendErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_bfd_send_errors_total",
			Help: "BFD control packets that could not be sent to the peer.",
		}, byPeer),
		detection: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "herald_bfd_detection_time_seconds",
			Help: "Agreed time without a packet after which the path to the peer is down; 0 while the peer was not heard.",
		}, byPeer),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_bfd_packets_dropped_total",
			Help: "Received BFD packets that were dropped: malformed, of another version, with authentication, from too far away (ttl), or of no session.",
		}, []string{"reason"}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "herald_bfd_transmit_delay_seconds",
			Help:    "How much later than due BFD control packets were sent.",
			Buckets: []float64{.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25},
		}),
	}
	reg.MustRegister(m.up, m.failures, m.sent, m.received, m.sendErrors, m.detection, m.dropped, m.delay)
	for _, reason := range []error{errMalformed, errVersion, errAuthentication, errTTL, errNoSession} {
		m.dropped.WithLabelValues(reason.Error())
	}
	return m
}

// peerMetrics are those of one peer.
type peerMetrics struct {
	up, detection                        prometheus.Gauge
	failures, sent, received, sendErrors prometheus.Counter
}

func (m *metrics) of(peer netip.Addr) peerMetrics {
	p := peer.String()
	return peerMetrics{
		up: m.up.WithLabelValues(p), detection: m.detection.WithLabelValues(p), failures: m.failures.WithLabelValues(p),
		sent: m.sent.WithLabelValues(p), received: m.received.WithLabelValues(p), sendErrors: m.sendErrors.WithLabelValues(p),
	}
}

func (m *metrics) forget(peer netip.Addr) {
	p := peer.String()
	for _, v := range []*prometheus.CounterVec{m.failures, m.sent, m.received, m.sendErrors} {
		v.DeleteLabelValues(p)
	}
	m.up.DeleteLabelValues(p)
	m.detection.DeleteLabelValues(p)
}
