package ipam

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/service"
)

// model is what the allocator should do, written for plainness: it has no index and walks over every address, pool
// and Service.
type model struct {
	addresses  []netip.Addr // all there are, sorted
	pools      []config.Pool
	namespaces map[string]labels.Set
	services   map[types.NamespacedName]*modelService
	counts     map[netip.Addr]string // the pool that each address in use counts for
}

// modelService is a Service that has something or waits for something.
type modelService struct {
	req     service.Request
	has     map[corev1.IPFamily]netip.Addr
	leaving []netip.Addr
	waits   bool
}

func (m *model) service(req *service.Request) *modelService {
	s := m.services[req.Key]
	if s == nil {
		s = &modelService{has: map[corev1.IPFamily]netip.Addr{}}
		m.services[req.Key] = s
	}
	return s
}

func (m *model) pool(name string) (config.Pool, bool) {
	i := slices.IndexFunc(m.pools, func(p config.Pool) bool { return p.Name == name })
	if i < 0 {
		return config.Pool{}, false
	}
	return m.pools[i], true
}

func (m *model) owner(a netip.Addr) (config.Pool, bool) {
	for _, p := range m.pools {
		last := a.AsSlice()[len(a.AsSlice())-1]
		if p.Addresses.Contains(a) && !(p.AvoidBuggyIPs && a.Is4() && (last == 0 || last == 255)) {
			return p, true
		}
	}
	return config.Pool{}, false
}

// tenants are those who have an address, and of these those who keep it.
func (m *model) tenants(a netip.Addr) (all, staying []*modelService) {
	for _, s := range m.services {
		switch {
		case s.has[service.FamilyOf(a)] == a:
			all, staying = append(all, s), append(staying, s)
		case slices.Contains(s.leaving, a):
			all = append(all, s)
		}
	}
	return all, staying
}

func share(with []*modelService, but *modelService, x *service.Sharing) bool {
	return !slices.ContainsFunc(with, func(s *modelService) bool { return s != but && !s.req.Sharing.With(x) })
}

// used is how many addresses of a pool a namespace has.
func (m *model) used(pool, namespace string) int {
	n := 0
	for a, counts := range m.counts {
		all, _ := m.tenants(a)
		if counts == pool && slices.ContainsFunc(all, func(s *modelService) bool { return s.req.Key.Namespace == namespace }) {
			n++
		}
	}
	return n
}

func (m *model) rulesOut(req *service.Request, a netip.Addr) bool {
	f := service.FamilyOf(a)
	if !slices.Contains(req.Families, f) {
		return true
	}
	if asked := req.Address(f); asked.IsValid() {
		owner, exists := m.owner(asked)
		return a != asked && exists && (req.Pool == "" || req.Pool == owner.Name)
	}
	p, exists := m.pool(req.Pool)
	return exists && len(p.Addresses.Ranges()) > 0 && m.counts[a] != p.Name
}

// revise sorts what a Service has by what its request rules out.
func (m *model) revise(s *modelService) {
	keeps := func(a netip.Addr) bool {
		_, staying := m.tenants(a)
		return !m.rulesOut(&s.req, a) && share(staying, s, &s.req.Sharing)
	}
	left := s.leaving
	for f, a := range s.has {
		if !keeps(a) {
			delete(s.has, f)
			s.leaving = append(s.leaving, a)
		}
	}
	for _, a := range left {
		if _, has := s.has[service.FamilyOf(a)]; !has && keeps(a) {
			s.has[service.FamilyOf(a)] = a
			s.leaving = slices.DeleteFunc(slices.Clone(s.leaving), func(x netip.Addr) bool { return x == a })
		}
	}
}

// option is an address that a Service may have, and what it takes of the quota of its pool.
type option struct {
	addr   netip.Addr
	pool   config.Pool
	shared bool
	cost   int
}

// options are all that a Service may have of a family, in the order of choice. Of a pool's free addresses there is only
// the lowest.
func (m *model) options(s *modelService, f corev1.IPFamily) []option {
	var found []option
	asked := s.req.Address(f)
	for _, p := range m.candidates(&s.req, asked.IsValid()) {
		lowest := true
		for _, a := range m.addresses {
			owner, exists := m.owner(a)
			if service.FamilyOf(a) != f || !exists || owner.Name != p.Name || asked.IsValid() && a != asked {
				continue
			}
			one := option{addr: a, pool: p, cost: 1}
			if all, _ := m.tenants(a); len(all) > 0 {
				if slices.Contains(all, s) || !share(all, nil, &s.req.Sharing) || m.counts[a] != p.Name {
					continue
				}
				one.shared = true
				if slices.ContainsFunc(all, func(t *modelService) bool { return t.req.Key.Namespace == s.req.Key.Namespace }) {
					one.cost = 0
				}
			} else if !lowest {
				continue
			} else {
				lowest = false
			}
			if m.room(s, one) {
				found = append(found, one)
			}
		}
	}
	return found
}

// candidates are the pools that may serve a Service, in the order of choice.
func (m *model) candidates(req *service.Request, anyByAddress bool) []config.Pool {
	var selecting, open []config.Pool
	for _, p := range m.pools {
		selected, restricted := p.Selects(req.Key.Namespace, m.namespaces[req.Key.Namespace], req.Labels)
		switch {
		case p.Drain || restricted && !selected || req.Pool != "" && req.Pool != p.Name:
		case !p.AutoAssign && req.Pool == "" && !anyByAddress:
		case selected:
			selecting = append(selecting, p)
		default:
			open = append(open, p)
		}
	}
	return append(selecting, open...)
}

// room tells whether the quotas allow a Service all of some options.
func (m *model) room(s *modelService, all ...option) bool {
	for _, one := range all {
		cost := 0
		for _, other := range all {
			if other.pool.Name == one.pool.Name {
				cost += other.cost
			}
		}
		if q := one.pool.NamespaceQuota; q > 0 && cost > 0 && m.used(one.pool.Name, s.req.Key.Namespace)+cost > q {
			return false
		}
	}
	return true
}

// best are the options to give for the families a Service lacks. If there are options for both that may be given
// together, it is the best pair of these; else one for a family that is asked for by address, or the first.
func (m *model) best(s *modelService, lacks []corev1.IPFamily) []option {
	options := map[corev1.IPFamily][]option{}
	for _, f := range lacks {
		options[f] = m.options(s, f)
	}
	var pairs [][]int
	for i, x := range options[corev1.IPv4Protocol] {
		for j, y := range options[corev1.IPv6Protocol] {
			if m.room(s, x, y) {
				pairs = append(pairs, m.rank(s, i, x, j, y))
			}
		}
	}
	if len(pairs) > 0 {
		best := slices.MinFunc(pairs, slices.Compare)
		return []option{options[corev1.IPv4Protocol][best[len(best)-2]], options[corev1.IPv6Protocol][best[len(best)-1]]}
	}
	order := slices.Sorted(slices.Values(lacks))
	slices.SortStableFunc(order, func(x, y corev1.IPFamily) int {
		return no(s.req.Address(x).IsValid()) - no(s.req.Address(y).IsValid())
	})
	for _, f := range order {
		if len(options[f]) > 0 {
			return []option{m.single(s, f, options[f])}
		}
	}
	return nil
}

// rank is lower for the better pair. One pool goes first, the more is shared of it the better. Else a shared address
// goes before a free one, and then the order of choice decides, for IPv4 before IPv6. The last two are the indices.
func (m *model) rank(s *modelService, i int, x option, j int, y option) []int {
	same := x.pool.Name == y.pool.Name
	switch {
	case len(s.req.Addresses) > 0: // one of the two is the only one of its family
		return []int{no(same), no(x.shared), no(y.shared), i, j}
	case same:
		return []int{0, no(x.shared) + no(y.shared), i, j}
	default:
		return []int{1, no(x.shared), i, no(y.shared), i, j}
	}
}

// no is 0 for yes.
func no(b bool) int {
	if b {
		return 0
	}
	return 1
}

// single picks of the options for one family: beside the other family's address, then shared, then in order.
func (m *model) single(s *modelService, f corev1.IPFamily, options []option) option {
	beside := ""
	for other, a := range s.has {
		if other != f {
			beside = m.counts[a]
		}
	}
	rank := func(o option) int { return 2*no(o.pool.Name == beside) + no(o.shared) }
	return slices.MinFunc(options, func(x, y option) int { return rank(x) - rank(y) })
}

// allocate answers a request, and tells whether it is met in full.
func (m *model) allocate(req service.Request) (met bool) {
	s := m.service(&req)
	s.req = req
	m.revise(s)
	s.waits = false
	if req.Fault != nil {
		return false
	}
	var lacks []corev1.IPFamily
	for _, f := range req.Families {
		if _, has := s.has[f]; !has {
			lacks = append(lacks, f)
		}
	}
	picks := m.best(s, lacks)
	met = !m.keepsOther(s) && len(picks) == len(lacks)
	if met || !req.AllFamilies {
		for _, one := range picks {
			s.has[service.FamilyOf(one.addr)] = one.addr
			m.counts[one.addr] = one.pool.Name
		}
	}
	s.waits = !met
	return met
}

// keepsOther tells whether a Service keeps something else than what it asks for.
func (m *model) keepsOther(s *modelService) bool {
	for f, a := range s.has {
		if asked := s.req.Address(f); asked.IsValid() && a != asked || !asked.IsValid() && s.req.Pool != "" && m.counts[a] != s.req.Pool {
			return true
		}
	}
	return false
}

// count is the total of a pool's addresses of a family, those assigned, available, and outside.
func (m *model) count(name string, f corev1.IPFamily) (n [4]int) {
	for _, a := range m.addresses {
		if service.FamilyOf(a) != f {
			continue
		}
		owner, owned := m.owner(a)
		counts, used := m.counts[a]
		if owned && owner.Name == name {
			n[0]++
			if !used {
				n[2]++
			}
		}
		if used && counts == name {
			n[1]++
			if !owned || owner.Name != name {
				n[3]++
			}
		}
	}
	return n
}

// forget drops what nobody has or waits for any more.
func (m *model) forget() {
	for key, s := range m.services {
		if len(s.has) == 0 && len(s.leaving) == 0 && !s.waits {
			delete(m.services, key)
		}
	}
	for a := range m.counts {
		if all, _ := m.tenants(a); len(all) == 0 {
			delete(m.counts, a)
		}
	}
}

func (m *model) giveBack(key types.NamespacedName, a netip.Addr) bool {
	s := m.services[key]
	if s == nil {
		return false
	}
	if f := service.FamilyOf(a); s.has[f] == a {
		delete(s.has, f)
		return true
	}
	had := len(s.leaving)
	s.leaving = slices.DeleteFunc(s.leaving, func(x netip.Addr) bool { return x == a })
	return len(s.leaving) < had
}

// home is the pool that an address in use counts for after its pools have changed.
func (m *model) home(a netip.Addr, from, asked string) (string, bool) {
	owner, owned := m.owner(a)
	if _, exists := m.pool(from); exists && (!owned || from == asked) {
		return from, true
	}
	return owner.Name, owned
}

// setPools replaces the pools and returns the addresses that are withdrawn.
func (m *model) setPools(pools []config.Pool) (gone []netip.Addr) {
	m.pools = slices.SortedFunc(slices.Values(pools), config.ComparePools)
	for a, from := range m.counts {
		asked := ""
		if _, staying := m.tenants(a); slices.ContainsFunc(staying, func(s *modelService) bool { return s.req.Pool == from }) {
			asked = from
		}
		if home, ok := m.home(a, from, asked); ok {
			m.counts[a] = home
		} else {
			gone = append(gone, a)
		}
	}
	for _, a := range gone {
		for key := range m.services {
			m.giveBack(key, a)
		}
	}
	m.forget()
	return gone
}

// seat gives a Service what it says it holds, and tells how much of it it may not keep.
func (m *model) seat(req service.Request) (refused int) {
	for _, held := range req.Held {
		f := service.FamilyOf(held.Addr)
		all, _ := m.tenants(held.Addr)
		s := m.services[req.Key]
		if s != nil && slices.Contains(all, s) {
			continue
		}
		home, ok := m.counts[held.Addr], true
		if len(all) == 0 {
			home, ok = m.home(held.Addr, held.Pool, req.Pool)
		}
		if !ok || !share(all, nil, &req.Sharing) || s != nil && s.has[f].IsValid() {
			refused++
			continue
		}
		if s == nil || len(s.has) == 0 && len(s.leaving) == 0 {
			s = m.service(&req)
			s.req = req // of who has nothing yet, this is all that is known
		}
		s.has[f], m.counts[held.Addr] = held.Addr, home
	}
	return refused
}
