package assign

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"heraldlb.io/herald/internal/kube/kubetest"
)

// The steps happen in order. Somebody else gives the addresses; pool lan counts what Herald would have Services hold.
func TestAControllerThatObservesTellsAndGivesNothing(t *testing.T) {
	w := newWorld(t)
	w.observe = true
	w.pool("lan", "192.0.2.0/30")
	give := func(name, address string) {
		w.EditServiceStatus("web", name, func(svc *corev1.Service) {
			svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
		})
	}
	w.service("old")
	give("old", "192.0.2.3")
	stop := w.start("")
	w.hasCounts("lan", "4 1 3 0", "none")
	w.service("new")
	w.hasCounts("lan", "4 2 2 0", "none")
	give("new", "192.0.2.1") // where Herald would have given 192.0.2.0
	w.service("newer")
	w.hasCounts("lan", "4 3 1 0", "none")
	give("newer", "192.0.2.0")
	w.Delete("services", "web", "old")
	w.hasCounts("lan", "4 2 2 0", "none")
	w.pool("six", "2001:db8::/64")
	kubetest.Eventually(t, "the new pool has a status", func() bool { return len(w.poolConditions("six")()) > 0 })

	for _, write := range w.Writes() {
		if strings.Contains(write, "services/") {
			t.Errorf("it wrote: %s", write)
		}
	}
	for name, want := range map[string]string{"new": "192.0.2.1(not VIP)", "newer": "192.0.2.0(not VIP)"} {
		if got := w.shown(name); got != want {
			t.Errorf("%s shows %q, want %q", name, got, want)
		}
		if told := w.reasons(name); len(told) > 0 {
			t.Errorf("%s has events %v", name, told)
		}
	}

	stop()
	w.observe = false
	w.start("")
	w.shows("new", "192.0.2.1 @lan True:AddressAssigned")
	w.shows("newer", "192.0.2.0 @lan True:AddressAssigned")
	if !slices.ContainsFunc(w.Writes(), func(write string) bool { return strings.Contains(write, "services/") }) {
		t.Error("the writes of Services are not noted: this test shows nothing")
	}
}
