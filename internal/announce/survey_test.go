package announce

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/election"
	"heraldlb.io/herald/internal/gossip"
)

// What a Survey foretells is what the speakers then do, by themselves.
func TestASurveyComesTrue(t *testing.T) {
	s, n1, n2, n3 := threeNodes(t)
	scene := Scene{Config: s.planners["n1"].config, Members: []gossip.Member{n1, n2, n3}, Claims: map[netip.Addr]string{}}
	for _, name := range []string{"n1", "n2", "n3"} {
		scene.Nodes = append(scene.Nodes, *readyNode(name))
	}
	for i := range 60 {
		svc := lbService(fmt.Sprint(i), corev1.ServiceExternalTrafficPolicyCluster, fmt.Sprintf("192.0.2.%d", i))
		endpoints := slice(svc.Name, svc.Name, endpoint("n1", nil, nil))
		scene.Services = append(scene.Services, *svc)
		scene.EndpointSlices = append(scene.EndpointSlices, *endpoints)
		s.service(svc.Name, contributionOf(svc, []*discoveryv1.EndpointSlice{endpoints}, false))
	}
	same := func(when string) {
		t.Helper()
		for _, o := range Survey(scene) {
			d := s.planners["n1"].decisions[o.Addr]
			if d.Owner != o.Owner || o.Owner == "" || !slices.Equal(d.Services, o.Services) {
				t.Fatalf("%s: %s of %v was expected at %q and is at %q", when, o.Addr, o.Services, o.Owner, d.Owner)
			}
			scene.Claims[o.Addr] = o.Owner
		}
	}
	s.agree(t)
	same("at first")
	if s.owners(t)["n2"] == 0 {
		t.Fatal("n2 owns nothing")
	}

	drained := readyNode("n3")
	drained.Annotations = map[string]string{AnnotationDrain: "true"}
	scene.Nodes[2] = *drained
	s.nodes(nodeFacts(readyNode("n1"), readyNode("n2"), drained))
	s.agree(t)
	same("n3 is drained")

	scene.Members = []gossip.Member{n1, n3}
	s.members(n1, n3)
	s.agree(t)
	same("n2 is dead")
	if owners := s.owners(t); owners["n2"] > 0 || owners["n1"] == 0 {
		t.Errorf("the owners are %v", owners)
	}
}

func TestASurveySaysWhyAndToWhom(t *testing.T) {
	asn := int64(64512)
	cfg, problems := config.New(config.Resources{
		Pools:            []*v1beta1.IPAddressPool{pool("lan", "192.0.2.0/24")},
		L2Advertisements: []*v1beta1.L2Advertisement{advertisement("all", v1beta1.L2AdvertisementSpec{})},
		BGPAdvertisements: []*v1beta1.BGPAdvertisement{
			named(&v1beta1.BGPAdvertisement{Spec: v1beta1.BGPAdvertisementSpec{Peers: []string{"tor"}}}, "lan"),
		},
		BGPPeers: []*v1beta1.BGPPeer{
			named(&v1beta1.BGPPeer{Spec: v1beta1.BGPPeerSpec{PeerAddress: "192.0.2.254", PeerASN: &asn, MyASN: &asn}}, "tor"),
			named(&v1beta1.BGPPeer{Spec: v1beta1.BGPPeerSpec{PeerAddress: "192.0.2.253", PeerASN: &asn, MyASN: &asn}}, "other"),
		},
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	svc := lbService("shop", corev1.ServiceExternalTrafficPolicyLocal, "192.0.2.1")
	all := Survey(Scene{
		Config: cfg, Services: []corev1.Service{*svc}, EndpointSlices: []discoveryv1.EndpointSlice{*slice("a", "shop", endpoint("n2", nil, nil))},
		Nodes:   []corev1.Node{*readyNode("n1"), *readyNode("n2"), *readyNode("n3")},
		Members: []gossip.Member{alive("n1", on("eth0", "192.0.2.0/24")), alive("n2", on("eth0", "192.0.2.0/24"))},
	})
	if len(all) != 1 {
		t.Fatalf("it tells of %v", all)
	}
	o := all[0]
	if o.Pool != "lan" || !slices.Equal(o.L2, []string{"all"}) || !slices.Equal(o.BGP, []string{"lan"}) || o.Owner != "n2" {
		t.Errorf("it says %+v", o)
	}
	want := []election.Verdict{{Node: "n1", Reason: election.NoEndpoint}, {Node: "n2", Reason: election.Fit}, {Node: "n3", Reason: election.NotAlive}}
	if !slices.Equal(o.Verdicts, want) {
		t.Errorf("the verdicts are %v, want %v", o.Verdicts, want)
	}
	if len(o.Routes) != 1 || o.Routes[0].Node != "n2" || !slices.Equal(o.Routes[0].Peers, []string{"tor"}) {
		t.Errorf("the routes are %v, want n2 to tor alone", o.Routes)
	}
	for _, v := range o.Verdicts {
		if v.Reason != election.Fit && Because(v.Reason) == "" {
			t.Errorf("there are no words for %s", v.Reason)
		}
	}
}

func named[T interface{ SetName(string) }](o T, name string) T {
	o.SetName(name)
	return o
}
