package ipam

import (
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/service"
)

// universe is the addresses that the histories use: few, so that pools fill up and clash, and some of them buggy.
var universe = func() []netip.Addr {
	var all []netip.Addr
	for i := range 6 {
		all = append(all, netip.AddrFrom4([4]byte{192, 0, 2, byte(i) - 2}), netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i)))
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}()

// history is one random life of an allocator beside its model.
type history struct {
	*rapid.T
	a *Allocator
	m *model
}

// TestRandomHistoriesMatchTheModel holds the rules of the package: nobody shares who may not, nobody loses an address
// but by its own request or with its pool, and nobody waits who could be served. Another number of histories or other
// ones are had with -rapid.checks and -rapid.seed.
func TestRandomHistoriesMatchTheModel(t *testing.T) {
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range map[string]string{"rapid.checks": "10000", "rapid.seed": "1"} {
		if testing.Short() && name == "rapid.checks" {
			value = "500"
		}
		if given[name] {
			continue
		}
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		h := &history{T: t, a: New(), m: &model{
			addresses: universe, namespaces: map[string]labels.Set{}, services: map[types.NamespacedName]*modelService{}, counts: map[netip.Addr]string{},
		}}
		h.setPools()
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			before := h.leases()
			own := h.step()
			h.nobodyElseLost(before, own)
			h.serve()
			h.compare()
		}
	})
}

// step lets one thing happen and returns the Service whose doing it is, none for a change of the configuration.
func (h *history) step() types.NamespacedName {
	what := rapid.IntRange(0, 19).Draw(h.T, "what")
	switch {
	case what < 11:
		req := h.request()
		h.allocate(req)
		return req.Key
	case what < 13:
		k := h.someService()
		had := len(h.a.Held(k))
		if got := len(h.a.Release(k)); got != had {
			h.Fatalf("%v held %d addresses and gave %d back", k, had, got)
		}
		delete(h.m.services, k)
		h.m.forget()
		return k
	case what < 16:
		k := h.someService()
		for _, addr := range slices.Clone(h.leaving(k)) {
			if !h.a.Return(k, addr) || !h.m.giveBack(k, addr) {
				h.Fatalf("%v cannot give %v back", k, addr)
			}
		}
		h.m.forget()
		return k
	case what == 16:
		h.setPools()
		return types.NamespacedName{}
	case what == 17:
		name := rapid.SampledFrom([]string{"a", "b"}).Draw(h.T, "namespace")
		team := rapid.SampledFrom([]labels.Set{nil, {"team": "red"}}).Draw(h.T, "labels")
		h.a.SetNamespace(name, team)
		h.m.namespaces[name] = team
		return types.NamespacedName{}
	default:
		req := h.request()
		for range rapid.IntRange(1, 2).Draw(h.T, "claims") {
			req.Held = append(req.Held, service.Held{Addr: rapid.SampledFrom(universe).Draw(h.T, "claim"), Pool: rapid.SampledFrom(poolNames).Draw(h.T, "of pool")})
		}
		if got, want := len(h.a.Seat(req)), h.m.seat(req); got != want {
			h.Fatalf("%v is refused %d of its claims, want %d", req.Key, got, want)
		}
		h.allocate(req)
		return req.Key
	}
}

func (h *history) allocate(req service.Request) {
	r := h.a.Allocate(req)
	met := h.m.allocate(req)
	h.same(req.Key, r, met)
	h.m.forget()
}

// same compares an answer with the model's.
func (h *history) same(k types.NamespacedName, r Result, met bool) {
	s := h.m.services[k]
	var has, leaving []netip.Addr
	for _, f := range s.req.Families {
		if a, ok := s.has[f]; ok {
			has = append(has, a)
		}
	}
	for _, l := range r.Unwanted {
		leaving = append(leaving, l.Addr)
	}
	got := addrs(r.Leases)
	if !slices.Equal(got, has) || met != (r.Refusal == nil) || !sameSet(leaving, s.leaving) {
		h.Fatalf("%v: got %s, want %v, leaving %v, met %v", k, spellResult(r), has, s.leaving, met)
	}
	for _, l := range r.Leases {
		if l.Pool != h.m.counts[l.Addr] {
			h.Fatalf("%v: %v counts for pool %s, want %s", k, l.Addr, l.Pool, h.m.counts[l.Addr])
		}
	}
}

// serve lets those who wait be served, and checks that nobody younger goes first and nobody who could be served goes
// without.
func (h *history) serve() {
	for tries := 0; ; tries++ {
		if tries > 10*len(h.m.services) {
			h.Fatalf("the same Services are tried over and over")
		}
		hopeful := h.hopeful()
		k, r, ok := h.a.Serve()
		if !ok {
			if len(hopeful) > 0 {
				h.Fatalf("%v wait and could be served", hopeful)
			}
			return
		}
		s := h.m.services[k]
		if s == nil || !s.waits {
			h.Fatalf("%v is tried and waits for nothing", k)
		}
		if gains := slices.Contains(hopeful, k); gains && hopeful[0] != k {
			h.Fatalf("%v is served before %v", k, hopeful[0])
		}
		h.same(k, r, h.m.allocate(s.req))
		h.m.forget()
	}
}

// hopeful are those who wait and could be given something now, the oldest first.
func (h *history) hopeful() []types.NamespacedName {
	var all []types.NamespacedName
	for k, s := range h.m.services {
		if !s.waits {
			continue
		}
		var lacks []corev1.IPFamily
		for _, f := range s.req.Families {
			if _, has := s.has[f]; !has {
				lacks = append(lacks, f)
			}
		}
		if n := len(h.m.best(s, lacks)); n > 0 && (n == len(lacks) && !h.m.keepsOther(s) || !s.req.AllFamilies) {
			all = append(all, k)
		}
	}
	slices.SortFunc(all, func(x, y types.NamespacedName) int {
		return byAge(&waiter{request: &h.m.services[x].req}, &waiter{request: &h.m.services[y].req})
	})
	return all
}

// nobodyElseLost checks that nobody but the one whose doing it was has lost an address, unless its pool is gone.
func (h *history) nobodyElseLost(before map[types.NamespacedName][]Lease, own types.NamespacedName) {
	now := h.leases()
	for k, ls := range before {
		for _, l := range ls {
			if k == own || slices.ContainsFunc(now[k], func(x Lease) bool { return x.Addr == l.Addr }) {
				continue
			}
			_, owned := h.m.owner(l.Addr)
			if _, exists := h.m.pool(l.Pool); exists || owned {
				h.Fatalf("%v has lost %v by no doing of its own", k, l)
			}
		}
	}
}

// leases are what everybody has and wants.
func (h *history) leases() map[types.NamespacedName][]Lease {
	all := map[types.NamespacedName][]Lease{}
	for k, x := range h.a.holders {
		for _, t := range x.leases {
			if t != nil {
				all[k] = append(all[k], t.lease())
			}
		}
	}
	return all
}

// compare checks the rule of sharing, and all that can be seen of the allocator against the model.
func (h *history) compare() {
	for _, addr := range universe {
		all, staying := h.m.tenants(addr)
		var want []types.NamespacedName
		for _, s := range all {
			want = append(want, s.req.Key)
		}
		if got := h.a.Holders(addr); !sameSet(got, want) {
			h.Fatalf("%v is held by %v, want %v", addr, got, want)
		}
		for i, x := range staying {
			if !share(staying[:i], nil, &x.req.Sharing) {
				h.Fatalf("%v is shared by Services that may not: %v", addr, want)
			}
		}
	}
	waiting := 0
	for _, s := range h.m.services {
		if s.waits {
			waiting++
		}
	}
	if got := h.a.Waiting(); got != waiting {
		h.Fatalf("%d wait, want %d", got, waiting)
	}
	for _, c := range h.a.Counts() {
		want := h.m.count(c.Pool, c.Family)
		if got := [4]int{int(c.Total.Int64()), c.Assigned, int(c.Available.Int64()), c.Outside}; got != want {
			h.Fatalf("pool %s counts %v %s addresses (total, assigned, available, outside), want %v", c.Pool, got, c.Family, want)
		}
	}
}

func (h *history) leaving(k types.NamespacedName) []netip.Addr {
	if s := h.m.services[k]; s != nil {
		return s.leaving
	}
	return nil
}

func (h *history) someService() types.NamespacedName {
	return types.NamespacedName{
		Namespace: rapid.SampledFrom([]string{"a", "b"}).Draw(h.T, "namespace"),
		Name:      rapid.SampledFrom([]string{"s", "t", "u", "v"}).Draw(h.T, "name"),
	}
}

var poolNames = []string{"p0", "p1", "p2"}

// request draws what a Service asks for: in most ways plain, in some not.
func (h *history) request() service.Request {
	req := service.Request{Key: h.someService()}
	req.Created = time.Unix(int64(req.Key.Name[0])%3, 0)
	req.Families = rapid.SampledFrom([][]corev1.IPFamily{only4, only6, fourFirst, sixFirst}).Draw(h.T, "families")
	req.AllFamilies = rapid.Bool().Draw(h.T, "all")
	traits := rapid.Uint16().Draw(h.T, "traits")
	req.Sharing.Namespace = req.Key.Namespace
	if traits&3 == 0 {
		req.Pool = poolNames[int(traits>>2)%len(poolNames)]
	}
	if traits>>4&3 == 0 {
		if addr := rapid.SampledFrom(universe).Draw(h.T, "address"); slices.Contains(req.Families, service.FamilyOf(addr)) {
			req.Addresses = []netip.Addr{addr}
		}
	}
	if traits>>6&1 == 0 {
		req.Sharing.Key = "k"
		req.Sharing.Ports = []service.Port{{Protocol: "TCP", Number: int32(traits >> 7 & 3)}}
		req.Sharing.AnyNamespace = traits>>9&1 == 0
		req.Sharing.Local = traits>>10&3 == 0
		req.Sharing.Selector = [2]string{"app=x", "app=y"}[traits>>12&1]
	}
	if traits>>13&1 == 0 {
		req.Labels = labels.Set{"tier": "front"}
	}
	if traits>>14&3 == 0 && req.Pool == "" && req.Addresses == nil && traits&4 == 0 {
		req.Fault = &service.Refusal{Reason: service.InvalidAddress}
	}
	return req
}

// setPools draws up to three pools that divide some of the universe among them.
func (h *history) setPools() {
	n := rapid.IntRange(0, len(poolNames)).Draw(h.T, "pools")
	owners := rapid.Uint64().Draw(h.T, "owners")
	var r config.Resources
	var idle []config.Pool
	for i, name := range poolNames[:n] {
		p := h.poolObject(name)
		for j, addr := range universe {
			if int(owners>>(2*j)&3) == i {
				p.Spec.Addresses = append(p.Spec.Addresses, netip.PrefixFrom(addr, addr.BitLen()).String())
			}
		}
		if len(p.Spec.Addresses) == 0 {
			idle = append(idle, config.Pool{Name: name, Addresses: &netipx.IPSet{}})
		} else {
			r.Pools = append(r.Pools, p)
		}
	}
	cfg, problems := config.New(r)
	if len(problems) > 0 {
		h.Fatalf("%v", problems)
	}
	in := append(cfg.Pools, idle...)
	withdrawn := map[netip.Addr]bool{}
	for _, ls := range h.a.SetPools(in) {
		for _, l := range ls {
			withdrawn[l.Addr] = true
		}
	}
	for _, addr := range h.m.setPools(in) {
		if !withdrawn[addr] {
			h.Fatalf("%v is not withdrawn", addr)
		}
		delete(withdrawn, addr)
	}
	if len(withdrawn) > 0 {
		h.Fatalf("%v are withdrawn", withdrawn)
	}
}

func (h *history) poolObject(name string) *v1beta1.IPAddressPool {
	traits := rapid.Uint16().Draw(h.T, "pool's traits")
	p := &v1beta1.IPAddressPool{}
	p.Name = name
	if traits&7 == 0 {
		off := false
		p.Spec.AutoAssign = &off
	}
	p.Spec.AvoidBuggyIPs = traits>>3&3 == 0
	p.Spec.Drain = traits>>5&7 == 0
	if quota := int32(traits >> 8 & 3); quota > 0 {
		p.Spec.NamespaceQuota = &quota
	}
	choice := &v1beta1.ServiceAllocation{Priority: int32(traits >> 10 & 1)}
	switch traits >> 11 & 7 {
	case 0:
		choice.Namespaces = []string{"a"}
	case 1:
		choice.NamespaceSelectors = []metav1.LabelSelector{selector("team=red")}
	case 2:
		choice.ServiceSelectors = []metav1.LabelSelector{selector("tier=front")}
	}
	p.Spec.ServiceAllocation = choice
	return p
}

func addrs(ls []Lease) []netip.Addr {
	var out []netip.Addr
	for _, l := range ls {
		out = append(out, l.Addr)
	}
	return out
}

// sameSet tells whether two lists have the same in whatever order.
func sameSet[T fmt.Stringer](x, y []T) bool {
	texts := func(all []T) []string {
		var out []string
		for _, one := range all {
			out = append(out, one.String())
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(texts(x), texts(y))
}
