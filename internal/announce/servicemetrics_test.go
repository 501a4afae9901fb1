package announce

import (
	"fmt"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/bgp"
	registry "heraldlb.io/herald/internal/metrics"
)

// aboutServices are the series about Services that are not 0, without buckets.
func aboutServices(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	var out []string
	for line := range strings.SplitSeq(w.Body.String(), "\n") {
		if strings.HasPrefix(line, "herald_service_") && !strings.Contains(line, "_bucket{") && !strings.HasSuffix(line, " 0") {
			out = append(out, strings.TrimPrefix(line, "herald_service_"))
		}
	}
	return strings.Join(out, "\n")
}

func TestWhatIsMeasuredOfServices(t *testing.T) {
	yes := true
	n2 := alive("n2", on("eth0", "192.0.2.0/24"))
	endpoints := slice("shop-1", "shop", endpoint("n1", &yes, &yes))
	run := func(name string, story func(t *testing.T, w *world, is func(when string, want ...string))) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				story(t, w, func(when string, want ...string) {
					t.Helper()
					time.Sleep(time.Second)
					synctest.Wait()
					if got := aboutServices(t, w.registry); got != strings.Join(want, "\n") {
						t.Errorf("%s:\n%s\nwant:\n%s", when, got, strings.Join(want, "\n"))
					}
				})
			})
		})
	}
	shop := func() *corev1.Service {
		svc := lbService("shop", corev1.ServiceExternalTrafficPolicyLocal, "192.0.2.100")
		svc.CreationTimestamp = metav1.NewTime(time.Now())
		return svc
	}
	const announced = `announced{address="192.0.2.100",namespace="web",protocol="layer2",service="shop"} 1`
	const once = `announcement_duration_seconds_count{protocol="layer2"} 1`

	run("a new Service waits for its endpoints, and is counted once", func(t *testing.T, w *world, is func(string, ...string)) {
		w.ring.become(nil, n2)
		svc := shop()
		w.services.Add(svc)
		is("without endpoints")
		time.Sleep(3 * time.Second)
		w.slices.Add(endpoints.DeepCopy())
		const waited = `announcement_duration_seconds_sum{protocol="layer2"} 4`
		is("with one", announced, waited, once)
		gone := endpoints.DeepCopy()
		gone.Endpoints = nil
		w.slices.Modify(gone)
		is("without endpoints again", waited, once)
		w.slices.Modify(endpoints.DeepCopy())
		is("and with one", announced, waited, once)
		w.services.Delete(svc)
		is("without the Service", waited, once)
	})
	run("a Service that was there before this speaker is not counted", func(t *testing.T, w *world, is func(string, ...string)) {
		svc := shop()
		svc.CreationTimestamp = metav1.NewTime(time.Now().Add(-time.Second))
		w.services.Add(svc)
		w.slices.Add(endpoints.DeepCopy())
		w.ring.become(nil, n2)
		is("announced", announced)
	})
	run("where another node was the first, it alone counts", func(t *testing.T, w *world, is func(string, ...string)) {
		w.ring.become(nil, n2)
		w.services.Add(shop())
		elsewhere := slice("shop-1", "shop", endpoint("n2", &yes, &yes))
		w.slices.Add(elsewhere)
		w.ring.hear("n2", "192.0.2.100")
		is("with n2 as the owner")
		w.slices.Modify(endpoints.DeepCopy())
		is("when it has moved here", announced)
	})
}

func TestServicesThatRoutersAreToldOf(t *testing.T) {
	l := speakingLoop(t, &fakeBGP{told: map[netip.Prefix][]bgp.Route{}}, false)
	reg := prometheus.NewRegistry()
	reg.MustRegister(l.seen.waited, l.seen.announced)
	is := func(when string, want ...string) {
		t.Helper()
		l.step()
		if got := aboutServices(t, reg); got != strings.Join(want, "\n") {
			t.Errorf("%s:\n%s\nwant:\n%s", when, got, strings.Join(want, "\n"))
		}
	}
	created := l.seen.begun.Truncate(time.Second).Add(time.Second)
	l.seen.see(key("shop"), &corev1.Service{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(created)}}, created)
	l.step()
	const shop = `announced{address="192.0.2.100",namespace="web",protocol="bgp",service="shop"} 1`
	if got := aboutServices(t, reg); !strings.Contains(got, shop) || !strings.Contains(got, `count{protocol="bgp"} 1`) {
		t.Errorf("with a peer: %s", got)
	}
	l.planner.setService(key("shop"), contribution{})
	l.seen.waited.Reset()
	is("without the Service")
	l.planner.setService(key("shop"), cluster("192.0.2.100"))
	is("with it again", shop)
	l.planner.setConfig(mustConfig(t, nil))
	l.cluster.note(func(p *pending) { p.nodes = true })
	is("without peers")
}

func TestSeriesAboutServicesAreBounded(t *testing.T) {
	m := newServiceMetrics(prometheus.NewRegistry(), true, time.Now())
	at := announcement{netip.MustParseAddr("192.0.2.100"), byLayer2}
	var all []types.NamespacedName
	for i := range registry.MaxServiceSeries + 3 {
		all = append(all, key(fmt.Sprint(i)))
	}
	m.set(at, all)
	is := func(when string, series int, omitted float64) {
		t.Helper()
		if n := testutil.CollectAndCount(m.announced); n != series || testutil.ToFloat64(m.omitted) != omitted {
			t.Errorf("%s: %d series, %v left out; want %d, %v", when, n, testutil.ToFloat64(m.omitted), series, omitted)
		}
	}
	is("with too many", registry.MaxServiceSeries, 3)
	m.set(at, slices.Clone(all[:1]))
	is("with one left", 1, 0)
	m.set(at, nil)
	is("with none", 0, 0)
}
