package announce

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/bgp"
	"heraldlb.io/herald/internal/config"
)

// BGP is the driver that tells routers; *bgp.Speaker is one.
type BGP interface {
	Apply(peers []bgp.Peer, changed map[netip.Prefix][]bgp.Route)
	Sessions() []bgp.Session
	Changed() <-chan struct{}
	Leave(ctx context.Context, d bgp.Departure, drainDelay time.Duration)
}

// routes holds what this node tells routers: for each prefix, how it is told to which of the node's peers. Every node
// that can serve an address announces it; there is no election. Only addresses that a change can touch are looked at
// again, and only prefixes that it does touch are told anew.
type routes struct {
	addrs    map[netip.Addr]struct{}                  // to look at
	reasons  map[netip.Addr]map[netip.Prefix][]int    // which advertisements announce an address as part of which prefix, by index
	prefixes map[netip.Prefix]map[netip.Addr]struct{} // the addresses that are announced as part of it
	told     map[netip.Prefix][]bgp.Route
	peers    []string // the names of the node's peers, sorted
	all      bool     // advertisements or peers have changed: every prefix may be told in another way
}

func newRoutes() *routes {
	return &routes{
		addrs:    map[netip.Addr]struct{}{},
		reasons:  map[netip.Addr]map[netip.Prefix][]int{},
		prefixes: map[netip.Prefix]map[netip.Addr]struct{}{},
		told:     map[netip.Prefix][]bgp.Route{},
	}
}

// touch marks addresses to be looked at again.
func (r *routes) touch(addrs ...netip.Addr) {
	for _, a := range addrs {
		r.addrs[a] = struct{}{}
	}
}

// looked returns the addresses of which routers may be told something else when the changes are next asked for.
func (r *routes) looked() []netip.Addr {
	out := slices.Collect(maps.Keys(r.addrs))
	if r.all {
		out = slices.AppendSeq(out, maps.Keys(r.reasons))
	}
	return out
}

// usePeers sets the node's peers.
func (r *routes) usePeers(names []string) {
	if !slices.Equal(r.peers, names) {
		r.peers, r.all = names, true
	}
}

// routeChanges brings what is told up to date, and returns what changed: a prefix without routes is told no more.
func (p *planner) routeChanges() map[netip.Prefix][]bgp.Route {
	r := p.routes
	dirty := map[netip.Prefix]struct{}{}
	for addr := range r.addrs {
		now := p.announcedAs(addr, p.self)
		for prefix := range r.reasons[addr] {
			dirty[prefix] = struct{}{}
			delete(r.prefixes[prefix], addr)
			if len(r.prefixes[prefix]) == 0 {
				delete(r.prefixes, prefix)
			}
		}
		for prefix := range now {
			dirty[prefix] = struct{}{}
			if r.prefixes[prefix] == nil {
				r.prefixes[prefix] = map[netip.Addr]struct{}{}
			}
			r.prefixes[prefix][addr] = struct{}{}
		}
		if len(now) == 0 {
			delete(r.reasons, addr)
		} else {
			r.reasons[addr] = now
		}
	}
	clear(r.addrs)
	if r.all {
		for prefix := range r.prefixes {
			dirty[prefix] = struct{}{}
		}
		r.all = false
	}
	changed := map[netip.Prefix][]bgp.Route{}
	for prefix := range dirty {
		now := p.routesOf(prefix)
		if routesEqual(now, r.told[prefix]) {
			continue
		}
		changed[prefix] = now
		for addr := range r.prefixes[prefix] {
			p.looked[addr] = struct{}{}
		}
		if len(now) == 0 {
			delete(r.told, prefix)
		} else {
			r.told[prefix] = now
		}
	}
	return changed
}

// announcedAs returns the prefixes that a node announces for an address, with the advertisements that say so.
func (p *planner) announcedAs(addr netip.Addr, name string) map[netip.Prefix][]int {
	n, known := p.nodes[name]
	if !known || n.excluded || n.networkUnavailable {
		return nil
	}
	var served []types.NamespacedName
	for _, key := range p.holders[addr] {
		if p.services[key].servedBy(name) {
			served = append(served, key)
		}
	}
	pool := ""
	if len(served) > 0 {
		pool = p.poolOf(addr)
	}
	if pool == "" {
		return nil
	}
	out := map[netip.Prefix][]int{}
	for i, a := range p.config.BGPAdvertisements {
		if a.SelectsPool(pool) && a.SelectsNode(n.labels) &&
			slices.ContainsFunc(served, func(k types.NamespacedName) bool { return a.SelectsService(p.services[k].labels) }) {
			prefix := a.Prefix(addr)
			out[prefix] = append(out[prefix], i)
		}
	}
	return out
}

// routesOf puts together how a prefix is told.
func (p *planner) routesOf(prefix netip.Prefix) []bgp.Route {
	r := p.routes
	indices := map[int]struct{}{}
	for addr := range r.prefixes[prefix] {
		for _, i := range r.reasons[addr][prefix] {
			indices[i] = struct{}{}
		}
	}
	if len(indices) == 0 {
		return nil
	}
	advertisements := make([]config.BGPAdvertisement, 0, len(indices))
	for _, i := range slices.Sorted(maps.Keys(indices)) {
		advertisements = append(advertisements, p.config.BGPAdvertisements[i])
	}
	if !slices.ContainsFunc(advertisements, func(a config.BGPAdvertisement) bool { return a.Peers != nil }) {
		return []bgp.Route{merged(advertisements)}
	}
	// Peers that are told by the same advertisements are told the same.
	peers, chosen := map[string][]string{}, map[string][]config.BGPAdvertisement{}
	for _, peer := range r.peers {
		var mine []config.BGPAdvertisement
		var names strings.Builder
		for _, a := range advertisements {
			if a.SelectsPeer(peer) {
				mine = append(mine, a)
				names.WriteString(a.Name + " ")
			}
		}
		if mine != nil {
			peers[names.String()] = append(peers[names.String()], peer)
			chosen[names.String()] = mine
		}
	}
	var out []bgp.Route
	for _, names := range slices.Sorted(maps.Keys(peers)) {
		route := merged(chosen[names])
		route.Peers = peers[names]
		out = append(out, route)
	}
	return out
}

// merged is what advertisements say together: all their communities, and the attributes of the oldest.
func merged(advertisements []config.BGPAdvertisement) bgp.Route {
	var out bgp.Route
	oldest := advertisements[0]
	for _, a := range advertisements {
		if a.Rank < oldest.Rank {
			oldest = a
		}
		out.Communities.Add(a.Communities)
	}
	out.Attributes = oldest.Attributes
	return out
}

func routesEqual(x, y []bgp.Route) bool {
	same := func(a, b *uint32) bool { return a == b || a != nil && b != nil && *a == *b }
	return slices.EqualFunc(x, y, func(a, b bgp.Route) bool {
		return (a.Peers == nil) == (b.Peers == nil) && slices.Equal(a.Peers, b.Peers) && a.Prepend == b.Prepend &&
			same(a.LocalPref, b.LocalPref) && same(a.MED, b.MED) &&
			a.Communities.Equal(b.Communities)
	})
}
