package bgp

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"heraldlb.io/herald/internal/config"
)

func TestFRRIsToldWhatItShouldBe(t *testing.T) {
	h := newHost(t, "up0", append(nodeAddresses, "198.51.100.11/32"), append(routerAddresses, "192.0.2.2/24"))
	f := newFRR(h, `
router bgp 64513
 bgp router-id 192.0.2.1
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 192.0.2.11 remote-as 64512
 neighbor 192.0.2.11 password secret
 neighbor 192.0.2.11 ttl-security hops 1
 neighbor 2001:db8:1::11 remote-as 64555
 neighbor 2001:db8:1::11 ebgp-multihop 5
 address-family ipv4 unicast
  neighbor 2001:db8:1::11 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor 2001:db8:1::11 activate
 exit-address-family
`)
	peers := peersOf(t,
		"four {peerAddress: 192.0.2.1, myASN: 64512, dynamicASN: external, connectTime: 2s, passwordSecret: {name: s}, ttlSecurity: {minimumTtl: 255}}",
		"six {peerAddress: '2001:db8:1::1', myASN: 64512, localASN: 64555, peerASN: 64513, ebgpMultiHop: true, families: [IPv4, IPv6]}",
	)
	peers[0].Password = "secret"
	communities := config.Communities{
		Standard: []uint32{0xffffff01},
		Large:    []config.LargeCommunity{{64512, 1, 2}},
		Extended: []config.ExtendedCommunity{
			{Type: config.RouteTarget, ASN: 64512, Number: 70000}, {Type: config.RouteTarget, ASN: 4200000000, Number: 7},
			{Type: config.RouteOrigin, Address: netip.MustParseAddr("192.0.2.1"), Number: 8},
			{Type: config.LinkBandwidth, ASN: 64512, Number: 125_000_000},
		},
	}
	s := newSpeaker(t)
	s.Apply(peers, prefixes(map[string][]Route{
		"203.0.113.1/32":    {{Peers: []string{"four"}, Attributes: config.Attributes{MED: number(7), Prepend: 1}, Communities: communities}},
		"203.0.113.2/32":    {{Peers: []string{"six"}}},
		"2001:db8:2::1/128": {{}},
	}))
	has(t, f.route, "203.0.113.1/32", "64512 64512", "metric 7", "Large Community: 64512:1:2", "RT:64512:70000 SoO:192.0.2.1:8 RT:4200000000:7", "LB:64512:125000000", "no-export", "from 192.0.2.11")
	has(t, f.route, "203.0.113.2/32", "64555\n", "192.0.2.11 from 2001:db8:1::11")
	has(t, f.route, "2001:db8:2::1/128", "2001:db8:1::11 from 2001:db8:1::11")

	t.Run("a password that changes touches its own peer alone", func(t *testing.T) {
		since := sessionOf(s, "six").Since
		f.ask("configure terminal", "router bgp 64513", "neighbor 192.0.2.11 password another")
		peers[0].Password = "another"
		changed := time.Now()
		s.Apply(peers, nil)
		eventually(t, "the session is down, and up with the new password", func() bool {
			return sessionOf(s, "four").State == Established && sessionOf(s, "four").Since.After(changed)
		})
		has(t, f.route, "203.0.113.1/32", "64512 64512")
		if got := sessionOf(s, "six"); got.State != Established || got.Since != since {
			t.Errorf("the other session was touched: %+v", got)
		}
	})
	t.Run("a peer that is gone is told so", func(t *testing.T) {
		s.Apply(peers[1:], nil)
		hasNot(t, f.route, "203.0.113.1/32")
		has(t, f.route, "203.0.113.2/32")
		if len(s.Sessions()) != 1 {
			t.Errorf("sessions: %+v", s.Sessions())
		}
	})
}

func TestWhyThereIsNoSession(t *testing.T) {
	h := newHost(t, "up0", nodeAddresses, append(routerAddresses, "192.0.2.2/24"))
	newFRR(h, `
router bgp 64513
 bgp router-id 192.0.2.1
 neighbor 192.0.2.11 remote-as 64512
 neighbor 2001:db8:1::11 remote-as 64512
 neighbor 2001:db8:1::11 password right
`)
	peers := peersOf(t,
		"asn {peerAddress: 192.0.2.1, myASN: 64512, peerASN: 64999}",
		"nobody {peerAddress: 192.0.2.77, myASN: 64512, peerASN: 64999, connectTime: 3s}",
		"password {peerAddress: '2001:db8:1::1', myASN: 64512, peerASN: 64513, passwordSecret: {name: s}, connectTime: 3s}",
		"port {peerAddress: 192.0.2.2, peerPort: 180, myASN: 64512, peerASN: 64513}",
		"source {peerAddress: 192.0.2.3, sourceInterface: nothere, myASN: 64512, peerASN: 64513}",
	)
	peers[2].Password = "wrong"
	s := newSpeaker(t)
	s.Apply(peers, toAll("203.0.113.1/32"))
	for peer, why := range map[string]string{
		"asn":      "bad peer as",
		"nobody":   "cannot be connected to",
		"password": "no answer: packets are dropped on the way, or the passwords of the two sides differ",
		"port":     "connection refused",
		"source":   "has no interface nothere",
	} {
		eventually(t, peer+" says "+why, func() bool { return strings.Contains(sessionOf(s, peer).LastError, why) })
	}
}
