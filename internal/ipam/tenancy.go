package ipam

import (
	"net/netip"
	"slices"

	"heraldlb.io/herald/internal/service"
)

// tenancy is an address in use.
type tenancy struct {
	addr  netip.Addr
	pool  *pool // whom it counts for
	owner *pool // whose range it is in, nil for nobody's; mostly pool

	tenants []*holder // those who came first first
	first   [1]*holder

	group *group         // of those with a sharing key
	ports []service.Port // that the group counts for it
}

func (t *tenancy) lease() Lease { return Lease{Addr: t.addr, Pool: t.pool.Name} }

func (t *tenancy) family() family { return familyOfAddr(t.addr) }

// admits tells whether a newcomer may share the address with everybody who has it, those who are leaving too.
func (t *tenancy) admits(s *service.Sharing) bool {
	for _, h := range t.tenants {
		if !h.shares(s) {
			return false
		}
	}
	return true
}

// keeps tells whether one of those who have the address may go on sharing it with those who stay.
func (t *tenancy) keeps(h *holder) bool {
	for _, other := range t.tenants {
		if other != h && other.leases[t.family()] == t && (h.sharing == nil || !other.shares(h.sharing)) {
			return false
		}
	}
	return true
}

// group are the addresses held under one sharing key, and who waits for one.
type group struct {
	key     string
	members [families][]*tenancy // sorted by address
	ports   [families]map[service.Port]int
	waiters map[*waiter]struct{}
}

func (a *Allocator) groupOf(key string) *group {
	g := a.groups[key]
	if g == nil {
		g = &group{key: key, waiters: map[*waiter]struct{}{}}
		for f := range families {
			g.ports[f] = map[service.Port]int{}
		}
		a.groups[key] = g
	}
	return g
}

func (a *Allocator) forgetGroup(g *group) {
	if len(g.members[ipv4]) == 0 && len(g.members[ipv6]) == 0 && len(g.waiters) == 0 {
		delete(a.groups, g.key)
	}
}

// closed tells whether one of the ports is in use on every address of the group, so that none can be shared.
func (g *group) closed(f family, ports []service.Port) bool {
	return slices.ContainsFunc(ports, func(p service.Port) bool { return g.ports[f][p] == len(g.members[f]) })
}

func compareTenancies(x, y *tenancy) int { return x.addr.Compare(y.addr) }

// regroup puts an address where it belongs by the keys and ports of those who have it now.
func (a *Allocator) regroup(t *tenancy) {
	f, key := t.family(), ""
	if len(t.tenants) > 0 && t.tenants[0].sharing != nil {
		key = t.tenants[0].sharing.Key // if another one's differs, nobody is admitted
	}
	if g := t.group; g != nil {
		for _, p := range t.ports {
			if g.ports[f][p]--; g.ports[f][p] == 0 {
				delete(g.ports[f], p)
			}
		}
		t.group, t.ports = nil, nil
		if g.key != key {
			i, _ := slices.BinarySearchFunc(g.members[f], t, compareTenancies)
			g.members[f] = slices.Delete(g.members[f], i, i+1)
			a.forgetGroup(g)
		}
	}
	if key == "" {
		return
	}
	g := a.groupOf(key)
	t.group = g
	if i, there := slices.BinarySearchFunc(g.members[f], t, compareTenancies); !there {
		g.members[f] = slices.Insert(g.members[f], i, t)
	}
	for _, h := range t.tenants {
		if h.sharing != nil {
			t.ports = append(t.ports, h.sharing.Ports...)
		}
	}
	slices.SortFunc(t.ports, service.ComparePorts)
	t.ports = slices.Compact(t.ports)
	for _, p := range t.ports {
		g.ports[f][p]++
	}
}

// open makes an address one in use, without tenants yet, that counts for p. It is no longer free in its owner, or
// the caller sees to that.
func (a *Allocator) open(addr netip.Addr, p *pool) *tenancy {
	t := &tenancy{addr: addr, pool: p, owner: a.poolOf(addr)}
	t.tenants = t.first[:0]
	a.tenancies[addr] = t
	t.count(1)
	return t
}

// count adds the address to the counts of its pools, or with -1 takes it off.
func (t *tenancy) count(n int) {
	f := t.family()
	t.pool.assigned[f] += n
	if t.owner != nil {
		t.owner.taken[f] += n
	}
	if t.owner != t.pool {
		t.pool.outside[f] += n
	}
}

// enter makes a Service a tenant of an address.
func (a *Allocator) enter(t *tenancy, h *holder) {
	if !t.housesOther(h) {
		a.charge(t.pool, h.key.Namespace, 1)
	}
	t.tenants = append(t.tenants, h)
	h.leases[t.family()] = t
	a.regroup(t)
	a.wakeAt(t)
}

// leave takes an address from a Service. When nobody has it any more, it goes back to its owner.
func (a *Allocator) leave(t *tenancy, h *holder) {
	f := t.family()
	t.tenants = slices.DeleteFunc(t.tenants, func(x *holder) bool { return x == h })
	if h.leases[f] == t {
		h.leases[f] = nil
	} else {
		h.leaving = slices.DeleteFunc(h.leaving, func(x *tenancy) bool { return x == t })
	}
	if h.leases[ipv4] == nil && h.leases[ipv6] == nil && len(h.leaving) == 0 {
		delete(a.holders, h.key)
	}
	a.regroup(t)
	if len(t.tenants) == 0 {
		delete(a.tenancies, t.addr)
		t.count(-1)
		if t.owner != nil {
			t.owner.free[f].add(t.addr)
			a.look(t.owner, f)
		}
	}
	if !t.housesOther(h) {
		a.charge(t.pool, h.key.Namespace, -1)
	}
	a.wakeAt(t)
}

// housesOther tells whether another Service of the same namespace has the address.
func (t *tenancy) housesOther(h *holder) bool {
	return slices.ContainsFunc(t.tenants, func(x *holder) bool { return x != h && x.key.Namespace == h.key.Namespace })
}
