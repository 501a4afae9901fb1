package gossip

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	members      prometheus.Gauge
	wanted       prometheus.Gauge
	joined       prometheus.Gauge
	joinFailures prometheus.Counter
	leaves       prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		members: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_gossip_members",
			Help: "Members of the gossip ring that are alive, this one too.",
		}),
		wanted: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_gossip_wanted_members",
			Help: "Members that the ring should have: one for each node, this one too.",
		}),
		joined: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_gossip_ready",
			Help: "1 when this member takes part in the ring, 0 while it waits for its key, its address or its peers.",
		}),
		joinFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "herald_gossip_join_failures_total",
			Help: "Tries to join an absent member that failed.",
		}),
		leaves: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "herald_gossip_members_lost_total",
			Help: "Members that left or were found dead.",
		}),
	}
	reg.MustRegister(m.members, m.wanted, m.joined, m.joinFailures, m.leaves)
	return m
}
