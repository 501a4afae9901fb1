package kube

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/service"
)

var (
	then = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now  = then.Add(time.Hour)
)

func assigned(message string) *metav1.Condition {
	return &metav1.Condition{Status: metav1.ConditionTrue, Reason: service.ReasonAssigned, Message: message}
}

// apply patches a Service as the API server would.
func apply(t *testing.T, svc *corev1.Service, patch []byte) *corev1.Service {
	t.Helper()
	before, err := json.Marshal(svc)
	if err != nil {
		t.Fatal(err)
	}
	after, err := strategicpatch.StrategicMergePatch(before, patch, corev1.Service{})
	if err != nil {
		t.Fatalf("patch %s: %v", patch, err)
	}
	out := &corev1.Service{}
	if err := json.Unmarshal(after, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAPatchMakesTheStatusAndTheNextOneIsNone(t *testing.T) {
	foreign := metav1.Condition{Type: "example.com/Other", Status: metav1.ConditionTrue, Reason: "Other", LastTransitionTime: metav1.NewTime(then)}
	start := &corev1.Service{}
	start.Namespace, start.Name, start.ResourceVersion = "web", "shop", "7"
	start.Annotations = map[string]string{"example.com/keep": "me"}
	start.Status.Conditions = []metav1.Condition{foreign}
	a4, a6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")

	svc := start
	for _, step := range []struct {
		sentence string
		want     ServiceStatus
	}{
		{"two addresses are given", ServiceStatus{Addresses: []netip.Addr{a4, a6}, Pool: "lan", Allocated: assigned("both")}},
		{"one is taken back and the pool's name changes", ServiceStatus{Addresses: []netip.Addr{a6}, Pool: "six", Allocated: assigned("one")}},
		{"the last is taken back", ServiceStatus{Allocated: &metav1.Condition{Status: metav1.ConditionFalse, Reason: "PoolExhausted"}}},
		{"all traces are removed", ServiceStatus{}},
	} {
		patch, err := ServicePatch(svc, step.want, now)
		if err != nil || patch == nil {
			t.Fatalf("%s: patch %s, %v", step.sentence, patch, err)
		}
		var head struct{ Metadata metav1.ObjectMeta }
		if err := json.Unmarshal(patch, &head); err != nil || head.Metadata.ResourceVersion != "7" {
			t.Errorf("%s: the patch %s does not hold the version it was decided on", step.sentence, patch)
		}
		svc = apply(t, svc, patch)
		if again, err := ServicePatch(svc, step.want, now); err != nil || again != nil {
			t.Errorf("%s: a second patch %s, %v", step.sentence, again, err)
		}
		if svc.Annotations["example.com/keep"] != "me" || meta.FindStatusCondition(svc.Status.Conditions, foreign.Type) == nil {
			t.Errorf("%s: it touched what is not ours: %v %v", step.sentence, svc.Annotations, svc.Status.Conditions)
		}
	}
	if service.Marked(svc) || len(svc.Status.LoadBalancer.Ingress) > 0 {
		t.Errorf("traces are left: %v %v", svc.Annotations, svc.Status)
	}
}

func TestAnIngressThatIsNotOursToWriteStays(t *testing.T) {
	svc := &corev1.Service{}
	svc.Annotations = map[string]string{service.AnnotationPool: "lan"}
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.9"}}
	patch, err := ServicePatch(svc, ServiceStatus{OthersIngress: true}, now)
	if err != nil {
		t.Fatal(err)
	}
	after := apply(t, svc, patch)
	if service.Marked(after) || len(after.Status.LoadBalancer.Ingress) != 1 {
		t.Errorf("after the patch: %v %v", after.Annotations, after.Status)
	}
}

func TestTheTransitionTimeChangesWithTheStatusOnly(t *testing.T) {
	svc := &corev1.Service{}
	svc.Status.Conditions = []metav1.Condition{{Type: service.ConditionAllocated, Status: metav1.ConditionTrue, Reason: "x", LastTransitionTime: metav1.NewTime(then)}}
	at := func(want *metav1.Condition) time.Time {
		patch, err := ServicePatch(svc, ServiceStatus{Allocated: want}, now)
		if err != nil {
			t.Fatal(err)
		}
		return service.Condition(apply(t, svc, patch)).LastTransitionTime.UTC()
	}
	if got := at(assigned("other words")); got != then {
		t.Errorf("other words: transition at %v, want %v", got, then)
	}
	if got := at(&metav1.Condition{Status: metav1.ConditionFalse, Reason: "PoolExhausted"}); got != now {
		t.Errorf("another status: transition at %v, want %v", got, now)
	}
}

func TestConditionsOfAConfigurationObject(t *testing.T) {
	p := &v1beta1.IPAddressPool{}
	p.Generation, p.ResourceVersion = 3, "9"
	have := []metav1.Condition{
		{Type: "example.com/Other", Status: metav1.ConditionTrue, Reason: "Other"},
		{Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Accepted", ObservedGeneration: 2, LastTransitionTime: metav1.NewTime(then)},
	}
	want := []metav1.Condition{{Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Accepted"}}
	patch, err := StatusPatch(p, v1beta1.IPAddressPoolStatus{Conditions: have}, v1beta1.IPAddressPoolStatus{Conditions: want}, now)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Metadata metav1.ObjectMeta
		Status   v1beta1.IPAddressPoolStatus
	}
	if err := json.Unmarshal(patch, &got); err != nil {
		t.Fatal(err)
	}
	c := got.Status.Conditions
	if got.Metadata.ResourceVersion != "9" || len(c) != 2 || c[0].Type != "example.com/Other" || c[1].ObservedGeneration != 3 || c[1].LastTransitionTime.UTC() != then {
		t.Errorf("patch %s", patch)
	}
	if again, err := StatusPatch(p, v1beta1.IPAddressPoolStatus{Conditions: c}, v1beta1.IPAddressPoolStatus{Conditions: want}, now); err != nil || again != nil {
		t.Errorf("a second patch %s, %v", again, err)
	}
}

func TestANoteIsCutAtARune(t *testing.T) {
	for in, want := range map[string]string{"short": "short", "0123456789x": "0123456...", "012345ßßßßß": "012345..."} {
		if got := cut(in, 10); got != want {
			t.Errorf("cut(%q) = %q, want %q", in, got, want)
		}
	}
}
