package announce

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/internal/service"
)

// lbService is a Service that Herald gave addresses from pool "lan".
func lbService(name string, policy corev1.ServiceExternalTrafficPolicy, ips ...string) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: name, Annotations: map[string]string{service.AnnotationPool: "lan"}},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: policy},
	}
	for _, ip := range ips {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
	}
	return s
}

func endpoint(node string, ready, serving *bool) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Conditions: discoveryv1.EndpointConditions{Ready: ready, Serving: serving}}
	if node != "" {
		e.NodeName = &node
	}
	return e
}

func slice(name, svc string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: svc}},
		Endpoints:  endpoints,
	}
}

func TestWhereTrafficCanBeServed(t *testing.T) {
	yes, no := new(bool), new(bool)
	*yes = true
	ready := func(node string) discoveryv1.Endpoint { return endpoint(node, yes, yes) }
	terminating := func(node string) discoveryv1.Endpoint { return endpoint(node, no, yes) }
	down := func(node string) discoveryv1.Endpoint { return endpoint(node, no, no) }
	for _, tc := range []struct {
		name           string
		endpoints      []discoveryv1.Endpoint
		cluster, local string // nodes of n1, n2 that can serve under each policy
	}{
		{"no endpoint serves nobody", nil, "[]", "[]"},
		{"a ready endpoint serves all nodes, and its own under Local", []discoveryv1.Endpoint{ready("n1"), down("n2")}, "[n1 n2]", "[n1]"},
		{"an endpoint that is not ready serves nobody", []discoveryv1.Endpoint{down("n1")}, "[]", "[]"},
		{"a condition that is not set means ready", []discoveryv1.Endpoint{endpoint("n2", nil, nil)}, "[n1 n2]", "[n2]"},
		{"one that terminates serves when none is ready", []discoveryv1.Endpoint{terminating("n2"), down("n1")}, "[n1 n2]", "[n2]"},
		{"and not when one is", []discoveryv1.Endpoint{terminating("n2"), ready("n1")}, "[n1 n2]", "[n1]"},
		{"an endpoint without a node counts for Cluster only", []discoveryv1.Endpoint{ready("")}, "[n1 n2]", "[]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for policy, want := range map[corev1.ServiceExternalTrafficPolicy]string{
				corev1.ServiceExternalTrafficPolicyCluster: tc.cluster,
				corev1.ServiceExternalTrafficPolicyLocal:   tc.local,
			} {
				// The endpoints are spread over two slices, as those of a large or dual-stack Service are.
				half := len(tc.endpoints) / 2
				c := contributionOf(lbService("shop", policy, "192.0.2.100"), []*discoveryv1.EndpointSlice{
					slice("a", "shop", tc.endpoints[:half]...), slice("b", "shop", tc.endpoints[half:]...),
				}, false)
				got := map[string]bool{}
				for _, n := range []string{"n1", "n2"} {
					if c.servedBy(n) {
						got[n] = true
					}
				}
				if s := fmt.Sprint(slices.Sorted(maps.Keys(got))); s != want {
					t.Errorf("%s: %s can serve, want %s", policy, s, want)
				}
			}
		})
	}
}

func TestAnAddressThatHeraldDidNotGiveIsNotAnnounced(t *testing.T) {
	svc := lbService("shop", corev1.ServiceExternalTrafficPolicyCluster, "192.0.2.100")
	svc.Annotations = nil
	if c := contributionOf(svc, nil, false); len(c.held) != 0 {
		t.Errorf("it adds %v", c.held)
	}
	svc.Status.Conditions = []metav1.Condition{{Type: service.ConditionAllocated, Status: metav1.ConditionTrue}}
	if c := contributionOf(svc, nil, false); len(c.held) != 1 {
		t.Errorf("with the condition it adds %v", c.held)
	}
}
