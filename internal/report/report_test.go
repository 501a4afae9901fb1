package report

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/service"
)

var now = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// speaker is one that does not see those that it misses.
func speaker(node string, misses ...string) v1beta1.Speaker {
	return v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: node}, Status: v1beta1.SpeakerStatus{
		Conditions: []metav1.Condition{{Type: v1beta1.SpeakerReady, Status: metav1.ConditionTrue}},
		Gossip:     v1beta1.GossipStatus{Missing: misses},
		Interfaces: []v1beta1.SpeakerInterface{{Name: "eth0", ARP: true, NDP: true, Subnets: []string{"192.0.2.0/24"}}},
	}}
}

func TestWhoIsUnseen(t *testing.T) {
	for _, c := range []struct {
		name     string
		speakers []v1beta1.Speaker
		want     string
	}{
		{"nobody, when all see each other", []v1beta1.Speaker{speaker("n1"), speaker("n2")}, ""},
		{"a dead one, whose own word is old", []v1beta1.Speaker{speaker("n1", "n3"), speaker("n2", "n3"), speaker("n3")}, "n3"},
		{"a dead one of two", []v1beta1.Speaker{speaker("n1", "n2"), speaker("n2")}, "n2"},
		{"two dead of four", []v1beta1.Speaker{speaker("n1", "n3", "n4"), speaker("n2", "n3", "n4"), speaker("n3"), speaker("n4")}, "n3 n4"},
		{"the lesser side of a partition", []v1beta1.Speaker{speaker("n1", "n2", "n3"), speaker("n2", "n1"), speaker("n3", "n1")}, "n1"},
		{"nobody, of two that are cut off from each other", []v1beta1.Speaker{speaker("n1", "n2"), speaker("n2", "n1")}, ""},
		{"not a single one", []v1beta1.Speaker{speaker("n1", "n2")}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Snapshot{Speakers: c.speakers}
			got := strings.Join(slices.Collect(func(yield func(string) bool) {
				for _, sp := range Speakers(s) {
					if sp.State == SpeakerUnseen {
						yield(sp.Node)
					}
				}
			}), " ")
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// said is a slice of a node about Service default/web, of lines "after address role [by] [via]".
func said(node string, lines ...string) v1beta1.AnnouncementSlice {
	out := v1beta1.AnnouncementSlice{ObjectMeta: metav1.ObjectMeta{Name: node}, NodeName: node}
	for _, line := range lines {
		f := append(strings.Fields(line), "", "", "")
		after, _ := time.ParseDuration(f[0])
		a := v1beta1.Announcement{Namespace: "default", Name: "web", Address: f[1], Role: v1beta1.AnnouncementRole(f[2]), Protocol: v1beta1.AnnouncementProtocol(f[3]),
			Since: metav1.NewMicroTime(now.Add(-time.Hour).Add(after))}
		if f[4] != "" && a.Protocol == v1beta1.ProtocolBGP {
			a.Peers = []string{f[4]}
		}
		out.Announcements = append(out.Announcements, a)
	}
	return out
}

func TestWhichWordCounts(t *testing.T) {
	three := []v1beta1.Speaker{speaker("n1"), speaker("n2"), speaker("n3")}
	dead := []v1beta1.Speaker{speaker("n1", "n3"), speaker("n2", "n3"), speaker("n3")}
	for _, c := range []struct {
		name     string
		speakers []v1beta1.Speaker
		slices   []v1beta1.AnnouncementSlice
		want     string
	}{
		{"of two owners by ARP the later", three, []v1beta1.AnnouncementSlice{said("n1", "1s 192.0.2.1 Owner L2"), said("n2", "2s 192.0.2.1 Owner L2")}, "n2 Owner"},
		{"of several that tell routers each", three, []v1beta1.AnnouncementSlice{said("n1", "1s 192.0.2.1 Owner BGP tor"), said("n2", "2s 192.0.2.1 Owner BGP tor")}, "n1 Owner, n2 Owner"},
		{"not that of a dead node", dead, []v1beta1.AnnouncementSlice{said("n3", "1s 192.0.2.1 Owner BGP tor")}, ""},
		{"not nobody, when there is somebody", three, []v1beta1.AnnouncementSlice{said("n1", "1s 192.0.2.1 None"), said("n2", "2s 192.0.2.1 Owner L2")}, "n2 Owner"},
		{"nobody, when there is nobody", three, []v1beta1.AnnouncementSlice{said("n1", "1s 192.0.2.1 None")}, "n1 None"},
		{"a stand-in beside the owner", three, []v1beta1.AnnouncementSlice{said("n1", "1s 192.0.2.1 Owner L2"), said("n2", "2s 192.0.2.1 StandIn L2")}, "n1 Owner, n2 StandIn"},
		{"nothing of what is no address", three, []v1beta1.AnnouncementSlice{said("n1", "1s nonsense Owner L2")}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, a := range Announcements(&Snapshot{Speakers: c.speakers, AnnouncementSlices: c.slices}, Filter{}) {
				got = append(got, a.Node+" "+string(a.Role))
			}
			if s := strings.Join(got, ", "); s != c.want {
				t.Errorf("%q, want %q", s, c.want)
			}
		})
	}
}

// routed is a cluster of two nodes whose one Service is told to the router tor by each.
func routed(states ...string) *Snapshot {
	asn := int64(64512)
	svc := corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Annotations: map[string]string{service.AnnotationPool: "lan"}},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}},
		Status:     corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}}},
	}
	s := &Snapshot{Now: now, Services: []corev1.Service{svc},
		EndpointSlices: []discoveryv1.EndpointSlice{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
			Endpoints:  []discoveryv1.Endpoint{{}}, // a virtual machine
		}},
		Resources: config.Resources{
			Pools:             []*v1beta1.IPAddressPool{{ObjectMeta: metav1.ObjectMeta{Name: "lan"}, Spec: v1beta1.IPAddressPoolSpec{Addresses: []string{"192.0.2.0/30"}}}},
			BGPAdvertisements: []*v1beta1.BGPAdvertisement{{ObjectMeta: metav1.ObjectMeta{Name: "lan"}}},
			BGPPeers:          []*v1beta1.BGPPeer{{ObjectMeta: metav1.ObjectMeta{Name: "tor"}, Spec: v1beta1.BGPPeerSpec{PeerAddress: "192.0.2.254", PeerASN: &asn, MyASN: &asn}}},
		},
	}
	for i, state := range states {
		node := fmt.Sprintf("n%d", i+1)
		sp := speaker(node)
		sp.Status.Sessions = []v1beta1.BGPSession{{Peer: "tor", State: state}}
		s.Speakers = append(s.Speakers, sp)
		s.Nodes = append(s.Nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}})
	}
	return s
}

func TestWhatIfRoutersLoseANode(t *testing.T) {
	if sim := Simulate(routed("Established", "Established"), Change{Without: []string{"n1"}}); sim.Harmful() || sim.Kept != 1 ||
		len(sim.Routers) != 1 || !slices.Equal(sim.Routers[0].Removed, []string{"n1"}) || sim.Routers[0].Nodes != 1 {
		t.Errorf("with another session: %+v", sim)
	}
	if sim := Simulate(routed("Established", "Idle"), Change{Without: []string{"n1"}}); !sim.Harmful() || len(sim.Lost) != 1 {
		t.Errorf("with no other session: %+v", sim)
	}
}

func TestWhatIfConfigurationIsApplied(t *testing.T) {
	pool := func(name string, addresses ...string) *v1beta1.IPAddressPool {
		return &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1beta1.IPAddressPoolSpec{Addresses: addresses}}
	}
	for _, c := range []struct {
		name    string
		apply   config.Resources
		harmful bool
		check   func(Simulation) bool
	}{
		{"a pool that is moved leaves its holder its address", config.Resources{Pools: []*v1beta1.IPAddressPool{pool("lan", "198.51.100.0/30")}}, false,
			func(s Simulation) bool { return s.Kept == 1 && len(s.Services) == 0 }},
		{"a pool with a mistake is refused, and its holder keeps its address", config.Resources{Pools: []*v1beta1.IPAddressPool{pool("lan", "nonsense")}}, true,
			func(s Simulation) bool {
				return len(s.Refused) == 1 && s.Refused[0].Object == "IPAddressPool/lan" && len(s.Services) == 0 && s.Kept == 1
			}},
		{"a newer pool that overlaps is refused", config.Resources{Pools: []*v1beta1.IPAddressPool{pool("a", "192.0.2.1/32")}}, true,
			func(s Simulation) bool { return len(s.Refused) == 1 && s.Refused[0].Reason == config.ReasonOverlap }},
		{"an advertisement that selects another pool leaves the address to nobody",
			config.Resources{
				Pools:             []*v1beta1.IPAddressPool{pool("wan", "198.51.100.0/30")},
				BGPAdvertisements: []*v1beta1.BGPAdvertisement{{ObjectMeta: metav1.ObjectMeta{Name: "lan"}, Spec: v1beta1.BGPAdvertisementSpec{IPAddressPools: []string{"wan"}}}},
			}, true,
			func(s Simulation) bool { return len(s.Lost) == 1 && s.Lost[0].Address == "192.0.2.1" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim := Simulate(routed("Established"), Change{Apply: &c.apply})
			if sim.Harmful() != c.harmful || !c.check(sim) {
				t.Errorf("harmful %v, want %v: %+v", sim.Harmful(), c.harmful, sim)
			}
		})
	}
}

func TestASettingIsReadHoweverItIsGiven(t *testing.T) {
	for _, c := range []struct {
		container corev1.Container
		want      string
	}{
		{corev1.Container{}, "crd"},
		{corev1.Container{Args: []string{"--config-source=configmap"}}, "configmap"},
		{corev1.Container{Args: []string{"-config-source", "configmap"}}, "configmap"},
		{corev1.Container{Command: []string{"/controller", "--config-source", "configmap"}}, "configmap"},
		{corev1.Container{Env: []corev1.EnvVar{{Name: "HERALD_CONFIG_SOURCE", Value: "configmap"}}}, "configmap"},
		{corev1.Container{Args: []string{"--config-source=crd"}, Env: []corev1.EnvVar{{Name: "HERALD_CONFIG_SOURCE", Value: "configmap"}}}, "crd"},
		{corev1.Container{Args: []string{"config-source=x", "--config-sources=y"}}, "crd"},
	} {
		if got := Setting(corev1.PodSpec{Containers: []corev1.Container{c.container}}, "config-source", "crd"); got != c.want {
			t.Errorf("%+v: %q, want %q", c.container, got, c.want)
		}
	}
}

func TestHowFullAPoolIs(t *testing.T) {
	for _, c := range []struct {
		total, available string
		want             int
	}{
		{"0", "0", 0}, {"4", "4", 0}, {"4", "1", 75}, {"4", "0", 100}, {"nonsense", "1", 0},
		{"340282366920938463463374607431768211456", "340282366920938463463374607431768211455", 1},
		{"1000", "1", 99},
	} {
		if got := family(corev1.IPv6Protocol, &v1beta1.AddressCounts{Total: c.total, Available: c.available}).Percent; got != c.want {
			t.Errorf("%s of %s free: %d, want %d", c.available, c.total, got, c.want)
		}
	}
}

func TestWhyAServiceIsNotServed(t *testing.T) {
	for _, c := range []struct {
		name  string
		class string
		edit  func(*corev1.Service)
		want  string // of the advice
	}{
		{"another type", "", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }, "set spec.type: LoadBalancer"},
		{"no class, where one is wanted", "example.com/b", func(*corev1.Service) {}, "spec.loadBalancerClass: example.com/b"},
		{"no controller has seen it", "", func(s *corev1.Service) { s.Annotations = nil }, "see that a controller is ready"},
		{"a request that cannot be meant", "", func(s *corev1.Service) { s.Annotations[service.AnnotationAddresses] = "nonsense" }, "correct the Service: InvalidAddress"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := routed("Established")
			s.Class = c.class
			c.edit(&s.Services[0])
			e := Explain(s, &s.Services[0])
			if e.Verdict != VerdictFailed || len(e.Advice) == 0 || !strings.Contains(e.Advice[0], c.want) {
				t.Errorf("%s, advice %q, want %q", e.Verdict, e.Advice, c.want)
			}
		})
	}
}

func TestAnnouncementsAreChosen(t *testing.T) {
	s := &Snapshot{AnnouncementSlices: []v1beta1.AnnouncementSlice{said("n1", "1s 192.0.2.1 Owner L2", "1s 192.0.2.2 None")}}
	for want, f := range map[int]Filter{2: {}, 1: {Node: "n1"}, 0: {Service: "default/other"}} {
		if got := Announcements(s, f); len(got) != want {
			t.Errorf("%+v: %v", f, got)
		}
	}
	if got := Announcements(s, Filter{IP: netip.MustParseAddr("192.0.2.2")}); len(got) != 1 || got[0].Role != v1beta1.RoleNone {
		t.Errorf("of an address: %v", got)
	}
}

func TestAnEstablishedSessionWhosePathIsNotWatchedIsTold(t *testing.T) {
	for bfd, want := range map[string]int{"": 0, "Up": 0, "Down": 1, "Init": 1} {
		s := routed("Established")
		s.Speakers[0].Status.Sessions[0].BFD = bfd
		found := slices.DeleteFunc(StatusOf(s).Findings, func(f Finding) bool { return f.Reason != "BFDDown" })
		if len(found) != want {
			t.Errorf("BFD %q: %+v, want %d", bfd, found, want)
		}
	}
}

func TestAnotherHeraldIsARivalAndThisOneIsNot(t *testing.T) {
	s := &Snapshot{Namespace: "herald-system"}
	for namespace, want := range map[string]int{"herald-system": 0, "herald-lab": 1} {
		got := rivals(s, Facts{Workloads: []Workload{{"Deployment", namespace, "herald-controller", []string{"localhost/herald-controller:dev"}}}})
		if len(got) != want {
			t.Errorf("in %s: %+v, want %d", namespace, got, want)
		}
	}
}

func TestDocumentsThatCannotBeReadAreTold(t *testing.T) {
	s := routed("Established")
	s.Source = "ConfigMap herald-system/herald-config"
	s.Documents = []metav1.Condition{{Type: "Accepted", Status: metav1.ConditionFalse, Reason: config.ReasonInvalidDocument, Message: "line 4"}}
	if !slices.ContainsFunc(StatusOf(s).Findings, func(f Finding) bool {
		return f.Object == "ConfigMap/herald-system/herald-config" && f.Reason == config.ReasonInvalidDocument && f.Message == "line 4"
	}) {
		t.Errorf("findings are %+v", StatusOf(s).Findings)
	}
	s.Documents[0].Status = metav1.ConditionTrue
	if slices.ContainsFunc(StatusOf(s).Findings, func(f Finding) bool { return strings.HasPrefix(f.Object, "ConfigMap/") }) {
		t.Error("documents that are in force are a finding")
	}
}
