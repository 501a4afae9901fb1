package migration

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// metalLBObjects is MetalLB's configuration: a pool for the LAN, and one that only routers know.
const metalLBObjects = `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system}
spec: {addresses: [192.0.2.100-192.0.2.199, 2001:db8:1::1:0/120]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: edge, namespace: metallb-system}
spec: {addresses: [203.0.113.0/24], autoAssign: false, avoidBuggyIPs: true}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: lan, namespace: metallb-system}
spec: {ipAddressPools: [lan]}
---
apiVersion: metallb.io/v1beta1
kind: Community
metadata: {name: ours, namespace: metallb-system}
spec: {communities: [{name: edge, value: "64512:100"}]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: edge, namespace: metallb-system}
spec: {ipAddressPools: [edge], communities: [edge]}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: router, namespace: metallb-system}
spec: {myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.1, holdTime: 30s}
`

// The Services that clients use while the switch is made.
const (
	byL2  = "svc-00" // dual-stack, of the LAN's pool
	byBGP = "svc-03" // of the pool that routers know
)

// everyKind returns 50 Services: plain, dual-stack, pinned by annotation and by field, of a named pool, sharing within a
// namespace and beyond it, with externalTrafficPolicy Local. The pods of all are those of the test application.
func everyKind() (out []*corev1.Service) {
	for i := range 50 {
		svc := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespaces[i/7%3], Name: fmt.Sprintf("svc-%02d", i), Annotations: map[string]string{}},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, Selector: map[string]string{"app": "testapp"},
				Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}}},
		}
		switch i % 7 {
		case 0, 1:
			svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, corev1.IPv6Protocol)
			svc.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
		case 2:
			svc.Annotations["metallb.universe.tf/loadBalancerIPs"] = fmt.Sprintf("192.0.2.%d", 199-i)
		case 3:
			svc.Annotations["metallb.io/address-pool"] = "edge"
		case 4:
			svc.Annotations["metallb.io/allow-shared-ip"] = "everybody" // from all namespaces
			svc.Spec.LoadBalancerIP = "192.0.2.150"
			svc.Spec.Ports[0].Port = int32(1000 + i)
		case 5:
			svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		case 6:
			svc.Spec.LoadBalancerIP = fmt.Sprintf("192.0.2.%d", 199-i)
		}
		out = append(out, svc)
	}
	return out
}

var namespaces = []string{"default", "team-1", "team-2"}

// held returns the addresses of all Services that have any, and fails the test unless there are so many Services.
func held(t *testing.T, want int) map[string]string {
	t.Helper()
	var got map[string]string
	within(t, 2*time.Minute, func(ctx context.Context) error {
		list, err := kube.CoreV1().Services("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		got = map[string]string{}
		for _, svc := range list.Items {
			var ips []string
			for _, in := range svc.Status.LoadBalancer.Ingress {
				ips = append(ips, in.IP)
			}
			if len(ips) == len(svc.Spec.IPFamilies) && svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
				slices.Sort(ips)
				got[svc.Namespace+"/"+svc.Name] = strings.Join(ips, ",")
			}
		}
		if len(got) != want {
			return fmt.Errorf("%d Services have their addresses, want %d", len(got), want)
		}
		return nil
	})
	return got
}

// kept fails the test unless all Services have what they had before.
func kept(t *testing.T, when string, before map[string]string) {
	t.Helper()
	after := held(t, len(before))
	n := 0
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if after[name] == before[name] {
			n++
		} else {
			t.Errorf("%s: %s had %s and has %s", when, name, before[name], after[name])
		}
	}
	t.Logf("%s: %d of %d Services have the addresses that they had", when, n, len(before))
}
