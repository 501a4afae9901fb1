package gossip

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	members      prometheus.Gauge
	wanted       prometheus.Gauge
	joined       prometheus.Gauge
	joinFailures prometheus.Counter
	leaves       prometheus.Counter
	falseAlarms  prometheus.Counter
	absences     prometheus.Gauge
	claims       prometheus.Gauge
	repairs      prometheus.Counter
	keys         prometheus.Gauge
	rejected     *prometheus.CounterVec
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
		falseAlarms: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "herald_gossip_false_alarms_total",
			Help: "Members that were held for dead and came back at once when they were called.",
		}),
		absences: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_gossip_absences",
			Help: "Members whose speaker is away while their node is there, or that is being found out.",
		}),
		claims: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_gossip_claims",
			Help: "Claims of addresses that this member knows of, its own and those of others.",
		}),
		repairs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "herald_gossip_repairs_total",
			Help: "Exchanges of the whole state with a member that knew something else than this one.",
		}),
		keys: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_gossip_keys",
			Help: "Keys that this member understands; more than 1 while they are rotated.",
		}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_gossip_rejected_total",
			Help: "Messages and claims that were not taken in, by reason.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{"label", "malformed", "version", "claim_invalid", "claims_full"} {
		m.rejected.WithLabelValues(reason)
	}
	reg.MustRegister(m.members, m.wanted, m.joined, m.joinFailures, m.leaves, m.falseAlarms, m.absences, m.claims, m.repairs, m.keys, m.rejected)
	return m
}
