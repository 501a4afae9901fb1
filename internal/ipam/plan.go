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
	a      *Allocator
	req    *service.Request
	holder *holder        // nil when it has nothing
	lacks  [families]bool // for which families it has not what it asks for

	choice *choice          // nil when the pool it asks for does not exist
	closed *service.Refusal // why no pool can serve it at all
	group  *group           // nil when nobody has an address under its key
	spent  bitset           // pools that give its namespace no further address
	tight  bitset           // and those that give it one at most
}

// plan works out which addresses to give to the Service for the families it lacks, and says why where there is none.
// It gives nothing yet.
func (p *planner) plan() (picks [families]pick, why [families]*service.Refusal) {
	p.choice, p.closed = p.a.choiceOf(p.req), p.a.closedTo(p.req)
	if p.closed != nil {
		return picks, [families]*service.Refusal{p.closed, p.closed}
	}
	p.spent, p.tight = p.a.spent(p.req.Key.Namespace)
	if p.req.Sharing.Key != "" {
		p.group = p.a.groups[p.req.Sharing.Key]
	}
	auto := p.lacks // for which any address will do
	for f := range families {
		if addr := p.req.Address(familyNames[f]); auto[f] && addr.IsValid() {
			auto[f] = false
			picks[f], why[f] = p.certain(addr, picks[1-f])
		}
	}
	switch {
	case auto[ipv4] && auto[ipv6]:
		picks = p.both()
	case auto[ipv4]:
		picks[ipv4] = p.any(ipv4, p.beside(ipv6, picks[ipv6]), picks[ipv6])
	case auto[ipv6]:
		picks[ipv6] = p.any(ipv6, p.beside(ipv4, picks[ipv4]), picks[ipv4])
	}
	for f := range families {
		if auto[f] && picks[f].pool == nil {
			why[f] = p.explain(f)
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
	found := map[*pool]*[families]offer{}
	for f := range families {
		for _, one := range p.sharable(f, pick{}) {
			if found[one.pool] == nil {
				found[one.pool] = new([families]offer)
			}
			found[one.pool][f].add(one)
		}
	}
	best := 0
	for pool, offers := range found {
		shares := 2
		for f := range families {
			if len(offers[f].picks) == 0 {
				shares = 1
				if p.a.serving[f].has(pool.rank) {
					offers[f].add(pick{pool: pool, cost: 1})
				}
			}
		}
		if shares < best || shares == best && !p.choice.before(pool, picks[ipv4].pool) {
			continue
		}
		if pair, ok := p.pair(offers); ok {
			best, *picks = shares, pair
		}
	}
}

// offer are the addresses of one family that a pool has for a Service: the lowest, and the lowest of those that take
// nothing of the quota.
type offer struct{ picks []pick }

func (o *offer) add(one pick) {
	if len(o.picks) == 0 || one.cost == 0 && o.picks[len(o.picks)-1].cost > 0 {
		o.picks = append(o.picks, one)
	}
}

// pair returns the lowest addresses that the quota allows together.
func (p *planner) pair(offers *[families]offer) (pair [families]pick, ok bool) {
	for _, four := range offers[ipv4].picks {
		for _, six := range offers[ipv6].picks {
			if p.fits(four, pick{}) && p.fits(six, four) {
				return [families]pick{four, six}, true
			}
		}
	}
	return pair, false
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
	for _, one := range p.sharable(f, other) {
		if within != nil && one.pool != within {
			continue
		}
		if best.pool == nil || p.choice.before(one.pool, best.pool) {
			best = one
		}
	}
	return best
}

// sharable are the addresses of a family that the Service may share, in order.
func (p *planner) sharable(f family, other pick) []pick {
	if p.group == nil || p.group.closed(f, p.req.Sharing.Ports) {
		return nil
	}
	var all []pick
	for _, t := range p.group.members[f] {
		if t.owner != t.pool || t.pool.Drain || !p.choice.has(t.pool) || p.has(t) || !t.admits(&p.req.Sharing) {
			continue
		}
		if one := (pick{pool: t.pool, shared: t, cost: p.cost(t)}); p.fits(one, other) {
			all = append(all, one)
		}
	}
	return all
}

// certain picks an address that the Service asks for by itself, or says why it cannot have it.
func (p *planner) certain(addr netip.Addr, other pick) (pick, *service.Refusal) {
	owner := p.a.poolOf(addr)
	switch {
	case owner == nil:
		return pick{}, refuse(AddressOutsidePool, "%v is asked for, and no IPAddressPool in force has it: ask for another address, or add it to a pool", addr)
	case p.req.Pool != "" && p.req.Pool != owner.Name:
		return pick{}, refuse(AddressOutsidePool, "%v is asked for and so is pool %s, but the address is of pool %s: ask for one of the two", addr, p.req.Pool, owner.Name)
	case !p.a.serves(owner, p.req):
		return pick{}, refuse(PoolNotAllowed, "%v is asked for, and its pool %s is not for this Service by its serviceAllocation: ask for another address, or have the pool select the Service", addr, owner.Name)
	case owner.Drain:
		return pick{}, refuse(PoolDraining, "%v is asked for, and its pool %s is draining: ask for another address, or end the drain", addr, owner.Name)
	}
	one := pick{pool: owner, addr: addr, cost: 1}
	if t := p.a.tenancies[addr]; t != nil {
		for _, h := range t.tenants {
			if h.key == p.req.Key {
				return pick{}, refuse(AddressInUse, "%v is asked for, and this Service is still giving it up: it can have it again when that is done", addr)
			}
			if reason, obstacle := p.obstacle(h); obstacle != "" {
				return pick{}, refuse(reason, "%v is asked for, and it is held by Service %s, %s: ask for another address, or make it one that both may share", addr, h.key, obstacle)
			}
		}
		if t.pool != owner {
			return pick{}, refuse(AddressInUse, "%v is asked for, and it is held by Service %s from pool %s: ask for another address", addr, t.tenants[0].key, t.pool.Name)
		}
		one.shared, one.cost = t, p.cost(t)
	}
	if !p.fits(one, other) {
		return pick{}, refuse(QuotaExceeded, "%v is asked for, and namespace %s has all the addresses that the namespaceQuota of pool %s grants (%d): ask for an address of another pool, or raise the quota", addr, p.req.Key.Namespace, owner.Name, owner.NamespaceQuota)
	}
	return one, nil
}

// obstacle says why the Service may not share with one that has an address; empty when it may.
func (p *planner) obstacle(h *holder) (service.Reason, string) {
	theirs := h.sharing
	if theirs == nil {
		theirs = &service.Sharing{Namespace: h.key.Namespace}
	}
	reason := AddressInUse
	if theirs.Key != "" && theirs.Key == p.req.Sharing.Key {
		reason = SharingConflict
	}
	return reason, p.req.Sharing.Obstacle(theirs)
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
		if h.key.Namespace == p.req.Key.Namespace {
			return 0
		}
	}
	return 1
}

// fits tells whether the quota allows a pick beside what is picked for the other family.
func (p *planner) fits(one, other pick) bool {
	return one.cost == 0 || p.room(one.pool, other) >= one.cost
}

// room is what a pool's quota has left for the Service's namespace, beside what is picked for the other family.
func (p *planner) room(of *pool, other pick) int {
	room := p.a.room(of, p.req.Key.Namespace)
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
