// Package reference knows every metric of Herald's programs: it makes what they register, as their main packages do, and
// reads names, types, labels and meanings from it. The tables of docs/metrics.md are its work, and whatever names metrics,
// such as an alert, can be judged by it. It is part of nothing that runs in a cluster.
package reference

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"heraldlb.io/herald/internal/announce"
	"heraldlb.io/herald/internal/assign"
	"heraldlb.io/herald/internal/bfd"
	"heraldlb.io/herald/internal/bgp"
	"heraldlb.io/herald/internal/gossip"
	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/layer2"
	"heraldlb.io/herald/internal/metrics"
	"heraldlb.io/herald/internal/servicepath"
)

// The programs.
const (
	Controller = "controller"
	Speaker    = "speaker"
)

// Metric is one of a program's.
type Metric struct {
	Name, Type, Help string
	Labels           []string // sorted
}

// Of returns the metrics of a program, by name, but for those of the process and of Go's runtime.
func Of(program string) ([]Metric, error) {
	reg := &registry{Registry: metrics.NewRegistry(), found: map[string]Metric{}}
	client, err := kube.NewClient(&rest.Config{Host: "http://localhost"}, "reference") // nobody calls it
	if err != nil {
		return nil, err
	}
	logger := log.NewNopLogger()
	source, err := client.ConfigSource(kube.ConfigFromConfigMap, types.NamespacedName{Namespace: "herald-system", Name: "herald-config"}, logger, reg)
	if err != nil {
		return nil, err
	}
	events := kube.NewEvents(client, program, logger, reg)
	switch program {
	case Controller:
		assign.New(assign.Options{Client: client, Config: source, Events: events, Logger: logger, Registry: reg, PerService: true})
	case Speaker:
		announce.New(announce.Config{Node: "n1", Events: events, Logger: logger, Registerer: reg, PerService: true})
		layer2.New(layer2.Config{}, logger, reg)
		gossip.New(gossip.Config{Node: "n1"}, logger, reg)
		servicepath.New(servicepath.Target{}, netip.IPv4Unspecified(), logger, reg)
		routers := bgp.New(netip.IPv4Unspecified(), logger, reg)
		paths, err := bfd.New(logger, reg, routers.PathChanged)
		if err != nil {
			return nil, err
		}
		if err := paths.Close(); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("there is no program %q", program)
	}
	if err := reg.common(); err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Values(reg.found), func(x, y Metric) int { return strings.Compare(x.Name, y.Name) }), nil
}

// registry notes what is registered.
type registry struct {
	*prometheus.Registry
	found map[string]Metric
}

func (r *registry) MustRegister(all ...prometheus.Collector) {
	r.Registry.MustRegister(all...)
	for _, c := range all {
		descs := make(chan *prometheus.Desc)
		go func() {
			defer close(descs)
			c.Describe(descs)
		}()
		for d := range descs {
			m := metricOf(d)
			m.Type = typeOf(c, m.Name)
			r.found[m.Name] = m
		}
	}
}

// common adds the metric that the registry came with: all that is Herald's and was not noted.
func (r *registry) common() error {
	families, err := r.Gather()
	if err != nil {
		return err
	}
	for _, f := range families {
		if _, noted := r.found[f.GetName()]; noted || !strings.HasPrefix(f.GetName(), "herald_") {
			continue
		}
		m := Metric{Name: f.GetName(), Type: strings.ToLower(f.GetType().String()), Help: f.GetHelp()}
		for _, l := range f.GetMetric()[0].GetLabel() {
			m.Labels = append(m.Labels, l.GetName())
		}
		r.found[m.Name] = m
	}
	return nil
}

// desc is how a Desc prints itself; there is no other way to its parts.
var desc = regexp.MustCompile(`^Desc{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*"), unit: "[^"]*", constLabels: {(.*)}, variableLabels: {(.*)}}$`)

func metricOf(d *prometheus.Desc) Metric {
	parts := desc.FindStringSubmatch(d.String())
	if parts == nil {
		panic("client_golang prints a Desc in another way: " + d.String())
	}
	m := Metric{Name: unquote(parts[1]), Help: unquote(parts[2])}
	for _, label := range strings.Split(parts[3]+","+parts[4], ",") {
		if name, _, _ := strings.Cut(label, "="); name != "" {
			m.Labels = append(m.Labels, name)
		}
	}
	slices.Sort(m.Labels)
	return m
}

func unquote(s string) string {
	var out string
	if _, err := fmt.Sscanf(s, "%q", &out); err != nil {
		panic(err)
	}
	return out
}

// typeOf tells a metric's type by its collector. What a function or a collector of our own makes are gauges and, by the
// rule for their names, counters.
func typeOf(c prometheus.Collector, name string) string {
	switch c.(type) {
	case *prometheus.HistogramVec, prometheus.Histogram:
		return "histogram"
	case *prometheus.GaugeVec, prometheus.Gauge:
		return "gauge"
	case *prometheus.CounterVec, prometheus.Counter:
		return "counter"
	}
	if strings.HasSuffix(name, "_total") {
		return "counter"
	}
	return "gauge"
}
