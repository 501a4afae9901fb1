package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"heraldlb.io/herald/internal/config"
)

// GoBGP holds one path for a prefix and lets the export policy say what each peer is told of it. So the path itself
// carries nothing but its treatment's id, in the place of a next hop, and the policy puts in all the rest.

// The policies' names in GoBGP.
const (
	exportPolicy = "export"
	importPolicy = "import"
)

// defaultLocalPref is what a route without one counts as (RFC 4277 and every implementation).
const defaultLocalPref = 100

// mark is the next hop that stands for a treatment; none of these addresses can ever be one.
func mark(id uint32, is4 bool) netip.Addr {
	if is4 {
		return netip.AddrFrom4([4]byte{0xf0 | byte(id>>24), byte(id >> 16), byte(id >> 8), byte(id)})
	}
	return netip.AddrFrom16([16]byte{0: 0x01, 12: byte(id >> 24), 13: byte(id >> 16), 14: byte(id >> 8), 15: byte(id)})
}

// path is what GoBGP is given for a prefix.
func path(s step) (*apiutil.Path, error) {
	nlri, err := wire.NewIPAddrPrefix(s.prefix)
	if err != nil {
		return nil, err
	}
	is4 := s.prefix.Addr().Is4()
	p := &apiutil.Path{Family: wire.RF_IPv6_UC, Nlri: nlri, Withdrawal: s.id == 0}
	if is4 {
		p.Family = wire.RF_IPv4_UC
	}
	nextHop := wire.PathAttributeInterface(nil)
	if is4 {
		nextHop, err = wire.NewPathAttributeNextHop(mark(s.id, true))
	} else {
		nextHop, err = wire.NewPathAttributeMpReachNLRI(p.Family, []wire.PathNLRI{{NLRI: nlri}}, mark(s.id, false))
	}
	if err != nil {
		return nil, err
	}
	// With the lowest preference: the policy can raise it, and cannot set it to 0.
	p.Attrs = []wire.PathAttributeInterface{wire.NewPathAttributeOrigin(wire.BGP_ORIGIN_ATTR_TYPE_IGP), nextHop, wire.NewPathAttributeLocalPref(0)}
	return p, nil
}

// told is what the policy has to know of a peer that GoBGP talks to.
type told struct {
	name    string
	address netip.Addr
	// nextHop is that of the family that the session's own addresses are not of; invalid when the session's own has to do.
	nextHop netip.Addr
}

// policies says in GoBGP's terms what each peer is told of the prefixes of each treatment. What is in none of them is not
// told.
func policies(treatments []*treatment, peers []told) *api.SetPoliciesRequest {
	r := &api.SetPoliciesRequest{}
	neighbors := func(set string, peers []told) *api.MatchSet {
		s := &api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_NEIGHBOR, Name: set}
		for _, p := range peers {
			s.List = append(s.List, netip.PrefixFrom(p.address.WithZone(""), p.address.BitLen()).String())
		}
		r.DefinedSets = append(r.DefinedSets, s)
		return &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: set}
	}
	statements := []*api.Statement{{Name: "next-hop", Actions: &api.Actions{Nexthop: &api.NexthopAction{Self: true}}}}
	for i, p := range peers {
		if !p.nextHop.IsValid() {
			continue
		}
		name := fmt.Sprintf("next-hop-%d", i)
		statements = append(statements, &api.Statement{
			Name:       name,
			Conditions: &api.Conditions{NeighborSet: neighbors(name, peers[i:i+1]), AfiSafiIn: []*api.Family{apiFamily(p.nextHop.Is4())}},
			Actions:    &api.Actions{Nexthop: &api.NexthopAction{Address: p.nextHop.String()}},
		})
	}
	for _, t := range treatments {
		for i, route := range t.routes {
			name := fmt.Sprintf("route-%d-%d", t.id, i)
			conditions := &api.Conditions{NextHopInList: []string{mark(t.id, true).String(), mark(t.id, false).String()}}
			if route.Peers != nil {
				var chosen []told
				for _, p := range peers {
					if slices.Contains(route.Peers, p.name) {
						chosen = append(chosen, p)
					}
				}
				if chosen == nil {
					continue // an empty set would match every neighbor
				}
				conditions.NeighborSet = neighbors(name, chosen)
			}
			statements = append(statements, &api.Statement{Name: name, Conditions: conditions, Actions: actions(route)})
		}
	}
	r.Policies = []*api.Policy{
		{Name: exportPolicy, Statements: statements},
		{Name: importPolicy, Statements: []*api.Statement{{
			Name:       "own",
			Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
			Actions:    &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
		}}},
	}
	return r
}

// actions puts the attributes of a route into the path.
func actions(r Route) *api.Actions {
	a := &api.Actions{
		RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT,
		LocalPref:   &api.LocalPrefAction{Value: defaultLocalPref},
	}
	if r.LocalPref != nil {
		a.LocalPref.Value = *r.LocalPref // 0 does nothing, and 0 is what the path has
	}
	if r.MED != nil {
		a.Med = &api.MedAction{Type: api.MedAction_TYPE_REPLACE, Value: int64(*r.MED)}
	}
	if r.Prepend > 0 {
		// The leftmost is the one that this peer is shown; towards peers of the own AS there is none, and nothing to prepend.
		a.AsPrepend = &api.AsPrependAction{UseLeftMost: true, Repeat: uint32(r.Prepend)}
	}
	a.Community = attach(r.Communities.Standard, func(c uint32) string { return fmt.Sprintf("%d:%d", c>>16, c&0xffff) })
	a.LargeCommunity = attach(r.Communities.Large, func(c config.LargeCommunity) string { return fmt.Sprintf("%d:%d:%d", c[0], c[1], c[2]) })
	a.ExtCommunity = attach(r.Communities.Extended, extended)
	return a
}

// attach is nil when there is nothing to attach.
func attach[T any](communities []T, text func(T) string) *api.CommunityAction {
	if len(communities) == 0 {
		return nil
	}
	a := &api.CommunityAction{Type: api.CommunityAction_TYPE_REPLACE}
	for _, c := range communities {
		a.Communities = append(a.Communities, text(c))
	}
	return a
}

// extended writes a community as GoBGP reads it: an AS number of 32 bits in two halves, or it takes the number for one of 16.
func extended(c config.ExtendedCommunity) string {
	space := strconv.FormatUint(uint64(c.ASN), 10)
	switch {
	case c.Address.IsValid():
		space = c.Address.String()
	case c.ASN > 0xffff:
		space = fmt.Sprintf("%d.%d", c.ASN>>16, c.ASN&0xffff)
	}
	return fmt.Sprintf("%s:%s:%d", c.Type, space, c.Number)
}

// assignments put the policies in force. What we say ourselves is imported too, and nothing else is.
func assignments() []*api.PolicyAssignment {
	return []*api.PolicyAssignment{
		{Name: "global", Direction: api.PolicyDirection_POLICY_DIRECTION_IMPORT, DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT,
			Policies: []*api.Policy{{Name: importPolicy}}},
		{Name: "global", Direction: api.PolicyDirection_POLICY_DIRECTION_EXPORT, DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT,
			Policies: []*api.Policy{{Name: exportPolicy}}},
	}
}

func apiFamily(is4 bool) *api.Family {
	if is4 {
		return &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
	}
	return &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
}
