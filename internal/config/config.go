// Package config turns configuration objects into one validated, immutable Config, for the controller, the speaker
// and every tool alike.
//
// It is pure: the same objects give the same Config and the same problems, in whatever order they come. One bad
// object harms nobody else: it is left out, a Problem says why, and the rest applies. All problems are reported,
// not the first.
package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"heraldlb.io/herald/api/v1beta1"
)

// Resources are the configuration objects as they were read. New does not change them.
type Resources struct {
	Pools            []*v1beta1.IPAddressPool
	L2Advertisements []*v1beta1.L2Advertisement
}

// Config is what is in force: the objects without a fault, each list sorted by name. It is never changed after New.
type Config struct {
	Pools            []Pool
	L2Advertisements []L2Advertisement
}

// Pool is a set of addresses that Services may get.
type Pool struct {
	Name      string
	Addresses *netipx.IPSet
}

// L2Advertisement says who may announce which pools' addresses with ARP and NDP.
type L2Advertisement struct {
	Name string

	// Pools are the names of the pools it announces, sorted; nil means every pool.
	Pools []string

	// Interfaces are the names of those to announce on, sorted; nil means each whose subnet holds the address.
	Interfaces []string

	nodes []labels.Selector // any one is enough; nil means every node
}

// The kinds a Problem can name.
const (
	KindIPAddressPool   = "IPAddressPool"
	KindL2Advertisement = "L2Advertisement"
)

// The conditions a Problem makes False.
const (
	// ConditionAccepted is False on an object that is left out of the Config.
	ConditionAccepted = "Accepted"
	// ConditionResolvedRefs is False on an object that names another one that is not in force; what does resolve
	// applies.
	ConditionResolvedRefs = "ResolvedRefs"
)

// The reasons of a Problem.
const (
	ReasonInvalidAddresses = "InvalidAddresses"
	ReasonInvalidSelector  = "InvalidSelector"
	ReasonOverlap          = "Overlap"
	ReasonPoolNotFound     = "PoolNotFound"
)

// Problem is one fault of one object, in words that its author can act on.
type Problem struct {
	Kind, Name string
	Field      string // the path of the field at fault, such as spec.addresses[2]
	Condition  string
	Reason     string // CamelCase
	Message    string // a sentence: what is wrong and what to write instead
}

// Error makes a Problem an error that names the object and the field.
func (p Problem) Error() string {
	return fmt.Sprintf("%s %s: %s: %s", p.Kind, p.Name, p.Field, p.Message)
}

// New judges the resources.
func New(r Resources) (*Config, []Problem) {
	var b builder
	for _, p := range oldestFirst(r.Pools) {
		b.pool(p)
	}
	for _, a := range oldestFirst(r.L2Advertisements) {
		b.l2Advertisement(a)
	}
	slices.SortFunc(b.config.Pools, func(x, y Pool) int { return cmp.Compare(x.Name, y.Name) })
	slices.SortFunc(b.config.L2Advertisements, func(x, y L2Advertisement) int { return cmp.Compare(x.Name, y.Name) })
	slices.SortStableFunc(b.problems, func(x, y Problem) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Name, y.Name))
	})
	return &b.config, b.problems
}

// Pool returns the pool of this name.
func (c *Config) Pool(name string) (Pool, bool) {
	i, ok := slices.BinarySearchFunc(c.Pools, name, func(p Pool, n string) int { return cmp.Compare(p.Name, n) })
	if !ok {
		return Pool{}, false
	}
	return c.Pools[i], true
}

// PoolOf returns the pool that an address belongs to. Pools do not overlap, so there is one at most.
func (c *Config) PoolOf(a netip.Addr) (Pool, bool) {
	for _, p := range c.Pools {
		if p.Addresses.Contains(a) {
			return p, true
		}
	}
	return Pool{}, false
}

// SelectsPool tells whether the advertisement announces the addresses of the pool.
func (a L2Advertisement) SelectsPool(name string) bool {
	if a.Pools == nil {
		return true
	}
	_, ok := slices.BinarySearch(a.Pools, name)
	return ok
}

// SelectsNode tells whether a node with these labels may announce.
func (a L2Advertisement) SelectsNode(node labels.Set) bool {
	return a.nodes == nil || slices.ContainsFunc(a.nodes, func(s labels.Selector) bool { return s.Matches(node) })
}

// builder collects a Config and the problems found on the way.
type builder struct {
	config   Config
	problems []Problem
}

func (b *builder) pool(p *v1beta1.IPAddressPool) {
	bad := false
	problem := func(field, reason, message string) {
		bad = true
		b.problems = append(b.problems, Problem{KindIPAddressPool, p.Name, field, ConditionAccepted, reason, message})
	}
	if len(p.Spec.Addresses) == 0 {
		problem("spec.addresses", ReasonInvalidAddresses, "the pool has no address: name at least one prefix or range")
	}
	var set netipx.IPSetBuilder
	for i, entry := range p.Spec.Addresses {
		field := fmt.Sprintf("spec.addresses[%d]", i)
		r, err := ParseRange(entry)
		if err != nil {
			problem(field, ReasonInvalidAddresses, err.Error())
			continue
		}
		for _, older := range b.config.Pools {
			if older.Addresses.OverlapsRange(r) {
				problem(field, ReasonOverlap, fmt.Sprintf("%s overlaps with the older pool %s, which keeps these addresses: remove them from one of the two", entry, older.Name))
			}
		}
		set.AddRange(r)
	}
	if bad {
		return
	}
	addresses, err := set.IPSet()
	if err != nil {
		problem("spec.addresses", ReasonInvalidAddresses, err.Error())
		return
	}
	b.config.Pools = append(b.config.Pools, Pool{Name: p.Name, Addresses: addresses})
}

func (b *builder) l2Advertisement(a *v1beta1.L2Advertisement) {
	out := L2Advertisement{
		Name:       a.Name,
		Pools:      sorted(a.Spec.IPAddressPools),
		Interfaces: sorted(a.Spec.Interfaces),
	}
	bad := false
	for i := range a.Spec.NodeSelectors {
		s, err := metav1.LabelSelectorAsSelector(&a.Spec.NodeSelectors[i])
		if err != nil {
			bad = true
			b.problems = append(b.problems, Problem{KindL2Advertisement, a.Name, fmt.Sprintf("spec.nodeSelectors[%d]", i),
				ConditionAccepted, ReasonInvalidSelector, err.Error()})
			continue
		}
		out.nodes = append(out.nodes, s)
	}
	if bad {
		return
	}
	for i, name := range a.Spec.IPAddressPools {
		if !slices.ContainsFunc(b.config.Pools, func(p Pool) bool { return p.Name == name }) {
			b.problems = append(b.problems, Problem{KindL2Advertisement, a.Name, fmt.Sprintf("spec.ipAddressPools[%d]", i),
				ConditionResolvedRefs, ReasonPoolNotFound,
				fmt.Sprintf("no IPAddressPool %s is in force: create it, or see its condition Accepted", name)})
		}
	}
	b.config.L2Advertisements = append(b.config.L2Advertisements, out)
}

// oldestFirst sorts by creation time, then by name, so that of two objects that clash the older stays.
func oldestFirst[T metav1.Object](in []T) []T {
	out := slices.Clone(in)
	slices.SortFunc(out, func(x, y T) int {
		return cmp.Or(x.GetCreationTimestamp().Compare(y.GetCreationTimestamp().Time), cmp.Compare(x.GetName(), y.GetName()))
	})
	return out
}

// sorted returns a sorted copy, nil for an empty list.
func sorted(in []string) []string {
	if len(in) == 0 {
		return nil
	}
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}
