package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/labels"

	"heraldlb.io/herald/api/v1beta1"
)

// Pool is a set of addresses that Services may get.
type Pool struct {
	Name string

	// Addresses are those that the pool gives, without the excluded ones. AvoidBuggyIPs is not applied to them.
	Addresses *netipx.IPSet

	AutoAssign     bool
	AvoidBuggyIPs  bool
	Drain          bool
	NamespaceQuota int // addresses per namespace; 0 means no limit
	Priority       int // see ComparePools

	labels     labels.Set
	ranges     []netipx.IPRange // of Addresses
	blocks     []netipx.IPRange // with the excluded addresses
	restricted bool
	namespaces namespaces
	services   selectors
}

// namespaces are those that a pool is for; the zero value means every one.
type namespaces struct {
	names    []string // sorted
	matching selectors
}

// Selects tells whether the pool's serviceAllocation selects a Service, and whether the pool is restricted to the
// Services it selects. A pool that is not restricted is open to all and selects none.
func (p Pool) Selects(namespace string, namespaceLabels, serviceLabels labels.Set) (selected, restricted bool) {
	if !p.restricted {
		return false, false
	}
	n := p.namespaces
	if n.names != nil || n.matching != nil {
		_, named := slices.BinarySearch(n.names, namespace)
		if !named && !n.matching.match(namespaceLabels) {
			return false, true
		}
	}
	return p.services == nil || p.services.match(serviceLabels), true
}

// ComparePools is the order in which pools are tried: the lowest priority number first, 0 last, then by name.
func ComparePools(x, y Pool) int {
	return cmp.Or(cmp.Compare(uint(x.Priority)-1, uint(y.Priority)-1), cmp.Compare(x.Name, y.Name))
}

// pool judges a pool and puts it in force.
func (b *builder) pool(p *v1beta1.IPAddressPool) {
	v := b.judge(KindIPAddressPool, p)
	out := Pool{
		Name:          p.Name,
		AutoAssign:    p.Spec.AutoAssign == nil || *p.Spec.AutoAssign,
		AvoidBuggyIPs: p.Spec.AvoidBuggyIPs,
		Drain:         p.Spec.Drain,
		labels:        p.Labels,
	}
	b.addresses(v, p, &out)
	if q := p.Spec.NamespaceQuota; q != nil {
		if *q < 1 {
			v.refuse("spec.namespaceQuota", ReasonInvalidValue, "%d would let no namespace have an address: write 1 or more, or leave it out for no limit", *q)
		}
		out.NamespaceQuota = int(*q)
	}
	if a := p.Spec.ServiceAllocation; a != nil {
		v.allocation(*a, &out)
	}
	if v.refused {
		b.config.refused[p.Name] = p.Labels
		return
	}
	b.config.Pools = append(b.config.Pools, out)
	for _, r := range out.ranges {
		at := firstUpTo(b.taken, r.From())
		b.taken = slices.Insert(b.taken, at, ownedRange{IPRange: r, name: p.Name})
	}
}

// addresses reads the addresses of a pool and what it excludes.
func (b *builder) addresses(v *verdict, p *v1beta1.IPAddressPool, out *Pool) {
	if len(p.Spec.Addresses) == 0 {
		v.refuse("spec.addresses", ReasonInvalidAddresses, "the pool has no address: name at least one prefix or range")
	}
	var excluded netipx.IPSetBuilder
	for i, entry := range p.Spec.Exclude {
		r, err := parseExclude(entry)
		if err != nil {
			v.refuse(fmt.Sprintf("spec.exclude[%d]", i), ReasonInvalidAddresses, "%v", err)
			continue
		}
		excluded.AddRange(r)
	}
	v.notEmpty("spec.exclude", p.Spec.Exclude != nil && len(p.Spec.Exclude) == 0, "to exclude nothing")
	exclude := ipSet(&excluded)
	var all netipx.IPSetBuilder
	for i, entry := range p.Spec.Addresses {
		field := fmt.Sprintf("spec.addresses[%d]", i)
		r, err := ParseRange(entry)
		if err != nil {
			v.refuse(field, ReasonInvalidAddresses, "%v", err)
			continue
		}
		if older := b.overlapping(r, exclude); len(older) > 0 {
			v.refuse(field, ReasonOverlap, "%s overlaps with older pools, which keep these addresses (%s): remove them from one of the two", entry, few(older))
		}
		all.AddRange(r)
	}
	if v.refused {
		return
	}
	out.blocks = ipSet(&all).Ranges()
	all.RemoveSet(exclude)
	out.Addresses = ipSet(&all)
	out.ranges = out.Addresses.Ranges()
	if len(out.ranges) == 0 {
		v.refuse("spec.exclude", ReasonInvalidAddresses, "every address of the pool is excluded: exclude fewer, or delete the pool")
	}
}

// overlapping returns the names of the pools in force that have an address of the range, exclude left out, sorted.
func (b *builder) overlapping(r netipx.IPRange, exclude *netipx.IPSet) []string {
	var names []string
	for i := firstUpTo(b.taken, r.From()); i < len(b.taken) && b.taken[i].From().Compare(r.To()) <= 0; i++ {
		var common netipx.IPSetBuilder
		common.AddRange(b.taken[i].IPRange)
		common.Intersect(rangeSet(r))
		common.RemoveSet(exclude)
		if len(ipSet(&common).Ranges()) > 0 {
			names = append(names, b.taken[i].name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// few lists names, but not thousands of them.
func few(names []string) string {
	const most = 3
	if more := len(names) - most; more > 0 {
		names = append(slices.Clone(names[:most]), fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

// allocation reads which Services a pool is for.
func (v *verdict) allocation(a v1beta1.ServiceAllocation, out *Pool) {
	const field = "spec.serviceAllocation"
	if a.Priority < 0 {
		v.refuse(field+".priority", ReasonInvalidValue, "%d is negative: write 1 for the first pool to be tried and greater numbers for later ones", a.Priority)
	}
	out.Priority = int(a.Priority)
	v.notEmpty(field+".namespaces", a.Namespaces != nil && len(a.Namespaces) == 0, everyNamespace)
	out.namespaces.names = sorted(a.Namespaces)
	out.namespaces.matching = v.selectors(field+".namespaceSelectors", a.NamespaceSelectors, everyNamespace)
	out.services = v.selectors(field+".serviceSelectors", a.ServiceSelectors, everyService)
	out.restricted = out.namespaces.names != nil || out.namespaces.matching != nil || out.services != nil
}

// ownedRange is a range of addresses and the pool that has them.
type ownedRange struct {
	netipx.IPRange
	name string // of the pool
	pool int    // its place in the Config
}

// firstUpTo returns the index of the first range that ends at the address or beyond it.
func firstUpTo(ranges []ownedRange, a netip.Addr) int {
	return sort.Search(len(ranges), func(i int) bool { return ranges[i].To().Compare(a) >= 0 })
}

// index makes the look-up from addresses to pools.
func (c *Config) index() {
	for i, p := range c.Pools {
		for _, r := range p.ranges {
			c.ranges = append(c.ranges, ownedRange{r, p.Name, i})
		}
	}
	slices.SortFunc(c.ranges, func(x, y ownedRange) int { return x.From().Compare(y.From()) })
}

// ipSet is the set of a builder that was given valid ranges only, which then has no error.
func ipSet(b *netipx.IPSetBuilder) *netipx.IPSet {
	s, err := b.IPSet()
	if err != nil {
		return &netipx.IPSet{}
	}
	return s
}

func rangeSet(r netipx.IPRange) *netipx.IPSet {
	var b netipx.IPSetBuilder
	b.AddRange(r)
	return ipSet(&b)
}
