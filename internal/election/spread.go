package election

import (
	"net/netip"
	"slices"
)

// Spread chooses, for the addresses that need a new owner, who of their heirs it is, so that no node has many more than
// others. Addresses with the same heirs are a group, and a group is kept even by itself: in the order of the addresses,
// each goes to the heir with the highest rendezvous rank that has not got its share yet (consistent hashing with bounded
// loads: Mirrokni, Thorup and Zadimoghaddam, 2018).
//
// Speakers hear of each other's claims one by one, and in any order. That makes no difference: what is left is shared
// out as if no claim had been heard of yet, since a node's own claims fill the same share that they were given from.
//
// The cost of a change grows with the addresses of its group that need an owner, and not with those that have one.
type Spread struct {
	seats  map[netip.Addr]*seat
	groups map[string]*group
	key    []byte // scratch
	stale  map[*group]struct{}
}

// seat is one address's place in its group.
type seat struct {
	group *group
	owner string
	heir  string // empty while it is not open
}

type group struct {
	key   string
	heirs []string
	size  int            // addresses
	load  map[string]int // of them, by owner
	open  map[netip.Addr]*seat
}

// NewSpread returns a Spread of no address.
func NewSpread() *Spread {
	return &Spread{seats: map[netip.Addr]*seat{}, groups: map[string]*group{}, stale: map[*group]struct{}{}}
}

// Set enters what was found of an address, in place of what was known.
func (s *Spread) Set(addr netip.Addr, r Result) {
	g := s.group(r.Heirs)
	if old, ok := s.seats[addr]; ok {
		if _, open := old.group.open[addr]; old.group == g && old.owner == r.Owner && open == r.Open() {
			return
		}
		s.leave(addr, old, g)
	}
	if g == nil {
		return
	}
	e := &seat{group: g, owner: r.Owner}
	s.seats[addr] = e
	g.size++
	if r.Owner != "" {
		g.load[r.Owner]++
	}
	if r.Open() {
		g.open[addr] = e
	}
	s.stale[g] = struct{}{}
}

// Delete forgets an address.
func (s *Spread) Delete(addr netip.Addr) {
	if old, ok := s.seats[addr]; ok {
		s.leave(addr, old, nil)
	}
}

// Heir returns who is to claim an address, as of the last Share; empty when nobody is.
func (s *Spread) Heir(addr netip.Addr) string {
	if e, ok := s.seats[addr]; ok {
		return e.heir
	}
	return ""
}

// Share chooses the heirs of all addresses that need one, and returns those of which the choice is new.
func (s *Spread) Share() (changed []netip.Addr) {
	for g := range s.stale {
		if len(g.open) == 0 {
			continue
		}
		changed = append(changed, g.share()...)
	}
	clear(s.stale)
	slices.SortFunc(changed, netip.Addr.Compare)
	return changed
}

func (g *group) share() (changed []netip.Addr) {
	addrs := make([]netip.Addr, 0, len(g.open))
	for addr := range g.open {
		addrs = append(addrs, addr)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	load := make([]int, len(g.heirs))
	for i, h := range g.heirs {
		load[i] = g.load[h]
	}
	most := g.most()
	for _, addr := range addrs {
		best := -1
		var bestRank uint64
		for i, h := range g.heirs { // by name, so that the first of two equal ranks stays
			if load[i] >= most {
				continue
			}
			if r := rank(addr, h); best < 0 || r > bestRank {
				best, bestRank = i, r
			}
		}
		best = max(best, 0) // there is always room, see most
		load[best]++
		if e := g.open[addr]; e.heir != g.heirs[best] {
			e.heir = g.heirs[best]
			changed = append(changed, addr)
		}
	}
	return changed
}

// most is how many of the group's addresses one node may have: a quarter more than the mean, and at least so many that
// all find room.
func (g *group) most() int {
	n := len(g.heirs)
	return max((g.size+n-1)/n, 5*g.size/(4*n))
}

// group returns the group of these heirs, nil when there are none.
func (s *Spread) group(heirs []string) *group {
	if len(heirs) == 0 {
		return nil
	}
	s.key = s.key[:0]
	for _, h := range heirs {
		s.key = append(append(s.key, h...), '/') // which is in no node's name
	}
	g, ok := s.groups[string(s.key)]
	if !ok {
		g = &group{key: string(s.key), heirs: slices.Clone(heirs), load: map[string]int{}, open: map[netip.Addr]*seat{}}
		s.groups[g.key] = g
	}
	return g
}

// leave takes an address out of its group, and forgets that when it is empty and not the next one.
func (s *Spread) leave(addr netip.Addr, e *seat, next *group) {
	g := e.group
	delete(s.seats, addr)
	delete(g.open, addr)
	g.size--
	if e.owner != "" {
		if g.load[e.owner]--; g.load[e.owner] == 0 {
			delete(g.load, e.owner)
		}
	}
	s.stale[g] = struct{}{}
	if g.size == 0 && g != next {
		delete(s.groups, g.key)
		delete(s.stale, g)
	}
}
