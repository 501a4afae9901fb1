package assign

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/internal/kube/kubetest"
	"heraldlb.io/herald/internal/service"
)

func TestAServiceGetsTheAddressesItAsksFor(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/30", "2001:db8::/126")
	w.start("")
	w.service("single")
	w.shows("single", "192.0.2.0 @lan True:AddressAssigned")
	w.service("single6", wants(corev1.IPFamilyPolicySingleStack, v6))
	w.shows("single6", "2001:db8:: @lan True:AddressAssigned")
	w.service("prefer", wants(corev1.IPFamilyPolicyPreferDualStack, v6, v4))
	w.shows("prefer", "2001:db8::1 192.0.2.1 @lan True:AddressAssigned")
	w.service("require", wants(corev1.IPFamilyPolicyRequireDualStack, v4, v6))
	w.shows("require", "192.0.2.2 2001:db8::2 @lan True:AddressAssigned")
	w.hasEvent("require", corev1.EventTypeNormal, "AddressAssigned", "192.0.2.2 and 2001:db8::2 from pool lan")
}

func TestOtherServicesAreLetBe(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/24")
	other := "example.com/other"
	w.service("other", func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = &other }, holding("theirs", "192.0.2.7"))
	w.start("")
	w.service("ours")
	w.shows("ours", "192.0.2.0 @lan True:AddressAssigned")
	if got, want := w.shown("other"), "192.0.2.7 @theirs"; got != want {
		t.Errorf("the Service of another class shows %q, want %q", got, want)
	}
}

func TestOnlyTheClassAskedForIsServed(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/24")
	class := "example.com/second"
	w.start(class)
	w.service("without")
	w.service("with", func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = &class })
	w.shows("with", "192.0.2.0 @lan True:AddressAssigned")
	if got := w.shown("without"); got != "" {
		t.Errorf("the Service without a class shows %q", got)
	}
}

func TestWithoutAPoolAServiceIsToldAndServedLater(t *testing.T) {
	w := newWorld(t)
	w.start("")
	w.service("shop")
	w.shows("shop", "False:NoPools")
	w.hasEvent("shop", corev1.EventTypeWarning, "AllocationFailed", "There is no IPAddressPool")
	w.pool("six", "2001:db8::/64")
	w.shows("shop", "False:FamilyUnavailable")
	w.pool("lan", "192.0.2.0/24")
	w.shows("shop", "192.0.2.0 @lan True:AddressAssigned")
}

func TestAFullPoolSaysSoAndServesTheOldestWhenAnAddressIsFreed(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.1-192.0.2.2")
	w.start("")
	w.service("a")
	w.shows("a", "192.0.2.1 @lan True:AddressAssigned")
	w.hasCondition("pool lan", w.poolConditions("lan"), "Available", metav1.ConditionTrue, "AddressesAvailable")
	w.service("b")
	w.shows("b", "192.0.2.2 @lan True:AddressAssigned")
	w.hasCondition("pool lan", w.poolConditions("lan"), "Available", metav1.ConditionFalse, "PoolExhausted")
	w.service("c")
	w.shows("c", "False:PoolExhausted")
	w.hasEvent("c", corev1.EventTypeWarning, "AllocationFailed", "pool lan: all its 2 IPv4 addresses are in use")
	w.service("d")
	w.shows("d", "False:PoolExhausted")

	w.Delete("services", "web", "a")
	w.shows("c", "192.0.2.1 @lan True:AddressAssigned")
	w.Delete("services", "web", "b")
	w.shows("d", "192.0.2.2 @lan True:AddressAssigned")
	w.Delete("services", "web", "c")
	w.hasCondition("pool lan", w.poolConditions("lan"), "Available", metav1.ConditionTrue, "AddressesAvailable")
}

func TestARestartChangesNothingAndWritesNothing(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/24", "2001:db8::/64")
	stop := w.start("")
	for i := range 20 {
		w.service(fmt.Sprintf("s%02d", i), wants(corev1.IPFamilyPolicyPreferDualStack, v4, v6))
	}
	w.shows("s19", "192.0.2.19 2001:db8::13 @lan True:AddressAssigned")
	w.hasCondition("pool lan", w.poolConditions("lan"), "Available", metav1.ConditionTrue, "AddressesAvailable")
	for i := range 5 {
		w.Delete("services", "web", fmt.Sprintf("s%02d", i))
	}
	w.hasCounts("lan", "256 15 241 0", "18446744073709551616 15 18446744073709551601 0")
	w.service("marker")
	w.shows("marker", "192.0.2.0 @lan True:AddressAssigned")
	w.hasCounts("lan", "256 16 240 0", "18446744073709551616 15 18446744073709551601 0")
	stop()

	before := map[string]string{}
	for _, svc := range w.Services() {
		before[svc.Name] = w.shown(svc.Name) + " version " + svc.ResourceVersion
	}
	writes := len(w.Writes())
	w.start("")
	w.service("new")
	w.shows("new", "192.0.2.1 @lan True:AddressAssigned")
	for name, want := range before {
		if got := w.shown(name) + " version " + w.Service("web", name).ResourceVersion; got != want {
			t.Errorf("after the restart %s shows %q, before %q", name, got, want)
		}
	}
	w.hasCounts("lan", "256 17 239 0", "18446744073709551616 15 18446744073709551601 0")
	pools := 0
	for _, request := range w.Writes()[writes:] {
		switch {
		case request == "PATCH ipaddresspools/status lan":
			pools++
		case !strings.HasSuffix(request, " web/new") && !strings.HasPrefix(request, "POST events"):
			t.Errorf("the restart wrote: %s", request)
		}
	}
	if pools != 1 {
		t.Errorf("the pool was written %d times; want once, for the new Service", pools)
	}
	if got := w.reasons("s10"); !slices.Equal(got, []string{"AddressAssigned"}) {
		t.Errorf("events of s10: %v, want the first assignment and no more", got)
	}
}

func TestHoldersAreSeatedBeforeAnybodyElseIsServed(t *testing.T) {
	w := newWorld(t)
	w.service("waited-longest")
	w.service("holder", holding("lan", "192.0.2.1"))
	w.service("holder-of-before", holding("", "192.0.2.2"))
	w.pool("lan", "192.0.2.1-192.0.2.3")
	w.start("")
	w.shows("holder", "192.0.2.1 @lan True:AddressAssigned")
	w.shows("holder-of-before", "192.0.2.2 @lan True:AddressAssigned")
	w.shows("waited-longest", "192.0.2.3 @lan True:AddressAssigned")
}

func TestOfTwoClaimsOfOneAddressTheOlderStands(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.1-192.0.2.2")
	w.service("older", holding("lan", "192.0.2.1"))
	w.service("younger", holding("lan", "192.0.2.1"))
	w.start("")
	w.shows("younger", "192.0.2.2 @lan True:AddressAssigned")
	w.shows("older", "192.0.2.1 @lan True:AddressAssigned")
	w.hasEvent("younger", corev1.EventTypeWarning, "AddressConflict", "192.0.2.1 belongs to Service web/older")
}

func TestPreferDualStackGainsItsSecondFamilyWithoutLosingTheFirst(t *testing.T) {
	w := newWorld(t)
	w.pool("four", "192.0.2.0/24")
	w.start("")
	w.service("prefer", wants(corev1.IPFamilyPolicyPreferDualStack, v4, v6))
	w.shows("prefer", "192.0.2.0 @four True:AddressPartlyAssigned")
	w.service("require", wants(corev1.IPFamilyPolicyRequireDualStack, v4, v6))
	w.shows("require", "False:FamilyUnavailable")
	w.pool("six", "2001:db8::/64")
	w.shows("prefer", "192.0.2.0 2001:db8:: @four,six True:AddressAssigned")
	w.shows("require", "192.0.2.1 2001:db8::1 @four,six True:AddressAssigned")
}

func TestAFamilyNoLongerWantedIsGivenBack(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/32", "2001:db8::/128")
	w.start("")
	w.service("dual", wants(corev1.IPFamilyPolicyRequireDualStack, v4, v6))
	w.shows("dual", "192.0.2.0 2001:db8:: @lan True:AddressAssigned")
	w.service("six", wants(corev1.IPFamilyPolicySingleStack, v6))
	w.shows("six", "False:PoolExhausted")
	w.EditService("web", "dual", wants(corev1.IPFamilyPolicySingleStack, v4))
	w.shows("dual", "192.0.2.0 @lan True:AddressAssigned")
	w.shows("six", "2001:db8:: @lan True:AddressAssigned")
	w.hasEvent("dual", corev1.EventTypeNormal, "AddressReleased", "2001:db8::")
}

func TestAServiceThatChangesItsTypeIsCleanedAndItsAddressServesTheNext(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/32")
	w.start("")
	w.service("a")
	w.shows("a", "192.0.2.0 @lan True:AddressAssigned")
	w.service("b")
	w.shows("b", "False:PoolExhausted")
	w.EditServiceStatus("web", "a", func(svc *corev1.Service) {
		svc.Status.Conditions = append(svc.Status.Conditions, metav1.Condition{Type: "example.com/Other", Status: metav1.ConditionTrue, Reason: "Other", LastTransitionTime: w.birth()})
	})
	w.EditService("web", "a", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP })
	w.shows("b", "192.0.2.0 @lan True:AddressAssigned")
	w.shows("a", "")
	if c := w.Service("web", "a").Status.Conditions; len(c) != 1 || c[0].Type != "example.com/Other" {
		t.Errorf("conditions of a: %v; want the other controller's left alone", c)
	}
	w.hasEvent("a", corev1.EventTypeNormal, "AddressReleased", "192.0.2.0 is released")

	w.EditService("web", "a", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeLoadBalancer })
	w.shows("a", "False:PoolExhausted")
}

func TestWhatChangedWhileNoControllerRanIsCleaned(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/32")
	stop := w.start("")
	w.service("a")
	w.shows("a", "192.0.2.0 @lan True:AddressAssigned")
	stop()
	w.EditService("web", "a", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP })
	w.start("")
	w.shows("a", "")
	w.service("b")
	w.shows("b", "192.0.2.0 @lan True:AddressAssigned")
}

func TestAServiceOnItsWayOutIsCleanedBeforeItsAddressIsFree(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/32")
	w.start("")
	w.service("a", func(svc *corev1.Service) { svc.Finalizers = []string{"example.com/slow"} })
	w.shows("a", "192.0.2.0 @lan True:AddressAssigned")
	w.service("b")
	w.shows("b", "False:PoolExhausted")
	w.Fault(func(r *http.Request) int {
		if r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/services/a/") {
			return http.StatusServiceUnavailable
		}
		return 0
	})
	w.Delete("services", "web", "a")
	kubetest.Eventually(t, "a's cleaning is tried", func() bool {
		return strings.Count(strings.Join(w.Writes(), "\n"), "PATCH services/status web/a") > 2
	})
	if got, want := w.shown("b"), "False:PoolExhausted"; got != want {
		t.Errorf("while a still shows the address, b shows %q, want %q", got, want)
	}
	w.Fault(nil)
	w.shows("b", "192.0.2.0 @lan True:AddressAssigned")
	w.shows("a", "")
}

func TestAServiceMadeAnewUnderItsNameIsANewOne(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/31")
	w.start("")
	w.service("a")
	w.shows("a", "192.0.2.0 @lan True:AddressAssigned")
	for range 20 {
		w.Delete("services", "web", "a")
		w.service("a")
	}
	kubetest.Eventually(t, "a has an address", func() bool { return strings.HasSuffix(w.shown("a"), "True:AddressAssigned") })
	w.service("b")
	kubetest.Eventually(t, "b has the other", func() bool { return strings.HasSuffix(w.shown("b"), "True:AddressAssigned") })
	w.noAddressTwice()
}

func TestWhatHeraldWritesIsOnlyItsOwn(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/24")
	other := metav1.Condition{Type: "example.com/Other", Status: metav1.ConditionTrue, Reason: "Other", LastTransitionTime: metav1.Now()}
	w.service("a", func(svc *corev1.Service) {
		svc.Annotations = map[string]string{"example.com/keep": "me"}
		svc.Status.Conditions = []metav1.Condition{other}
	})
	w.start("")
	w.shows("a", "192.0.2.0 @lan True:AddressAssigned")
	svc := w.Service("web", "a")
	if svc.Annotations["example.com/keep"] != "me" || len(svc.Status.Conditions) != 2 || svc.Status.Conditions[0].Type != other.Type && svc.Status.Conditions[1].Type != other.Type {
		t.Errorf("annotations %v, conditions %v", svc.Annotations, svc.Status.Conditions)
	}
	if c := service.Condition(svc); !strings.Contains(c.Message, "192.0.2.0 from pool lan") {
		t.Errorf("the condition says %q", c.Message)
	}
}
