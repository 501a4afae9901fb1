package service

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	v4 = corev1.IPv4Protocol
	v6 = corev1.IPv6Protocol
)

// balanced returns a Service of type LoadBalancer, changed by each of edits.
func balanced(edits ...func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{}
	svc.Namespace, svc.Name = "web", "shop"
	svc.Spec.Type = corev1.ServiceTypeLoadBalancer
	svc.Spec.IPFamilies = []corev1.IPFamily{v4}
	for _, edit := range edits {
		edit(svc)
	}
	return svc
}

func class(name string) func(*corev1.Service) {
	return func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = &name }
}

func families(policy corev1.IPFamilyPolicy, families ...corev1.IPFamily) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Spec.IPFamilyPolicy = &policy
		svc.Spec.IPFamilies = families
	}
}

func TestWhichServicesAreOurs(t *testing.T) {
	clusterIP := func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP }
	deleted := func(svc *corev1.Service) { svc.DeletionTimestamp = &metav1.Time{} }
	for _, c := range []struct {
		name  string
		svc   *corev1.Service
		class string
		want  bool
	}{
		{"one without a class", balanced(), "", true},
		{"one of Herald's class", balanced(class("heraldlb.io/herald")), "", true},
		{"not one of another class", balanced(class("example.com/other")), "", false},
		{"not one of an empty class, which is a class too", balanced(class("")), "", false},
		{"not one that is no LoadBalancer", balanced(clusterIP), "", false},
		{"not one that is being deleted", balanced(deleted), "", false},
		{"with a class of our own, one of this class", balanced(class("example.com/b")), "example.com/b", true},
		{"with a class of our own, not one without a class", balanced(), "example.com/b", false},
		{"with a class of our own, not one of Herald's usual class", balanced(class(Class)), "example.com/b", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, got := Of(c.svc, c.class); got != c.want {
				t.Errorf("ours: %v, want %v", got, c.want)
			}
		})
	}
}

func TestWhichFamiliesAServiceWants(t *testing.T) {
	for _, c := range []struct {
		name     string
		svc      *corev1.Service
		families []corev1.IPFamily
		all      bool
	}{
		{"SingleStack wants exactly one", balanced(families(corev1.IPFamilyPolicySingleStack, v6)), []corev1.IPFamily{v6}, true},
		{"SingleStack wants the first of two", balanced(families(corev1.IPFamilyPolicySingleStack, v6, v4)), []corev1.IPFamily{v6}, true},
		{"RequireDualStack wants both or nothing", balanced(families(corev1.IPFamilyPolicyRequireDualStack, v4, v6)), []corev1.IPFamily{v4, v6}, true},
		{"PreferDualStack wants what can be had, its first family first", balanced(families(corev1.IPFamilyPolicyPreferDualStack, v6, v4)), []corev1.IPFamily{v6, v4}, false},
		{"PreferDualStack on a cluster of one family wants that one", balanced(families(corev1.IPFamilyPolicyPreferDualStack, v4)), []corev1.IPFamily{v4}, true},
		{"without spec.ipFamilies the cluster IPs tell", balanced(func(svc *corev1.Service) {
			svc.Spec.IPFamilies = nil
			svc.Spec.ClusterIPs = []string{"2001:db8::1"}
		}), []corev1.IPFamily{v6}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, ok := Of(c.svc, "")
			if !ok {
				t.Fatal("not ours")
			}
			if !reflect.DeepEqual(req.Families, c.families) || req.AllFamilies != c.all {
				t.Errorf("families %v, all %v; want %v, %v", req.Families, req.AllFamilies, c.families, c.all)
			}
		})
	}
}

func TestWhatAServiceHolds(t *testing.T) {
	holding := func(annotation string, ips ...string) *corev1.Service {
		return balanced(func(svc *corev1.Service) {
			if annotation != "" {
				svc.Annotations = map[string]string{AnnotationPool: annotation}
			}
			for _, ip := range ips {
				svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
			}
		})
	}
	a4, a6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, c := range []struct {
		name string
		svc  *corev1.Service
		want []Held
	}{
		{"nothing at first", balanced(), nil},
		{"addresses without a pool", holding("", "192.0.2.1"), []Held{{a4, ""}}},
		{"both addresses from the one pool named", holding("lan", "192.0.2.1", "2001:db8::1"), []Held{{a4, "lan"}, {a6, "lan"}}},
		{"each address from its own pool", holding("lan4,lan6", "192.0.2.1", "2001:db8::1"), []Held{{a4, "lan4"}, {a6, "lan6"}}},
		{"more addresses than pools named", holding("a,b", "192.0.2.1", "192.0.2.2", "192.0.2.3"),
			[]Held{{a4, "a"}, {netip.MustParseAddr("192.0.2.2"), "b"}, {netip.MustParseAddr("192.0.2.3"), ""}}},
		{"not what is no address", holding("lan", "", "nonsense"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, _ := Of(c.svc, "")
			if !reflect.DeepEqual(req.Held, c.want) {
				t.Errorf("holds %v, want %v", req.Held, c.want)
			}
			if want := (types.NamespacedName{Namespace: "web", Name: "shop"}); req.Key != want {
				t.Errorf("key %v, want %v", req.Key, want)
			}
		})
	}
}

func TestThePoolAnnotationSaysNoMoreThanNeeded(t *testing.T) {
	for want, pools := range map[string][]string{
		"":          nil,
		"lan":       {"lan", "lan"},
		"lan4,lan6": {"lan4", "lan6"},
	} {
		if got := PoolAnnotation(pools); got != want {
			t.Errorf("PoolAnnotation(%q) = %q, want %q", pools, got, want)
		}
	}
}

func TestMarksOfHerald(t *testing.T) {
	if Marked(balanced()) {
		t.Error("a Service that Herald never wrote on is marked")
	}
	condition := balanced(func(svc *corev1.Service) {
		svc.Status.Conditions = []metav1.Condition{{Type: "example.com/Other"}, {Type: ConditionAllocated, Reason: "x"}}
	})
	if !Marked(condition) || Condition(condition).Reason != "x" {
		t.Error("the condition is not seen")
	}
	if !Marked(balanced(func(svc *corev1.Service) { svc.Annotations = map[string]string{AnnotationPool: "lan"} })) {
		t.Error("the annotation is not seen")
	}
}

func TestWaitingBeginsWithCreationUnlessTheServiceWasOfAnotherTypeBefore(t *testing.T) {
	seen := time.Date(2026, 1, 1, 12, 0, 0, 500, time.UTC)
	for _, c := range []struct {
		name          string
		created, want time.Time
	}{
		{"just made", seen.Truncate(time.Second), seen.Truncate(time.Second)},
		{"made while one controller took over from another", seen.Add(-15 * time.Second), seen.Add(-15 * time.Second)},
		{"made long ago", seen.Add(-time.Hour), seen},
		{"made by a clock that is ahead of ours", seen.Add(time.Second), seen},
	} {
		svc := balanced()
		svc.CreationTimestamp = metav1.NewTime(c.created)
		if got := WaitingSince(svc, seen); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
