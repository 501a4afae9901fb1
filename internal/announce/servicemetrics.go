package announce

import (
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/config"
	registry "heraldlb.io/herald/internal/metrics"
	"heraldlb.io/herald/internal/service"
)

// The ways to announce, as metrics call them.
const (
	byLayer2 = "layer2"
	byBGP    = "bgp"
)

// serviceMetrics are about Services: how long new ones wait until they are announced and, for those who ask, which
// addresses of which Service this node announces. It belongs to the loop.
type serviceMetrics struct {
	begun  time.Time
	waited *prometheus.HistogramVec
	// waiting has the Services that are younger than this process, until they are gone.
	waiting map[types.NamespacedName]*arrival

	// Without --metrics-per-service what follows is nil.
	announced *prometheus.GaugeVec
	omitted   prometheus.Gauge
	of        map[announcement][]types.NamespacedName
	shown     int
}

// arrival is a new Service: since when it waits, and by which ways that has ended.
type arrival struct {
	since time.Time
	ended []string
}

// announcement is one address, announced one way.
type announcement struct {
	addr netip.Addr
	way  string
}

func newServiceMetrics(reg prometheus.Registerer, perService bool, now time.Time) *serviceMetrics {
	m := &serviceMetrics{
		begun:   now,
		waiting: map[types.NamespacedName]*arrival{},
		waited: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "herald_service_announcement_duration_seconds",
			Help: "Time from a Service's creation, which is known to the second, until this node announced the first of its addresses: by layer2, unless another node has it, or by bgp. " +
				"Of Services that are younger than this process; probes before an address is first used come on top.",
			Buckets: []float64{1, 2, 3, 5, 10, 30, 60, 300},
		}, []string{"protocol"}),
	}
	reg.MustRegister(m.waited)
	for _, way := range []string{byLayer2, byBGP} {
		m.waited.WithLabelValues(way)
	}
	if perService {
		m.of = map[announcement][]types.NamespacedName{}
		m.announced = prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "herald_service_announced",
			Help: "Always 1, for each address of a Service that this node announces. Only with --metrics-per-service.",
		}, []string{"namespace", "service", "address", "protocol"})
		m.omitted = prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_service_series_omitted",
			Help: "Series about single Services that are left out because there are too many. Only with --metrics-per-service.",
		})
		reg.MustRegister(m.announced, m.omitted)
	}
	return m
}

// see takes in a Service as it is now, nil when it is gone.
func (m *serviceMetrics) see(key types.NamespacedName, svc *corev1.Service, now time.Time) {
	switch {
	case svc == nil:
		delete(m.waiting, key)
	case m.waiting[key] == nil && !svc.CreationTimestamp.Time.Before(m.begun):
		m.waiting[key] = &arrival{since: service.WaitingSince(svc, now)}
	}
}

// owned takes in a Decision on an address: of layer 2 one node announces it.
func (m *serviceMetrics) owned(c change, self string, now time.Time) {
	if c.new.Owner != self {
		m.set(announcement{c.new.Addr, byLayer2}, nil)
		if c.new.Owner != "" {
			m.end(byLayer2, c.new.Services)
		}
		return
	}
	m.observe(byLayer2, c.new.Services, now)
	m.set(announcement{c.new.Addr, byLayer2}, c.new.Services)
}

// told takes in of which Services routers are told an address.
func (m *serviceMetrics) told(addr netip.Addr, services []types.NamespacedName, now time.Time) {
	m.observe(byBGP, services, now)
	m.set(announcement{addr, byBGP}, services)
}

// observe counts how long each of the Services waited, if it still did.
func (m *serviceMetrics) observe(way string, services []types.NamespacedName, now time.Time) {
	for _, key := range services {
		if a := m.waiting[key]; a != nil && !slices.Contains(a.ended, way) {
			m.waited.WithLabelValues(way).Observe(now.Sub(a.since).Seconds())
		}
	}
	m.end(way, services)
}

func (m *serviceMetrics) end(way string, services []types.NamespacedName) {
	for _, key := range services {
		if a := m.waiting[key]; a != nil && !slices.Contains(a.ended, way) {
			a.ended = append(a.ended, way)
		}
	}
}

// set replaces the Services whose address is announced this way.
func (m *serviceMetrics) set(a announcement, services []types.NamespacedName) {
	if m.announced == nil {
		return
	}
	was := m.of[a]
	for _, key := range was {
		if !slices.Contains(services, key) && m.announced.DeleteLabelValues(key.Namespace, key.Name, a.addr.String(), a.way) {
			m.shown--
		} else if !slices.Contains(services, key) {
			m.omitted.Dec()
		}
	}
	for _, key := range services {
		switch {
		case slices.Contains(was, key):
		case m.shown == registry.MaxServiceSeries:
			m.omitted.Inc()
		default:
			m.shown++
			m.announced.WithLabelValues(key.Namespace, key.Name, a.addr.String(), a.way).Set(1)
		}
	}
	if len(services) == 0 {
		delete(m.of, a)
	} else {
		m.of[a] = services
	}
}

// toldOf returns the Services of an address that routers are told; none when no router is.
func (p *planner) toldOf(addr netip.Addr) []types.NamespacedName {
	var advertisements []config.BGPAdvertisement
	for prefix, indices := range p.routes.reasons[addr] {
		if len(p.routes.told[prefix]) == 0 {
			continue
		}
		for _, i := range indices {
			advertisements = append(advertisements, p.config.BGPAdvertisements[i])
		}
	}
	var out []types.NamespacedName
	for _, key := range p.holders[addr] {
		c := p.services[key]
		if c.servedBy(p.self) && slices.ContainsFunc(advertisements, func(a config.BGPAdvertisement) bool { return a.SelectsService(c.labels) }) {
			out = append(out, key)
		}
	}
	return out
}
