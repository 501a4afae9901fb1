package config

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Selection says what an advertisement announces and who does.
type Selection struct {
	// Pools are the names of the pools that it announces, sorted; nil means every pool, and an empty list none.
	Pools []string

	nodes    selectors // nil means every node
	services selectors // nil means every Service
}

// SelectsPool tells whether the addresses of the pool are announced.
func (s Selection) SelectsPool(name string) bool {
	return s.Pools == nil || has(s.Pools, name)
}

// SelectsNode tells whether a node with these labels may announce.
func (s Selection) SelectsNode(node labels.Set) bool { return s.nodes == nil || s.nodes.match(node) }

// SelectsService tells whether the addresses of a Service with these labels are announced.
func (s Selection) SelectsService(service labels.Set) bool {
	return s.services == nil || s.services.match(service)
}

// selection reads the nodes and Services of an advertisement; pools come once it is known to be good.
func (v *verdict) selection(nodes, services []metav1.LabelSelector) Selection {
	return Selection{
		nodes:    v.selectors("spec.nodeSelectors", nodes, everyNode),
		services: v.selectors("spec.serviceSelectors", services, everyService),
	}
}

// pools reads which pools an advertisement names and selects. Nil means every pool.
func (b *builder) pools(v *verdict, names []string, in []metav1.LabelSelector) []string {
	v.notEmpty("spec.ipAddressPools", names != nil && len(names) == 0, everyPool)
	selecting := v.selectors("spec.ipAddressPoolSelectors", in, everyPool)
	if v.refused || names == nil && selecting == nil {
		return nil
	}
	pools := slices.Clone(names)
	for i, name := range names {
		if _, ok := b.config.Pool(name); !ok {
			v.unresolved(fmt.Sprintf("spec.ipAddressPools[%d]", i), ReasonPoolNotFound,
				"no IPAddressPool %s is in force: create it, or see its condition Accepted", name)
		}
	}
	for i, s := range selecting {
		found := false
		for _, p := range b.config.Pools {
			if s.Matches(p.labels) {
				found = true
				pools = append(pools, p.Name)
			}
		}
		if !found {
			v.unresolved(fmt.Sprintf("spec.ipAddressPoolSelectors[%d]", i), ReasonPoolNotFound,
				"no IPAddressPool in force has labels that match %s: label one, or change the selector", s.text)
		}
	}
	for name, set := range b.config.refused {
		if selecting.match(set) {
			pools = append(pools, name) // for those who have addresses of it
		}
	}
	if pools == nil {
		return []string{}
	}
	return sorted(pools)
}

// has tells whether a sorted list holds a name.
func has(sorted []string, name string) bool {
	_, ok := slices.BinarySearch(sorted, name)
	return ok
}
