package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	gobgp "github.com/osrg/gobgp/v4/pkg/server"

	"heraldlb.io/herald/internal/config"
)

// newGoBGP starts GoBGP on a host, as a router that waits for AS 64512 from the node's addresses, and returns what it knows of a
// prefix: its attributes, empty when it does not know it.
func newGoBGP(h *host, listen ...string) (route func(prefix string) string) {
	h.t.Helper()
	server := gobgp.NewBgpServer()
	go h.in(func() error { // which opens its sockets on the thread that it runs on
		server.Serve()
		return nil
	})
	t := h.t
	t.Cleanup(server.Stop)
	check(t, server.StartBgp(t.Context(), &api.StartBgpRequest{Global: &api.Global{
		Asn: 64513, RouterId: "192.0.2.1", ListenPort: port, ListenAddresses: listen,
	}}))
	for _, node := range []string{"192.0.2.11", "2001:db8:1::11"} {
		check(t, server.AddPeer(t.Context(), &api.AddPeerRequest{Peer: &api.Peer{
			Conf:      &api.PeerConf{NeighborAddress: node, PeerAsn: 64512},
			Transport: &api.Transport{PassiveMode: true},
			AfiSafis: []*api.AfiSafi{
				{Config: &api.AfiSafiConfig{Family: apiFamily(true), Enabled: true}},
				{Config: &api.AfiSafiConfig{Family: apiFamily(false), Enabled: true}},
			},
		}}))
	}
	return func(prefix string) string {
		family := wire.RF_IPv6_UC
		if netip.MustParsePrefix(prefix).Addr().Is4() {
			family = wire.RF_IPv4_UC
		}
		var found []string
		err := server.ListPath(apiutil.ListPathRequest{TableType: api.TableType_TABLE_TYPE_GLOBAL, Family: family,
			Prefixes: []*apiutil.LookupPrefix{{Prefix: prefix}}}, func(_ wire.NLRI, paths []*apiutil.Path) {
			for _, p := range paths {
				for _, a := range p.Attrs {
					found = append(found, fmt.Sprint(a))
				}
			}
		})
		if err != nil {
			return ""
		}
		slices.Sort(found)
		return strings.Join(found, " ")
	}
}

func TestGoBGPIsToldWhatItShouldBe(t *testing.T) {
	noRace(t)
	h := newHost(t, "up0", nodeAddresses, routerAddresses)
	route := newGoBGP(h, "192.0.2.1", "2001:db8:1::1")
	s := newSpeaker(t)
	s.Apply(peersOf(t,
		"four {peerAddress: 192.0.2.1, myASN: 64512, peerASN: 64513, families: [IPv4, IPv6]}",
		"six {peerAddress: '2001:db8:1::1', myASN: 64512, peerASN: 64513, families: [IPv4, IPv6]}",
	), prefixes(map[string][]Route{
		"203.0.113.1/32": {{Peers: []string{"four"}, Attributes: config.Attributes{MED: number(7), Prepend: 1}, Communities: config.Communities{
			Standard: []uint32{64512<<16 | 100}, Large: []config.LargeCommunity{{64512, 1, 2}},
			Extended: []config.ExtendedCommunity{{Type: config.LinkBandwidth, ASN: 64512, Number: 125_000_000}},
		}}},
		"2001:db8:2::1/128": {{Peers: []string{"six"}}},
		"203.0.113.2/32":    {{Peers: []string{"six"}}},
	}))
	has(t, route, "203.0.113.1/32", "64512 64512", "Med: 7", "64512:100", "64512:1:2", "64512:125000000", "192.0.2.11")
	has(t, route, "2001:db8:2::1/128", "2001:db8:1::11")
	has(t, route, "203.0.113.2/32", "192.0.2.11")
	s.Leave(t.Context(), Drain, 0)
	hasNot(t, route, "203.0.113.1/32")
	hasNot(t, route, "2001:db8:2::1/128")
}
