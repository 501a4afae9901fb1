package assign

import (
	"fmt"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/ipam"
	"heraldlb.io/herald/internal/kube/kubetest"
	registry "heraldlb.io/herald/internal/metrics"
)

// scrape returns what Prometheus gets.
func scrape(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

// series waits until those of some metrics, without help and types, are these lines.
func (w *world) series(when, want string, names ...string) {
	w.t.Helper()
	want = strings.TrimSpace(strings.ReplaceAll(want, "\t", ""))
	got := ""
	defer func() {
		if got != want {
			w.t.Logf("the series are:\n%s", got)
		}
	}()
	kubetest.Eventually(w.t, when+" the series are:\n"+want, func() bool {
		var lines []string
		for line := range strings.SplitSeq(scrape(w.t, w.registry), "\n") {
			if name, _, _ := strings.Cut(strings.ReplaceAll(line, "{", " "), " "); slices.Contains(names, name) {
				lines = append(lines, line)
			}
		}
		got = strings.Join(lines, "\n")
		return got == want
	})
}

func TestSeriesGoWithWhatTheyAreAbout(t *testing.T) {
	w := newWorld(t)
	w.perService = true
	w.pool("lan", "192.0.2.0/31")
	w.pool("typo", "192.0.2.300/31")
	w.service("a")
	w.start("")
	w.service("b")
	w.service("c")
	services := []string{"herald_service_allocated", "herald_service_address_info", "herald_service_series_omitted"}
	w.series("with a full pool", `
		herald_service_address_info{address="192.0.2.0",namespace="web",pool="lan",service="a"} 1
		herald_service_address_info{address="192.0.2.1",namespace="web",pool="lan",service="b"} 1
		herald_service_allocated{namespace="web",reason="AddressAssigned",service="a"} 1
		herald_service_allocated{namespace="web",reason="AddressAssigned",service="b"} 1
		herald_service_allocated{namespace="web",reason="PoolExhausted",service="c"} 0
		herald_service_series_omitted 0`, services...)
	w.series("with two pools", `
		herald_pool_addresses{family="IPv4",pool="lan"} 2
		herald_pool_addresses_in_use{family="IPv4",pool="lan"} 2
		herald_pool_addresses_outside{family="IPv4",pool="lan"} 0`,
		"herald_pool_addresses", "herald_pool_addresses_in_use", "herald_pool_addresses_outside")
	w.series("with a pool at fault", `
		herald_config_objects{kind="BFDProfile",state="accepted"} 0
		herald_config_objects{kind="BFDProfile",state="refused"} 0
		herald_config_objects{kind="BGPAdvertisement",state="accepted"} 0
		herald_config_objects{kind="BGPAdvertisement",state="refused"} 0
		herald_config_objects{kind="BGPPeer",state="accepted"} 0
		herald_config_objects{kind="BGPPeer",state="refused"} 0
		herald_config_objects{kind="Community",state="accepted"} 0
		herald_config_objects{kind="Community",state="refused"} 0
		herald_config_objects{kind="IPAddressPool",state="accepted"} 1
		herald_config_objects{kind="IPAddressPool",state="refused"} 1
		herald_config_objects{kind="L2Advertisement",state="accepted"} 0
		herald_config_objects{kind="L2Advertisement",state="refused"} 0`, "herald_config_objects")

	for _, name := range []string{"a", "b", "c"} {
		w.Delete("services", "web", name)
	}
	w.Delete("ipaddresspools", "", "lan")
	w.series("without a Service", `herald_service_series_omitted 0`, services...)
	w.series("without a pool", ``, "herald_pool_addresses", "herald_pool_addresses_in_use", "herald_pool_addresses_outside")
}

func TestWhatAServiceWaitedForIsCountedOnce(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/31")
	w.service("held", holding("lan", "192.0.2.0"))
	w.start("")
	w.service("new")
	w.shows("new", "192.0.2.1 @lan True:AddressAssigned")
	w.Delete("ipaddresspools", "", "lan")
	w.shows("new", "False:NoPools")
	w.pool("other", "198.51.100.0/31")
	w.shows("new", "198.51.100.1 @other True:AddressAssigned")
	for _, name := range []string{"herald_service_address_duration_seconds", "herald_assignment_duration_seconds"} {
		want := name + "_count 1"
		if all := scrape(t, w.registry); !strings.Contains(all, want+"\n") {
			t.Errorf("want %s, of its first address, in\n%s", want, all)
		}
	}
}

// fixed collects what is told of Services.
type fixed struct {
	m        *serviceMetrics
	services []shown
}

func (f fixed) Describe(ch chan<- *prometheus.Desc) { f.m.describe(ch) }
func (f fixed) Collect(ch chan<- prometheus.Metric) { f.m.collect(ch, f.services) }

func TestSeriesAboutServicesAreBounded(t *testing.T) {
	f := fixed{m: newServiceMetrics()}
	for i := range registry.MaxServiceSeries {
		lease := ipam.Lease{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Pool: "lan"}
		f.services = append(f.services, shown{types.NamespacedName{Namespace: "web", Name: fmt.Sprint(i)}, true, string(metav1.ConditionTrue), []ipam.Lease{lease}})
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(f)
	if n := testutil.CollectAndCount(f); n != registry.MaxServiceSeries+1 {
		t.Errorf("%d series, want %d and how many are left out", n, registry.MaxServiceSeries)
	}
	if want := fmt.Sprintf("herald_service_series_omitted %d\n", registry.MaxServiceSeries); !strings.Contains(scrape(t, reg), want) {
		t.Errorf("the scrape lacks %s", want)
	}
}
