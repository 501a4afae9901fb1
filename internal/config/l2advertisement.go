package config

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"heraldlb.io/herald/api/v1beta1"
)

// L2Advertisement says who may announce which pools' addresses with ARP and NDP.
type L2Advertisement struct {
	Name string
	Selection

	// Interfaces are the names and patterns of those to announce on, sorted; nil means each whose subnet holds the
	// address.
	Interfaces []string

	// Rebalance says whether a node of greater weight takes an address from an owner that could keep it.
	Rebalance v1beta1.Rebalance

	preferred []preference
}

// preference gives weight to the nodes that it matches.
type preference struct {
	weight int
	node   labels.Selector
}

// NamesInterface tells whether the advertisement names an interface, as such or by a pattern.
func (a L2Advertisement) NamesInterface(name string) bool {
	return slices.ContainsFunc(a.Interfaces, func(pattern string) bool { return MatchInterface(pattern, name) })
}

// Weight is how much a node with these labels is preferred over others: 0 is not at all.
func (a L2Advertisement) Weight(node labels.Set) int {
	sum := 0
	for _, p := range a.preferred {
		if p.node.Matches(node) {
			sum += p.weight
		}
	}
	return sum
}

// MatchInterface tells whether a pattern, or a plain name, matches the name of an interface.
func MatchInterface(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

var (
	interfacePattern = regexp.MustCompile(`^([^][\\/\s]|\[\^?([^][\\/\s^-](-[^][\\/\s^-])?)+\])+$`)
	interfaceName    = regexp.MustCompile(`^[^/\s]{1,15}$`)
)

// l2Advertisement judges an advertisement and puts it in force.
func (b *builder) l2Advertisement(a *v1beta1.L2Advertisement) {
	v := b.judge(KindL2Advertisement, a)
	out := L2Advertisement{
		Name:       a.Name,
		Selection:  v.selection(a.Spec.NodeSelectors, a.Spec.ServiceSelectors),
		Interfaces: sorted(a.Spec.Interfaces),
		Rebalance:  cmp.Or(a.Spec.Rebalance, v1beta1.RebalanceNever),
	}
	v.notEmpty("spec.interfaces", a.Spec.Interfaces != nil && len(a.Spec.Interfaces) == 0, "to mean each whose subnet holds the address")
	for i, pattern := range a.Spec.Interfaces {
		if !interfacePattern.MatchString(pattern) || len(pattern) > 63 {
			v.refuse(fmt.Sprintf("spec.interfaces[%d]", i), ReasonInvalidValue,
				"%q: write the name of an interface or a pattern such as eth*, eth? or bond[0-3], without spaces, slashes and backslashes", pattern)
		}
	}
	v.notEmpty("spec.preferredNodeSelectors", a.Spec.PreferredNodeSelectors != nil && len(a.Spec.PreferredNodeSelectors) == 0, "to prefer no node")
	for i, p := range a.Spec.PreferredNodeSelectors {
		field := fmt.Sprintf("spec.preferredNodeSelectors[%d]", i)
		v.within(field+".weight", int64(p.Weight), 1, 100)
		if s, ok := v.selector(field+".preference", &p.Preference); ok {
			out.preferred = append(out.preferred, preference{int(p.Weight), s})
		}
	}
	if out.Rebalance != v1beta1.RebalanceNever && out.Rebalance != v1beta1.RebalanceOnPreference {
		v.refuse("spec.rebalance", ReasonInvalidValue, "%q: write Never or OnPreference", a.Spec.Rebalance)
	}
	out.Pools = b.pools(v, a.Spec.IPAddressPools, a.Spec.IPAddressPoolSelectors)
	if !v.refused {
		b.config.L2Advertisements = append(b.config.L2Advertisements, out)
	}
}
