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
	name    string
	rank    int // its place in the order of choice
	free    [families]*intervals
	total   [families]*big.Int
	inUse   [families]int // held addresses that count for the pool, those outside too
	outside [families]int // of these, the ones that no pool has any more
}

// poolRange says that the addresses of a range are a pool's.
type poolRange struct {
	netipx.IPRange
	pool *pool
}

// Count is what a pool has of one family.
type Count struct {
	Pool   string
	Family corev1.IPFamily
	Total  *big.Int
	InUse  int
	// Outside are those of InUse that the pool no longer has: they are kept until their Services give them back.
	Outside int
	// Free tells whether an address is left for a new Service.
	Free bool
}

// SetPools replaces the pools, which must not overlap. A pool without addresses is one that is not in force: it
// serves nobody new, and who holds an address from it keeps it. A held address counts for the pool that has it now,
// and stays with the pool it came from when none has; only when that pool is gone is it withdrawn. The result is
// what was withdrawn from whom.
func (a *Allocator) SetPools(pools []config.Pool) map[types.NamespacedName][]Lease {
	pools = slices.Clone(pools)
	slices.SortFunc(pools, func(x, y config.Pool) int { return cmp.Compare(x.Name, y.Name) })
	a.pools = make([]*pool, len(pools))
	a.byName = make(map[string]*pool, len(pools))
	a.ranges = [families][]poolRange{}
	for rank, p := range pools {
		a.add(rank, p)
	}
	for f := range families {
		slices.SortFunc(a.ranges[f], func(x, y poolRange) int { return x.From().Compare(y.From()) })
		a.open[f] = newBitset(len(pools))
		for rank, p := range a.pools {
			if !p.free[f].empty() {
				a.open[f].set(rank)
			}
		}
		a.full[f] = a.explain(f)
	}
	a.turns++
	return a.reseat()
}

func (a *Allocator) add(rank int, from config.Pool) {
	p := &pool{name: from.Name, rank: rank}
	for f := range families {
		p.free[f], p.total[f] = newIntervals(), new(big.Int)
	}
	if from.Addresses != nil {
		for _, r := range from.Addresses.Ranges() {
			f := familyOfAddr(r.From())
			p.free[f].addRange(r.From(), r.To())
			p.total[f].Add(p.total[f], size(r))
			a.ranges[f] = append(a.ranges[f], poolRange{r, p})
		}
	}
	a.pools[rank] = p
	a.byName[p.name] = p
}

// reseat puts every held address into the new pools.
func (a *Allocator) reseat() map[types.NamespacedName][]Lease {
	withdrawn := map[types.NamespacedName][]Lease{}
	for key, h := range a.holders {
		for f := range families {
			old := h.leases[f]
			if !old.addr.IsValid() {
				continue
			}
			l, ok := a.lease(old.addr, old.pool.name)
			if !ok {
				delete(a.byAddr, old.addr)
				h.leases[f] = lease{}
				withdrawn[key] = append(withdrawn[key], Lease{Addr: old.addr, Pool: old.pool.name})
				continue
			}
			a.occupy(&l, f)
			h.leases[f] = l
		}
		a.forgetIfEmpty(h)
	}
	return withdrawn
}

// lease tells which pool a held address counts for.
func (a *Allocator) lease(addr netip.Addr, from string) (lease, bool) {
	if p := a.poolOf(addr); p != nil {
		return lease{addr: addr, pool: p}, true
	}
	if p := a.byName[from]; p != nil {
		return lease{addr: addr, pool: p, outside: true}, true
	}
	return lease{}, false
}

// occupy counts a held address that is not yet counted.
func (a *Allocator) occupy(l *lease, f family) {
	l.pool.inUse[f]++
	if l.outside {
		l.pool.outside[f]++
		return
	}
	l.pool.free[f].remove(l.addr)
	a.closeIfEmpty(l.pool, f)
}

// closeIfEmpty takes a pool without a free address out of the choice.
func (a *Allocator) closeIfEmpty(p *pool, f family) {
	if p.free[f].empty() && a.open[f].has(p.rank) {
		a.open[f].clear(p.rank)
		a.turns++
	}
}

// Turns is a number that changes whenever a pool becomes full, stops being full, or the pools are replaced.
func (a *Allocator) Turns() uint64 { return a.turns }

// poolOf returns the pool that has an address, nil when none has.
func (a *Allocator) poolOf(addr netip.Addr) *pool {
	ranges := a.ranges[familyOfAddr(addr)]
	after, exact := slices.BinarySearchFunc(ranges, addr, func(r poolRange, a netip.Addr) int { return r.From().Compare(a) })
	if exact {
		return ranges[after].pool
	}
	if after == 0 || !ranges[after-1].Contains(addr) {
		return nil
	}
	return ranges[after-1].pool
}

// Counts returns the counts of every pool, by name, for each family the pool has or had.
func (a *Allocator) Counts() []Count {
	var counts []Count
	for _, p := range a.pools {
		for f := range families {
			if p.total[f].Sign() == 0 && p.inUse[f] == 0 {
				continue
			}
			counts = append(counts, Count{
				Pool: p.name, Family: familyNames[f], Total: new(big.Int).Set(p.total[f]),
				InUse: p.inUse[f], Outside: p.outside[f], Free: !p.free[f].empty(),
			})
		}
	}
	return counts
}

// size is the number of addresses of a range.
func size(r netipx.IPRange) *big.Int {
	first, last := r.From().As16(), r.To().As16()
	n := new(big.Int).SetBytes(last[:])
	n.Sub(n, new(big.Int).SetBytes(first[:]))
	return n.Add(n, big.NewInt(1))
}
