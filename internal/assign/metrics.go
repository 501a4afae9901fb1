package assign

import (
	"math/big"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/internal/service"
)

// metrics are what the controller counts. Gauges of pools, Services and configuration objects are computed when they are
// read, so none outlives its object.
type metrics struct {
	controller *Controller

	allocations *prometheus.CounterVec
	duration    prometheus.Histogram
	waited      prometheus.Histogram
	leading     prometheus.Gauge
	replaced    prometheus.Counter
	desk        deskMetrics

	services, addresses, inUse, outside, objects *prometheus.Desc
	perService                                   *serviceMetrics // nil without --metrics-per-service
}

// deskMetrics are those of the writes.
type deskMetrics struct {
	writes       *prometheus.CounterVec
	depth        prometheus.Gauge
	waited, took prometheus.Histogram
}

func newMetrics(c *Controller, reg prometheus.Registerer, perService bool) *metrics {
	m := &metrics{
		controller: c,
		desk:       newDeskMetrics(reg),
		allocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_allocations_total",
			Help: "Answers to Services that asked for addresses, by result (assigned, refused) and, for refusals, the reason.",
		}, []string{"result", "reason"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "herald_assignment_duration_seconds",
			Help:    "Time from when the controller first saw a Service that lacked its addresses until they were written to its status.",
			Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}),
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "herald_service_address_duration_seconds",
			Help:    "Time from a Service's creation, which is known to the second, until its first addresses were written to its status. One that was of another type or class before counts from when the controller saw it.",
			Buckets: []float64{1, 2, 3, 5, 10, 30, 60, 300},
		}),
		leading: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_controller_leading",
			Help: "1 in the controller that assigns addresses, 0 in those that stand by.",
		}),
		replaced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "herald_service_addresses_replaced_total",
			Help: "Times that somebody else replaced addresses that the controller had written to a Service.",
		}),
		services: prometheus.NewDesc("herald_services", "Services that Herald serves, by state: assigned, partly_assigned (one family of two), waiting, leaving (being cleaned of what Herald wrote).",
			[]string{"state"}, nil),
		addresses: prometheus.NewDesc("herald_pool_addresses", "Addresses that a pool has.", []string{"pool", "family"}, nil),
		inUse: prometheus.NewDesc("herald_pool_addresses_in_use", "Addresses that Services hold from a pool, those outside too.",
			[]string{"pool", "family"}, nil),
		outside: prometheus.NewDesc("herald_pool_addresses_outside", "Addresses that Services keep although their pool no longer has them.",
			[]string{"pool", "family"}, nil),
		objects: prometheus.NewDesc("herald_config_objects", "Configuration objects by kind and by whether their newest version is in force (accepted) or not (refused).",
			[]string{"kind", "state"}, nil),
	}
	if perService {
		m.perService = newServiceMetrics()
	}
	reg.MustRegister(m.allocations, m.duration, m.waited, m.leading, m.replaced, m)
	return m
}

func newDeskMetrics(reg prometheus.Registerer) deskMetrics {
	buckets := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	m := deskMetrics{
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_status_writes_total",
			Help: "Writes of status by resource and result: ok, conflict (tried again with the newer object), error (tried again later).",
		}, []string{"resource", "result"}),
		depth: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_write_queue_depth",
			Help: "Writes to the API server that wait for one of the writers.",
		}),
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "herald_write_queue_duration_seconds", Help: "Time that a write to the API server waited for one of the writers.", Buckets: buckets,
		}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "herald_write_duration_seconds", Help: "Time that the API server took for a write, failures too.", Buckets: buckets,
		}),
	}
	reg.MustRegister(m.writes, m.depth, m.waited, m.took)
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
	for _, d := range []*prometheus.Desc{m.services, m.addresses, m.inUse, m.outside, m.objects} {
		ch <- d
	}
	if m.perService != nil {
		m.perService.describe(ch)
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
	objects := m.controller.config.count()
	var shown []shown
	if m.perService != nil {
		shown = m.perService.read(m.controller.book)
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
	for o, n := range objects {
		gauge(m.objects, float64(n), o.kind, o.state)
	}
	if m.perService != nil {
		m.perService.collect(ch, shown)
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
