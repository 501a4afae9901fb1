package assign

import (
	"cmp"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/ipam"
	registry "heraldlb.io/herald/internal/metrics"
)

// serviceMetrics are about single Services, for those who ask for them. They too are computed when they are read.
type serviceMetrics struct {
	allocated, address, omitted *prometheus.Desc
}

// shown is what is told of one Service.
type shown struct {
	key       types.NamespacedName
	allocated bool
	reason    string
	leases    []ipam.Lease
}

func newServiceMetrics() *serviceMetrics {
	labels := []string{"namespace", "service"}
	return &serviceMetrics{
		allocated: prometheus.NewDesc("herald_service_allocated",
			"1 when the Service has the addresses it asks for, else 0, with the reason of its condition heraldlb.io/Allocated. Only with --metrics-per-service.",
			append(labels, "reason"), nil),
		address: prometheus.NewDesc("herald_service_address_info", "Always 1, for each address that a Service holds. Only with --metrics-per-service.",
			append(labels, "address", "pool"), nil),
		omitted: prometheus.NewDesc("herald_service_series_omitted", "Series about single Services that are left out because there are too many. Only with --metrics-per-service.",
			nil, nil),
	}
}

func (m *serviceMetrics) describe(ch chan<- *prometheus.Desc) {
	ch <- m.allocated
	ch <- m.address
	ch <- m.omitted
}

// read takes from the book what is told, in the order of names.
func (m *serviceMetrics) read(b *book) []shown {
	out := make([]shown, 0, len(b.entries))
	for _, key := range slices.SortedFunc(maps.Keys(b.entries), compareKeys) {
		if e := b.entries[key]; !e.gone && !e.leaving {
			status, reason := verdict(e)
			out = append(out, shown{key, status == metav1.ConditionTrue, reason, slices.Clone(e.leases)})
		}
	}
	return out
}

// collect sends the series of as many Services as there is room for.
func (m *serviceMetrics) collect(ch chan<- prometheus.Metric, services []shown) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	room, omitted := registry.MaxServiceSeries, 0
	for _, s := range services {
		series := 1 + len(s.leases)
		if room -= series; room < 0 {
			omitted += series
			continue
		}
		value := 0.0
		if s.allocated {
			value = 1
		}
		gauge(m.allocated, value, s.key.Namespace, s.key.Name, s.reason)
		for _, l := range s.leases {
			gauge(m.address, 1, s.key.Namespace, s.key.Name, l.Addr.String(), l.Pool)
		}
	}
	gauge(m.omitted, float64(omitted))
}

func compareKeys(x, y types.NamespacedName) int {
	return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
}
