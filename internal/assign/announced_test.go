package assign

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/kube/kubetest"
	"heraldlb.io/herald/internal/service"
)

// byL2 is what a node tells of an address at a second.
func byL2(node, address string, role v1beta1.AnnouncementRole, second int64) heard {
	a := v1beta1.Announcement{Namespace: "web", Name: "shop", Address: address, Role: role, Protocol: v1beta1.ProtocolL2, Since: metav1.NewMicroTime(time.Unix(second, 0))}
	if role == v1beta1.RoleNone {
		a.Protocol, a.Reason, a.Message = "", v1beta1.ReasonNoEndpoints, "no pod is ready"
	}
	return heard{a, node, true}
}

// contested is h of an address that a stranger uses.
func contested(h heard) heard {
	h.Reason, h.Message = v1beta1.ReasonAddressConflict, "somebody uses it"
	return h
}

func byBGP(node, address string, ready bool, peers ...string) heard {
	return heard{v1beta1.Announcement{Namespace: "web", Name: "shop", Address: address, Role: v1beta1.RoleOwner, Protocol: v1beta1.ProtocolBGP, Peers: peers}, node, ready}
}

func TestWhatIsMadeOfWhatSpeakersTell(t *testing.T) {
	const four, six = "192.0.2.1", "2001:db8::1"
	for _, tc := range []struct {
		name  string
		heard []heard
		addrs []string
		want  string
	}{
		{"one whose speaker only observes is no owner", []heard{byL2("n1", four, v1beta1.RoleObserved, 1)}, []string{four},
			"False Observing 192.0.2.1 is announced by nobody: the speaker of node n1 only observes (--observe)"},
		{"one that announces counts beside those that observe", []heard{byL2("n1", four, v1beta1.RoleObserved, 2), byL2("n2", four, v1beta1.RoleOwner, 1)}, []string{four},
			"True Announced 192.0.2.1 is announced by L2 from node n2"},
		{"an owner announces", []heard{byL2("n1", four, v1beta1.RoleOwner, 1)}, []string{four}, "True Announced 192.0.2.1 is announced by L2 from node n1"},
		{"also while another one stands in", []heard{byL2("n1", four, v1beta1.RoleOwner, 1), byL2("n2", four, v1beta1.RoleStandIn, 2)}, []string{four},
			"True Announced 192.0.2.1 is announced by L2 from node n1"},
		{"of two owners one is dead: the earlier", []heard{byL2("n2", four, v1beta1.RoleOwner, 2), byL2("n1", four, v1beta1.RoleOwner, 1)}, []string{four},
			"True Announced 192.0.2.1 is announced by L2 from node n2"},
		{"nobody does, since the owner died", []heard{byL2("n1", four, v1beta1.RoleOwner, 1), byL2("n2", four, v1beta1.RoleNone, 2)}, []string{four},
			"False NoEndpoints 192.0.2.1 is announced by no node: no pod is ready"},
		{"who said so has died, and somebody does", []heard{byL2("n1", four, v1beta1.RoleOwner, 2), byL2("n2", four, v1beta1.RoleNone, 1)}, []string{four},
			"True Announced 192.0.2.1 is announced by L2 from node n1"},
		{"routers listen", []heard{byBGP("n2", four, true, "tor"), byBGP("n1", four, true, "tor")}, []string{four}, "True Announced 192.0.2.1 is announced by BGP from nodes n1, n2"},
		{"to many", []heard{byBGP("n2", four, true, "a"), byBGP("n1", four, true, "a"), byBGP("n3", four, true, "a"), byBGP("n4", four, true, "a"), byBGP("n5", four, true, "a")}, []string{four},
			"True Announced 192.0.2.1 is announced by BGP from nodes n1, n2, n3 and 2 more"},
		{"to both protocols", []heard{byBGP("n2", four, true, "tor"), byL2("n1", four, v1beta1.RoleOwner, 1)}, []string{four},
			"True Announced 192.0.2.1 is announced by L2 from node n1 and by BGP from node n2"},
		{"no router listens", []heard{byBGP("n1", four, true), byBGP("n2", four, true)}, []string{four},
			"False NoSession 192.0.2.1 is announced by nobody: no router has a BGP session with nodes n1, n2: see status.sessions of the Speakers of these names"},
		{"L2 does it alone then", []heard{byBGP("n1", four, true), byL2("n1", four, v1beta1.RoleOwner, 1)}, []string{four}, "True Announced 192.0.2.1 is announced by L2 from node n1"},
		{"a node that is not Ready is not counted while others are", []heard{byBGP("n1", four, false, "tor"), byBGP("n2", four, true, "tor")}, []string{four},
			"True Announced 192.0.2.1 is announced by BGP from node n2"},
		{"and leaves a doubt when none is", []heard{byBGP("n1", four, false, "tor"), byBGP("n2", four, true)}, []string{four},
			"Unknown NodesNotReady 192.0.2.1 was announced by BGP from node n1, of which none is Ready now"},
		{"a stranger uses it too", []heard{contested(byL2("n1", four, v1beta1.RoleOwner, 1))}, []string{four},
			"True AddressConflict 192.0.2.1 is announced by L2 from node n1, but somebody uses it"},
		{"and the other family is all right", []heard{contested(byL2("n1", four, v1beta1.RoleOwner, 1)), byL2("n1", six, v1beta1.RoleOwner, 1)}, []string{four, six},
			"True AddressConflict 192.0.2.1 is announced by L2 from node n1, but somebody uses it; 2001:db8::1 is announced by L2 from node n1"},
		{"a stranger had it first", []heard{contested(byL2("n1", four, v1beta1.RoleNone, 1))}, []string{four},
			"False AddressConflict 192.0.2.1 is announced by no node: somebody uses it"},
		{"what is false counts before a stranger", []heard{contested(byL2("n1", four, v1beta1.RoleOwner, 1)), byL2("n2", six, v1beta1.RoleNone, 1)}, []string{four, six},
			"False NoEndpoints 192.0.2.1 is announced by L2 from node n1, but somebody uses it; 2001:db8::1 is announced by no node: no pod is ready"},
		{"nobody tells anything", nil, []string{four}, "Unknown NotReported 192.0.2.1 is mentioned by no speaker: see whether they are ready: kubectl get speakers"},
		{"both families", []heard{byL2("n1", four, v1beta1.RoleOwner, 1), byL2("n2", six, v1beta1.RoleOwner, 1)}, []string{four, six},
			"True Announced 192.0.2.1 is announced by L2 from node n1; 2001:db8::1 is announced by L2 from node n2"},
		{"one of both", []heard{byL2("n1", four, v1beta1.RoleOwner, 1), byL2("n2", six, v1beta1.RoleNone, 1)}, []string{four, six},
			"False NoEndpoints 192.0.2.1 is announced by L2 from node n1; 2001:db8::1 is announced by no node: no pod is ready"},
		{"what is false counts before what is not known", []heard{byL2("n2", six, v1beta1.RoleNone, 1)}, []string{four, six},
			"False NoEndpoints 192.0.2.1 is mentioned by no speaker: see whether they are ready: kubectl get speakers; 2001:db8::1 is announced by no node: no pod is ready"},
	} {
		var addrs []netip.Addr
		for _, a := range tc.addrs {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		for range 2 { // whatever the order
			c, unreported := fold(addrs, tc.heard)
			if got := fmt.Sprint(c.Status, " ", c.Reason, " ", c.Message); got != tc.want || unreported != strings.Contains(tc.want, "mentioned by no speaker") {
				t.Errorf("%s: %q, unreported %v; want %q", tc.name, got, unreported, tc.want)
			}
			slices.Reverse(tc.heard)
		}
	}
}

func (w *world) node(name string) {
	n := &corev1.Node{}
	n.Name = name
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	w.Create("nodes", n)
}

// announces makes a slice in which a node tells this of Services.
func (w *world) announces(node string, all ...heard) {
	s := &v1beta1.AnnouncementSlice{NodeName: node}
	s.Name = node + "-0"
	for _, h := range all {
		s.Announcements = append(s.Announcements, h.Announcement)
	}
	if slices.ContainsFunc(w.AnnouncementSlices(), func(o *v1beta1.AnnouncementSlice) bool { return o.Name == s.Name }) {
		w.EditAnnouncementSlice(s.Name, func(o *v1beta1.AnnouncementSlice) { o.Announcements = s.Announcements })
		return
	}
	w.Create("announcementslices", s)
}

// says waits until a Service's condition Announced is this.
func (w *world) says(when, name, want string) {
	w.t.Helper()
	got := ""
	kubetest.Eventually(w.t, fmt.Sprintf("%s: Service %s is %q", when, name, want), func() bool {
		got = "none"
		if c := service.Announced(w.Service("web", name)); c != nil {
			got = fmt.Sprint(c.Status, " ", c.Reason, " ", c.Message)
		}
		return got == want
	})
}

func serviceWrites(w *world) (n int) {
	for _, write := range w.Writes() {
		if strings.HasPrefix(write, "PATCH services/status") {
			n++
		}
	}
	return n
}

func TestAServiceSaysWhoAnnouncesIt(t *testing.T) {
	w := newWorld(t)
	w.pool("lan", "192.0.2.1-192.0.2.9")
	w.node("n1")
	w.node("n2")
	stop := w.start("")
	w.service("shop")
	w.shows("shop", "192.0.2.1 @lan True:AddressAssigned")
	w.says("no speaker runs", "shop", "Unknown NotReported 192.0.2.1 is mentioned by no speaker: see whether they are ready: kubectl get speakers")
	w.announces("n1", byL2("n1", "192.0.2.1", v1beta1.RoleOwner, 1))
	w.says("an owner", "shop", "True Announced 192.0.2.1 is announced by L2 from node n1")

	before := serviceWrites(w)
	for i := range 50 {
		h := byL2("n1", "192.0.2.1", v1beta1.RoleOwner, 1)
		h.Interfaces = []string{fmt.Sprint("eth", i)} // nothing that the condition tells
		w.announces("n1", h)
	}
	w.announces("n2", byL2("n2", "192.0.2.1", v1beta1.RoleOwner, 2))
	w.says("it moved", "shop", "True Announced 192.0.2.1 is announced by L2 from node n2")
	if n := serviceWrites(w) - before; n != 1 {
		t.Errorf("a move cost %d writes, want 1", n)
	}

	w.announces("n1")
	w.announces("n2", byL2("n2", "192.0.2.1", v1beta1.RoleNone, 3))
	w.says("its pods are gone", "shop", "False NoEndpoints 192.0.2.1 is announced by no node: no pod is ready")
	w.announces("n2", byBGP("n2", "192.0.2.1", true, "tor"))
	w.announces("n2", func() heard {
		h := byBGP("n2", "192.0.2.1", true, "tor")
		h.Namespace, h.Name = "web", "shop"
		return h
	}())
	w.says("routers listen", "shop", "True Announced 192.0.2.1 is announced by BGP from node n2")
	w.EditNode("n2", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown })
	w.says("their node is silent", "shop", "Unknown NodesNotReady 192.0.2.1 was announced by BGP from node n2, of which none is Ready now")
	w.EditNode("n2", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionTrue })
	w.says("and back", "shop", "True Announced 192.0.2.1 is announced by BGP from node n2")

	before = serviceWrites(w)
	stop()
	stop = w.start("")
	w.service("blog")
	w.shows("blog", "192.0.2.2 @lan True:AddressAssigned")
	w.says("another controller", "blog", "Unknown NotReported 192.0.2.2 is mentioned by no speaker: see whether they are ready: kubectl get speakers")
	if n := serviceWrites(w) - before; n != 2 {
		t.Errorf("a controller that starts made %d writes, want the 2 of the new Service", n)
	}
	w.EditService("web", "shop", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP })
	w.says("it needs none", "shop", "none")
	stop()
}

func TestWhatSpeakersTellIsWrittenAtLeisure(t *testing.T) {
	const n = 40
	w := newWorld(t)
	w.pool("lan", "192.0.2.0/24")
	w.node("n1")
	var all []heard
	for i := range n {
		addr := fmt.Sprint("192.0.2.", i)
		name := fmt.Sprint("s", i)
		w.service(name, holding("lan", addr))
		h := byL2("n1", addr, v1beta1.RoleOwner, 1)
		h.Name = name
		all = append(all, h)
	}
	w.announces("n1", all...)
	w.start("")
	kubetest.Eventually(t, "all Services have their condition", func() bool { return w.settled() })
	first := time.Now()
	before := serviceWrites(w)
	kubetest.Eventually(t, "all Services say who announces them", func() bool {
		return !slices.ContainsFunc(w.Services(), func(svc *corev1.Service) bool { return service.Announced(svc) == nil })
	})
	took, wrote := time.Since(first), serviceWrites(w)-before
	if most := int(took/followEvery) + 2; wrote > most {
		t.Errorf("%d writes in %v are more than 20 a second", wrote, took)
	}
	if total := serviceWrites(w); total > 2*n {
		t.Errorf("%d Services took %d writes", n, total)
	}

	// All move, and one of them is lost, the last in line: that comes first.
	w.node("n2")
	for i := range all {
		all[i].Since = metav1.NewMicroTime(time.Unix(2, 0))
	}
	lost := &all[n-1].Announcement
	lost.Role, lost.Protocol, lost.Reason, lost.Message = v1beta1.RoleNone, "", v1beta1.ReasonNoEndpoints, "no pod is ready"
	w.announces("n2", all...)
	w.says("the lost one", lost.Name, "False NoEndpoints "+lost.Address+" is announced by no node: no pod is ready")
	moved := 0
	for _, svc := range w.Services() {
		if strings.Contains(service.Announced(svc).Message, "from node n2") {
			moved++
		}
	}
	if moved > n/2 {
		t.Errorf("%d others came first", moved)
	}
}

func TestAPeerSaysWhatItsSpeakersMiss(t *testing.T) {
	w := newWorld(t)
	asn := int64(64512)
	for _, name := range []string{"tor", "fine"} {
		p := &v1beta1.BGPPeer{}
		p.Name = name
		p.Spec.PeerAddress, p.Spec.MyASN, p.Spec.PeerASN = "198.51.100.1", &asn, &asn
		w.Create("bgppeers", p)
	}
	w.start("")
	of := func(name string) func() []metav1.Condition {
		return func() []metav1.Condition { return w.Conditions("bgppeers", name) }
	}
	w.hasCondition("tor", of("tor"), config.ConditionResolvedRefs, metav1.ConditionTrue, "ResolvedRefs")
	missing := v1beta1.BGPSession{Peer: "tor", State: "Waiting", Reason: "SecretNotFound", LastError: "there is no Secret x in Herald's namespace: create it"}
	for _, node := range []string{"n1", "n2"} {
		s := &v1beta1.Speaker{}
		s.Name = node
		s.Status.Sessions = []v1beta1.BGPSession{missing, {Peer: "fine", State: "Idle", LastError: "connection refused"}}
		w.Create("speakers", s)
	}
	w.hasCondition("tor", of("tor"), config.ConditionResolvedRefs, metav1.ConditionFalse, "SecretNotFound")
	kubetest.Eventually(t, "both nodes are named", func() bool {
		for _, c := range w.Conditions("bgppeers", "tor") {
			if c.Message == "nodes n1, n2: there is no Secret x in Herald's namespace: create it" {
				return true
			}
		}
		return false
	})
	w.hasCondition("fine", of("fine"), config.ConditionResolvedRefs, metav1.ConditionTrue, "ResolvedRefs")
	w.EditSpeaker("n2", func(s *v1beta1.Speaker) {
		s.Status.Sessions[0].Reason, s.Status.Sessions[0].LastError = "NodeValueInvalid", "spec.myASNFrom: node n2: the Node has no label asn: add it"
	})
	kubetest.Eventually(t, "each is told", func() bool {
		for _, c := range w.Conditions("bgppeers", "tor") {
			if c.Message == "spec.myASNFrom: node n2: the Node has no label asn: add it; node n1: there is no Secret x in Herald's namespace: create it" {
				return true
			}
		}
		return false
	})
	w.EditSpeaker("n1", func(s *v1beta1.Speaker) { s.Status.Sessions = nil })
	w.EditSpeaker("n2", func(s *v1beta1.Speaker) { s.Status.Sessions = nil })
	w.hasCondition("tor", of("tor"), config.ConditionResolvedRefs, metav1.ConditionTrue, "ResolvedRefs")
}
