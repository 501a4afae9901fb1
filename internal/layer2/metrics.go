package layer2

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	answers       *prometheus.CounterVec
	announcements *prometheus.CounterVec
	sendErrors    *prometheus.CounterVec
	socketsOpen   *prometheus.GaugeVec
	socketsFailed *prometheus.GaugeVec
	addresses     prometheus.Gauge
	standIns      prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	byProtocol := []string{"protocol"}
	m := &metrics{
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_layer2_answers_total",
			Help: "ARP requests and neighbor solicitations answered.",
		}, byProtocol),
		announcements: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_layer2_announcements_total",
			Help: "Gratuitous ARP packets and unsolicited neighbor advertisements sent.",
		}, byProtocol),
		sendErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_layer2_send_errors_total",
			Help: "Answers and announcements that could not be sent.",
		}, byProtocol),
		socketsOpen: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "herald_layer2_sockets_open",
			Help: "Packet sockets that are open, one for each protocol on each usable interface.",
		}, byProtocol),
		socketsFailed: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "herald_layer2_sockets_failed",
			Help: "Packet sockets that could not be opened or broke, and wait to be tried again.",
		}, byProtocol),
		addresses: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_layer2_announced_addresses",
			Help: "Addresses that this node announces.",
		}),
		standIns: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_layer2_stand_in_addresses",
			Help: "Addresses that this node answers for in the place of nodes whose speakers are being restarted, with their MACs.",
		}),
	}
	reg.MustRegister(m.answers, m.announcements, m.sendErrors, m.socketsOpen, m.socketsFailed, m.addresses, m.standIns)
	for proto := range protocols {
		m.answers.WithLabelValues(proto.String())
		m.announcements.WithLabelValues(proto.String())
		m.sendErrors.WithLabelValues(proto.String())
	}
	return m
}
