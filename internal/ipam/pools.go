package ipam

import (
	"cmp"
	"math/big"
	"net/netip"
	"slices"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/service"
)

// family is an index: the state of the two families is kept side by side.
type family int

const (
	ipv4 family = iota
	ipv6
	families
)

var familyNames = [families]corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}

func familyOf(name corev1.IPFamily) family {
	if name == corev1.IPv6Protocol {
		return ipv6
	}
	return ipv4
}

func familyOfAddr(a netip.Addr) family { return familyOf(service.FamilyOf(a)) }

// pool is a set of addresses and what is left of it.
type pool struct {
	config.Pool
	// inForce: a pool without addresses is there only so that its holders keep theirs.
	inForce bool

	rank  int     // its place in the order of choice
	alone *choice // of those who ask for it by name
	free  [families]*intervals
	total [families]*big.Int

	taken    [families]int // addresses of its ranges in use, whomever they count for
	assigned [families]int // addresses in use that count for it
	outside  [families]int // of these, the ones that it does not have
}

// poolRange says that the addresses of a range are a pool's.
type poolRange struct {
	netipx.IPRange
	pool *pool
}

// landscape is what follows from the pools' configuration, and which of them have addresses left.
type landscape struct {
	pools      []*pool // in the order of choice
	byName     map[string]*pool
	ranges     [families][]poolRange // which pool an address belongs to, sorted
	serving    [families]bitset      // the ranks of the pools that have an address for a new Service
	restricted []*pool               // those that are only for the Services they select, of those that choose by themselves
	quotas     bool                  // some pool has a quota
	scarce     bitset                // the ranks of the pools whose quota is a single address; nil for none

	everyone *choice            // of those whom no pool selects
	chosen   map[string]*choice // by the ranks of the selecting pools
	known    map[string]*choice // by namespace and labels
}

// Count is what a pool has of one family.
type Count struct {
	Pool   string
	Family corev1.IPFamily
	// Total is how many the pool can give, in use or not.
	Total *big.Int
	// Assigned are those that Services have and that count for the pool, those outside included.
	Assigned int
	// Available is how many are left. Those of a draining pool are for nobody new.
	Available *big.Int
	// Outside are those of Assigned that the pool does not have any more: they stay with their Services until these
	// give them back.
	Outside int
	// Draining: the pool serves nobody new.
	Draining bool
}

// Free tells whether an address is left for a new Service.
func (c Count) Free() bool { return c.Available.Sign() > 0 && !c.Draining }

// SetPools replaces the pools, which must not overlap. A pool without addresses is one that is not in force: it
// serves nobody new, and who holds an address from it keeps it. A held address counts for the pool that has it now,
// and stays with the pool it came from when none has, or when its Service asks for that pool by name; only when that
// pool is gone is it withdrawn. The result is what was withdrawn from whom. All who wait are tried again by Serve.
func (a *Allocator) SetPools(pools []config.Pool) map[types.NamespacedName][]Lease {
	pools = slices.Clone(pools)
	slices.SortFunc(pools, config.ComparePools)
	a.landscape = landscape{
		pools:  make([]*pool, len(pools)),
		byName: make(map[string]*pool, len(pools)),
		chosen: map[string]*choice{},
		known:  map[string]*choice{},
	}
	everyone := newBitset(len(pools))
	for rank, p := range pools {
		if a.add(rank, p); !p.AutoAssign {
			continue
		}
		// The namespace of no name and no labels is no Service's: what counts is whether the pool is restricted.
		if _, restricted := p.Selects("", nil, nil); restricted {
			a.restricted = append(a.restricted, a.pools[rank])
		} else {
			everyone.set(rank)
		}
	}
	a.everyone = &choice{tiers: [2]bitset{nil, everyone}}
	a.waiting.wakeAll() // before the new pools are looked at: who waits for old ones waits no more
	return a.reseat()
}

func (a *Allocator) add(rank int, from config.Pool) {
	p := &pool{Pool: from, rank: rank}
	p.alone = &choice{only: p}
	for f := range families {
		p.free[f], p.total[f] = newIntervals(p.AvoidBuggyIPs), new(big.Int)
	}
	if from.Addresses != nil {
		p.inForce = len(from.Addresses.Ranges()) > 0
		for _, r := range from.Addresses.Ranges() {
			f := familyOfAddr(r.From())
			p.free[f].addRange(r.From(), r.To())
			p.total[f].Add(p.total[f], size(r, p.AvoidBuggyIPs))
			a.ranges[f] = append(a.ranges[f], poolRange{r, p})
		}
	}
	if p.NamespaceQuota > 0 {
		a.quotas = true
	}
	a.pools[rank] = p
	a.byName[p.Name] = p
}

// reseat puts every address in use into the new pools.
func (a *Allocator) reseat() map[types.NamespacedName][]Lease {
	for f := range families {
		slices.SortFunc(a.ranges[f], func(x, y poolRange) int { return x.From().Compare(y.From()) })
	}
	a.resetQuotas()
	withdrawn := map[types.NamespacedName][]Lease{}
	for addr, t := range a.tenancies {
		f := t.family()
		asked := ""
		if slices.ContainsFunc(t.tenants, func(h *holder) bool { return h.leases[f] == t && h.pool == t.pool.Name }) {
			asked = t.pool.Name
		}
		p := a.home(addr, t.pool.Name, asked)
		if p == nil {
			for _, h := range t.tenants {
				withdrawn[h.key] = append(withdrawn[h.key], t.lease())
			}
			a.evict(t)
			continue
		}
		t.pool, t.owner = p, a.poolOf(addr)
		t.count(1)
		if t.owner != nil {
			t.owner.free[f].remove(addr)
		}
		for i, h := range t.tenants {
			if !slices.ContainsFunc(t.tenants[:i], func(x *holder) bool { return x.key.Namespace == h.key.Namespace }) {
				a.charge(p, h.key.Namespace, 1)
			}
		}
	}
	for f := range families {
		a.serving[f] = newBitset(len(a.pools))
		for _, p := range a.pools {
			a.look(p, family(f))
		}
	}
	for _, leases := range withdrawn {
		slices.SortFunc(leases, func(x, y Lease) int { return x.Addr.Compare(y.Addr) })
	}
	return withdrawn
}

// evict takes an address from all who have it. It goes back to nobody.
func (a *Allocator) evict(t *tenancy) {
	f := t.family()
	delete(a.tenancies, t.addr)
	for _, h := range t.tenants {
		if h.leases[f] == t {
			h.leases[f] = nil
		} else {
			h.leaving = slices.DeleteFunc(h.leaving, func(x *tenancy) bool { return x == t })
		}
		if h.leases[ipv4] == nil && h.leases[ipv6] == nil && len(h.leaving) == 0 {
			delete(a.holders, h.key)
		}
	}
	t.tenants = nil
	a.regroup(t)
}

// home returns the pool that an address in use counts for, nil when there is none: the one that has it, unless the
// one it came from is asked for by name.
func (a *Allocator) home(addr netip.Addr, from, asked string) *pool {
	owner, old := a.poolOf(addr), a.byName[from]
	if owner == nil || old != nil && from == asked {
		return old
	}
	return owner
}

// look notes whether a pool has an address of a family for a new Service, and wakes those who wait for one.
func (a *Allocator) look(p *pool, f family) {
	serves := !p.Drain && !p.free[f].empty()
	switch {
	case serves == a.serving[f].has(p.rank):
		return
	case serves:
		a.serving[f].set(p.rank)
		a.wakeFor(p, f)
	default:
		a.serving[f].clear(p.rank)
	}
}

// poolOf returns the pool that has an address, nil when none has.
func (a *Allocator) poolOf(addr netip.Addr) *pool {
	ranges := a.ranges[familyOfAddr(addr)]
	after, exact := slices.BinarySearchFunc(ranges, addr, func(r poolRange, a netip.Addr) int { return r.From().Compare(a) })
	if !exact {
		if after--; after < 0 || !ranges[after].Contains(addr) {
			return nil
		}
	}
	if p := ranges[after].pool; !p.AvoidBuggyIPs || !buggy(addr) {
		return p
	}
	return nil
}

// Counts returns the counts of every pool, by name, for each family the pool has or had.
func (a *Allocator) Counts() []Count {
	pools := slices.Clone(a.pools)
	slices.SortFunc(pools, func(x, y *pool) int { return cmp.Compare(x.Name, y.Name) })
	var counts []Count
	for _, p := range pools {
		for f := range families {
			if p.total[f].Sign() == 0 && p.assigned[f] == 0 {
				continue
			}
			counts = append(counts, Count{
				Pool: p.Name, Family: familyNames[f], Total: new(big.Int).Set(p.total[f]), Assigned: p.assigned[f],
				Available: new(big.Int).Sub(p.total[f], big.NewInt(int64(p.taken[f]))), Outside: p.outside[f], Draining: p.Drain,
			})
		}
	}
	return counts
}

// size is the number of addresses of a range, without the buggy ones if they are avoided.
func size(r netipx.IPRange, avoid bool) *big.Int {
	first, last := r.From().As16(), r.To().As16()
	n := new(big.Int).SetBytes(last[:])
	n.Sub(n, new(big.Int).SetBytes(first[:]))
	n.Add(n, big.NewInt(1))
	if avoid && r.From().Is4() {
		n.Sub(n, big.NewInt(buggyUpTo(last)-buggyUpTo(first)))
		if buggy(r.From()) {
			n.Sub(n, big.NewInt(1))
		}
	}
	return n
}

// buggyUpTo is the number of buggy IPv4 addresses from 0.0.0.0 to this one.
func buggyUpTo(addr [16]byte) int64 {
	n := int64(addr[12])<<24 | int64(addr[13])<<16 | int64(addr[14])<<8 | int64(addr[15])
	return n/256 + 1 + (n+1)/256
}
