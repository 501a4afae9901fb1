package layer2

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// byProtocol are the counters of a metric, one for each protocol.
type byProtocol [protocols]prometheus.Counter

type metrics struct {
	answers       byProtocol
	announcements byProtocol
	probes        byProtocol
	sendErrors    byProtocol
	conflicts     prometheus.Counter
	socketsOpen   *prometheus.GaugeVec
	socketsFailed *prometheus.GaugeVec
	addresses     prometheus.Gauge
	standIns      prometheus.Gauge

	// What the kernel counted on sockets, up to the last time it was asked.
	passed, dropped [protocols]atomic.Uint64
}

// live are the metrics that are asked for when they are read.
type live struct {
	count    func() // brings passed and dropped up to date
	queued   func() float64
	conflict func() float64
}

func newMetrics(reg prometheus.Registerer, now live) *metrics {
	m := &metrics{
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "herald_layer2_conflicts_total",
			Help: "Times that a host outside of the cluster began to claim an address of this node, or turned out to have it.",
		}),
		socketsOpen: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "herald_layer2_sockets_open",
			Help: "Packet sockets that are open, one for each protocol on each usable interface.",
		}, []string{"protocol"}),
		socketsFailed: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "herald_layer2_sockets_failed",
			Help: "Packet sockets that could not be opened or broke, and wait to be tried again.",
		}, []string{"protocol"}),
		addresses: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_layer2_announced_addresses",
			Help: "Addresses that this node announces.",
		}),
		standIns: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_layer2_stand_in_addresses",
			Help: "Addresses that this node answers for in the place of nodes whose speakers are being restarted, with their MACs.",
		}),
	}
	reg.MustRegister(m.conflicts, m.socketsOpen, m.socketsFailed, m.addresses, m.standIns)
	m.answers = counters(reg, "herald_layer2_answers_total", "ARP requests and neighbor solicitations answered.")
	m.announcements = counters(reg, "herald_layer2_announcements_total", "Gratuitous ARP packets and unsolicited neighbor advertisements sent.")
	m.probes = counters(reg, "herald_layer2_probes_total", "ARP probes and solicitations sent to find out whether another host has an address.")
	m.sendErrors = counters(reg, "herald_layer2_send_errors_total", "Answers, announcements and probes that could not be sent.")
	m.registerLive(reg, now)
	return m
}

func (m *metrics) registerLive(reg prometheus.Registerer, now live) {
	for proto := range protocols {
		labels := prometheus.Labels{"protocol": proto.String()}
		reg.MustRegister(
			prometheus.NewCounterFunc(prometheus.CounterOpts{
				Name: "herald_layer2_received_total", ConstLabels: labels,
				Help: "ARP packets and NDP messages that passed the kernel filter, so may be about an address of this node.",
			}, func() float64 { now.count(); return float64(m.passed[proto].Load()) }),
			prometheus.NewCounterFunc(prometheus.CounterOpts{
				Name: "herald_layer2_dropped_total", ConstLabels: labels,
				Help: "Of those received, such as did not fit into the receive buffer because the process was too slow.",
			}, func() float64 { now.count(); return float64(m.dropped[proto].Load()) }),
		)
	}
	reg.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "herald_layer2_queue_depth",
			Help: "Announcements and probes that are due and wait for the pace of their interface.",
		}, now.queued),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "herald_layer2_conflicts",
			Help: "Addresses of this node that a host outside of the cluster claims now.",
		}, now.conflict),
	)
}

// counters registers a counter for each protocol.
func counters(reg prometheus.Registerer, name, help string) (out byProtocol) {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"protocol"})
	reg.MustRegister(vec)
	for proto := range protocols {
		out[proto] = vec.WithLabelValues(proto.String())
	}
	return out
}

// count adds what the kernel counted on a socket.
func (m *metrics) count(proto protocol, s *socket) {
	passed, dropped := s.counts()
	m.passed[proto].Add(uint64(passed))
	m.dropped[proto].Add(uint64(dropped))
}

// closed closes a socket, and keeps its counts.
func (m *metrics) closed(proto protocol, s *socket) {
	m.count(proto, s)
	s.close()
}
