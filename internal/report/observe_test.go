package report

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
)

// observed is a cluster in which somebody else gave Services the addresses, with Herald's controllers and speakers observing.
func observed(services ...corev1.Service) *Snapshot {
	n1 := speaker("n1")
	n1.Status.Observing = true
	s := &Snapshot{Now: now, Namespace: "herald-system", Services: services, Speakers: []v1beta1.Speaker{n1}, Deployment: &appsv1.Deployment{}}
	s.Resources = config.Resources{Pools: []*v1beta1.IPAddressPool{{ObjectMeta: metav1.ObjectMeta{Name: "lan"}, Spec: v1beta1.IPAddressPoolSpec{Addresses: []string{"192.0.2.0/31"}}}}}
	s.Deployment.Spec.Template.Spec.Containers = []corev1.Container{{Env: []corev1.EnvVar{{Name: "HERALD_OBSERVE", Value: "true"}}}}
	return s
}

func given(name string, addresses ...string) corev1.Service {
	svc := corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	svc.Spec.Type, svc.Spec.IPFamilies = corev1.ServiceTypeLoadBalancer, []corev1.IPFamily{corev1.IPv4Protocol}
	for _, a := range addresses {
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
	}
	return svc
}

func TestWhatHeraldWouldMakeOfServices(t *testing.T) {
	s := observed(given("web", "192.0.2.1"), given("stray", "203.0.113.1"), given("late"), given("later"))
	s.AnnouncementSlices = []v1beta1.AnnouncementSlice{said("n1", "0s 192.0.2.1 Observed L2")}
	var got []string
	for _, o := range Observations(s) {
		got = append(got, fmt.Sprint(o.Service, " ", o.Has, o.Herald, o.Pools, " ", o.Verdict, " ", o.Announced, " ", o.Keeps()))
	}
	want := []string{
		"default/late [] [192.0.2.0] [lan] new [] true",
		"default/later [] [] [] none [] false",
		"default/stray [203.0.113.1] [] [] none [] false",
		"default/web [192.0.2.1] [192.0.2.1] [lan] same [L2 n1] true",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTheStatusSaysThatHeraldObserves(t *testing.T) {
	s := observed(given("web", "192.0.2.1"))
	s.AnnouncementSlices = []v1beta1.AnnouncementSlice{said("n1", "0s 192.0.2.1 Observed L2")}
	st := StatusOf(s)
	var found []string
	for _, f := range st.Findings {
		if f.Reason == "Observing" {
			found = append(found, f.Object)
		}
	}
	if got, want := strings.Join(found, ", "), "DaemonSet/herald-system/herald-speaker, Deployment/herald-system/herald-controller"; got != want {
		t.Errorf("it says so of %s, want %s", got, want)
	}
	if st.Services != (Services{Total: 1, Addressed: 1, Announced: 1}) || !st.Controllers.Observing || st.Speakers[0].Addresses != 1 {
		t.Errorf("%+v", st)
	}

	// With the controller at work, an address that is only observed is announced by nobody.
	s.Deployment.Spec.Template.Spec.Containers[0].Env = nil
	st = StatusOf(s)
	if st.Services.Announced != 0 || st.Controllers.Observing {
		t.Errorf("%+v", st)
	}
}

func TestWhichControllerObserves(t *testing.T) {
	for _, tc := range []struct {
		c    corev1.Container
		want bool
	}{
		{corev1.Container{}, false},
		{corev1.Container{Args: []string{"--observe"}}, true},
		{corev1.Container{Args: []string{"--observe=false"}}, false},
		{corev1.Container{Args: []string{"--observe=true", "--log-level=debug"}}, true},
		{corev1.Container{Env: []corev1.EnvVar{{Name: "HERALD_OBSERVE", Value: "true"}}}, true},
		{corev1.Container{Env: []corev1.EnvVar{{Name: "HERALD_OBSERVE", Value: "perhaps"}}}, false},
	} {
		s := observed()
		s.Deployment.Spec.Template.Spec.Containers = []corev1.Container{tc.c}
		if got := s.Observes(); got != tc.want {
			t.Errorf("%+v observes: %v", tc.c, got)
		}
	}
}
