package bgp

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"heraldlb.io/herald/internal/config"
)

// profiles are steady, which takes 900 ms and a busy machine for no broken path.
const profiles = `
apiVersion: heraldlb.io/v1beta1
kind: BFDProfile
metadata: {name: steady}
spec: {}
`

// peersOf reads BGPPeers from lines "name {spec}", as a node with no labels has them. There is the BFDProfile steady.
func peersOf(t *testing.T, lines ...string) []Peer {
	t.Helper()
	var b strings.Builder
	b.WriteString(profiles)
	for _, l := range lines {
		name, spec, _ := strings.Cut(l, " ")
		b.WriteString("---\napiVersion: heraldlb.io/v1beta1\nkind: BGPPeer\nmetadata: {name: " + name + "}\nspec: " + spec + "\n")
	}
	r, problems := config.Parse("cm", map[string]string{"config": b.String()})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	c, problems := config.New(r)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	on, problems := c.PeersOn(config.Node{Name: "n1"})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var out []Peer
	for _, p := range on {
		out = append(out, Peer{BGPPeer: p})
	}
	return out
}

func newSpeaker(t *testing.T) *Speaker {
	t.Helper()
	s := New(netip.MustParseAddr("192.0.2.11"), log.NewNopLogger(), prometheus.NewRegistry())
	t.Cleanup(func() { s.Leave(t.Context(), Restart, 0) })
	return s
}

func prefixes(routes map[string][]Route) map[netip.Prefix][]Route {
	out := map[netip.Prefix][]Route{}
	for p, r := range routes {
		out[netip.MustParsePrefix(p)] = r
	}
	return out
}

// toAll tells prefixes to all peers, with no attributes.
func toAll(list ...string) map[netip.Prefix][]Route {
	out := map[netip.Prefix][]Route{}
	for _, p := range list {
		out[netip.MustParsePrefix(p)] = []Route{{}}
	}
	return out
}

// sessionOf returns the state of a peer's session.
func sessionOf(s *Speaker, peer string) Session {
	for _, one := range s.Sessions() {
		if one.Peer == peer {
			return one
		}
	}
	return Session{}
}

func number(n uint32) *uint32 { return &n }

func has(t *testing.T, route func(string) string, prefix string, wanted ...string) {
	t.Helper()
	last := ""
	for deadline := time.Now().Add(testPatience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		last = route(prefix)
		all := last != ""
		for _, w := range wanted {
			all = all && strings.Contains(last, w)
		}
		if all {
			return
		}
	}
	t.Fatalf("waited %s for %s with %q; the router has: %s", testPatience, prefix, wanted, last)
}

func hasNot(t *testing.T, route func(string) string, prefix string) {
	t.Helper()
	eventually(t, "no route "+prefix, func() bool { return route(prefix) == "" })
}

var (
	nodeAddresses   = []string{"192.0.2.11/24", "2001:db8:1::11/64"}
	routerAddresses = []string{"192.0.2.1/24", "2001:db8:1::1/64"}
)

func TestBIRDIsToldWhatItShouldBe(t *testing.T) {
	b := newBIRD(newHost(t, "up0", nodeAddresses, routerAddresses), `
ipv4 table other4; ipv6 table other6;
protocol bgp plain { local 192.0.2.1 as 64513; neighbor 192.0.2.11 as 64512; passive; ipv4 { import all; export none; }; ipv6 { import all; export none; }; }
protocol bgp six { local 2001:db8:1::1 as 64513; neighbor 2001:db8:1::11 as 64512; passive; ipv4 { table other4; import all; export none; extended next hop; }; ipv6 { table other6; import all; export none; }; }
`)
	inner := newBIRD(newHost(t, "up1", []string{"198.51.100.11/24"}, []string{"198.51.100.1/24"}), `
protocol bgp inner { local 198.51.100.1 as 64512; neighbor 198.51.100.11 as 64512; passive; password "secret"; ipv4 { import all; export none; }; }
`)
	peers := peersOf(t,
		"plain {peerAddress: 192.0.2.1, myASN: 64512, peerASN: 64513, families: [IPv4, IPv6]}",
		"six {peerAddress: '2001:db8:1::1', myASN: 64512, peerASN: 64513, families: [IPv4, IPv6]}",
		"inner {peerAddress: 198.51.100.1, myASN: 64512, dynamicASN: internal, passwordSecret: {name: s}}",
	)
	peers[0].Password = "secret" // of inner, which is the first by name
	communities := config.Communities{
		Standard: []uint32{64512<<16 | 100, 0xffffff01},
		Large:    []config.LargeCommunity{{64512, 1, 2}},
		Extended: []config.ExtendedCommunity{
			{Type: config.RouteTarget, ASN: 64512, Number: 70000}, {Type: config.RouteTarget, ASN: 4200000000, Number: 7},
			{Type: config.RouteOrigin, Address: netip.MustParseAddr("192.0.2.1"), Number: 8},
		},
	}
	s := newSpeaker(t)
	s.Apply(peers, prefixes(map[string][]Route{
		"203.0.113.1/32":    {{}},
		"203.0.113.64/26":   {{Attributes: config.Attributes{MED: number(50), LocalPref: number(200), Prepend: 2}}},
		"2001:db8:2::1/128": {{Communities: communities}},
		"203.0.113.2/32":    {{Peers: []string{"inner"}, Attributes: config.Attributes{LocalPref: number(0)}}, {Peers: []string{"plain"}, Communities: config.Communities{Standard: []uint32{1<<16 | 2}}}},
		"203.0.113.3/32":    {{Peers: []string{"six"}}},
		"2001:db8:3::/64":   {{Peers: []string{"nobody"}}},
	}))
	in := func(table string) func(string) string {
		return func(p string) string {
			out := b.ask("show route " + p + " table " + table + " all")
			if !strings.Contains(out, p) {
				return ""
			}
			return out
		}
	}
	has(t, in("master4"), "203.0.113.1/32", "BGP.as_path: 64512", "BGP.next_hop: 192.0.2.11", "BGP.origin: IGP")
	has(t, in("master4"), "203.0.113.64/26", "BGP.as_path: 64512 64512 64512", "BGP.med: 50")
	has(t, in("master6"), "2001:db8:2::1/128", "BGP.next_hop: 2001:db8:1::11", "BGP.community: (64512,100) (65535,65281)", "BGP.large_community: (64512, 1, 2)",
		"BGP.ext_community: (rt, 64512, 70000) (rt, 4200000000, 7) (ro, 192.0.2.1, 8)")
	has(t, in("master4"), "203.0.113.2/32", "BGP.community: (1,2)")
	has(t, inner.route, "203.0.113.2/32", "BGP.local_pref: 0\n", "BGP.as_path: \n")
	has(t, inner.route, "203.0.113.64/26", "BGP.local_pref: 200", "BGP.as_path: \n")
	has(t, inner.route, "203.0.113.1/32", "BGP.local_pref: 100")
	has(t, in("other6"), "2001:db8:2::1/128", "BGP.next_hop: 2001:db8:1::11")
	has(t, in("other4"), "203.0.113.3/32", "BGP.next_hop: 192.0.2.11")
	if out := inner.route("203.0.113.3/32"); out != "" {
		t.Errorf("a route was told to a peer that it is not for: %s", out)
	}
	for table, prefix := range map[string]string{"master4": "203.0.113.3/32", "other4": "203.0.113.2/32", "master6": "2001:db8:3::/64"} {
		if out := in(table)(prefix); out != "" {
			t.Errorf("%s was told to a peer that it is not for: %s", prefix, out)
		}
	}
	if out := in("master4")("203.0.113.1/32"); strings.Contains(out, "med") || strings.Contains(out, "community") {
		t.Errorf("a plain route has attributes: %s", out)
	}
}
