package assign

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/kube/kubetest"
)

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
