package config

import (
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"heraldlb.io/herald/api/v1beta1"
)

// BGPAdvertisement says which pools' addresses are announced with BGP, by whom, to whom and how.
type BGPAdvertisement struct {
	Name string
	Selection

	// Peers are the names of the BGPPeers to tell, sorted; nil means every peer.
	Peers []string

	// AggregationLength and AggregationLengthV6 are the lengths of the prefixes that are announced.
	AggregationLength, AggregationLengthV6 int

	// Attributes are the same in any two advertisements that announce one prefix from one node to one peer, as far as
	// that can be told from the objects. Where labels decide, the advertisement with the lower Rank prevails.
	Attributes
	Rank int // by age, 0 is the oldest

	// Communities of all advertisements of a prefix are attached to it.
	Communities Communities

	beyond []string // the pools that the aggregate would go beyond, sorted
}

// Attributes are those of a route that can have one value only.
type Attributes struct {
	LocalPref *uint32 // nil is the default of BGP
	MED       *uint32 // nil is none
	Prepend   int     // how often the own ASN is put into the path once more
}

func (a Attributes) equal(o Attributes) bool {
	same := func(x, y *uint32) bool { return x == y || x != nil && y != nil && *x == *y }
	return same(a.LocalPref, o.LocalPref) && same(a.MED, o.MED) && a.Prepend == o.Prepend
}

// SelectsPool tells whether the addresses of the pool are announced.
func (a BGPAdvertisement) SelectsPool(name string) bool {
	return a.Selection.SelectsPool(name) && !has(a.beyond, name)
}

// SelectsPeer tells whether the peer is told.
func (a BGPAdvertisement) SelectsPeer(name string) bool { return a.Peers == nil || has(a.Peers, name) }

// Prefix is what is announced for an address.
func (a BGPAdvertisement) Prefix(addr netip.Addr) netip.Prefix {
	return netip.PrefixFrom(addr, a.length(addr)).Masked()
}

func (a BGPAdvertisement) length(addr netip.Addr) int {
	if addr.Is4() {
		return a.AggregationLength
	}
	return a.AggregationLengthV6
}

// bgpAdvertisement judges an advertisement and puts it in force.
func (b *builder) bgpAdvertisement(a *v1beta1.BGPAdvertisement) {
	v := b.judge(KindBGPAdvertisement, a)
	out := BGPAdvertisement{
		Name:                a.Name,
		Rank:                len(b.config.BGPAdvertisements),
		Selection:           v.selection(a.Spec.NodeSelectors, a.Spec.ServiceSelectors),
		Peers:               sorted(a.Spec.Peers),
		AggregationLength:   v.length("spec.aggregationLength", a.Spec.AggregationLength, 32),
		AggregationLengthV6: v.length("spec.aggregationLengthV6", a.Spec.AggregationLengthV6, 128),
		Attributes: Attributes{
			LocalPref: v.optional32("spec.localPref", a.Spec.LocalPref),
			MED:       v.optional32("spec.med", a.Spec.MED),
			Prepend:   int(a.Spec.ASPathPrepend),
		},
	}
	v.within("spec.asPathPrepend", int64(a.Spec.ASPathPrepend), 0, 32)
	v.notEmpty("spec.peers", a.Spec.Peers != nil && len(a.Spec.Peers) == 0, everyPeer)
	out.Communities = b.communities(v, a.Spec.Communities)
	out.Pools = b.pools(v, a.Spec.IPAddressPools, a.Spec.IPAddressPoolSelectors)
	if v.refused {
		return
	}
	for i, name := range a.Spec.Peers {
		if _, ok := find(b.config.BGPPeers, name, func(p BGPPeer) string { return p.Name }); !ok {
			v.unresolved(fmt.Sprintf("spec.peers[%d]", i), ReasonPeerNotFound, "no BGPPeer %s is in force: create it, or see its condition Accepted", name)
		}
	}
	pools := b.fit(v, &out)
	var clashing []string
	for i, older := range b.config.BGPAdvertisements {
		if clash(older, out) && b.announced[i].shares(pools, older, out) {
			clashing = append(clashing, older.Name)
		}
	}
	if len(clashing) > 0 {
		v.refuse("spec", ReasonConflict, "older advertisements announce the same prefixes to the same peers with another localPref, med or asPathPrepend (%s): "+
			"make them equal, or select different pools, peers, nodes or Services", few(clashing))
		return
	}
	b.config.BGPAdvertisements = append(b.config.BGPAdvertisements, out)
	b.announced = append(b.announced, pools)
}

// announced are the pools that an advertisement announces, those with IPv4 and those with IPv6 addresses, as sets of
// bits by their place in the Config.
type announced struct{ v4, v6 []uint64 }

// shares tells whether two advertisements announce a prefix in common.
func (a announced) shares(b announced, of, and BGPAdvertisement) bool {
	return of.AggregationLength == and.AggregationLength && intersect(a.v4, b.v4) ||
		of.AggregationLengthV6 == and.AggregationLengthV6 && intersect(a.v6, b.v6)
}

func intersect(x, y []uint64) bool {
	for i, word := range x {
		if word&y[i] != 0 {
			return true
		}
	}
	return false
}

// fit returns the pools that are announced. An aggregate that goes beyond its pool would draw traffic for addresses
// of others, so such a pool is not.
func (b *builder) fit(v *verdict, a *BGPAdvertisement) announced {
	words := (len(b.config.Pools) + 63) / 64
	pools := announced{make([]uint64, words), make([]uint64, words)}
	for i, p := range b.config.Pools {
		if !a.Selection.SelectsPool(p.Name) {
			continue
		}
		if field, outer, block := a.beyondBlock(p); field != "" {
			a.beyond = append(a.beyond, p.Name) // sorted, as the pools are
			v.unresolved(field, ReasonAggregateBeyondPool, "pool %s is not announced: %v is not all within its addresses (%v): "+
				"write a greater length, or give the pool whole prefixes of this length", p.Name, outer, block)
			continue
		}
		for _, r := range p.ranges {
			set := pools.v6
			if r.From().Is4() {
				set = pools.v4
			}
			set[i/64] |= 1 << (i % 64)
		}
	}
	return pools
}

// beyondBlock returns a prefix that would go beyond the pool's own addresses, the range that it goes beyond, and the
// field that says so; no field when there is none.
func (a BGPAdvertisement) beyondBlock(p Pool) (field string, outer netip.Prefix, block netipx.IPRange) {
	for _, r := range p.blocks {
		first, last := a.Prefix(r.From()), a.Prefix(r.To())
		switch {
		case first.Addr() != r.From():
			outer = first
		case netipx.RangeOfPrefix(last).To() != r.To():
			outer = last
		default:
			continue
		}
		if r.From().Is4() {
			return "spec.aggregationLength", outer, r
		}
		return "spec.aggregationLengthV6", outer, r
	}
	return "", outer, block
}

// clash tells whether two advertisements certainly announce what they have in common to one peer, with different
// attributes.
func clash(x, y BGPAdvertisement) bool {
	return !x.equal(y.Attributes) && (x.Peers == nil || slices.ContainsFunc(x.Peers, y.SelectsPeer)) && meet(x.nodes, y.nodes) && meet(x.services, y.services)
}

// length reads the length of a prefix, a host's when there is none.
func (v *verdict) length(field string, n *int32, host int) int {
	if n == nil {
		return host
	}
	v.within(field, int64(*n), 1, int64(host))
	return int(*n)
}

// optional32 reads a number of 32 bits.
func (v *verdict) optional32(field string, n *int64) *uint32 {
	if n == nil {
		return nil
	}
	v.within(field, *n, 0, 1<<32-1)
	u := uint32(*n)
	return &u
}
