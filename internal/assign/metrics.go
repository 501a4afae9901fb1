package assign

import (
	"math/big"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/internal/service"
)

// metrics are what the controller counts. Gauges of pools and Services are computed when they are read, so none
// outlives its pool.
type metrics struct {
	controller *Controller

	allocations *prometheus.CounterVec
	writes      *prometheus.CounterVec
	duration    prometheus.Histogram
	leading     prometheus.Gauge

	services, addresses, inUse, outside *prometheus.Desc
}

func newMetrics(c *Controller, reg prometheus.Registerer) *metrics {
	m := &metrics{
		controller: c,
		allocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_allocations_total",
			Help: "Answers to Services that asked for addresses, by result (assigned, refused) and, for refusals, the reason.",
		}, []string{"result", "reason"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_status_writes_total",
			Help: "Writes of status by resource and result: ok, conflict (tried again with the newer object), error (tried again later).",
		}, []string{"resource", "result"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "herald_assignment_duration_seconds",
			Help:    "Time from when the controller first saw a Service that lacked its addresses until they were written to its status.",
			Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}),
		leading: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_controller_leading",
			Help: "1 in the controller that assigns addresses, 0 in those that stand by.",
		}),
		services: prometheus.NewDesc("herald_services", "Services that Herald serves, by state: assigned, partly_assigned (one family of two), waiting, leaving (being cleaned of what Herald wrote).",
			[]string{"state"}, nil),
		addresses: prometheus.NewDesc("herald_pool_addresses", "Addresses that a pool has.", []string{"pool", "family"}, nil),
		inUse: prometheus.NewDesc("herald_pool_addresses_in_use", "Addresses that Services hold from a pool, those outside too.",
			[]string{"pool", "family"}, nil),
		outside: prometheus.NewDesc("herald_pool_addresses_outside", "Addresses that Services keep although their pool no longer has them.",
			[]string{"pool", "family"}, nil),
	}
	reg.MustRegister(m.allocations, m.writes, m.duration, m.leading, m)
	return m
}

// told counts what was told of a Service.
func (m *metrics) told(t told) {
	switch t.reason {
	case eventAddressAssigned:
		m.allocations.WithLabelValues("assigned", "").Inc()
	case eventAllocationFailed:
		m.allocations.WithLabelValues("refused", t.cause).Inc()
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.services, m.addresses, m.inUse, m.outside} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.controller.mu.Lock()
	counts := m.controller.book.alloc.Counts()
	states := map[string]int{"assigned": 0, "partly_assigned": 0, "waiting": 0, "leaving": 0}
	for _, e := range m.controller.book.entries {
		if state := stateOf(e); state != "" {
			states[state]++
		}
	}
	m.controller.mu.Unlock()

	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	for state, n := range states {
		gauge(m.services, float64(n), state)
	}
	for _, c := range counts {
		total, _ := new(big.Float).SetInt(c.Total).Float64()
		gauge(m.addresses, total, c.Pool, string(c.Family))
		gauge(m.inUse, float64(c.Assigned), c.Pool, string(c.Family))
		gauge(m.outside, float64(c.Outside), c.Pool, string(c.Family))
	}
}

// stateOf is the state that an entry counts for; none for a Service that is gone.
func stateOf(e *entry) string {
	switch {
	case e.gone:
		return ""
	case e.leaving:
		return "leaving"
	}
	switch status, reason := verdict(e); {
	case status != metav1.ConditionTrue:
		return "waiting"
	case reason == service.ReasonPartlyAssigned:
		return "partly_assigned"
	default:
		return "assigned"
	}
}
