package config_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
)

// documents makes YAML of lines of the form "Kind name age spec" and, after a bar, labels. The age is in hours.
func documents(lines ...string) string {
	var b strings.Builder
	for _, line := range lines {
		line, marks, _ := strings.Cut(line, " | ")
		f := strings.SplitN(strings.TrimSpace(line), " ", 4)
		fmt.Fprintf(&b, "---\napiVersion: heraldlb.io/v1beta1\nkind: %s\nmetadata: {name: %s, creationTimestamp: \"2026-01-01T%02s:00:00Z\", labels: {%s}}\nspec: %s\n",
			f[0], f[1], fmt.Sprint(23-len(f[2])), marks, f[3])
	}
	return b.String()
}

// judged is what New makes of documents.
func judged(t testing.TB, lines ...string) (*config.Config, []string) {
	t.Helper()
	r, problems := config.Parse("cm", map[string]string{"config": documents(lines...)})
	if len(problems) > 0 {
		t.Fatalf("Parse: %v", problems)
	}
	cfg, problems := config.New(r)
	var out []string
	for _, p := range problems {
		out = append(out, fmt.Sprintf("%s/%s %s %s %s", p.Kind, p.Name, p.Field, p.Condition, p.Reason))
	}
	return cfg, out
}

// In these tables the third word is an object's age: the longer, the older.
func TestWhatSeveralObjectsShow(t *testing.T) {
	const lan = "IPAddressPool lan o {addresses: [192.0.2.0/24, '2001:db8::/64']} | site: a"
	const peer = "peerASN: 64513, myASN: 64512"
	for _, c := range []struct {
		name    string
		objects []string
		want    []string
	}{
		{"an advertisement of a pool that is missing",
			[]string{lan, "BGPAdvertisement a o {ipAddressPools: [lan, wan]}"},
			[]string{"BGPAdvertisement/a spec.ipAddressPools[1] ResolvedRefs PoolNotFound"}},
		{"a selector that matches no pool",
			[]string{lan, "L2Advertisement a o {ipAddressPoolSelectors: [{matchLabels: {site: b}}]}"},
			[]string{"L2Advertisement/a spec.ipAddressPoolSelectors[0] ResolvedRefs PoolNotFound"}},
		{"a peer that is missing",
			[]string{lan, "BGPAdvertisement a o {peers: [tor]}"},
			[]string{"BGPAdvertisement/a spec.peers[0] ResolvedRefs PeerNotFound"}},
		{"a peer that is refused is missing too",
			[]string{lan, "BGPPeer tor o {peerAddress: 192.0.2.1}", "BGPAdvertisement a o {peers: [tor]}"},
			[]string{"BGPAdvertisement/a spec.peers[0] ResolvedRefs PeerNotFound", "BGPPeer/tor spec Accepted ConflictingFields", "BGPPeer/tor spec Accepted ConflictingFields"}},
		{"a community without a name",
			[]string{"Community c o {communities: [{name: here, value: '1:2'}]}", "BGPAdvertisement a o {communities: [here, there, no-export]}"},
			[]string{"BGPAdvertisement/a spec.communities[1] ResolvedRefs CommunityNotFound"}},
		{"a name that two Communities give",
			[]string{"Community new o {communities: [{name: x, value: '1:2'}]}", "Community old oo {communities: [{name: x, value: '1:3'}]}"},
			[]string{"Community/new spec.communities[0].name Accepted Conflict"}},
		{"a BFDProfile that is missing",
			[]string{"BGPPeer tor o {peerAddress: 192.0.2.1, bfdProfile: fast, " + peer + "}"},
			[]string{"BGPPeer/tor spec.bfdProfile ResolvedRefs BFDProfileNotFound"}},

		{"two peers with one address",
			[]string{"BGPPeer new o {peerAddress: 192.0.2.1, " + peer + "}", "BGPPeer old oo {peerAddress: 192.0.2.1, " + peer + "}"},
			[]string{"BGPPeer/new spec.peerAddress Accepted Conflict"}},
		{"one of them disabled",
			[]string{"BGPPeer new o {peerAddress: 192.0.2.1, " + peer + "}", "BGPPeer old oo {disabled: true, peerAddress: 192.0.2.1, " + peer + "}"}, nil},
		{"two peers with one address, of the same nodes",
			[]string{"BGPPeer new o {peerAddress: 192.0.2.1, nodeSelectors: [{matchLabels: {rack: a}}], " + peer + "}", "BGPPeer old oo {peerAddress: 192.0.2.1, nodeSelectors: [{matchLabels: {rack: a}}], " + peer + "}"},
			[]string{"BGPPeer/new spec.peerAddress Accepted Conflict"}},
		{"two peers with one address, of nodes that may differ",
			[]string{"BGPPeer new o {peerAddress: 192.0.2.1, nodeSelectors: [{matchLabels: {rack: a}}], " + peer + "}", "BGPPeer old oo {peerAddress: 192.0.2.1, nodeSelectors: [{matchLabels: {rack: b}}], " + peer + "}"}, nil},
		{"one link-local address on two interfaces",
			[]string{"BGPPeer a o {peerAddress: 'fe80::1', interface: eth0, " + peer + "}", "BGPPeer b o {peerAddress: 'fe80::1', interface: eth1, " + peer + "}"}, nil},
		{"two unnumbered peers on one interface",
			[]string{"BGPPeer a o {interface: eth0, " + peer + "}", "BGPPeer b o {interface: eth0, " + peer + "}"},
			[]string{"BGPPeer/b spec.interface Accepted Conflict"}},
		{"two peers from one annotation",
			[]string{"BGPPeer a o {peerAddressFrom: {nodeAnnotation: tor}, " + peer + "}", "BGPPeer b o {peerAddressFrom: {nodeAnnotation: tor}, " + peer + "}"},
			[]string{"BGPPeer/b spec.peerAddressFrom Accepted Conflict"}},
		{"two router IDs for a node",
			[]string{"BGPPeer a o {routerID: 10.0.0.1, peerAddress: 192.0.2.1, " + peer + "}", "BGPPeer b o {routerID: 10.0.0.2, peerAddress: 192.0.2.2, " + peer + "}"},
			[]string{"BGPPeer/b spec.routerID Accepted Conflict"}},

		{"one prefix with two local preferences",
			[]string{lan, "BGPAdvertisement new o {localPref: 200}", "BGPAdvertisement old oo {localPref: 100}"},
			[]string{"BGPAdvertisement/new spec Accepted Conflict"}},
		{"one prefix with two MEDs, to one of several peers",
			[]string{lan, "BGPPeer p o {peerAddress: 192.0.2.1, " + peer + "}", "BGPPeer q o {peerAddress: 192.0.2.2, " + peer + "}",
				"BGPAdvertisement new o {med: 1, peers: [p, q]}", "BGPAdvertisement old oo {peers: [q]}"},
			[]string{"BGPAdvertisement/new spec Accepted Conflict"}},
		{"two local preferences to different peers",
			[]string{lan, "BGPPeer p o {peerAddress: 192.0.2.1, " + peer + "}", "BGPPeer q o {peerAddress: 192.0.2.2, " + peer + "}",
				"BGPAdvertisement new o {localPref: 1, peers: [p]}", "BGPAdvertisement old oo {peers: [q]}"}, nil},
		{"two local preferences of different prefixes of one pool",
			[]string{"IPAddressPool v4 o {addresses: [192.0.2.0/24]}", "BGPAdvertisement new o {localPref: 200}", "BGPAdvertisement old oo {localPref: 100, aggregationLength: 24}"}, nil},
		{"only the other family is aggregated",
			[]string{lan, "BGPAdvertisement new o {localPref: 200}", "BGPAdvertisement old oo {localPref: 100, aggregationLength: 24}"},
			[]string{"BGPAdvertisement/new spec Accepted Conflict"}},
		{"two local preferences of different pools",
			[]string{lan, "IPAddressPool wan o {addresses: [203.0.113.0/24]}",
				"BGPAdvertisement new o {localPref: 200, ipAddressPools: [wan]}", "BGPAdvertisement old oo {localPref: 100, ipAddressPoolSelectors: [{matchLabels: {site: a}}]}"}, nil},
		{"two local preferences for nodes that may differ",
			[]string{lan, "BGPAdvertisement new o {localPref: 200, nodeSelectors: [{matchLabels: {a: b}}]}", "BGPAdvertisement old oo {localPref: 100, nodeSelectors: [{matchLabels: {a: c}}]}"}, nil},
		{"two sets of communities are both attached",
			[]string{lan, "BGPAdvertisement new o {communities: ['1:2']}", "BGPAdvertisement old oo {communities: ['1:3']}"}, nil},
		{"an aggregate beyond a pool",
			[]string{lan, "IPAddressPool part o {addresses: [203.0.113.10-203.0.113.20]}", "BGPAdvertisement a o {aggregationLength: 24}"},
			[]string{"BGPAdvertisement/a spec.aggregationLength ResolvedRefs AggregateBeyondPool"}},
		{"an aggregate with excluded addresses in it",
			[]string{"IPAddressPool p o {addresses: [203.0.113.0/25, 203.0.113.128/25], exclude: [203.0.113.1]}", "BGPAdvertisement a o {aggregationLength: 24}"}, nil},
		{"an aggregate that overlaps the end of a range",
			[]string{"IPAddressPool p o {addresses: ['2001:db8::-2001:db8:0:1::']}", "BGPAdvertisement a o {aggregationLengthV6: 64}"},
			[]string{"BGPAdvertisement/a spec.aggregationLengthV6 ResolvedRefs AggregateBeyondPool"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, got := judged(t, c.objects...)
			if !slices.Equal(got, c.want) {
				t.Errorf("problems\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(c.want, "\n\t"))
			}
		})
	}
}

func TestAnAggregateLeavesOutThePoolItWouldGoBeyond(t *testing.T) {
	cfg, _ := judged(t, "IPAddressPool whole o {addresses: [192.0.2.0/24]}", "IPAddressPool part o {addresses: [203.0.113.10-203.0.113.20]}",
		"BGPAdvertisement a o {aggregationLength: 24}")
	a := cfg.BGPAdvertisements[0]
	if !a.SelectsPool("whole") || a.SelectsPool("part") {
		t.Errorf("whole: %v, part: %v; want only the whole prefix announced", a.SelectsPool("whole"), a.SelectsPool("part"))
	}
	if got := a.Prefix(netip.MustParseAddr("192.0.2.77")); got != netip.MustParsePrefix("192.0.2.0/24") {
		t.Errorf("192.0.2.77 is announced by %v", got)
	}
	if got := a.Prefix(netip.MustParseAddr("2001:db8::1")); got != netip.MustParsePrefix("2001:db8::1/128") {
		t.Errorf("2001:db8::1 is announced by %v", got)
	}
}

func TestWhatAnAdvertisementOfBGPAttaches(t *testing.T) {
	cfg, problems := judged(t,
		"Community names o {communities: [{name: rack, value: '64512:7'}, {name: site, value: 'large:1:2:3'}]}",
		"BGPAdvertisement a o {localPref: 0, med: 4294967295, asPathPrepend: 2, communities: [site, no-export, '64512:7', rack, 'large:1:2:2', '0:1', "+
			"'soo:4200000000:65535', 'rt:192.0.2.1:7', 'rt:65535:4294967295', 'rt:64512:7', 'rt:64512:7', 'lb:64512:4294967295']}")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	a := cfg.BGPAdvertisements[0]
	if a.LocalPref == nil || *a.LocalPref != 0 || a.MED == nil || *a.MED != 4294967295 || a.Prepend != 2 {
		t.Errorf("attributes %+v", a.Attributes)
	}
	want := config.Communities{
		Standard: []uint32{1, 64512<<16 | 7, 0xffffff01},
		Large:    []config.LargeCommunity{{1, 2, 2}, {1, 2, 3}},
		Extended: []config.ExtendedCommunity{
			{Type: config.LinkBandwidth, ASN: 64512, Number: 4294967295},
			{Type: config.RouteTarget, ASN: 64512, Number: 7}, {Type: config.RouteTarget, ASN: 65535, Number: 4294967295},
			{Type: config.RouteTarget, Address: netip.MustParseAddr("192.0.2.1"), Number: 7}, {Type: config.RouteOrigin, ASN: 4200000000, Number: 65535},
		},
	}
	if !a.Communities.Equal(want) {
		t.Errorf("communities\n%v, want\n%v", a.Communities, want)
	}
}

func TestWhatAPeerIsWhenLittleIsSaid(t *testing.T) {
	cfg, problems := judged(t, "BGPPeer tor o {peerAddress: 192.0.2.1, peerASN: 64513, myASN: 64512, ttlSecurity: {}, gracefulRestart: {}, bfdProfile: b}", "BFDProfile b o {}")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := config.BGPPeer{
		Name: "tor", Address: netip.MustParseAddr("192.0.2.1"), Port: 179, ASN: 64513, MyASN: 64512, HoldTime: 90 * time.Second,
		KeepaliveTime: 30 * time.Second, ConnectTime: 10 * time.Second, MinimumTTL: 255, GracefulRestart: &config.GracefulRestart{RestartTime: 120 * time.Second},
		BFD: &config.BFDProfile{Name: "b", ReceiveInterval: 300 * time.Millisecond, TransmitInterval: 300 * time.Millisecond, DetectMultiplier: 3, MinimumTTL: 254},
	}
	if got := cfg.BGPPeers[0]; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestThePeersOfANode(t *testing.T) {
	cfg, problems := judged(t,
		"BGPPeer rack oo {peerAddressFrom: {nodeAnnotation: example.com/tor}, peerASN: 64513, myASNFrom: {nodeLabel: asn}}",
		"BGPPeer fixed o {peerAddress: 192.0.2.1, dynamicASN: external, myASN: 64512, nodeSelectors: [{matchLabels: {edge: router}}]}",
		"BGPPeer link ooo {interface: eth1, dynamicASN: external, myASN: 64512, nodeSelectors: [{matchExpressions: [{key: unnumbered, operator: Exists}]}]}",
		"BGPPeer idle ooo {disabled: true, peerAddress: 192.0.2.9, peerASN: 1, myASN: 2}")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, c := range []struct {
		name        string
		labels      labels.Set
		annotations map[string]string
		want        string
		problem     string
	}{
		{"a node with both values", labels.Set{"asn": "64600"}, map[string]string{"example.com/tor": "10.0.0.1"}, "rack 10.0.0.1 64600 [IPv4]", ""},
		{"a node of another rack", labels.Set{"asn": "4200000000"}, map[string]string{"example.com/tor": "2001:db8::1"}, "rack 2001:db8::1 4200000000 [IPv6]", ""},
		{"a node without the annotation", labels.Set{"asn": "64600"}, nil, "", "node n: the Node has no annotation example.com/tor"},
		{"a node with junk in it", labels.Set{"asn": "64600"}, map[string]string{"example.com/tor": "tor1"}, "", `"tor1" is not an IP address`},
		{"a node with a link-local address in it", labels.Set{"asn": "64600"}, map[string]string{"example.com/tor": "fe80::1"}, "", "needs an interface"},
		{"a node with ASN 0", labels.Set{"asn": "0"}, map[string]string{"example.com/tor": "10.0.0.1"}, "", `"0" is no AS number`},
		{"two peers turn out to be one router", labels.Set{"asn": "1", "edge": "router"}, map[string]string{"example.com/tor": "192.0.2.1"}, "rack 192.0.2.1 1 [IPv4]", "the older BGPPeer rack has the address 192.0.2.1 too"},
		{"an unnumbered peer is told both families", labels.Set{"unnumbered": "", "asn": "1"}, map[string]string{"example.com/tor": "192.0.2.1"}, "link invalid IP 64512 [IPv4 IPv6], rack 192.0.2.1 1 [IPv4]", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			peers, problems := cfg.PeersOn(config.Node{Name: "n", Labels: c.labels, Annotations: c.annotations})
			var got []string
			for _, p := range peers {
				got = append(got, fmt.Sprintf("%s %v %d %v", p.Name, p.Address, p.MyASN, p.Families))
			}
			if s := strings.Join(got, ", "); s != c.want {
				t.Errorf("peers %q, want %q", s, c.want)
			}
			if c.problem == "" && len(problems) > 0 || c.problem != "" && (len(problems) != 1 || !strings.Contains(problems[0].Message, c.problem)) {
				t.Errorf("problems %v, want %q", problems, c.problem)
			}
		})
	}
}

func TestWhereAnAdvertisementOfLayer2Speaks(t *testing.T) {
	cfg, problems := judged(t, "IPAddressPool a o {addresses: [192.0.2.0/24]} | site: a", "IPAddressPool b o {addresses: [198.51.100.0/24]}", "IPAddressPool c o {addresses: [203.0.113.0/24]}",
		"L2Advertisement x o {ipAddressPools: [c], ipAddressPoolSelectors: [{matchLabels: {site: a}}], interfaces: ['eth*', 'bond[0-1]', 'wan?', 'br-lan'], serviceSelectors: [{matchLabels: {app: web}}], "+
			"preferredNodeSelectors: [{weight: 10, preference: {matchLabels: {disk: ssd}}}, {weight: 5, preference: {matchLabels: {rack: a}}}]}")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	x := cfg.L2Advertisements[0]
	for name, want := range map[string]bool{"eth0": true, "eth": true, "bond0": true, "bond2": false, "wan1": true, "wan": false, "wan12": false, "br-lan": true, "br-lan2": false, "lo": false} {
		if got := x.NamesInterface(name); got != want {
			t.Errorf("interface %s: %v", name, got)
		}
	}
	for name, want := range map[string]bool{"a": true, "b": false, "c": true} {
		if got := x.SelectsPool(name); got != want {
			t.Errorf("pool %s: %v", name, got)
		}
	}
	if x.Rebalance != v1beta1.RebalanceNever {
		t.Errorf("it rebalances %q", x.Rebalance)
	}
	for node, want := range map[string]int{"": 0, "disk=ssd": 10, "rack=a": 5, "disk=ssd,rack=a": 15} {
		set, _ := labels.ConvertSelectorToLabelsMap(node)
		if got := x.Weight(set); got != want {
			t.Errorf("node %q: weight %d, want %d", node, got, want)
		}
	}
	if !x.SelectsService(labels.Set{"app": "web"}) || x.SelectsService(nil) {
		t.Error("only Services with app=web are announced")
	}
}
