package assign

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
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

func TestABadPoolIsToldAndTheOthersWork(t *testing.T) {
	w := newWorld(t)
	w.pool("bad", "192.0.2.9-192.0.2.1")
	w.pool("good", "198.51.100.0/24")
	w.start("")
	w.service("shop")
	w.shows("shop", "198.51.100.0 @good True:AddressAssigned")
	w.hasCondition("pool bad", w.poolConditions("bad"), "Accepted", metav1.ConditionFalse, "InvalidAddresses")
	w.hasCondition("pool bad", w.poolConditions("bad"), "Available", metav1.ConditionFalse, "NotAccepted")
	w.hasCondition("pool good", w.poolConditions("good"), "Accepted", metav1.ConditionTrue, "Accepted")
	w.hasEvent("bad", corev1.EventTypeWarning, "ConfigurationRejected", "spec.addresses[0]")

	w.EditPool("bad", func(p *v1beta1.IPAddressPool) { p.Spec.Addresses = []string{"192.0.2.1-192.0.2.9"} })
	w.hasCondition("pool bad", w.poolConditions("bad"), "Accepted", metav1.ConditionTrue, "Accepted")
	w.hasEvent("bad", corev1.EventTypeNormal, "ConfigurationAccepted", "")
}

func TestABadEditOfAPoolTakesNoAddressAway(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/24")
	w.start("")
	w.service("a")
	w.shows("a", "192.0.2.0 @lan True:AddressAssigned")
	w.EditPool("lan", func(p *v1beta1.IPAddressPool) { p.Spec.Addresses = []string{"nonsense"} })
	w.hasCondition("pool lan", w.poolConditions("lan"), "Accepted", metav1.ConditionFalse, "InvalidAddresses")
	w.service("b")
	w.shows("b", "False:NoPools")
	if got, want := w.shown("a"), "192.0.2.0 @lan True:AddressAssigned"; got != want {
		t.Errorf("a shows %q, want %q", got, want)
	}
	w.EditPool("lan", func(p *v1beta1.IPAddressPool) { p.Spec.Addresses = []string{"192.0.2.0/24"} })
	w.shows("b", "192.0.2.1 @lan True:AddressAssigned")
}

func TestADeletedPoolWithdrawsItsAddresses(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/24")
	w.start("")
	w.service("a")
	w.shows("a", "192.0.2.0 @lan True:AddressAssigned")
	w.Delete("ipaddresspools", "", "lan")
	w.shows("a", "False:NoPools")
	w.hasEvent("a", corev1.EventTypeNormal, "AddressReleased", "IPAddressPool lan is gone")
	w.pool("other", "198.51.100.0/24")
	w.shows("a", "198.51.100.0 @other True:AddressAssigned")
}

func TestEveryKindSaysWhetherItIsInForce(t *testing.T) {
	w := newWorld(t)
	profile := &v1beta1.BFDProfile{ObjectMeta: metav1.ObjectMeta{Name: "fast"}}
	community := &v1beta1.Community{ObjectMeta: metav1.ObjectMeta{Name: "names"}}
	community.Spec.Communities = []v1beta1.CommunityAlias{{Name: "customer", Value: "nonsense"}}
	peer := &v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "tor"}}
	peer.Spec.PeerAddress, peer.Spec.MyASN, peer.Spec.PeerASN, peer.Spec.BFDProfile = "192.0.2.1", new(int64(64512)), new(int64(64513)), "slow"
	adv := &v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "all"}}
	adv.Spec.Peers = []string{"tor"}
	w.Create("bfdprofiles", profile)
	w.Create("communities", community)
	w.Create("bgppeers", peer)
	w.Create("bgpadvertisements", adv)
	w.start("")
	for _, want := range []struct {
		resource, name, kind string
		status               metav1.ConditionStatus
		reason               string
	}{
		{"bfdprofiles", "fast", "Accepted", metav1.ConditionTrue, "Accepted"},
		{"communities", "names", "Accepted", metav1.ConditionFalse, "InvalidValue"},
		{"bgppeers", "tor", "Accepted", metav1.ConditionTrue, "Accepted"},
		{"bgppeers", "tor", "ResolvedRefs", metav1.ConditionFalse, "BFDProfileNotFound"},
		{"bgpadvertisements", "all", "Accepted", metav1.ConditionTrue, "Accepted"},
		{"bgpadvertisements", "all", "ResolvedRefs", metav1.ConditionTrue, "ResolvedRefs"},
	} {
		w.hasCondition(want.name, func() []metav1.Condition { return w.Conditions(want.resource, want.name) }, want.kind, want.status, want.reason)
	}
	if c := w.Conditions("bfdprofiles", "fast"); len(c) != 1 {
		t.Errorf("a profile names nothing, and has the conditions %v", c)
	}
}

func TestAnAdvertisementOfAPoolThatDoesNotExistSaysSo(t *testing.T) {
	w := newWorld(t)
	adv := &v1beta1.L2Advertisement{}
	adv.Name = "l2"
	adv.Spec.IPAddressPools = []string{"lan"}
	w.Create("l2advertisements", adv)
	w.start("")
	conditions := func() []metav1.Condition { return w.L2Advertisement("l2").Status.Conditions }
	w.hasCondition("advertisement l2", conditions, "Accepted", metav1.ConditionTrue, "Accepted")
	w.hasCondition("advertisement l2", conditions, "ResolvedRefs", metav1.ConditionFalse, "PoolNotFound")
	w.pool("lan", "192.0.2.0/24")
	w.hasCondition("advertisement l2", conditions, "ResolvedRefs", metav1.ConditionTrue, "ResolvedRefs")
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
	w.service("marker")
	kubetest.Eventually(t, "marker has an address", func() bool { return w.shown("marker") != "" })
	w.hasCounts("lan", "256 16 240 0", "18446744073709551616 15 18446744073709551601 0")
	stop()

	before := map[string]string{}
	for _, svc := range w.Services() {
		before[svc.Name] = w.shown(svc.Name) + " version " + svc.ResourceVersion
	}
	writes := len(w.Writes())
	w.start("")
	w.service("new")
	w.shows("new", "192.0.2.0 @lan True:AddressAssigned")
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

func TestTheCountsOfAPoolAreWrittenOnceForManyServices(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/24")
	for i := range 100 {
		w.service(fmt.Sprintf("s%02d", i))
	}
	w.startAt(200*time.Millisecond, "")
	w.hasCounts("lan", "256 100 156 0", "none")
	pools, services := 0, 0
	for _, request := range w.Writes() {
		switch {
		case request == "PATCH ipaddresspools/status lan":
			pools++
		case strings.HasPrefix(request, "PATCH services/status"):
			if services++; pools > 0 && services <= 100-writers {
				t.Errorf("the pool was written when only %d Services were", services)
			}
		}
	}
	if pools != 1 {
		t.Errorf("the pool was written %d times", pools)
	}
}

func TestANamespaceIsServedByThePoolThatSelectsIt(t *testing.T) {
	w := newWorld(t)
	w.Create("namespaces", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"tier": "gold"}}})
	w.pool("gold", "192.0.2.0/31")
	w.EditPool("gold", func(p *v1beta1.IPAddressPool) {
		p.Spec.ServiceAllocation = &v1beta1.ServiceAllocation{NamespaceSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"tier": "gold"}}}}
	})
	w.start("")
	w.service("a")
	w.shows("a", "192.0.2.0 @gold True:AddressAssigned")
	relabel := func(tier string) {
		w.EditNamespace("web", func(ns *corev1.Namespace) { ns.Labels = map[string]string{"tier": tier} })
	}
	relabel("lead")
	kubetest.Eventually(t, "nobody in it is served any more", func() bool {
		w.service("b")
		defer w.Delete("services", "web", "b")
		kubetest.Eventually(t, "b is told", func() bool { return w.shown("b") != "" })
		return strings.HasPrefix(w.shown("b"), "False:")
	})
	w.service("c")
	kubetest.Eventually(t, "c waits", func() bool { return strings.HasPrefix(w.shown("c"), "False:") })
	if got, want := w.shown("a"), "192.0.2.0 @gold True:AddressAssigned"; got != want {
		t.Errorf("a shows %q, want %q: labels take nothing away", got, want)
	}
	relabel("gold")
	w.shows("c", "192.0.2.1 @gold True:AddressAssigned")
}

func TestNothingIsGivenBeforeEverythingHasBeenRead(t *testing.T) {
	for _, resource := range []string{"services", "namespaces", "ipaddresspools", "communities"} {
		t.Run(resource, func(t *testing.T) {
			w := newWorld(t)
			w.pool("lan", "192.0.2.0/24")
			w.service("a")
			var asked atomic.Int32
			w.Fault(func(r *http.Request) int {
				if strings.HasSuffix(r.URL.Path, "/"+resource) {
					asked.Add(1)
					return http.StatusForbidden
				}
				return 0
			})
			c, stop := w.launch(time.Millisecond, "")
			kubetest.Eventually(t, "all else has been read", func() bool {
				err := c.Ready()
				return asked.Load() > 0 && err != nil && !strings.Contains(err.Error(), "\n")
			})
			if err := c.Ready(); err == nil || !strings.Contains(err.Error(), resource) {
				t.Errorf("ready without %s: %v", resource, err)
			}
			stop()
			if writes := w.Writes(); len(writes) > 0 {
				t.Errorf("wrote %v", writes)
			}
		})
	}
}

func TestAPoolThatShrinksKeepsItsHolders(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/30")
	stop := w.start("")
	w.service("a")
	w.service("b")
	w.shows("b", "192.0.2.1 @lan True:AddressAssigned")
	w.EditPool("lan", func(p *v1beta1.IPAddressPool) { p.Spec.Addresses = []string{"192.0.2.2/31"} })
	w.service("c")
	w.shows("c", "192.0.2.2 @lan True:AddressAssigned")
	stop()
	w.start("")
	w.service("d")
	w.shows("d", "192.0.2.3 @lan True:AddressAssigned")
	w.shows("a", "192.0.2.0 @lan True:AddressAssigned")
	w.shows("b", "192.0.2.1 @lan True:AddressAssigned")
	if err := testutil.CollectAndCompare(w.registry, strings.NewReader(`
# HELP herald_pool_addresses Addresses that a pool has.
# TYPE herald_pool_addresses gauge
herald_pool_addresses{family="IPv4",pool="lan"} 2
# HELP herald_pool_addresses_in_use Addresses that Services hold from a pool, those outside too.
# TYPE herald_pool_addresses_in_use gauge
herald_pool_addresses_in_use{family="IPv4",pool="lan"} 4
# HELP herald_pool_addresses_outside Addresses that Services keep although their pool no longer has them.
# TYPE herald_pool_addresses_outside gauge
herald_pool_addresses_outside{family="IPv4",pool="lan"} 2
# HELP herald_services Services that Herald serves, by state: assigned, partly_assigned (one family of two), waiting, leaving (being cleaned of what Herald wrote).
# TYPE herald_services gauge
herald_services{state="assigned"} 4
herald_services{state="leaving"} 0
herald_services{state="partly_assigned"} 0
herald_services{state="waiting"} 0
`), "herald_pool_addresses", "herald_pool_addresses_in_use", "herald_pool_addresses_outside", "herald_services"); err != nil {
		t.Error(err)
	}
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
		if r.Method == http.MethodPatch && writes.Add(1) == 30 {
			close(half)
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
