package bgp

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// way is which addresses a session runs between.
type way string

const (
	overIPv4      way = "IPv4"
	overIPv6      way = "IPv6"
	overLinkLocal way = "link-local" // at most one to a router
	overAHop      way = "a hop"      // with a router in between that lowers the TTL
)

// silently is how a session fails of which neither side hears a thing: the state is all that there is to see.
const silently = "-"

// shortHold is the row whose session ends with the link.
const shortHold = "three seconds to hold"

// row is a kind of session.
type row struct {
	name     string
	way      way
	peer     string // of the BGPPeer
	password string
	families string
	bird     string // of the protocol
	frr      string // of the neighbor
	fails    string // what Herald says about a session that must not be; empty for one that must
}

// matrix is what is covered, against each make of router. The router is set up by what its make has in the row, and told
// a prefix of each family of the row.
var matrix = []row{
	{name: "IPv4", way: overIPv4, families: "IPv4"},
	{name: "IPv6", way: overIPv6, families: "IPv6"},
	{name: "both families over IPv4", way: overIPv4, families: "IPv4, IPv6"},
	{name: "both families over IPv6", way: overIPv6, families: "IPv4, IPv6"},
	{name: "link-local", way: overLinkLocal, families: "IPv4, IPv6"},
	{name: "one AS", way: overIPv4, families: "IPv4", peer: "dynamicASN: internal, myASN: 64513", bird: "neighbor as 64513;", frr: "remote-as 64513"},
	{name: "any other AS", way: overIPv6, families: "IPv6", peer: "dynamicASN: external, myASN: 64512"},
	{name: "another AS than expected", way: overIPv4, families: "IPv4", peer: "peerASN: 64999, myASN: 64512", fails: "bad peer as"},
	{name: "not the other AS that it must have", way: overIPv4, families: "IPv4", peer: "dynamicASN: external, myASN: 64513", bird: "neighbor as 64513;", frr: "remote-as 64513", fails: "which is the node's own"},
	{name: "MD5", way: overIPv4, families: "IPv4", password: "secret", bird: `password "secret";`, frr: "password secret"},
	{name: "MD5 over IPv6", way: overIPv6, families: "IPv6", password: "secret", bird: `password "secret";`, frr: "password secret"},
	{name: "MD5, wrong password", way: overIPv4, families: "IPv4", password: "secrets", bird: `password "secret";`, frr: "password secret", fails: "timeout"},
	{name: "MD5 at the router alone", way: overIPv6, families: "IPv6", bird: `password "secret";`, frr: "password secret", fails: "timeout"},
	{name: "GTSM", way: overIPv4, families: "IPv4", peer: "ttlSecurity: {}", bird: "ttl security on;", frr: "ttl-security hops 1"},
	{name: "GTSM over IPv6", way: overIPv6, families: "IPv6", peer: "ttlSecurity: {}", bird: "ttl security on;", frr: "ttl-security hops 1"},
	{name: "GTSM at the node alone", way: overIPv4, families: "IPv4", peer: "ttlSecurity: {}", fails: silently},
	{name: "multihop", way: overAHop, families: "IPv4", peer: "ebgpMultiHop: true", bird: "multihop 5;", frr: "ebgp-multihop 5"},
	{name: "multihop with GTSM", way: overAHop, families: "IPv4", peer: "ttlSecurity: {minimumTtl: 254}", bird: "multihop 2; ttl security on;", frr: "ttl-security hops 2"},
	{name: "multihop with MD5", way: overAHop, families: "IPv4", peer: "ebgpMultiHop: true", password: "secret", bird: `multihop 5; password "secret";`, frr: "ebgp-multihop 5; password secret"},
	{name: "a hop too many", way: overAHop, families: "IPv4", bird: "multihop 5;", frr: "ebgp-multihop 5", fails: "cannot be connected to"},
	{name: "passive", way: overIPv4, families: "IPv4", peer: "passive: true", bird: "passive off;", frr: "timers connect 1"},
	{name: "passive over IPv6", way: overIPv6, families: "IPv4, IPv6", peer: "passive: true", bird: "passive off;", frr: "timers connect 1"},
	{name: "passive with MD5", way: overIPv4, families: "IPv4", peer: "passive: true", password: "secret", bird: `passive off; password "secret";`, frr: "timers connect 1; password secret"},
	{name: "passive with MD5 over IPv6", way: overIPv6, families: "IPv6", peer: "passive: true", password: "secret", bird: `passive off; password "secret";`, frr: "timers connect 1; password secret"},
	{name: "passive, another AS than expected", way: overIPv4, families: "IPv4", peer: "passive: true, peerASN: 64999, myASN: 64512", bird: "passive off;", frr: "timers connect 1", fails: "bad peer as"},
	{name: "graceful restart", way: overIPv4, families: "IPv4", peer: "gracefulRestart: {}", bird: "graceful restart on;", frr: "graceful-restart"},
	{name: shortHold, way: overIPv4, families: "IPv4", peer: "holdTime: 3s"},
}

// rack is a router of one make, of which one part is near, and another behind a hop. The subnet is the third byte of its
// IPv4 addresses. The addresses of a row end in its number, to which the node's add 11 and the router's 101.
type rack struct {
	link      string
	subnet    int
	near, far *host
	// configure and start the two.
	configure func(r *rack, way ...way) string
	start     func(h *host, conf string) func(prefix string) string
}

// makeLinks makes the networks.
func (r *rack) makeLinks(t *testing.T) {
	t.Helper()
	ours, theirs, far := []string{"fe80::11/64"}, []string{"fe80::1/64"}, []string{}
	for i := range matrix {
		for _, w := range []way{overIPv4, overIPv6} {
			bits := map[way]string{overIPv4: "/24", overIPv6: "/64"}[w]
			node, router := r.addresses(i, w)
			ours, theirs = append(ours, node+bits), append(theirs, router+bits)
		}
		_, router := r.addresses(i, overAHop)
		far = append(far, router+"/24")
	}
	r.near = newHost(t, r.link, ours, theirs)
	here, err := netlink.NewHandle()
	check(t, err)
	t.Cleanup(here.Close)
	onlyLinkLocal(t, here, r.link, "fe80::11/64")
	onlyLinkLocal(t, r.near.nl, r.link, "fe80::1/64")
	r.far = r.near.behind([]string{fmt.Sprintf("198.18.%d.1/24", r.subnet)}, far)
	_, hop := r.addresses(0, overIPv4)
	to, err := netlink.ParseIPNet(fmt.Sprintf("198.18.%d.0/24", r.subnet))
	check(t, err)
	check(t, netlink.RouteAdd(&netlink.Route{Dst: to, Gw: net.ParseIP(hop)}))
}

// addresses are those of a row's session.
func (r *rack) addresses(row int, w way) (node, router string) {
	switch w {
	case overIPv6:
		return fmt.Sprintf("2001:db8:%d::%d", r.subnet, 11+row), fmt.Sprintf("2001:db8:%d::%d", r.subnet, 101+row)
	case overLinkLocal:
		return "fe80::11", "fe80::1"
	case overAHop:
		return fmt.Sprintf("192.0.%d.%d", r.subnet, 11+row), fmt.Sprintf("198.18.%d.%d", r.subnet, 101+row)
	}
	return fmt.Sprintf("192.0.%d.%d", r.subnet, 11+row), fmt.Sprintf("192.0.%d.%d", r.subnet, 101+row)
}

// peer is a row's BGPPeer.
func (r *rack) peer(t *testing.T, row int) Peer {
	t.Helper()
	c := matrix[row]
	node, router := r.addresses(row, c.way)
	spec := []string{"peerAddress: '" + router + "'", "sourceAddress: '" + node + "'", "connectTime: 2s", "families: [" + c.families + "]"}
	if c.way == overLinkLocal {
		spec = append(spec, "interface: "+r.link)
	}
	if !strings.Contains(c.peer, "myASN") {
		spec = append(spec, "myASN: 64512, peerASN: 64513")
	}
	if c.peer != "" {
		spec = append(spec, c.peer)
	}
	if c.password != "" {
		spec = append(spec, "passwordSecret: {name: s}")
	}
	p := peersOf(t, r.name(row)+" {"+strings.Join(spec, ", ")+"}")[0]
	p.Password = c.password
	return p
}

func (r *rack) name(row int) string { return fmt.Sprintf("%s-%d", r.link, row) }

// configureBIRD sets up the rows over these ways.
func configureBIRD(r *rack, ways ...way) string {
	var b strings.Builder
	for i, c := range matrix {
		if !slices.Contains(ways, c.way) {
			continue
		}
		node, router := r.addresses(i, c.way)
		if c.way == overLinkLocal {
			fmt.Fprintf(&b, "protocol bgp r%d { interface \"%s\"; ", i, r.link)
		} else {
			fmt.Fprintf(&b, "protocol bgp r%d { ", i)
		}
		fmt.Fprintf(&b, "local %s as 64513; neighbor %s as 64512; passive; connect delay time 1; connect retry time 1; error wait time 1, 2; %s\n", router, node, c.bird)
		for family := range strings.SplitSeq(c.families, ", ") {
			fmt.Fprintf(&b, "  %s { import all; export none; };\n", strings.ToLower(family))
		}
		b.WriteString("}\n")
	}
	return b.String()
}

func configureFRR(r *rack, ways ...way) string {
	var b strings.Builder
	b.WriteString("router bgp 64513\n bgp router-id 192.0.2.1\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n")
	var activate [2]strings.Builder
	for i, c := range matrix {
		if !slices.Contains(ways, c.way) {
			continue
		}
		node, router := r.addresses(i, c.way)
		settings := []string{"remote-as 64512"}
		if c.way == overLinkLocal {
			settings = append(settings, "interface "+r.link)
		} else {
			settings = append(settings, "update-source "+router)
		}
		if !strings.Contains(c.frr, "timers connect") {
			settings = append(settings, "passive")
		}
		if c.frr != "" {
			settings = append(settings, strings.Split(c.frr, "; ")...)
		}
		for _, s := range settings {
			fmt.Fprintf(&b, " neighbor %s %s\n", node, s)
		}
		for family := range strings.SplitSeq(c.families, ", ") {
			fmt.Fprintf(&activate[slices.Index([]string{"IPv4", "IPv6"}, family)], "  neighbor %s activate\n", node)
		}
	}
	fmt.Fprintf(&b, " address-family ipv4 unicast\n%s exit-address-family\n address-family ipv6 unicast\n%s exit-address-family\n", activate[0].String(), activate[1].String())
	return b.String()
}

func TestSessions(t *testing.T) {
	t.Parallel() // its links and addresses are its own
	racks := []*rack{
		{link: "bird", subnet: 51, configure: configureBIRD, start: func(h *host, conf string) func(string) string { return newBIRD(h, conf).route }},
		{link: "frr", subnet: 52, configure: configureFRR, start: func(h *host, conf string) func(string) string { return newFRRWithKernel(h, conf).route }},
	}
	s := newSpeaker(t)
	var peers []Peer
	routes := map[netip.Prefix][]Route{}
	prefixOf := func(row int, family string) string {
		if family == "IPv6" {
			return fmt.Sprintf("2001:db8:2::%d/128", row+1)
		}
		return fmt.Sprintf("203.0.113.%d/32", row+1)
	}
	near, far := map[*rack]func(string) string{}, map[*rack]func(string) string{}
	for _, r := range racks {
		r.makeLinks(t)
		near[r] = r.start(r.near, r.configure(r, overIPv4, overIPv6, overLinkLocal))
		far[r] = r.start(r.far, r.configure(r, overAHop))
		for i := range matrix {
			peers = append(peers, r.peer(t, i))
		}
	}
	for i, c := range matrix {
		for family := range strings.SplitSeq(c.families, ", ") {
			routes[netip.MustParsePrefix(prefixOf(i, family))] = []Route{{Peers: []string{racks[0].name(i), racks[1].name(i)}}}
		}
	}
	s.Apply(peers, routes)
	for _, r := range racks {
		t.Run(r.link, func(t *testing.T) {
			for i, c := range matrix {
				t.Run(c.name, func(t *testing.T) {
					if c.fails == silently {
						return // looked at in the end
					}
					if c.fails != "" {
						eventually(t, "Herald says "+c.fails, func() bool { return strings.Contains(sessionOf(s, r.name(i)).LastError, c.fails) })
						return
					}
					at := near[r]
					if c.way == overAHop {
						at = far[r]
					}
					for family := range strings.SplitSeq(c.families, ", ") {
						has(t, at, prefixOf(i, family))
					}
				})
			}
		})
	}
	for _, r := range racks {
		for i, c := range matrix {
			if got := sessionOf(s, r.name(i)); (got.State == Established) != (c.fails == "") {
				t.Errorf("%s, %s: %+v", r.link, c.name, got)
			}
		}
	}

	hold := slices.IndexFunc(matrix, func(c row) bool { return c.name == shortHold })
	cut := func(off bool) {
		for _, r := range racks {
			l, err := r.near.nl.LinkByName(r.link)
			check(t, err)
			if off {
				check(t, r.near.nl.LinkSetDown(l))
			} else {
				check(t, r.near.nl.LinkSetUp(l))
			}
		}
	}
	cut(true)
	for _, r := range racks {
		eventually(t, r.link+": the hold timer expires", func() bool {
			got := sessionOf(s, r.name(hold))
			return got.State != Established && strings.Contains(got.LastError, "hold timer expired")
		})
	}
	cut(false)
	for _, r := range racks {
		eventually(t, r.link+": the session is back", func() bool { return sessionOf(s, r.name(hold)).State == Established })
	}
}
