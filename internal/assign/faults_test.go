package assign

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"heraldlb.io/herald/internal/kube/kubetest"
	"heraldlb.io/herald/internal/service"
)

func TestHundredsAtOnceWithAConflictOnEverySecondWrite(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "198.18.0.0/16", "2001:db8::/64")
	var writes atomic.Int64
	w.Fault(func(r *http.Request) int {
		if r.Method == http.MethodPatch && writes.Add(1)%2 == 0 {
			return http.StatusConflict
		}
		return 0
	})
	w.start("")
	const n = 200
	for i := range n {
		w.service(fmt.Sprintf("s%03d", i), wants(corev1.IPFamilyPolicyRequireDualStack, v4, v6))
	}
	// Which of them gets which address is up to the order in which the news arrives.
	for i := range n {
		name := fmt.Sprintf("s%03d", i)
		kubetest.Eventually(t, name+" has an address of each family", func() bool {
			svc := w.Service("web", name)
			return svc != nil && len(svc.Status.LoadBalancer.Ingress) == 2 && strings.HasSuffix(w.shown(name), " @lan True:AddressAssigned")
		})
	}
	w.noAddressTwice()
}

func TestSomebodyElseWritingAllTheTimeLosesNothing(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/24")
	var writes atomic.Int64
	w.Fault(func(r *http.Request) int {
		if r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/services/") && writes.Add(1)%2 == 0 {
			name := strings.Split(r.URL.Path, "/")[6]
			w.EditService("web", name, func(svc *corev1.Service) { svc.Labels = map[string]string{"touched": fmt.Sprint(writes.Load())} })
		}
		return 0
	})
	w.start("")
	for i := range 50 {
		w.service(fmt.Sprintf("s%02d", i))
	}
	for i := range 50 {
		w.shows(fmt.Sprintf("s%02d", i), fmt.Sprintf("192.0.2.%d @lan True:AddressAssigned", i))
	}
}

func TestAnAPIServerThatIsGoneInMidAssignmentLosesNothing(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/24")
	for i := range 60 {
		w.service(fmt.Sprintf("s%02d", i))
	}
	var writes atomic.Int32
	half := make(chan struct{})
	w.Fault(func(r *http.Request) int {
		if r.Method == http.MethodPatch {
			switch n := writes.Add(1); {
			case n == 30:
				close(half)
				fallthrough
			case n > 30:
				panic(http.ErrAbortHandler) // no answer any more
			}
		}
		return 0
	})
	w.start("")
	<-half
	back := w.Vanish()
	before := map[string]string{}
	for _, svc := range w.Services() {
		if len(svc.Status.LoadBalancer.Ingress) > 0 {
			before[svc.Name] = w.shown(svc.Name)
		}
	}
	if len(before) == 0 || len(before) == 60 {
		t.Fatalf("%d of 60 have an address: this is not the middle", len(before))
	}
	w.service("meanwhile")
	back()
	for i := range 60 {
		name := fmt.Sprintf("s%02d", i)
		w.shows(name, fmt.Sprintf("192.0.2.%d @lan True:AddressAssigned", i))
		if was, had := before[name]; had && was != w.shown(name) {
			t.Errorf("%s had %s", name, was)
		}
	}
	w.shows("meanwhile", "192.0.2.60 @lan True:AddressAssigned")
}

func TestANonsensicalRequestIsToldAndHindersNoOther(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/24")
	w.start("")
	asking := func(annotation, value string) func(*corev1.Service) {
		return func(svc *corev1.Service) { svc.Annotations = map[string]string{annotation: value} }
	}
	w.service("thousand", asking(service.AnnotationAddresses, strings.Repeat("192.0.2.1,", 999)+"192.0.2.1"))
	w.service("binary", asking(service.AnnotationAddressPool, "\x01\x02"))
	w.service("long", asking(service.AnnotationAddresses, strings.Repeat("x", 200<<10)))
	w.service("sane")
	w.shows("sane", "192.0.2.0 @lan True:AddressAssigned")
	w.shows("thousand", "False:TooManyAddresses")
	w.shows("binary", "False:InvalidPool")
	w.shows("long", "False:InvalidAddress")
	w.hasEvent("long", corev1.EventTypeWarning, "AllocationFailed", `"xxxxx`)
	w.EditService("web", "thousand", asking(service.AnnotationAddresses, "192.0.2.9"))
	w.shows("thousand", "192.0.2.9 @lan True:AddressAssigned")
}

func TestANamespaceThatMayNotBeWrittenHindersNoOther(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/24")
	w.Fault(func(r *http.Request) int {
		if r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/namespaces/closed/") {
			return http.StatusForbidden
		}
		return 0
	})
	w.start("")
	for i := range 30 {
		w.service(fmt.Sprintf("closed%02d", i), func(svc *corev1.Service) { svc.Namespace = "closed" })
		w.service(fmt.Sprintf("open%02d", i))
	}
	kubetest.Eventually(t, "the open namespace is served", func() bool {
		for i := range 30 {
			if !strings.HasSuffix(w.shown(fmt.Sprintf("open%02d", i)), "True:AddressAssigned") {
				return false
			}
		}
		return true
	})
	w.Fault(nil)
	kubetest.Eventually(t, "and the other when it may be written again", w.settled)
	w.noAddressTwice()
}

func TestStatusThatSomebodyOverwroteIsPutRight(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/24")
	w.start("")
	w.service("a")
	w.service("b")
	w.shows("a", "192.0.2.0 @lan True:AddressAssigned")
	w.shows("b", "192.0.2.1 @lan True:AddressAssigned")
	w.EditServiceStatus("web", "b", func(svc *corev1.Service) {
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.0"}}
		svc.Annotations = nil
	})
	w.shows("b", "192.0.2.1 @lan True:AddressAssigned")
	w.EditServiceStatus("web", "a", func(svc *corev1.Service) { svc.Status = corev1.ServiceStatus{} })
	w.shows("a", "192.0.2.0 @lan True:AddressAssigned")
}

// Two that each give a Service an address of their own would overwrite each other for ever.
func TestSomebodyElsesAddressesAreReplacedEverMoreSlowlyAndToldOfOnce(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/24")
	w.start("")
	w.service("fought-over")
	const ours = "192.0.2.0 @lan True:AddressAssigned"
	for n := range 4 {
		w.shows("fought-over", ours)
		began := time.Now()
		w.EditServiceStatus("web", "fought-over", func(svc *corev1.Service) {
			svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.1"}}
		})
		w.shows("fought-over", ours)
		if took := time.Since(began); took < firstReplacement<<n {
			t.Errorf("replaced once more after %d times, they were written again after %v, want %v or more", n, took, firstReplacement<<n)
		}
	}
	w.hasEvent("fought-over", corev1.EventTypeWarning, eventAddressReplaced, "198.51.100.1 to the status in place of 192.0.2.0")
	told := 0
	for _, reason := range w.reasons("fought-over") {
		if reason == eventAddressReplaced {
			told++
		}
	}
	if told != 1 {
		t.Errorf("%d events %s, want one", told, eventAddressReplaced)
	}
}
