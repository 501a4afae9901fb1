package config

import (
	"errors"
	"fmt"
	"strconv"

	"k8s.io/apimachinery/pkg/labels"

	"heraldlb.io/herald/api/v1beta1"
)

// Node is what the configuration depends on of a node.
type Node struct {
	Name        string
	Labels      labels.Set
	Annotations map[string]string
}

// PeersOn returns the peers that a node talks to, by name, with all that depends on the node filled in. A peer whose
// value the Node does not carry, or that clashes with an older one on this node, is left out; the problems say why.
func (c *Config) PeersOn(n Node) ([]BGPPeer, []Problem) {
	var chosen []BGPPeer
	var problems []Problem
	byAge := make([]*BGPPeer, len(c.BGPPeers))
	for i := range c.BGPPeers {
		byAge[c.BGPPeers[i].Rank] = &c.BGPPeers[i]
	}
next:
	for _, p := range byAge {
		if p.Disabled || !p.SelectsNode(n.Labels) {
			continue
		}
		v := &verdict{kind: KindBGPPeer, name: p.Name, problems: &problems}
		peer, field, err := p.on(n)
		if err != nil {
			v.unresolved(field, ReasonNodeValueInvalid, "node %s: %v", n.Name, err)
			continue
		}
		for _, older := range chosen {
			if field, what := older.clash(peer); what != "" {
				v.unresolved(field, ReasonConflict, "node %s: %s: remove one of the two, or let them select different nodes", n.Name, what)
				continue next
			}
		}
		chosen = append(chosen, peer)
	}
	sortByName(chosen, func(p BGPPeer) string { return p.Name })
	sortProblems(problems)
	return chosen, problems
}

// on fills in what depends on the node. The error says what the Node lacks, and field where the peer asks for it.
func (p BGPPeer) on(n Node) (filled BGPPeer, field string, err error) {
	if p.AddressFrom != "" {
		field := "spec.peerAddressFrom"
		value, err := value(n.Annotations, "annotation", p.AddressFrom)
		if err != nil {
			return p, field, err
		}
		if p.Address, err = parsePeerAddress(value); err != nil {
			return p, field, fmt.Errorf("the annotation %s: %w", p.AddressFrom, err)
		}
		if p.Address.Is6() && p.Address.IsLinkLocalUnicast() {
			return p, field, fmt.Errorf("the annotation %s: %v is link-local, which needs an interface: write a global address", p.AddressFrom, p.Address)
		}
		if p.SourceAddress.IsValid() && p.SourceAddress.Is4() != p.Address.Is4() {
			return p, field, fmt.Errorf("the annotation %s: %v and the sourceAddress %v must be of one family", p.AddressFrom, p.Address, p.SourceAddress)
		}
	}
	if p.MyASN == 0 {
		field := "spec.myASNFrom"
		from, what, key := labels.Set(n.Annotations), "annotation", p.MyASNFrom.NodeAnnotation
		if p.MyASNFrom.NodeLabel != "" {
			from, what, key = n.Labels, "label", p.MyASNFrom.NodeLabel
		}
		text, err := value(from, what, key)
		if err != nil {
			return p, field, err
		}
		asn, err := strconv.ParseUint(text, 10, 32)
		if err != nil || asn < 1 || asn > maxASN {
			return p, field, fmt.Errorf("the %s %s: %q is no AS number: write one from 1 to %d", what, key, text, maxASN)
		}
		p.MyASN = uint32(asn)
		if p.LocalASN == p.MyASN {
			return p, field, errors.New("the node's AS number is the peer's localASN: give the node another, or leave localASN out")
		}
	}
	if p.Families == nil {
		switch {
		case p.unnumbered():
			p.Families = []v1beta1.IPFamily{v1beta1.IPv4, v1beta1.IPv6}
		case p.Address.Is4():
			p.Families = []v1beta1.IPFamily{v1beta1.IPv4}
		default:
			p.Families = []v1beta1.IPFamily{v1beta1.IPv6}
		}
	}
	return p, "", nil
}

func value(from map[string]string, what, key string) (string, error) {
	if v := from[key]; v != "" {
		return v, nil
	}
	return "", fmt.Errorf("the Node has no %s %s: add it, or let nodeSelectors leave the node out", what, key)
}
