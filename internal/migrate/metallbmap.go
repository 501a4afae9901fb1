package migrate

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation"

	"heraldlb.io/herald/internal/config"
)

const discoverySay = "write a BGPPeer with peerAddressFrom and myASNFrom, which read a Node's annotations and labels, and give the Nodes those"

var (
	metalLBConfigMap = []rule{
		{from: "address-pools", say: "an IPAddressPool each, with an L2Advertisement or BGPAdvertisements of its own"},
		{from: "peers", say: "a BGPPeer each, by the names peer-1, peer-2 and so on"},
		{from: "bgp-communities", to: "spec.communities", say: "one Community, bgp-communities, with all names"},
		{from: "bfd-profiles", say: "a BFDProfile each"},
		{from: "peer-autodiscovery", level: Refused, say: discoverySay},
	}

	mapPool = []rule{
		{from: "name", to: "metadata.name", say: "in lower case, with hyphens for what names of objects cannot have"},
		{from: "protocol", say: "an L2Advertisement, or BGPAdvertisements, for this pool alone"},
		{from: "addresses", to: "spec.addresses", how: prefixes, say: prefixesSay},
		{from: "auto-assign", to: "spec.autoAssign"},
		{from: "avoid-buggy-ips", to: "spec.avoidBuggyIPs"},
		{from: "bgp-advertisements", say: "a BGPAdvertisement each; one without attributes when there is none"},
	}

	mapAdvertisement = []rule{
		{from: "aggregation-length", to: "spec.aggregationLength"},
		{from: "aggregation-length-v6", to: "spec.aggregationLengthV6"},
		{from: "localpref", to: "spec.localPref", how: unlessZero, say: "0 is MetalLB's word for none"},
		{from: "communities", to: "spec.communities"},
	}

	mapPeer = []rule{
		{from: "my-asn", to: "spec.myASN"},
		{from: "peer-asn", to: "spec.peerASN"},
		{from: "peer-address", to: "spec.peerAddress"},
		{from: "source-address", to: "spec.sourceAddress"},
		{from: "peer-port", to: "spec.peerPort", how: unlessZero},
		{from: "hold-time", to: "spec.holdTime", how: seconds, say: "whole seconds"},
		{from: "keepalive-time", to: "spec.keepaliveTime", how: keepalive, say: "whole seconds; left out when it is more than a third of hold-time"},
		{from: "router-id", to: "spec.routerID"},
		{from: "node-selectors", to: "spec.nodeSelectors", how: mapSelectors, say: "match-labels and match-expressions become matchLabels and matchExpressions"},
		{from: "password", to: "spec.passwordSecret.name", how: passwordSecret, say: "the name of a Secret that you create; the password is not repeated"},
		{from: "bfd-profile", to: "spec.bfdProfile"},
		{from: "ebgp-multihop", to: "spec.ebgpMultiHop", how: unlessZero},
	}

	mapBFD = []rule{
		{from: "name", to: "metadata.name"},
		{from: "receive-interval", to: "spec.receiveInterval"},
		{from: "transmit-interval", to: "spec.transmitInterval"},
		{from: "detect-multiplier", to: "spec.detectMultiplier"},
		{from: "passive-mode", to: "spec.passiveMode"},
		{from: "minimum-ttl", to: "spec.minimumTtl"},
		{from: "echo-mode", level: NoEqual, say: "Herald's BFD is asynchronous, without echo: shorten the intervals when failures must be seen sooner"},
		{from: "echo-interval", level: NotNeeded, say: "there is no echo"},
	}

	// addressPool is MetalLB's short-lived kind AddressPool, which says in one object what the ConfigMap did.
	addressPool = []rule{
		{from: "spec.protocol", say: "an L2Advertisement, or BGPAdvertisements, for this pool alone"},
		{from: "spec.addresses", to: "spec.addresses", how: prefixes, say: prefixesSay},
		{from: "spec.autoAssign", to: "spec.autoAssign"},
		{from: "spec.avoidBuggyIPs", to: "spec.avoidBuggyIPs"},
		{from: "spec.bgpAdvertisements", say: "a BGPAdvertisement each; one without attributes when there is none"},
	}

	addressPoolAdvertisement = []rule{
		{from: "aggregationLength", to: "spec.aggregationLength"},
		{from: "aggregationLengthV6", to: "spec.aggregationLengthV6"},
		{from: "localPref", to: "spec.localPref", how: unlessZero},
		{from: "communities", to: "spec.communities"},
	}
)

// metalLBConfigMap converts the ConfigMap in which MetalLB had all its configuration before 0.13.
func (c *conversion) metalLBConfigMap(s *source) {
	if extras := child(s.node, "data", "extras"); extras != nil {
		c.tell(s, extras.Line, "data.extras", NoEqual, "Herald speaks BGP by itself, without FRR: see whether fields of BGPPeer and BGPAdvertisement say what this does")
		return
	}
	field := child(s.node, "data", "config")
	if field == nil || field.Kind != yaml.ScalarNode {
		c.foreign(s)
		return
	}
	inner, err := s.within(field)
	if err != nil {
		line, message := syntax(err)
		c.tell(inner, line, "data.config", Refused, "its text is no YAML: %s", message)
		return
	}
	root := resolve(inner.node)
	if root.Kind != yaml.MappingNode {
		c.tell(inner, root.Line, "data.config", Refused, "its text is no mapping: it should have address-pools and peers")
		return
	}
	c.apply(inner, nil, root, "", onlyKnown(metalLBConfigMap))
	for i, entry := range entries(root, "peers") {
		peer := inner.part(fmt.Sprintf("%s peers[%d]", s.id, i), entry)
		c.apply(peer, c.draft(peer, config.KindBGPPeer, fmt.Sprintf("peer-%d", i+1)), entry, "", mapPeer)
	}
	for i, entry := range entries(root, "bfd-profiles") {
		profile := inner.part(fmt.Sprintf("%s bfd-profiles[%d]", s.id, i), entry)
		c.apply(profile, c.draft(profile, config.KindBFDProfile, text(entry, "name")), entry, "", onlyKnown(mapBFD))
	}
	for i, entry := range entries(root, "address-pools") {
		c.mapPool(inner.part(fmt.Sprintf("%s address-pools[%d]", s.id, i), entry))
	}
	c.mapCommunities(inner, child(root, "bgp-communities"))
}

// onlyKnown keeps of rules that the field is known, where code converts it: what is no spec is the code's matter.
func onlyKnown(rules []rule) []rule {
	out := slices.Clone(rules)
	for i := range out {
		if !strings.HasPrefix(out[i].to, "spec.") || out[i].from == "bgp-communities" {
			out[i].to, out[i].how = "", nil
		}
	}
	return out
}

func entries(n *yaml.Node, key string) []*yaml.Node {
	list := child(n, key)
	if list == nil || list.Kind != yaml.SequenceNode {
		return nil
	}
	return list.Content
}

func (c *conversion) mapPool(s *source) {
	old := text(s.node, "name")
	d := c.draft(s, config.KindIPAddressPool, objectName(old))
	if d.name != old {
		c.pools[old] = d.name
		c.tell(s, s.node.Line, "name", Check, "%q cannot be the name of an object: the pool is %s now, and Services that name it get an annotation", old, d.name)
	}
	c.apply(s, d, s.node, "", onlyKnown(mapPool))
	c.announce(s, d.name, text(s.node, "protocol"), "protocol", entries(s.node, "bgp-advertisements"), mapAdvertisement)
}

func (c *conversion) addressPool(s *source) {
	d := c.draft(s, config.KindIPAddressPool, s.name)
	c.keepLabels(s, d)
	spec := child(s.node, "spec")
	if spec == nil {
		return
	}
	c.apply(s, d, spec, "spec.", addressPool)
	c.announce(s, d.name, text(spec, "protocol"), "spec.protocol", entries(spec, "bgpAdvertisements"), addressPoolAdvertisement)
}

// announce makes the advertisements of a pool that says by itself how it is announced.
func (c *conversion) announce(s *source, pool, protocol, field string, bgp []*yaml.Node, rules []rule) {
	switch protocol {
	case "layer2":
		d := c.draft(s, config.KindL2Advertisement, pool)
		d.set("spec.ipAddressPools", []any{pool}, s.node.Line)
		c.everyInterface(s, s.node.Line)
	case "bgp":
		if len(bgp) == 0 {
			bgp = []*yaml.Node{{Kind: yaml.MappingNode, Line: s.node.Line}}
		}
		for i, entry := range bgp {
			name := pool
			if i > 0 {
				name = fmt.Sprintf("%s-%d", pool, i+1)
			}
			d := c.draft(s, config.KindBGPAdvertisement, name)
			d.set("spec.ipAddressPools", []any{pool}, s.node.Line)
			c.apply(s, d, resolve(entry), "", rules)
		}
	default:
		c.tell(s, s.node.Line, field, Refused, "%q is neither layer2 nor bgp, so the pool would not be announced: write an L2Advertisement or a BGPAdvertisement for it", protocol)
	}
}

// mapCommunities makes one Community of all names.
func (c *conversion) mapCommunities(s *source, node *yaml.Node) {
	values := map[string]string{}
	if node == nil || node.Decode(&values) != nil || len(values) == 0 {
		return
	}
	s = s.part(s.id+" bgp-communities", node)
	var list []any
	for _, name := range slices.Sorted(maps.Keys(values)) {
		list = append(list, map[string]any{"name": name, "value": values[name]})
	}
	d := c.draft(s, config.KindCommunity, "bgp-communities")
	f := &field{c: c, s: s, d: d, path: "bgp-communities", node: node, value: list}
	if kept := aliases(f); kept != nil {
		d.set("spec.communities", kept, node.Line)
	}
}

// mapSelectors gives the keys of selectors their later names.
func mapSelectors(f *field) any {
	list, _ := f.value.([]any)
	for _, one := range list {
		selector, _ := one.(map[string]any)
		for old, now := range map[string]string{"match-labels": "matchLabels", "match-expressions": "matchExpressions"} {
			if value, ok := selector[old]; ok {
				selector[now] = value
				delete(selector, old)
			}
		}
	}
	return f.value
}

var noName = regexp.MustCompile(`[^a-z0-9.-]+`)

// objectName makes of any text a name that an object can have; what cannot be one stays as it is, for whoever judges
// it to say so.
func objectName(s string) string {
	if len(validation.IsDNS1123Subdomain(s)) == 0 {
		return s
	}
	name := strings.Trim(noName.ReplaceAllString(strings.ToLower(s), "-"), "-.")
	if len(validation.IsDNS1123Subdomain(name)) > 0 {
		return s
	}
	return name
}
