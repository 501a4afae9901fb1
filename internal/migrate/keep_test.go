package migrate

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/ipam"
	"heraldlb.io/herald/internal/service"
)

const busyCluster = `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system}
spec: {addresses: [192.0.2.0/24, 2001:db8::/112]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: edge, namespace: metallb-system}
spec: {addresses: [203.0.113.0/24], autoAssign: false}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: lan, namespace: metallb-system}
spec: {ipAddressPools: [lan]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: edge, namespace: metallb-system}
spec: {ipAddressPools: [edge]}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: router, namespace: metallb-system}
spec: {myASN: 64512, peerASN: 64513, peerAddress: 10.0.0.1}
`

// busyServices are as MetalLB leaves them: plain, dual-stack, pinned, of a named pool, sharing within a namespace and
// beyond it, with externalTrafficPolicy Local.
func busyServices() []*corev1.Service {
	var out []*corev1.Service
	for i := range 50 {
		svc := &corev1.Service{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
			ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprintf("team-%d", i%3), Name: fmt.Sprintf("svc-%02d", i), Annotations: map[string]string{}},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
				Selector: map[string]string{"app": fmt.Sprint(i)}, Ports: []corev1.ServicePort{{Port: int32(1000 + i)}}},
		}
		address := fmt.Sprintf("192.0.2.%d", 200-i)
		switch i % 7 {
		case 1:
			svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, corev1.IPv6Protocol)
			svc.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
			address += fmt.Sprintf(",2001:db8::%x", 100+i)
		case 2:
			svc.Annotations["metallb.universe.tf/loadBalancerIPs"] = address
		case 3:
			svc.Annotations["metallb.io/address-pool"] = "edge"
			address = fmt.Sprintf("203.0.113.%d", i)
		case 4:
			svc.Annotations["metallb.io/allow-shared-ip"] = "everybody" // from all three namespaces
			address = "192.0.2.250"
		case 5:
			svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		case 6:
			svc.Spec.LoadBalancerIP = address
		}
		for one := range strings.SplitSeq(address, ",") {
			svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: one})
		}
		out = append(out, svc)
	}
	return out
}

func TestFiftyServicesOfMetalLBKeepTheirAddresses(t *testing.T) {
	cluster := busyServices()
	inputs := []Input{{Name: "metallb.yaml", Text: busyCluster}}
	for _, svc := range cluster {
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(svc)
		if err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, Input{Name: "cluster", Object: object})
	}
	r := metalLB.Convert(inputs)
	if !r.Complete() {
		t.Fatalf("findings:\n%s", told(r))
	}
	if problems := moved(t, r, cluster, r.Services); problems != nil {
		t.Errorf("after the switch:\n%s", strings.Join(problems, "\n"))
	}
	if moved(t, r, cluster, nil) == nil {
		t.Error("they keep them without the annotations too: these show nothing")
	}
}

// moved has the Services ask Herald for what they hold, with these annotations, and says what they do not get.
func moved(t *testing.T, r Result, cluster []*corev1.Service, annotations []Annotations) (problems []string) {
	t.Helper()
	resources, _ := config.Parse("out", map[string]string{"out": Documents(r.Objects)})
	inForce, _ := config.New(resources)
	allocator := ipam.New()
	allocator.SetPools(inForce.Pools)
	var requests []service.Request
	for _, svc := range cluster {
		svc = svc.DeepCopy()
		for _, a := range annotations {
			if a.Namespace == svc.Namespace && a.Name == svc.Name {
				maps.Copy(svc.Annotations, a.Set)
			}
		}
		req, ours := service.Of(svc, "")
		if !ours {
			t.Fatalf("%v is not Herald's to serve", req.Key)
		}
		for _, lost := range allocator.Seat(req) {
			problems = append(problems, fmt.Sprintf("%v lost %v: %s", req.Key, lost.Held.Addr, lost.Reason))
		}
		requests = append(requests, req)
	}
	for _, req := range requests {
		result := allocator.Allocate(req)
		var want, got []netip.Addr
		for _, held := range req.Held {
			want = append(want, held.Addr)
		}
		for _, lease := range result.Leases {
			got = append(got, lease.Addr)
		}
		if result.Refusal != nil || len(result.Unwanted) > 0 || !slices.Equal(got, want) {
			problems = append(problems, fmt.Sprintf("%v held %v and gets %v: %v", req.Key, want, got, result.Refusal))
		}
	}
	return problems
}
