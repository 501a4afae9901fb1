package ipam

import (
	"net/netip"

	"heraldlb.io/herald/internal/service"
)

// pick is an address that a Service may have: one in use that it may share, a certain free one, or the lowest free one
// of a pool. Without a pool it is none.
type pick struct {
	pool   *pool
	shared *tenancy
	addr   netip.Addr // of a certain free one
	cost   int        // what it takes of the pool's quota
}

// planner works out what to give to one Service.
type planner struct {
	a         *Allocator
	req       *service.Request
	namespace string
	holder    *holder // nil when it has nothing
	choice    *choice
	group     *group // nil when nobody has an address under its key
	spent     bitset // pools that give its namespace no further address
	tight     bitset // and those that give it one at most
}

// plan works out which addresses to give to a Service for the families it lacks, and says why where there is none.
// It changes nothing.
func (a *Allocator) plan(req *service.Request, h *holder, lacks [families]bool) (picks [families]pick, why [families]*service.Refusal) {
	p := planner{a: a, req: req, namespace: req.Key.Namespace, holder: h}
	p.spent, p.tight = a.spent(p.namespace)
	if req.Sharing.Key != "" {
		p.group = a.groups[req.Sharing.Key]
	}
	p.choice = a.choiceOf(req)
	closed := a.closedTo(req)
	for f := range families {
		if addr := req.Address(familyNames[f]); lacks[f] && addr.IsValid() {
			lacks[f] = false
			if why[f] = closed; closed == nil {
				picks[f], why[f] = p.certain(addr, picks[1-f])
			}
		}
	}
	if closed != nil {
		for f := range families {
			if lacks[f] {
				why[f] = closed
			}
		}
		return picks, why
	}
	if lacks[ipv4] && lacks[ipv6] {
		picks = p.both()
	} else if lacks[ipv4] {
		picks[ipv4] = p.any(ipv4, p.beside(ipv6, picks[ipv6]), picks[ipv6])
	} else if lacks[ipv6] {
		picks[ipv6] = p.any(ipv6, p.beside(ipv4, picks[ipv4]), picks[ipv4])
	}
	for f := range families {
		if lacks[f] && picks[f].pool == nil {
			why[f] = p.explain(family(f))
		}
	}
	return picks, why
}

// both picks an address of each family: from one pool if there is one that has both, better one that shares both or
// one of them; else each by itself.
func (p *planner) both() (picks [families]pick) {
	if p.sharedByPool(&picks); picks[ipv4].pool != nil {
		return picks
	}
	if one := p.a.first(p.choice, p.a.serving[ipv4], p.a.serving[ipv6], p.tight, nil); one != nil {
		return [families]pick{{pool: one, cost: 1}, {pool: one, cost: 1}}
	}
	picks[ipv4] = p.any(ipv4, nil, pick{})
	picks[ipv6] = p.any(ipv6, picks[ipv4].pool, picks[ipv4])
	if picks[ipv4].pool != nil && picks[ipv6].pool == nil {
		// The IPv4 address may have taken what the quota had left for the IPv6 one, and there may be another.
		six := p.any(ipv6, nil, pick{})
		if four := p.any(ipv4, six.pool, six); six.pool != nil && four.pool != nil {
			picks = [families]pick{four, six}
		}
	}
	return picks
}

// sharedByPool picks from the pool that can share an address of both families, or else of one and has the other free;
// of several such the one that the choice prefers.
func (p *planner) sharedByPool(picks *[families]pick) {
	if p.group == nil {
		return
	}
	lowest := map[*pool]*[families]pick{}
	for f := range families {
		p.eachShared(family(f), pick{}, func(one pick) {
			found := lowest[one.pool]
			if found == nil {
				found = new([families]pick)
				lowest[one.pool] = found
			}
			if found[f].pool == nil {
				found[f] = one
			}
		})
	}
	best := 0
	for pool, found := range lowest {
		shares := 2
		for f := range families {
			if found[f].pool == nil {
				shares = 1
				if p.a.serving[f].has(pool.rank) {
					found[f] = pick{pool: pool, cost: 1}
				}
			}
		}
		if found[ipv4].pool == nil || found[ipv6].pool == nil || p.a.room(pool, p.namespace) < found[ipv4].cost+found[ipv6].cost {
			continue
		}
		if shares > best || shares == best && p.choice.before(pool, picks[ipv4].pool) {
			best, *picks = shares, *found
		}
	}
}

// any picks an address of one family: from the pool beside the other family's if that may serve, then one that can be
// shared, then a free one. other is what is picked for the other family and takes its part of the quota.
func (p *planner) any(f family, beside *pool, other pick) pick {
	if beside != nil && p.choice.has(beside) {
		if one := p.shared(f, other, beside); one.pool != nil {
			return one
		}
		if p.a.serving[f].has(beside.rank) && p.room(beside, other) > 0 {
			return pick{pool: beside, cost: 1}
		}
	}
	if one := p.shared(f, other, nil); one.pool != nil {
		return one
	}
	var except *pool
	if other.pool != nil && p.room(other.pool, other) < 1 {
		except = other.pool
	}
	return pick{pool: p.a.first(p.choice, p.a.serving[f], p.a.serving[f], p.spent, except), cost: 1}
}

// beside returns the pool of a Service's other family, whose address it has or is picked, nil for none.
func (p *planner) beside(f family, picked pick) *pool {
	if p.holder != nil && p.holder.leases[f] != nil {
		return p.holder.leases[f].pool
	}
	return picked.pool
}

// shared picks the lowest address of a family that the Service may share, in the pool the choice prefers, or in within
// only.
func (p *planner) shared(f family, other pick, within *pool) pick {
	var best pick
	if p.group == nil || p.group.closed(f, p.req.Sharing.Ports) {
		return best
	}
	p.eachShared(f, other, func(one pick) {
		if within != nil && one.pool != within {
			return
		}
		if best.pool == nil || p.choice.before(one.pool, best.pool) {
			best = one
		}
	})
	return best
}

// eachShared calls do for each address that the Service may share, in order.
func (p *planner) eachShared(f family, other pick, do func(pick)) {
	if p.group.closed(f, p.req.Sharing.Ports) {
		return
	}
	for _, t := range p.group.members[f] {
		if t.owner != t.pool || t.pool.Drain || !p.choice.has(t.pool) || p.has(t) || !t.admits(&p.req.Sharing) {
			continue
		}
		if one := (pick{pool: t.pool, shared: t, cost: p.cost(t)}); p.room(t.pool, other) >= one.cost {
			do(one)
		}
	}
}

// certain picks an address that the Service asks for by itself, or says why it cannot have it.
func (p *planner) certain(addr netip.Addr, other pick) (pick, *service.Refusal) {
	owner := p.a.poolOf(addr)
	switch {
	case owner == nil:
		return pick{}, refuse(AddressOutsidePool, "%v is asked for, and no IPAddressPool in force has it: ask for another address, or add it to a pool", addr)
	case p.req.Pool != "" && p.req.Pool != owner.name:
		return pick{}, refuse(AddressOutsidePool, "%v is asked for and so is pool %s, but the address is of pool %s: ask for one of the two", addr, p.req.Pool, owner.name)
	case !p.a.serves(owner, p.req):
		return pick{}, refuse(PoolNotAllowed, "%v is asked for, and its pool %s is not for this Service by its serviceAllocation: ask for another address, or have the pool select the Service", addr, owner.name)
	case owner.Drain:
		return pick{}, refuse(PoolDraining, "%v is asked for, and its pool %s is draining: ask for another address, or end the drain", addr, owner.name)
	}
	one := pick{pool: owner, addr: addr, cost: 1}
	if t := p.a.tenancies[addr]; t != nil {
		for _, h := range t.tenants {
			if h.key == p.req.Key {
				return pick{}, refuse(AddressInUse, "%v is asked for, and this Service is still giving it up: it can have it again when that is done", addr)
			}
			if obstacle := p.req.Sharing.Obstacle(&h.request.Sharing); obstacle != "" {
				reason := AddressInUse
				if h.request.Sharing.Key != "" && h.request.Sharing.Key == p.req.Sharing.Key {
					reason = SharingConflict
				}
				return pick{}, refuse(reason, "%v is asked for, and it is held by Service %s, %s: ask for another address, or make it one that both may share", addr, h.key, obstacle)
			}
		}
		if t.pool != owner {
			return pick{}, refuse(AddressInUse, "%v is asked for, and it is held by Service %s from pool %s: ask for another address", addr, t.tenants[0].key, t.pool.name)
		}
		one.shared, one.cost = t, p.cost(t)
	}
	if p.room(owner, other) < one.cost {
		return pick{}, refuse(QuotaExceeded, "%v is asked for, and namespace %s has all the addresses that the namespaceQuota of pool %s grants (%d): ask for an address of another pool, or raise the quota", addr, p.namespace, owner.name, owner.NamespaceQuota)
	}
	return one, nil
}

// has tells whether the Service has an address already, if only to give it up.
func (p *planner) has(t *tenancy) bool {
	for _, h := range t.tenants {
		if h == p.holder {
			return true
		}
	}
	return false
}

// cost is what it takes of the quota to share an address: nothing if the namespace has it already.
func (p *planner) cost(t *tenancy) int {
	for _, h := range t.tenants {
		if h.key.Namespace == p.namespace {
			return 0
		}
	}
	return 1
}

// room is what a pool's quota has left for the Service's namespace, beside what is picked for the other family.
func (p *planner) room(of *pool, other pick) int {
	room := p.a.room(of, p.namespace)
	if other.pool == of {
		room -= other.cost
	}
	return room
}

// take gives a Service what was picked.
func (a *Allocator) take(h *holder, f family, one pick) {
	t := one.shared
	if t == nil {
		free := one.pool.free[f]
		if one.addr.IsValid() {
			free.remove(one.addr)
		} else {
			one.addr = free.takeFirst()
		}
		t = a.open(one.addr, one.pool)
		a.look(one.pool, f)
	}
	a.enter(t, h)
}
