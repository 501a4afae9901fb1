package assign

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/kube/kubetest"
	"heraldlb.io/herald/internal/service"
)

const (
	v4 = corev1.IPv4Protocol
	v6 = corev1.IPv6Protocol
)

// world is an API server and, once started, a controller on it.
type world struct {
	*kubetest.API
	t        *testing.T
	registry *prometheus.Registry
	births   int
	// source is where the configuration comes from.
	source     func(*kube.Client, prometheus.Registerer) kube.ConfigSource
	perService bool // metrics too
	observe    bool
}

func newWorld(t *testing.T) *world {
	return &world{API: kubetest.New(t), t: t, source: func(c *kube.Client, _ prometheus.Registerer) kube.ConfigSource { return c.ConfigObjects() }}
}

// start runs a controller until stop is called or the test ends; stop returns when it has ended.
func (w *world) start(class string) (stop func()) {
	w.t.Helper()
	return w.startAt(20*time.Millisecond, class)
}

// startAt is start with another pause between looks at the status of configuration objects.
func (w *world) startAt(pause time.Duration, class string) (stop func()) {
	w.t.Helper()
	c, stop := w.launch(pause, class)
	kubetest.Eventually(w.t, "the controller has read everything", func() bool { return c.Ready() == nil })
	return stop
}

// launch is startAt that does not wait until the controller is ready.
func (w *world) launch(pause time.Duration, class string) (c *Controller, stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	client := w.Client()
	w.registry = prometheus.NewRegistry()
	events := kube.NewEvents(client, "controller", log.NewNopLogger(), w.registry)
	c = New(Options{Client: client, Config: w.source(client, w.registry), Events: events, Logger: log.NewNopLogger(), Registry: w.registry, Class: class, PerService: w.perService, Observe: w.observe})
	c.pause = pause
	if c.speakers != nil {
		c.speakers.patience = 300 * time.Millisecond
	}
	if c.Ready() == nil {
		w.t.Error("ready before anything was read")
	}
	var running sync.WaitGroup
	running.Go(func() {
		if c.Start(ctx) != nil {
			return // only for ctx is done
		}
		if err := c.Run(ctx); err != nil {
			w.t.Errorf("the controller ended with %v", err)
		}
	})
	running.Go(func() { events.Run(ctx) })
	stop = func() {
		cancel()
		running.Wait()
	}
	w.t.Cleanup(stop)
	return c, stop
}

// pool adds a pool.
func (w *world) pool(name string, addresses ...string) {
	w.t.Helper()
	p := &v1beta1.IPAddressPool{}
	p.Name = name
	p.CreationTimestamp = w.birth()
	p.Spec.Addresses = addresses
	w.Create("ipaddresspools", p)
}

// service adds a Service of type LoadBalancer, younger than all before.
func (w *world) service(name string, edits ...func(*corev1.Service)) {
	w.t.Helper()
	svc := &corev1.Service{}
	svc.Namespace, svc.Name = "web", name
	svc.CreationTimestamp = w.birth()
	svc.Spec.Type = corev1.ServiceTypeLoadBalancer
	svc.Spec.IPFamilies = []corev1.IPFamily{v4}
	for _, edit := range edits {
		edit(svc)
	}
	w.Create("services", svc)
}

// birth is a creation time later than every one before.
func (w *world) birth() metav1.Time {
	w.births++
	return metav1.NewTime(time.Date(2026, 1, 1, 0, 0, w.births, 0, time.UTC))
}

func wants(policy corev1.IPFamilyPolicy, families ...corev1.IPFamily) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Spec.IPFamilyPolicy = &policy
		svc.Spec.IPFamilies = families
	}
}

// holding gives a Service addresses from the start, as an earlier controller would have.
func holding(pool string, addresses ...string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Annotations = map[string]string{service.AnnotationPool: pool}
		mode := corev1.LoadBalancerIPModeVIP
		for _, a := range addresses {
			svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a, IPMode: &mode})
		}
	}
}

// shown is what a Service shows of Herald: addresses, pool, and the condition's status and reason.
func (w *world) shown(name string) string {
	svc := w.Service("web", name)
	if svc == nil {
		return "none"
	}
	var out []string
	for _, i := range svc.Status.LoadBalancer.Ingress {
		ip := i.IP
		if i.IPMode == nil || *i.IPMode != corev1.LoadBalancerIPModeVIP {
			ip += "(not VIP)"
		}
		out = append(out, ip)
	}
	if pool, ok := svc.Annotations[service.AnnotationPool]; ok {
		out = append(out, "@"+pool)
	}
	if c := service.Condition(svc); c != nil {
		out = append(out, string(c.Status)+":"+c.Reason)
	}
	return strings.Join(out, " ")
}

// shows waits until a Service shows this.
func (w *world) shows(name, want string) {
	w.t.Helper()
	got := ""
	defer func() {
		if got != want {
			w.t.Logf("%s shows %q", name, got)
		}
	}()
	kubetest.Eventually(w.t, fmt.Sprintf("Service %s shows %q", name, want), func() bool {
		got = w.shown(name)
		return got == want
	})
}

// hasCondition waits until an object's conditions hold this one.
func (w *world) hasCondition(what string, conditions func() []metav1.Condition, kind string, status metav1.ConditionStatus, reason string) {
	w.t.Helper()
	kubetest.Eventually(w.t, fmt.Sprintf("%s is %s=%s for %s", what, kind, status, reason), func() bool {
		c := meta.FindStatusCondition(conditions(), kind)
		return c != nil && c.Status == status && c.Reason == reason
	})
}

func (w *world) poolConditions(name string) func() []metav1.Condition {
	return func() []metav1.Condition { return w.Pool(name).Status.Conditions }
}

// hasCounts waits until a pool's status says: total, assigned, available and outside of each family.
func (w *world) hasCounts(pool, ipv4, ipv6 string) {
	w.t.Helper()
	spell := func(c *v1beta1.AddressCounts) string {
		if c == nil {
			return "none"
		}
		return fmt.Sprint(c.Total, " ", c.Assigned, " ", c.Available, " ", c.Outside)
	}
	want := ipv4 + ", " + ipv6
	kubetest.Eventually(w.t, fmt.Sprintf("pool %s counts %s", pool, want), func() bool {
		s := w.Pool(pool).Status
		return spell(s.IPv4)+", "+spell(s.IPv6) == want
	})
}

// hasEvent waits for an event about an object, by its reason and a part of its note.
func (w *world) hasEvent(name, kind, reason, part string) {
	w.t.Helper()
	kubetest.Eventually(w.t, fmt.Sprintf("an event %s about %s says %q", reason, name, part), func() bool {
		for _, e := range w.Events(name) {
			if e.Type == kind && e.Reason == reason && strings.Contains(e.Note, part) {
				return true
			}
		}
		return false
	})
}

// reasons are the reasons of the events about an object, sorted.
func (w *world) reasons(name string) []string {
	var reasons []string
	for _, e := range w.Events(name) {
		reasons = append(reasons, e.Reason)
	}
	slices.Sort(reasons)
	return reasons
}

// settled is true when every Service of type LoadBalancer shows a condition.
func (w *world) settled() bool {
	return !slices.ContainsFunc(w.Services(), func(svc *corev1.Service) bool {
		return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && service.Condition(svc) == nil
	})
}

// noAddressTwice fails the test when two Services show one address.
func (w *world) noAddressTwice() {
	w.t.Helper()
	holders := map[netip.Addr]string{}
	for _, svc := range w.Services() {
		for _, h := range service.HeldBy(svc) {
			if other, taken := holders[h.Addr]; taken {
				w.t.Errorf("%v is shown by %s and by %s", h.Addr, other, svc.Name)
			}
			holders[h.Addr] = svc.Name
		}
	}
}
