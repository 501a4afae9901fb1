// Package ipam decides which Service gets which addresses. It owns who holds what and who waits, and it holds two
// rules: an address has several holders only if these may share it, and an address in use changes only when its
// holder's own request rules it out or its pool is gone.
//
// It is pure: the same calls in the same order give the same answers. It keeps intervals of free addresses, never
// lists of addresses, so an IPv6 /64 is an ordinary pool and a call costs the logarithm of what is in use. It is
// not safe for concurrent use: one loop owns an Allocator.
package ipam

import (
	"net/netip"
	"slices"

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
	// Unwanted are addresses still held although the request rules them out. They are taken back by Return, once
	// nobody can see them on the Service any more; until then nobody else gets them.
	Unwanted []Lease
	// Refusal says why the request is not met in full; nil when it is.
	Refusal *service.Refusal
}

// Unseated is an address that Seat did not give to the Service that claims it.
type Unseated struct {
	Held   service.Held
	Reason service.Reason
	// Holder is the Service that has the address, when the reason is AddressInUse.
	Holder types.NamespacedName
}

// Allocator knows the pools, who holds which of their addresses, and who waits for one. The zero value is not ready:
// call New.
type Allocator struct {
	landscape

	namespaces map[string]*namespace
	holders    map[types.NamespacedName]*holder
	tenancies  map[netip.Addr]*tenancy
	groups     map[string]*group // by sharing key

	waiting waiting
}

// holder is a Service that holds at least one address.
type holder struct {
	key     types.NamespacedName
	pool    string           // that its last request asks for
	sharing *service.Sharing // of its last request, nil for one that shares with nobody
	leases  [families]*tenancy
	leaving []*tenancy // those it wants no more and has not given back
}

// New returns an allocator without pools.
func New() *Allocator {
	a := &Allocator{
		namespaces: map[string]*namespace{},
		holders:    map[types.NamespacedName]*holder{},
		tenancies:  map[netip.Addr]*tenancy{},
		groups:     map[string]*group{},
		waiting:    newWaiting(),
	}
	a.SetPools(nil)
	return a
}

// Allocate gives a Service what it asks for and still lacks. What it holds stays as it is, unless the request rules
// it out. When not all can be had, a request with AllFamilies gets nothing more; any other gets what there is, and
// whoever lacks something waits: see Serve. What the request says it holds is not looked at: see Seat.
//
// An address asked for by itself goes first, then the pool asked for by name, then the pools that select the Service
// in their order (config.ComparePools), then the open ones in theirs. Both families come from one pool where one has
// both. A Service with a sharing key shares an address of its pool where it may; any other gets the pool's lowest
// free one.
func (a *Allocator) Allocate(req service.Request) Result {
	req.Held = nil // not looked at, and not kept with the request while it waits
	h := a.holders[req.Key]
	if h != nil {
		a.revise(h, &req)
	}
	p := planner{a: a, req: &req, holder: h, lacks: lacking(&req, h)}
	refusal := p.fill()
	if refusal != nil && req.Fault == nil {
		p.wait()
	} else {
		a.Cancel(req.Key)
	}
	return result(&req, p.holder, refusal)
}

// fill gives a Service what it lacks as far as it can and may be had in part, and says why it cannot be had in full.
func (p *planner) fill() *service.Refusal {
	switch {
	case p.req.Fault != nil:
		return p.req.Fault
	case len(p.req.Families) == 0:
		return noFamily
	case p.lacks == [families]bool{}:
		return nil
	}
	picks, why := p.plan()
	refusal := join(p.req.Families, why)
	if refusal != nil && p.req.AllFamilies {
		return refusal
	}
	for f, one := range picks {
		if one.pool == nil || p.holder != nil && p.holder.leases[f] != nil {
			continue
		}
		if p.holder == nil {
			p.holder = p.a.newHolder(p.req)
		}
		p.a.take(p.holder, family(f), one)
		p.lacks[f] = false
	}
	return refusal
}

func result(req *service.Request, h *holder, refusal *service.Refusal) Result {
	r := Result{Refusal: refusal}
	if h == nil {
		return r
	}
	r.Leases = make([]Lease, 0, len(req.Families))
	for _, name := range req.Families {
		if t := h.leases[familyOf(name)]; t != nil {
			r.Leases = append(r.Leases, t.lease())
		}
	}
	for _, t := range h.leaving {
		r.Unwanted = append(r.Unwanted, t.lease())
	}
	return r
}

// Seat gives a Service the addresses it says it holds, before any new one is given, and returns those that it may
// not keep. An address counts for the pool that has it now; if none has, for the pool it came from, as long as that
// one exists. Of two Services that claim one address and may not share it, the first to be seated has it.
func (a *Allocator) Seat(req service.Request) []Unseated {
	var refused []Unseated
	for _, held := range req.Held {
		if u := a.seat(&req, held); u.Reason != "" {
			refused = append(refused, u)
		}
	}
	return refused
}

func (a *Allocator) seat(req *service.Request, held service.Held) Unseated {
	h, f := a.holders[req.Key], familyOfAddr(held.Addr)
	t := a.tenancies[held.Addr]
	switch {
	case t != nil && h != nil && slices.Contains(t.tenants, h):
		return Unseated{}
	case t != nil && !t.admits(&req.Sharing):
		return Unseated{Held: held, Reason: AddressInUse, Holder: t.tenants[0].key}
	case h != nil && h.leases[f] != nil:
		return Unseated{Held: held, Reason: ExtraAddress}
	}
	if t == nil {
		p := a.home(held.Addr, held.Pool, req.Pool)
		if p == nil {
			return Unseated{Held: held, Reason: PoolGone}
		}
		t = a.open(held.Addr, p)
		if t.owner != nil {
			t.owner.free[f].remove(t.addr)
			a.look(t.owner, f)
		}
	}
	if h == nil {
		h = a.newHolder(req)
	}
	a.enter(t, h)
	return Unseated{}
}

// Release takes back everything a Service holds and returns it. The Service waits no more.
func (a *Allocator) Release(key types.NamespacedName) []Lease {
	a.Cancel(key)
	h := a.holders[key]
	if h == nil {
		return nil
	}
	var freed []Lease
	for _, t := range h.tenancies() {
		freed = append(freed, t.lease())
		a.leave(t, h)
	}
	return freed
}

// Return takes back one address of a Service, and tells whether the Service held it.
func (a *Allocator) Return(key types.NamespacedName, addr netip.Addr) bool {
	h, t := a.holders[key], a.tenancies[addr]
	if h == nil || t == nil || !slices.Contains(t.tenants, h) {
		return false
	}
	a.leave(t, h)
	return true
}

// Holders returns who holds an address, those who came first first.
func (a *Allocator) Holders(addr netip.Addr) []types.NamespacedName {
	t := a.tenancies[addr]
	if t == nil {
		return nil
	}
	keys := make([]types.NamespacedName, len(t.tenants))
	for i, h := range t.tenants {
		keys[i] = h.key
	}
	return keys
}

// Held returns what a Service holds, IPv4 first, then what it holds and wants no more.
func (a *Allocator) Held(key types.NamespacedName) []Lease {
	h := a.holders[key]
	if h == nil {
		return nil
	}
	var held []Lease
	for _, t := range h.tenancies() {
		held = append(held, t.lease())
	}
	return held
}

func (a *Allocator) newHolder(req *service.Request) *holder {
	h := &holder{key: req.Key}
	h.note(req)
	a.holders[h.key] = h
	return h
}

// note keeps of a request what later decisions look at, and tells whether something about sharing is new.
func (h *holder) note(req *service.Request) (changed bool) {
	h.pool = req.Pool
	switch {
	case req.Sharing.Key == "":
		changed, h.sharing = h.sharing != nil, nil
	case h.sharing == nil || !h.sharing.Equal(&req.Sharing):
		sharing := req.Sharing
		changed, h.sharing = true, &sharing
	}
	return changed
}

// shares tells whether a holder may share with a Service.
func (h *holder) shares(with *service.Sharing) bool { return h.sharing != nil && h.sharing.With(with) }

// tenancies are all that a holder has, IPv4 first, then what is leaving.
func (h *holder) tenancies() []*tenancy {
	var all []*tenancy
	for _, t := range h.leases {
		if t != nil {
			all = append(all, t)
		}
	}
	return append(all, h.leaving...)
}

// revise takes in a holder's request: what it rules out begins to leave, and what was leaving and is wanted again
// stays.
func (a *Allocator) revise(h *holder, req *service.Request) {
	changed := h.note(req)
	var moved []*tenancy
	for f, t := range h.leases {
		if t != nil && (a.rulesOut(req, t) || !t.keeps(h)) {
			h.leases[f] = nil
			moved = append(moved, t)
		}
	}
	for _, t := range h.leaving {
		if f := t.family(); h.leases[f] == nil && !a.rulesOut(req, t) && t.keeps(h) {
			h.leases[f] = t
			moved = append(moved, t)
		}
	}
	if !changed && moved == nil {
		return
	}
	all := h.tenancies()
	for _, t := range moved {
		if !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	h.leaving = slices.DeleteFunc(slices.Clone(all), func(t *tenancy) bool { return h.leases[t.family()] == t })
	for _, t := range all {
		a.regroup(t)
		a.wakeAt(t)
	}
}

// rulesOut tells whether a request is against an address that its Service holds. A pool or an address asked for that
// does not exist rules nothing out: it may be a slip, or come later.
func (a *Allocator) rulesOut(req *service.Request, t *tenancy) bool {
	name := familyNames[t.family()]
	if !slices.Contains(req.Families, name) {
		return true
	}
	named := a.byName[req.Pool]
	if addr := req.Address(name); addr.IsValid() {
		owner := a.poolOf(addr)
		return addr != t.addr && owner != nil && (req.Pool == "" || owner == named)
	}
	return named != nil && named.inForce && named != t.pool
}

// lacking tells for which families a Service has not what it asks for: it has nothing, or it keeps something else
// because what it asks for does not exist.
func lacking(req *service.Request, h *holder) (lacks [families]bool) {
	for _, name := range req.Families {
		f := familyOf(name)
		if h == nil || h.leases[f] == nil {
			lacks[f] = true
			continue
		}
		t := h.leases[f]
		if addr := req.Address(name); addr.IsValid() {
			lacks[f] = t.addr != addr
		} else {
			lacks[f] = req.Pool != "" && req.Pool != t.pool.Name
		}
	}
	return lacks
}

// Available tells whether some pool that is not draining has a free address of the family.
func (a *Allocator) Available(name corev1.IPFamily) bool {
	f := familyOf(name)
	return firstOf(a.serving[f], a.serving[f], a.serving[f], nil, -1) >= 0
}
