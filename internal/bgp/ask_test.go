package bgp

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

func TestARouterThatRefusesIsAskedWhy(t *testing.T) {
	parallel(t)
	var ours, theirs []string
	for _, n := range []string{"1", "2", "3", "4"} {
		ours, theirs = append(ours, "198.51.100.1"+n+"/24"), append(theirs, "198.51.100.10"+n+"/24")
	}
	h := newHost(t, "ask0", ours, theirs)
	newFRR(h, `
router bgp 64513
 bgp router-id 192.0.2.11
 no bgp ebgp-requires-policy
 neighbor 198.51.100.11 remote-as 64999
 neighbor 198.51.100.11 update-source 198.51.100.101
 neighbor 198.51.100.11 password secret
 neighbor 198.51.100.12 remote-as 64513
 neighbor 198.51.100.12 update-source 198.51.100.102
 neighbor 198.51.100.13 remote-as 64512
 neighbor 198.51.100.13 update-source 198.51.100.103
 neighbor 198.51.100.13 strict-capability-match
 neighbor 198.51.100.13 ttl-security hops 1
 neighbor 198.51.100.14 remote-as 64512
 neighbor 198.51.100.14 update-source 198.51.100.104
 neighbor 198.51.100.14 shutdown
 address-family ipv4 unicast
  no neighbor 198.51.100.13 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor 198.51.100.13 activate
 exit-address-family
`)
	made := newHost(t, "ask1", []string{"198.51.101.11/24"}, []string{"198.51.101.106/24", "198.51.101.107/24"})
	router(made, "198.51.101.106", func(c net.Conn) { // a text of RFC 9003 in place of an OPEN
		send(c, wire.NewBGPNotificationMessage(wire.BGP_ERROR_CEASE, wire.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN, append([]byte{10}, "rack moves"...)))
		_, _ = io.Copy(io.Discard, c)
	})
	router(made, "198.51.101.107", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	peers := peersOf(t,
		"asn {peerAddress: 198.51.100.101, sourceAddress: 198.51.100.11, myASN: 64512, peerASN: 64513, passwordSecret: {name: s}}",
		"capability {peerAddress: 198.51.100.103, sourceAddress: 198.51.100.13, myASN: 64512, peerASN: 64513, ttlSecurity: {}}",
		"identifier {peerAddress: 198.51.100.102, sourceAddress: 198.51.100.12, myASN: 64513, dynamicASN: internal}",
		"moved {peerAddress: 198.51.101.106, myASN: 64512, peerASN: 64513}",
		"shutdown {peerAddress: 198.51.100.104, sourceAddress: 198.51.100.14, myASN: 64512, peerASN: 64513}",
		"silent {peerAddress: 198.51.101.107, myASN: 64512, peerASN: 64513}",
	)
	peers[0].Password = "secret"
	s := newSpeaker(t)
	run(t, s)
	s.Apply(peers, toAll("203.0.113.1/32"))
	for peer, why := range map[string]string{
		"asn":        "bad peer as): one side's AS number",
		"capability": "unsupported capability): the router insists",
		"identifier": "bad bgp identifier): both sides have the same router ID",
		"moved":      `administrative shutdown) ("rack moves")`,
		"shutdown":   "closes the connection without a word",
		"silent":     "accepts the connection and says nothing",
	} {
		eventually(t, peer+" says "+why, func() bool { return strings.Contains(sessionOf(s, peer).LastError, why) })
	}
}

// BIRD hears nobody for a while after it has refused a session, so GoBGP is not in the way here.
func TestWhatBIRDRefuses(t *testing.T) {
	parallel(t)
	h := newHost(t, "ask2", []string{"198.51.102.11/24", "198.51.102.12/24"}, []string{"198.51.102.101/24", "198.51.102.102/24"})
	newBIRD(h, `
protocol bgp node1 { local 198.51.102.101 as 64513; neighbor 198.51.102.11 as 64512; passive; error wait time 1, 1; ipv4 { import all; export none; }; ipv6 { mandatory; import all; export none; }; }
protocol bgp node2 { local 198.51.102.102 as 64513; neighbor 198.51.102.12 as 64512; passive; error wait time 1, 1; local role provider; require roles; ipv4 { import all; export none; }; }
`)
	for i, why := range []string{"unsupported capability): the router insists", "the router insists on a BGP role"} {
		router := fmt.Sprintf("198.51.102.10%d", i+1)
		q := question{
			peer:     peersOf(t, "bird {peerAddress: "+router+", myASN: 64512, peerASN: 64513}")[0],
			at:       place{address: netip.MustParseAddr(router), source: netip.MustParseAddr(fmt.Sprintf("198.51.102.1%d", i+1))},
			routerID: netip.MustParseAddr("192.0.2.11"),
			offer:    []wire.ParameterCapabilityInterface{wire.NewCapMultiProtocol(wire.RF_IPv4_UC), wire.NewCapFourOctetASNumber(64512)},
		}
		eventually(t, "BIRD says "+why, func() bool { return strings.Contains(ask(t.Context(), q), why) })
	}
}
