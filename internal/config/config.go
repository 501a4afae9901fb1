// Package config turns configuration objects into one validated, immutable Config, for the controller, the speaker
// and every tool alike.
//
// It is pure: the same objects give the same Config and the same problems, in whatever order they come. One bad
// object harms nobody else: it is left out, a Problem says why, and the rest applies. All problems are reported,
// not the first. Whatever the API server refuses by an object's schema is refused here too, because objects that
// come from a ConfigMap or a file have no API server.
package config

import (
	"cmp"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
)

// Resources are the configuration objects as they were read, no two of a kind with one name. New does not change
// them.
type Resources struct {
	Pools            []*v1beta1.IPAddressPool
	L2Advertisements []*v1beta1.L2Advertisement
}

// Config is what is in force: the objects without a fault, each list sorted by name. It is never changed after New.
type Config struct {
	Pools            []Pool
	L2Advertisements []L2Advertisement

	ranges []ownedRange // of all pools, sorted
}

// New judges the resources.
func New(r Resources) (*Config, []Problem) {
	var b builder
	for _, p := range oldestFirst(r.Pools) {
		b.pool(p)
	}
	slices.SortFunc(b.config.Pools, func(x, y Pool) int { return cmp.Compare(x.Name, y.Name) })
	b.config.index()
	for _, a := range oldestFirst(r.L2Advertisements) {
		b.l2Advertisement(a)
	}
	slices.SortFunc(b.config.L2Advertisements, func(x, y L2Advertisement) int { return cmp.Compare(x.Name, y.Name) })
	sortProblems(b.problems)
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
	i := firstUpTo(c.ranges, a)
	if i == len(c.ranges) || !c.ranges[i].Contains(a) {
		return Pool{}, false
	}
	return c.Pools[c.ranges[i].pool], true
}

// builder collects a Config and the problems found on the way.
type builder struct {
	config   Config
	problems []Problem
	taken    []ownedRange // by the pools accepted so far, sorted
}

func (b *builder) judge(kind string, o metav1.Object) *verdict {
	return &verdict{kind: kind, name: o.GetName(), problems: &b.problems}
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
