package e2etest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// poolWith is the manifest of a pool with more than its addresses. It serves only who asks for it.
func poolWith(name, spec string) []byte {
	return fmt.Appendf(nil, "apiVersion: heraldlb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: %s}\nspec: {autoAssign: false, %s}\n", name, spec)
}

// edit is what a Service asks for beyond what balanced gives it.
type edit func(*corev1.Service)

// balanced is a Service of type LoadBalancer in front of the test application, on port 80 and over IPv4 alone.
func balanced(name string, edits ...edit) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: metav1.NamespaceDefault, Annotations: map[string]string{}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{"app": "testapp"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}},
		},
	}
	families(corev1.IPFamilyPolicySingleStack, corev1.IPv4Protocol)(svc)
	for _, e := range edits {
		e(svc)
	}
	return svc
}

func annotated(name, value string) edit {
	return func(svc *corev1.Service) { svc.Annotations[name] = value }
}

func families(policy corev1.IPFamilyPolicy, families ...corev1.IPFamily) edit {
	return func(svc *corev1.Service) { svc.Spec.IPFamilyPolicy, svc.Spec.IPFamilies = &policy, families }
}

func in(namespace string) edit { return func(svc *corev1.Service) { svc.Namespace = namespace } }

func loadBalancerIP(ip string) edit {
	return func(svc *corev1.Service) { svc.Spec.LoadBalancerIP = ip }
}

func port(name string, number int32, protocol corev1.Protocol) edit {
	return func(svc *corev1.Service) {
		svc.Spec.Ports = []corev1.ServicePort{{Name: name, Port: number, Protocol: protocol, TargetPort: intstr.FromString(name)}}
	}
}

// create makes a Service and deletes it when the test is over.
func create(t *testing.T, svc *corev1.Service) {
	t.Helper()
	services := kube.CoreV1().Services(svc.Namespace)
	if _, err := services.Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := services.Delete(context.Background(), svc.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
}

// settled waits until a Service's condition has a reason, and returns the Service.
func settled(t *testing.T, svc *corev1.Service, reason string) *corev1.Service {
	t.Helper()
	var now *corev1.Service
	within(t, 10*time.Second, func(ctx context.Context) (err error) {
		now, err = kube.CoreV1().Services(svc.Namespace).Get(ctx, svc.Name, metav1.GetOptions{})
		if err == nil && condition(now).Reason != reason {
			err = fmt.Errorf("service %s/%s has %v and condition %+v, want reason %s", svc.Namespace, svc.Name, addresses(now), condition(now), reason)
		}
		return err
	})
	return now
}

const (
	assigned       = "AddressAssigned"
	partlyAssigned = "AddressPartlyAssigned"
)

// has waits until a Service has exactly these addresses, for a reason.
func has(t *testing.T, svc *corev1.Service, reason string, want ...string) {
	t.Helper()
	var got []string
	for _, a := range addresses(settled(t, svc, reason)) {
		got = append(got, a.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("service %s has %v, want %v", svc.Name, got, want)
	}
}

// refused waits until a Service is refused for a reason, in words that its event repeats, and checks that they hold
// these parts.
func refused(t *testing.T, svc *corev1.Service, reason string, parts ...string) {
	t.Helper()
	c := condition(settled(t, svc, reason))
	if c.Status != metav1.ConditionFalse {
		t.Errorf("service %s has condition %+v, want False", svc.Name, c)
	}
	for _, part := range parts {
		if !strings.Contains(c.Message, part) {
			t.Errorf("service %s is refused with %q, which lacks %q", svc.Name, c.Message, part)
		}
	}
	if note := event(t, "Service", svc.Name, "AllocationFailed"); note != c.Message {
		t.Errorf("service %s is refused with %q, its event says %q", svc.Name, c.Message, note)
	}
}

func TestAServiceGetsWhatItAsksForInOurWordsAndMetalLBs(t *testing.T) {
	apply(t, poolWith("asked", `addresses: ["192.0.2.60-192.0.2.69", "2001:db8:1::6:0/120"]`))
	dual := families(corev1.IPFamilyPolicyRequireDualStack, corev1.IPv4Protocol, corev1.IPv6Protocol)
	cases := []struct {
		name  string
		edits []edit
		want  []string
	}{
		{"pool", []edit{annotated("heraldlb.io/address-pool", "asked")}, []string{"192.0.2.60"}},
		{"pool-metallb", []edit{annotated("metallb.io/address-pool", "asked")}, []string{"192.0.2.61"}},
		{"pool-universe", []edit{annotated("metallb.universe.tf/address-pool", "asked")}, []string{"192.0.2.62"}},
		{"pool-ours-first", []edit{annotated("metallb.io/address-pool", "nowhere"), annotated("heraldlb.io/address-pool", "asked")}, []string{"192.0.2.63"}},
		{"address", []edit{annotated("heraldlb.io/addresses", "192.0.2.69")}, []string{"192.0.2.69"}},
		{"address-metallb", []edit{annotated("metallb.io/loadBalancerIPs", "192.0.2.68")}, []string{"192.0.2.68"}},
		{"address-universe", []edit{annotated("metallb.universe.tf/loadBalancerIPs", "192.0.2.67")}, []string{"192.0.2.67"}},
		{"address-spec", []edit{loadBalancerIP("192.0.2.66")}, []string{"192.0.2.66"}},
		{"address-dual", []edit{dual, annotated("heraldlb.io/addresses", "2001:db8:1::6:9, 192.0.2.65")}, []string{"192.0.2.65", "2001:db8:1::6:9"}},
		{"address-of-one-family", []edit{dual, annotated("heraldlb.io/addresses", "192.0.2.64"), annotated("heraldlb.io/address-pool", "asked")}, []string{"192.0.2.64", "2001:db8:1::6:0"}},
	}
	for _, c := range cases {
		svc := balanced("asks-"+c.name, c.edits...)
		create(t, svc)
		has(t, svc, assigned, c.want...) // one after the other, each gets the lowest
	}
}

func TestARefusalSaysWhyInTheConditionAndTheEvent(t *testing.T) {
	apply(t, poolWith("small", `addresses: ["192.0.2.80-192.0.2.81", "2001:db8:1::8:0/127"]`))
	apply(t, poolWith("for-others", `addresses: ["192.0.2.82/32"], serviceAllocation: {namespaces: [kube-public]}`))
	holder := balanced("holder", annotated("heraldlb.io/addresses", "192.0.2.80"), annotated("heraldlb.io/allow-shared-ip", "key"))
	create(t, holder)
	has(t, holder, assigned, "192.0.2.80")
	cases := []struct {
		name   string
		edits  []edit
		reason string
		parts  []string
	}{
		{"no-such-pool", []edit{annotated("heraldlb.io/address-pool", "nowhere")}, "PoolNotFound", []string{`"nowhere"`}},
		{"pool-for-others", []edit{annotated("heraldlb.io/address-pool", "for-others")}, "PoolNotAllowed", []string{"for-others", "serviceAllocation"}},
		{"garbage-pool", []edit{annotated("metallb.io/address-pool", "no such/pool\x00")}, "InvalidPool", []string{"/address-pool", `"no such/pool`}},
		{"in-use", []edit{annotated("heraldlb.io/addresses", "192.0.2.80")}, "AddressInUse", []string{"192.0.2.80", "default/holder", "heraldlb.io/allow-shared-ip"}},
		{"same-port", []edit{annotated("heraldlb.io/addresses", "192.0.2.80"), annotated("heraldlb.io/allow-shared-ip", "key")}, "SharingConflict", []string{"default/holder", "80/TCP"}},
		{"in-no-pool", []edit{loadBalancerIP("203.0.113.1")}, "AddressOutsidePool", []string{"203.0.113.1"}},
		{"in-another-pool", []edit{annotated("heraldlb.io/addresses", "192.0.2.249"), annotated("heraldlb.io/address-pool", "small")}, "AddressOutsidePool", []string{"192.0.2.249", "pool small", "pool lan"}},
		{"contradiction", []edit{annotated("heraldlb.io/addresses", "192.0.2.81"), loadBalancerIP("192.0.2.80")}, "ConflictingAddresses", []string{"192.0.2.81", "192.0.2.80", "spec.loadBalancerIP"}},
		{"other-family", []edit{annotated("metallb.io/loadBalancerIPs", "2001:db8:1::8:0")}, "FamilyMismatch", []string{"/loadBalancerIPs", "2001:db8:1::8:0", "IPv4"}},
		{"garbage-address", []edit{annotated("heraldlb.io/addresses", "\u2603; DROP TABLE")}, "InvalidAddress", []string{"/addresses", "no IP address"}},
		{"thousand-addresses", []edit{annotated("heraldlb.io/addresses", strings.Repeat("192.0.2.81,", 999)+"192.0.2.81")}, "TooManyAddresses", []string{"1000 addresses"}},
		{"garbage-namespaces", []edit{annotated("heraldlb.io/allow-shared-ip", "other"), annotated("heraldlb.io/allow-shared-namespaces", "a,B_")}, "InvalidNamespace", []string{`"B_"`}},
	}
	for _, c := range cases {
		create(t, balanced("refused-"+c.name, c.edits...))
	}
	for _, c := range cases {
		refused(t, balanced("refused-"+c.name), c.reason, c.parts...)
	}
}

func TestTwoServicesShareAnAddressOneOverTCPAndOneOverUDP(t *testing.T) {
	share := annotated("metallb.io/allow-shared-ip", "dns")
	tcp := balanced("shares-tcp", annotated("heraldlb.io/allow-shared-ip", "dns"), port("echo", 7000, corev1.ProtocolTCP))
	udp := balanced("shares-udp", share, port("echo-udp", 7000, corev1.ProtocolUDP))
	create(t, tcp)
	a := addresses(settled(t, tcp, assigned))
	create(t, udp)
	if b := addresses(settled(t, udp, assigned)); len(a) != 1 || !slices.Equal(a, b) {
		t.Fatalf("%s has %v and %s has %v, want one address", tcp.Name, a, udp.Name, b)
	}
	for _, protocol := range []string{"tcp", "udp"} {
		within(t, 10*time.Second, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return echo(ctx, "client", protocol, a[0])
		})
	}
	owner(t, a[0])

	// Whoever is left keeps it, and nobody else gets it.
	if err := kube.CoreV1().Services("default").Delete(t.Context(), tcp.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	other := balanced("shares-nothing")
	create(t, other)
	if b := addresses(settled(t, other, assigned)); slices.Equal(a, b) {
		t.Errorf("%s was given %v, which %s has", other.Name, b, udp.Name)
	}
	has(t, udp, assigned, a[0].String())
}

func TestSharingAcrossNamespacesNeedsBothSides(t *testing.T) {
	apply(t, poolWith("both-sides", `addresses: ["192.0.2.83/32"]`))
	from := annotated("heraldlb.io/address-pool", "both-sides")
	key := annotated("heraldlb.io/allow-shared-ip", "key")
	here := balanced("shared-here", from, key, annotated("heraldlb.io/allow-shared-namespaces", "kube-public"))
	there := balanced("shared-there", in("kube-public"), from, key, port("echo", 7000, corev1.ProtocolTCP))
	create(t, here)
	has(t, here, assigned, "192.0.2.83")
	create(t, there)
	refused(t, there, "PoolExhausted", "both-sides")
	annotate(t, there, "heraldlb.io/allow-shared-namespaces", "default")
	has(t, there, assigned, "192.0.2.83")
}

// annotate changes an annotation of a Service.
func annotate(t *testing.T, svc *corev1.Service, name, value string) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, name, value)
	if _, err := kube.CoreV1().Services(svc.Namespace).Patch(t.Context(), svc.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// change applies another version of a manifest that the test has applied.
func change(t *testing.T, manifest []byte) {
	t.Helper()
	if err := cluster.Apply(t.Context(), manifest); err != nil {
		t.Fatal(err)
	}
}

func TestPreferDualStackGainsItsSecondFamilyWhenThereIsOne(t *testing.T) {
	apply(t, poolWith("grows", `addresses: ["192.0.2.84/32"]`))
	svc := balanced("gains", annotated("heraldlb.io/address-pool", "grows"),
		families(corev1.IPFamilyPolicyPreferDualStack, corev1.IPv6Protocol, corev1.IPv4Protocol))
	create(t, svc)
	has(t, svc, partlyAssigned, "192.0.2.84")
	change(t, poolWith("grows", `addresses: ["192.0.2.84/32", "2001:db8:1::84/128"]`))
	has(t, svc, assigned, "192.0.2.84", "2001:db8:1::84")
}

func TestAQuotaLimitsEachNamespace(t *testing.T) {
	pool := func(quota int) []byte {
		return poolWith("limited", fmt.Sprintf(`addresses: ["192.0.2.85-192.0.2.89"], namespaceQuota: %d`, quota))
	}
	apply(t, pool(1))
	from := annotated("heraldlb.io/address-pool", "limited")
	first, second, elsewhere := balanced("quota-1", from), balanced("quota-2", from), balanced("quota-3", from, in("kube-public"))
	create(t, first)
	has(t, first, assigned, "192.0.2.85")
	create(t, second)
	refused(t, second, "QuotaExceeded", "namespace default", "namespaceQuota", "pool limited")
	create(t, elsewhere)
	has(t, elsewhere, assigned, "192.0.2.86")
	change(t, pool(2))
	has(t, second, assigned, "192.0.2.87")
	has(t, first, assigned, "192.0.2.85")
}

func TestADrainingPoolServesNobodyNewAndTakesNothingAway(t *testing.T) {
	pool := func(drain bool) []byte {
		return poolWith("drained", fmt.Sprintf(`addresses: ["192.0.2.90-192.0.2.91"], drain: %v`, drain))
	}
	apply(t, pool(false))
	from := annotated("heraldlb.io/address-pool", "drained")
	stays, comes := balanced("drain-stays", from), balanced("drain-comes", from)
	create(t, stays)
	has(t, stays, assigned, "192.0.2.90")
	change(t, pool(true))
	within(t, 10*time.Second, func(ctx context.Context) error {
		return poolCondition(ctx, "drained", "Available", "False", "draining")
	})
	create(t, comes)
	refused(t, comes, "PoolDraining", "pool drained")
	has(t, stays, assigned, "192.0.2.90")
	change(t, pool(false))
	has(t, comes, assigned, "192.0.2.91")
}

func TestAPoolThatShrinksKeepsItsHolders(t *testing.T) {
	apply(t, poolWith("shrinks", `addresses: ["192.0.2.92-192.0.2.93"]`))
	from := annotated("heraldlb.io/address-pool", "shrinks")
	stays, comes := balanced("shrink-stays", from), balanced("shrink-comes", from)
	create(t, stays)
	has(t, stays, assigned, "192.0.2.92")
	change(t, poolWith("shrinks", `addresses: ["192.0.2.93/32"]`))
	create(t, comes)
	has(t, comes, assigned, "192.0.2.93")
	has(t, stays, assigned, "192.0.2.92")
	within(t, 10*time.Second, func(ctx context.Context) error {
		out, err := cluster.Kubectl(ctx, "get", "ipaddresspool", "shrinks", "-o", "jsonpath={.status.ipv4.assigned} {.status.ipv4.outside} {.status.ipv4.available}")
		if err == nil && string(out) != "2 1 0" {
			err = fmt.Errorf("assigned, outside and available are %q, want 2 1 0", out)
		}
		return err
	})
}

func TestAPoolServesTheNamespacesThatItSelectsByTheirLabels(t *testing.T) {
	apply(t, []byte(`apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: selective}
spec:
  addresses: [192.0.2.94-192.0.2.95]
  serviceAllocation:
    priority: 1
    namespaceSelectors: [{matchLabels: {kubernetes.io/metadata.name: kube-public}}]
`))
	selected, other := balanced("selected", in("kube-public")), balanced("not-selected")
	create(t, selected)
	create(t, other)
	has(t, selected, assigned, "192.0.2.94")
	if got := addresses(settled(t, other, assigned)); slices.Contains(got, netip.MustParseAddr("192.0.2.95")) {
		t.Errorf("a Service of another namespace has %v", got)
	}
}
