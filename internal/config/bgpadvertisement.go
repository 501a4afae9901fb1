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

	// Communities and LargeCommunities are sorted. Those of all advertisements of a prefix are attached to it.
	Communities      []uint32
	LargeCommunities []LargeCommunity

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
	values := b.communities(v, a.Spec.Communities)
	out.Communities, out.LargeCommunities = values.standard, values.large
	out.Pools = b.pools(v, a.Spec.IPAddressPools, a.Spec.IPAddressPoolSelectors)
	if v.refused {
		return
	}
	for i, name := range a.Spec.Peers {
		if _, ok := find(b.config.BGPPeers, name, func(p BGPPeer) string { return p.Name }); !ok {
			v.unresolved(fmt.Sprintf("spec.peers[%d]", i), ReasonPeerNotFound, "no BGPPeer %s is in force: create it, or see its condition Accepted", name)
		}
	}
	b.fit(v, &out)
	var clashing []string
	for _, older := range b.config.BGPAdvertisements {
		if b.clash(older, out) {
			clashing = append(clashing, older.Name)
		}
	}
	if len(clashing) > 0 {
		v.refuse("spec", ReasonConflict, "older advertisements announce the same prefixes to the same peers with another localPref, med or asPathPrepend (%s): "+
			"make them equal, or select different pools, peers, nodes or Services", few(clashing))
	}
	if !v.refused {
		b.config.BGPAdvertisements = append(b.config.BGPAdvertisements, out)
	}
}

// fit finds the pools that an aggregate would go beyond: it would draw traffic for addresses of others.
func (b *builder) fit(v *verdict, a *BGPAdvertisement) {
	for _, p := range b.config.Pools {
		if !a.Selection.SelectsPool(p.Name) {
			continue
		}
		i := slices.IndexFunc(p.block.Ranges(), func(r netipx.IPRange) bool {
			return netipx.RangeOfPrefix(a.Prefix(r.From())).From() != r.From() || netipx.RangeOfPrefix(a.Prefix(r.To())).To() != r.To()
		})
		if i < 0 {
			continue
		}
		r := p.block.Ranges()[i]
		field, outer := "spec.aggregationLength", a.Prefix(r.From())
		if r.From().Is6() {
			field = "spec.aggregationLengthV6"
		}
		if outer.Addr() == r.From() && netipx.RangeOfPrefix(outer).To().Compare(r.To()) <= 0 {
			outer = a.Prefix(r.To())
		}
		a.beyond = append(a.beyond, p.Name) // sorted, as the pools are
		v.unresolved(field, ReasonAggregateBeyondPool, "pool %s is not announced: %v is not all within its addresses (%v): write a greater length, or give the pool whole prefixes of this length", p.Name, outer, r)
	}
}

// clash tells whether two advertisements certainly announce one prefix to one peer with different attributes.
func (b *builder) clash(x, y BGPAdvertisement) bool {
	if x.equal(y.Attributes) || !meet(x.nodes, y.nodes) || !meet(x.services, y.services) {
		return false
	}
	if x.Peers != nil && y.Peers != nil && !slices.ContainsFunc(x.Peers, y.SelectsPeer) {
		return false
	}
	for _, p := range b.config.Pools {
		if !x.SelectsPool(p.Name) || !y.SelectsPool(p.Name) {
			continue
		}
		for _, r := range p.Addresses.Ranges() {
			if x.Prefix(r.From()) == y.Prefix(r.From()) {
				return true
			}
		}
	}
	return false
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
