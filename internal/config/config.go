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
	"k8s.io/apimachinery/pkg/labels"

	"heraldlb.io/herald/api/v1beta1"
)

// Resources are the configuration objects as they were read, no two of a kind with one name. New does not change
// them.
type Resources struct {
	Pools             []*v1beta1.IPAddressPool
	L2Advertisements  []*v1beta1.L2Advertisement
	BGPAdvertisements []*v1beta1.BGPAdvertisement
	BGPPeers          []*v1beta1.BGPPeer
	BFDProfiles       []*v1beta1.BFDProfile
	Communities       []*v1beta1.Community
}

// Config is what is in force: the objects without a fault, each list sorted by name. It is never changed after New.
type Config struct {
	Pools             []Pool
	L2Advertisements  []L2Advertisement
	BGPAdvertisements []BGPAdvertisement
	BGPPeers          []BGPPeer
	BFDProfiles       []BFDProfile

	ranges  []ownedRange          // of all pools, sorted
	refused map[string]labels.Set // the pools that are not in force, with their labels
}

// New judges the resources.
func New(r Resources) (*Config, []Problem) {
	b := builder{config: Config{refused: map[string]labels.Set{}}, aliases: map[string]alias{}}
	for _, p := range oldestFirst(r.Pools) {
		b.pool(p)
	}
	sortByName(b.config.Pools, func(p Pool) string { return p.Name })
	b.config.index()
	for _, a := range oldestFirst(r.L2Advertisements) {
		b.l2Advertisement(a)
	}
	sortByName(b.config.L2Advertisements, func(a L2Advertisement) string { return a.Name })
	for _, p := range oldestFirst(r.BFDProfiles) {
		b.bfdProfile(p)
	}
	sortByName(b.config.BFDProfiles, func(p BFDProfile) string { return p.Name })
	for _, p := range oldestFirst(r.BGPPeers) {
		b.bgpPeer(p)
	}
	sortByName(b.config.BGPPeers, func(p BGPPeer) string { return p.Name })
	for _, c := range oldestFirst(r.Communities) {
		b.community(c)
	}
	for _, a := range oldestFirst(r.BGPAdvertisements) {
		b.bgpAdvertisement(a)
	}
	sortByName(b.config.BGPAdvertisements, func(a BGPAdvertisement) string { return a.Name })
	sortProblems(b.problems)
	return &b.config, b.problems
}

// Pool returns the pool of this name.
func (c *Config) Pool(name string) (Pool, bool) {
	i, ok := find(c.Pools, name, func(p Pool) string { return p.Name })
	if !ok {
		return Pool{}, false
	}
	return c.Pools[i], true
}

// HasPool tells whether there is a pool of this name, in force or not: a mistake in an edit of a pool takes nothing
// from those who have addresses of it.
func (c *Config) HasPool(name string) bool {
	_, refused := c.refused[name]
	_, ok := c.Pool(name)
	return ok || refused
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
	config    Config
	problems  []Problem
	taken     []ownedRange     // by the pools accepted so far, sorted
	aliases   map[string]alias // the names of communities
	announced []announced      // of each BGPAdvertisement accepted so far
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

// find searches a list that is sorted by name.
func find[T any](list []T, wanted string, name func(T) string) (int, bool) {
	return slices.BinarySearchFunc(list, wanted, func(x T, n string) int { return cmp.Compare(name(x), n) })
}

func sortByName[T any](list []T, name func(T) string) {
	slices.SortFunc(list, func(x, y T) int { return cmp.Compare(name(x), name(y)) })
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
