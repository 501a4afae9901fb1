// Package ipam decides which Service gets which addresses. It owns who holds what, and it holds two rules: no
// address has two holders, and an address in use changes only when its holder's own request rules it out or its
// pool is gone.
//
// It is pure: the same calls in the same order give the same answers. It keeps intervals of free addresses, never
// lists of addresses, so an IPv6 /64 is an ordinary pool and a call costs the logarithm of what is in use. It is
// not safe for concurrent use: one loop owns an Allocator.
package ipam

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/service"
)

// Lease is one address that a Service holds, and the pool it counts for.
type Lease struct {
	Addr netip.Addr
	Pool string
}

// Result is what a Service holds after a request, and what became of the rest.
type Result struct {
	// Leases are the addresses held now, in the order of the families asked for.
	Leases []Lease
	// Unwanted are addresses still held although the request no longer wants their family. They are taken back by
	// Return, once nobody can see them on the Service any more.
	Unwanted []Lease
	// Refusal says why a wanted family has no address; nil when each has one.
	Refusal *Refusal
}

// Unseated is an address that Seat did not give to the Service that claims it.
type Unseated struct {
	Held   service.Held
	Reason Reason
	// Holder is the Service that has the address, when the reason is AddressInUse.
	Holder types.NamespacedName
}

// Allocator knows the pools and who holds which of their addresses. The zero value is not ready: call New.
type Allocator struct {
	pools  []*pool // sorted by name, which is the order of choice
	byName map[string]*pool
	ranges [families][]poolRange // which pool an address belongs to now, sorted
	open   [families]bitset      // the ranks of the pools that have a free address
	full   [families]*Refusal    // what Allocate says when no pool has one, made once for a set of pools

	turns uint64 // see Turns

	holders map[types.NamespacedName]*holder
	byAddr  map[netip.Addr]*holder
}

// holder is a Service that holds at least one address, one of each family at most.
type holder struct {
	key    types.NamespacedName
	leases [families]lease
}

// lease is the address a holder has of one family; its address is invalid when there is none.
type lease struct {
	addr netip.Addr
	pool *pool // whom it counts for
	// outside: no pool has the address any more, so it does not go back to one.
	outside bool
}

func (l lease) public() Lease { return Lease{Addr: l.addr, Pool: l.pool.name} }

// New returns an allocator without pools.
func New() *Allocator {
	a := &Allocator{holders: map[types.NamespacedName]*holder{}, byAddr: map[netip.Addr]*holder{}}
	a.SetPools(nil)
	return a
}

// Allocate gives a Service what it asks for and still lacks. What it holds stays as it is. When not all can be had,
// a request with AllFamilies gets nothing more; any other gets what there is.
//
// The lowest free address of the first pool by name is given, both families from one pool where one has both.
// What the request says it holds is not looked at: see Seat.
func (a *Allocator) Allocate(req service.Request) Result {
	h := a.holders[req.Key]
	var r Result
	var wanted, missing [families]bool
	for _, name := range req.Families {
		f := familyOf(name)
		wanted[f] = true
		missing[f] = h == nil || !h.leases[f].addr.IsValid()
	}
	if h != nil {
		for f := range h.leases {
			if h.leases[f].addr.IsValid() && !wanted[f] {
				r.Unwanted = append(r.Unwanted, h.leases[f].public())
			}
		}
	}
	r.Refusal = a.refusal(req, missing)
	if r.Refusal == nil || !req.AllFamilies {
		a.take(req.Key, &h, missing)
	}
	if h != nil {
		r.Leases = make([]Lease, 0, len(req.Families))
		for _, name := range req.Families {
			if l := h.leases[familyOf(name)]; l.addr.IsValid() {
				r.Leases = append(r.Leases, l.public())
			}
		}
	}
	return r
}

// take gives the Service an address of each missing family that has one left. It makes the holder if there is none.
func (a *Allocator) take(key types.NamespacedName, h **holder, missing [families]bool) {
	both := -1 // the pool that can give both
	if missing[ipv4] && missing[ipv6] {
		both = firstOfBoth(a.open[ipv4], a.open[ipv6])
	}
	for f := range families {
		if !missing[f] {
			continue
		}
		rank := both
		if rank < 0 && *h != nil {
			// The pool of the other family comes first, so that the Service's addresses stay together.
			if other := (*h).leases[1-f].pool; other != nil && a.open[f].has(other.rank) {
				rank = other.rank
			}
		}
		if rank < 0 {
			rank = a.open[f].first()
		}
		if rank < 0 {
			continue
		}
		if *h == nil {
			*h = &holder{key: key}
			a.holders[key] = *h
		}
		p := a.pools[rank]
		addr := p.free[f].takeFirst()
		a.closeIfEmpty(p, f)
		p.inUse[f]++
		(*h).leases[f] = lease{addr: addr, pool: p}
		a.byAddr[addr] = *h
	}
}

// Seat gives a Service the addresses it says it holds, before any new one is given, and returns those that it may
// not keep. An address counts for the pool that has it now; if none has, for the pool it came from, as long as
// that one exists. Of two Services that claim one address, the first to be seated has it.
func (a *Allocator) Seat(req service.Request) []Unseated {
	var refused []Unseated
	for _, held := range req.Held {
		if u := a.seat(req.Key, held); u.Reason != "" {
			refused = append(refused, u)
		}
	}
	return refused
}

func (a *Allocator) seat(key types.NamespacedName, held service.Held) Unseated {
	f := familyOfAddr(held.Addr)
	if other, ok := a.byAddr[held.Addr]; ok {
		if other.key == key {
			return Unseated{}
		}
		return Unseated{Held: held, Reason: AddressInUse, Holder: other.key}
	}
	h := a.holders[key]
	if h != nil && h.leases[f].addr.IsValid() {
		return Unseated{Held: held, Reason: ExtraAddress}
	}
	l, ok := a.lease(held.Addr, held.Pool)
	if !ok {
		return Unseated{Held: held, Reason: PoolGone}
	}
	if h == nil {
		h = &holder{key: key}
		a.holders[key] = h
	}
	a.occupy(&l, f)
	h.leases[f] = l
	a.byAddr[held.Addr] = h
	return Unseated{}
}

// Release takes back everything a Service holds and returns it.
func (a *Allocator) Release(key types.NamespacedName) []Lease {
	h := a.holders[key]
	if h == nil {
		return nil
	}
	var freed []Lease
	for f := range h.leases {
		if h.leases[f].addr.IsValid() {
			freed = append(freed, a.free(h, family(f)))
		}
	}
	a.forgetIfEmpty(h)
	return freed
}

// Return takes back one address of a Service, and tells whether the Service held it.
func (a *Allocator) Return(key types.NamespacedName, addr netip.Addr) bool {
	h := a.byAddr[addr]
	if h == nil || h.key != key {
		return false
	}
	a.free(h, familyOfAddr(addr))
	a.forgetIfEmpty(h)
	return true
}

// Holder returns who holds an address.
func (a *Allocator) Holder(addr netip.Addr) (types.NamespacedName, bool) {
	h, ok := a.byAddr[addr]
	if !ok {
		return types.NamespacedName{}, false
	}
	return h.key, true
}

// Held returns what a Service holds, IPv4 first.
func (a *Allocator) Held(key types.NamespacedName) []Lease {
	h := a.holders[key]
	if h == nil {
		return nil
	}
	var held []Lease
	for _, l := range h.leases {
		if l.addr.IsValid() {
			held = append(held, l.public())
		}
	}
	return held
}

// Available tells whether some pool has a free address of the family.
func (a *Allocator) Available(name corev1.IPFamily) bool {
	return a.open[familyOf(name)].first() >= 0
}

// free takes one address back from its holder.
func (a *Allocator) free(h *holder, f family) Lease {
	l := h.leases[f]
	h.leases[f] = lease{}
	delete(a.byAddr, l.addr)
	l.pool.inUse[f]--
	if l.outside {
		l.pool.outside[f]--
	} else {
		l.pool.free[f].add(l.addr)
		if !a.open[f].has(l.pool.rank) {
			a.open[f].set(l.pool.rank)
			a.turns++
		}
	}
	return l.public()
}

func (a *Allocator) forgetIfEmpty(h *holder) {
	for f := range h.leases {
		if h.leases[f].addr.IsValid() {
			return
		}
	}
	delete(a.holders, h.key)
}
