package report

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
)

// healthy is a cluster of two nodes in which nothing is wrong.
func healthy() (*Snapshot, Facts) {
	s := &Snapshot{Namespace: "herald-system"}
	for _, name := range []string{"n1", "n2"} {
		s.Nodes = append(s.Nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
		s.Speakers = append(s.Speakers, v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1beta1.SpeakerStatus{Version: "v1", Conditions: []metav1.Condition{
			{Type: v1beta1.SpeakerReady, Status: metav1.ConditionTrue}, {Type: v1beta1.SpeakerServicePathHealthy, Status: metav1.ConditionTrue},
		}}})
		s.Pods = append(s.Pods, corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}})
	}
	one := int32(1)
	s.Deployment = &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: &one}, Status: appsv1.DeploymentStatus{ReadyReplicas: 1}}
	s.DaemonSet = &appsv1.DaemonSet{}
	return s, Facts{ServerMinor: leastMinor, ServerVersion: "v1.32.0"}
}

func TestWhatTheDoctorFinds(t *testing.T) {
	said := func(s *Snapshot, node int, condition string, status metav1.ConditionStatus) {
		all := slices.DeleteFunc(s.Speakers[node].Status.Conditions, func(c metav1.Condition) bool { return c.Type == condition })
		s.Speakers[node].Status.Conditions = append(all, metav1.Condition{Type: condition, Status: status, Message: "for a reason"})
	}
	cases := []struct {
		check, reason string
		wrong         func(s *Snapshot, f *Facts)
	}{
		{"Kubernetes is new enough", "UnsupportedKubernetes", func(s *Snapshot, f *Facts) { f.ServerMinor = leastMinor - 1 }},
		{"CustomResourceDefinitions are installed", "NotInstalled", func(s *Snapshot, f *Facts) { s.Unread = []Unread{{What: "Speakers", NoKind: true}} }},
		{"Herald's programs may do what they need", "NotAllowed", func(s *Snapshot, f *Facts) {
			f.Rights = []Right{{Account: "herald-speaker", Verb: "list", Resource: "services", Reviewed: true}}
		}},
		{"controllers work, and one leads", "NoControllerReady", func(s *Snapshot, f *Facts) { s.Deployment.Status.ReadyReplicas = 0 }},
		{"Herald's pods run", "PodNotReady", func(s *Snapshot, f *Facts) { s.Pods[0].Status.Conditions = nil }},
		{"all programs are of one version", "VersionSkew", func(s *Snapshot, f *Facts) { s.Speakers[0].Status.Version = "v2" }},
		{"speakers see each other and announce", "MembersMissing", func(s *Snapshot, f *Facts) {
			for i := range s.Speakers { // each is cut off from the other
				s.Speakers[i].Status.Gossip.Missing = []string{s.Speakers[1-i].Name}
			}
		}},
		{"speakers see each other and announce", "SpeakerUnseen", func(s *Snapshot, f *Facts) { s.Speakers[0].Status.Gossip.Missing = []string{"n2"} }},
		{"speakers see each other and announce", "SpeakerNotReady", func(s *Snapshot, f *Facts) { said(s, 1, v1beta1.SpeakerReady, metav1.ConditionFalse) }},
		{"speakers see each other and announce", "SpeakerAbsent", func(s *Snapshot, f *Facts) { s.Speakers = s.Speakers[:1] }},
		{"kube-proxy, or what takes its place, works", "ServicePathDown", func(s *Snapshot, f *Facts) { said(s, 1, v1beta1.SpeakerServicePathHealthy, metav1.ConditionFalse) }},
		{"kernels let clients' packets in", "ReversePathFiltered", func(s *Snapshot, f *Facts) { said(s, 1, v1beta1.SpeakerReversePathFiltered, metav1.ConditionTrue) }},
		{"kernels leave the addresses to speakers (strict ARP)", "KernelAnswers", func(s *Snapshot, f *Facts) {
			s.Speakers[0].Status.KernelAddresses = []v1beta1.KernelAddress{{Address: "192.0.2.1", Bound: "kube-ipvs0", Interface: "eth0"}}
		}},
		{"no other host uses the addresses", "AddressConflict", func(s *Snapshot, f *Facts) {
			s.Speakers[0].Status.Conflicts = []v1beta1.AddressConflict{{Address: "192.0.2.1", MAC: "02:00:00:00:00:01", Interface: "eth0"}}
		}},
		{"no other load balancer serves the same Services", "OtherLoadBalancer", func(s *Snapshot, f *Facts) {
			f.Workloads = []Workload{{Kind: "Deployment", Namespace: "purelb", Name: "allocator", Images: []string{"registry/purelb/allocator:v1"}}}
		}},
		{"no other load balancer serves the same Services", "AddressOfAnother", func(s *Snapshot, f *Facts) {
			svc := corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer}}
			svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
			s.Services = []corev1.Service{svc}
		}},
		{"some node may announce", "EveryNodeExcluded", func(s *Snapshot, f *Facts) {
			for i := range s.Nodes {
				s.Nodes[i].Labels = map[string]string{corev1.LabelNodeExcludeBalancers: ""}
			}
		}},
		{"the configuration is accepted", "InvalidAddresses", func(s *Snapshot, f *Facts) {
			s.Resources.Pools = []*v1beta1.IPAddressPool{{ObjectMeta: metav1.ObjectMeta{Name: "lan"}, Spec: v1beta1.IPAddressPoolSpec{Addresses: []string{"nonsense"}}}}
		}},
		{"the configuration is accepted", "InvalidDocument", func(s *Snapshot, f *Facts) {
			s.FromConfigMap, s.Source = true, "ConfigMap herald-system/herald-config"
			s.Documents = []metav1.Condition{{Type: "Accepted", Status: metav1.ConditionFalse, Reason: "InvalidDocument", Message: "line 3"}}
		}},
	}
	s, f := healthy()
	found := map[string]bool{}
	for _, c := range Diagnose(s, f) {
		if c.Verdict != VerdictOK || len(c.Findings) > 0 {
			t.Errorf("of a healthy cluster it says %+v", c)
		}
		found[c.Name] = false
	}
	for _, tc := range cases {
		t.Run(tc.reason, func(t *testing.T) {
			s, f := healthy()
			tc.wrong(s, &f)
			for _, c := range Diagnose(s, f) {
				if c.Name != tc.check {
					continue
				}
				found[c.Name] = true
				i := slices.IndexFunc(c.Findings, func(f Finding) bool { return f.Reason == tc.reason })
				if i < 0 || c.Verdict != VerdictFailed && c.Verdict != VerdictWarning {
					t.Fatalf("it says %+v", c)
				}
				// What is wrong with a configuration object says itself what to write.
				if f := c.Findings[i]; f.Object == "" || f.Message == "" || f.Remedy == "" && tc.reason != "InvalidAddresses" {
					t.Errorf("a finding lacks something: %+v", f)
				}
			}
		})
	}
	for name, is := range found {
		if !is {
			t.Errorf("no test has %q find anything", name)
		}
	}
}
