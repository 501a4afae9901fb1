package bgp

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"heraldlb.io/herald/api/v1beta1"
)

// place is where a peer is, as seen from this node now.
type place struct {
	address netip.Addr // with a zone when it is link-local
	source  netip.Addr // of the session; invalid means that the kernel chooses
	nextHop netip.Addr // for the family that the session is not of; invalid when there is none or none is needed
	listen  netip.Addr // the node's address that a passive peer connects to; invalid for others
}

// link is an interface of the node, as far as it matters here.
type link struct {
	name      string
	addresses []netip.Addr
}

// links returns the node's interfaces.
func links() ([]link, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the node's interfaces: %w", err)
	}
	var out []link
	for _, i := range interfaces {
		addrs, err := i.Addrs()
		if err != nil {
			continue // it has just gone
		}
		l := link{name: i.Name}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				l.addresses = append(l.addresses, p.Addr().Unmap())
			}
		}
		out = append(out, l)
	}
	return out, nil
}

// first returns the first address of a family and a scope.
func (l link) first(is4, linkLocal bool) netip.Addr {
	for _, a := range l.addresses {
		if a.Is4() == is4 && a.IsLinkLocalUnicast() == linkLocal && !a.IsLoopback() {
			return a
		}
	}
	return netip.Addr{}
}

// surroundings are what a node knows of the ways to its peers.
type surroundings struct {
	links []link
	// route tells which of the node's addresses the kernel would talk to an address from.
	route func(netip.Addr) (netip.Addr, error)
	// router tells the link-local addresses of the router at an interface and of the node there, or what is missing.
	router func(name string) (router, own netip.Addr, err error)
}

// unnumbered tells whether the peer is whoever is at the other end of its interface.
func (p Peer) unnumbered() bool { return !p.Address.IsValid() }

// locate finds the peer. The error says what is missing.
func locate(p Peer, around surroundings) (place, error) {
	links, route := around.links, around.route
	at := place{address: p.Address, source: p.SourceAddress}
	if p.unnumbered() {
		var err error
		if at.address, at.source, err = around.router(p.Interface); err != nil {
			return place{}, err
		}
	} else if p.Interface != "" {
		at.address = at.address.WithZone(p.Interface)
	}
	if p.SourceInterface != "" && !p.unnumbered() {
		i := slices.IndexFunc(links, func(l link) bool { return l.name == p.SourceInterface })
		if i < 0 {
			return place{}, fmt.Errorf("the node has no interface %s: correct sourceInterface, or let nodeSelectors leave the node out", p.SourceInterface)
		}
		if at.source = links[i].first(at.address.Is4(), at.address.Zone() != ""); !at.source.IsValid() {
			return place{}, fmt.Errorf("interface %s has no address of the peer's family: give it one, or correct sourceInterface", p.SourceInterface)
		}
	}
	if at.source.IsValid() && at.address.Zone() != "" {
		at.source = at.source.WithZone(at.address.Zone())
	}
	if p.Passive && !p.Disabled {
		if at.listen = at.source; !at.listen.IsValid() {
			own, err := route(at.address)
			if err != nil {
				return place{}, fmt.Errorf("the node has no way to the router, which is to connect to it: %w", err)
			}
			at.listen = own.WithZone(at.address.Zone())
		}
	}
	if crosses(p, at.address) && !p.unnumbered() { // to an unnumbered peer an IPv6 next hop is the only one that there is
		at.nextHop = otherFamily(p, at, links, route)
	}
	return at, nil
}

// crosses tells whether the peer is told routes of a family that the session is not of.
func crosses(p Peer, address netip.Addr) bool {
	return slices.ContainsFunc(p.Families, func(f v1beta1.IPFamily) bool { return (f == v1beta1.IPv4) != address.Is4() })
}

// otherFamily is the node's address of the other family on the link that the session runs over. IPv4 routes over an
// IPv6 session can do without (RFC 8950).
func otherFamily(p Peer, at place, links []link, route func(netip.Addr) (netip.Addr, error)) netip.Addr {
	on := func(l link) bool { return l.name == p.Interface }
	if p.Interface == "" {
		own := at.source
		if !own.IsValid() {
			own, _ = route(at.address) // without a route there is no session either
		}
		on = func(l link) bool { return slices.Contains(l.addresses, own) }
	}
	i := slices.IndexFunc(links, on)
	if i < 0 {
		return netip.Addr{}
	}
	if at.address.Is4() {
		if a := links[i].first(false, false); a.IsValid() {
			return a
		}
		return links[i].first(false, true)
	}
	return links[i].first(true, false)
}

// sourceTo asks the kernel which address it would talk to another from; nothing is sent.
func sourceTo(a netip.Addr) (netip.Addr, error) {
	c, err := net.Dial("udp", netip.AddrPortFrom(a, 179).String())
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	local, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return netip.Addr{}, err
	}
	return local.Addr().WithZone("").Unmap(), nil
}
