package config

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"heraldlb.io/herald/api/v1beta1"
)

// L2Advertisement says who may announce which pools' addresses with ARP and NDP.
type L2Advertisement struct {
	Name string

	// Pools are the names of the pools it announces, sorted; nil means every pool.
	Pools []string

	// Interfaces are the names of those to announce on, sorted; nil means each whose subnet holds the address.
	Interfaces []string

	nodes selectors // nil means every node
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
	return a.nodes == nil || a.nodes.match(node)
}

func (b *builder) l2Advertisement(a *v1beta1.L2Advertisement) {
	v := b.judge(KindL2Advertisement, a)
	out := L2Advertisement{
		Name:       a.Name,
		Pools:      sorted(a.Spec.IPAddressPools),
		Interfaces: sorted(a.Spec.Interfaces),
		nodes:      v.selectors("spec.nodeSelectors", a.Spec.NodeSelectors, everyNode),
	}
	if v.refused {
		return
	}
	for i, name := range a.Spec.IPAddressPools {
		if _, ok := b.config.Pool(name); !ok {
			v.unresolved(fmt.Sprintf("spec.ipAddressPools[%d]", i), ReasonPoolNotFound,
				"no IPAddressPool %s is in force: create it, or see its condition Accepted", name)
		}
	}
	b.config.L2Advertisements = append(b.config.L2Advertisements, out)
}
