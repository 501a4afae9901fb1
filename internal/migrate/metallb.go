package migrate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"heraldlb.io/herald/internal/config"
)

// metalLB covers releases up to 0.15, and the ConfigMap of those before 0.13.
var metalLB = Product{
	Name:  "metallb",
	Title: "MetalLB",
	Resources: []Resource{
		{GroupVersionResource: metalLBResource("v1beta1", "ipaddresspools")},
		{GroupVersionResource: metalLBResource("v1beta1", "addresspools")},
		{GroupVersionResource: metalLBResource("v1beta1", "l2advertisements")},
		{GroupVersionResource: metalLBResource("v1beta1", "bgpadvertisements")},
		{GroupVersionResource: metalLBResource("v1beta2", "bgppeers")},
		{GroupVersionResource: metalLBResource("v1beta1", "bgppeers")},
		{GroupVersionResource: metalLBResource("v1beta1", "bfdprofiles")},
		{GroupVersionResource: metalLBResource("v1beta1", "communities")},
		{GroupVersionResource: configMaps, Namespace: "metallb-system", Name: "config"},
		{GroupVersionResource: configMaps, Namespace: "metallb-system", Name: "bgpextras"},
		{GroupVersionResource: services},
	},
	tables: []table{
		{"IPAddressPool", config.KindIPAddressPool, metalLBPool},
		{"L2Advertisement", config.KindL2Advertisement, metalLBL2},
		{"BGPAdvertisement", config.KindBGPAdvertisement, metalLBBGP},
		{"BGPPeer", config.KindBGPPeer, metalLBPeer},
		{"BFDProfile", config.KindBFDProfile, metalLBBFD},
		{"Community", config.KindCommunity, metalLBCommunity},
		{"AddressPool", "IPAddressPool, and L2Advertisement or BGPAdvertisement", addressPool},
		{"The ConfigMap of releases before 0.13", "all of these", metalLBConfigMap},
		{"An entry of its address-pools", "IPAddressPool, and L2Advertisement or BGPAdvertisement", mapPool},
		{"An entry of bgp-advertisements of an address pool", config.KindBGPAdvertisement, mapAdvertisement},
		{"An entry of its peers", config.KindBGPPeer, mapPeer},
		{"An entry of its bfd-profiles", config.KindBFDProfile, mapBFD},
	},
	object: (*conversion).metalLB,
	finish: (*conversion).resolveAliases,
	notes:  metalLBNotes,
}

var (
	configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	services   = schema.GroupVersionResource{Version: "v1", Resource: "services"}
)

func metalLBResource(version, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "metallb.io", Version: version, Resource: resource}
}

const prefixesSay = "a prefix with bits set beyond its length is written without them"

var (
	metalLBPool = append([]rule{{from: "spec.addresses", to: "spec.addresses", how: prefixes, say: prefixesSay}},
		same("spec.autoAssign", "spec.avoidBuggyIPs", "spec.serviceAllocation.priority", "spec.serviceAllocation.namespaces",
			"spec.serviceAllocation.namespaceSelectors", "spec.serviceAllocation.serviceSelectors")...)

	metalLBL2 = append(same("spec.ipAddressPools", "spec.ipAddressPoolSelectors", "spec.nodeSelectors", "spec.serviceSelectors", "spec.preferredNodeSelectors"),
		rule{from: "spec.interfaces", to: "spec.interfaces",
			say: "left out, MetalLB answers on every interface of a node, Herald on those whose subnet holds the address"})

	metalLBBGP = append(same("spec.ipAddressPools", "spec.ipAddressPoolSelectors", "spec.nodeSelectors", "spec.serviceSelectors",
		"spec.peers", "spec.aggregationLength", "spec.aggregationLengthV6"),
		rule{from: "spec.localPref", to: "spec.localPref", how: unlessZero, say: "0 is MetalLB's word for none"},
		rule{from: "spec.communities", to: "spec.communities", say: "a name that no Community of Herald's can give is replaced by its value"})

	metalLBPeer = append(same("spec.myASN", "spec.dynamicASN", "spec.peerAddress", "spec.interface", "spec.sourceAddress",
		"spec.routerID", "spec.nodeSelectors", "spec.bfdProfile"),
		rule{from: "spec.peerASN", to: "spec.peerASN", how: unlessZero, say: "0 is MetalLB's word for none"},
		rule{from: "spec.peerPort", to: "spec.peerPort", how: unlessZero, say: "0 is MetalLB's word for 179"},
		rule{from: "spec.holdTime", to: "spec.holdTime", how: seconds, say: "whole seconds; in v1beta1 0s is MetalLB's word for 90s"},
		rule{from: "spec.keepaliveTime", to: "spec.keepaliveTime", how: keepalive, say: "whole seconds; left out when it is more than a third of holdTime"},
		rule{from: "spec.connectTime", to: "spec.connectTime", how: seconds, say: "whole seconds"},
		rule{from: "spec.ebgpMultiHop", to: "spec.ebgpMultiHop", how: unlessZero,
			say: "without FRR, MetalLB reaches distant peers without it too; Herald does not"},
		rule{from: "spec.enableGracefulRestart", to: "spec.gracefulRestart.enabled", how: unlessZero},
		rule{from: "spec.dualStackAddressFamily", to: "spec.families", how: bothFamilies, say: "both families"},
		rule{from: "spec.disableMP", level: NotNeeded, say: "a peer is told routes of its own address's family alone, unless families says otherwise"},
		rule{from: "spec.password", to: "spec.passwordSecret.name", how: passwordSecret, say: "the name of a Secret that you create; the password is not repeated"},
		rule{from: "spec.passwordSecret.name", to: "spec.passwordSecret.name", level: Check,
			say: "Herald reads the Secret in its own namespace: create it there with the same key password"},
		rule{from: "spec.passwordSecret.namespace", level: NotNeeded, say: "Herald reads Secrets of its own namespace alone"},
		rule{from: "spec.vrf", to: "spec.disabled", how: always, level: Check,
			say: "Herald has no VRFs, so the peer is written as disabled: remove disabled when the router can be reached without the VRF, or with sourceInterface"})

	metalLBBFD = append(same("spec.receiveInterval", "spec.transmitInterval", "spec.detectMultiplier", "spec.passiveMode", "spec.minimumTtl"),
		rule{from: "spec.echoMode", level: NoEqual, say: "Herald's BFD is asynchronous, without echo: shorten the intervals when failures must be seen sooner"},
		rule{from: "spec.echoInterval", level: NotNeeded, say: "there is no echo"})

	metalLBCommunity = []rule{{from: "spec.communities", to: "spec.communities", how: aliases,
		say: "a name of a well-known community that stands for it is left out, since it is known; another name that Herald cannot use is left out, and its value stands in the advertisements"}}

	metalLBNotes = []rule{
		{from: "metallb.io/address-pool", say: "read as it is; heraldlb.io/address-pool is added where the pool has another name now"},
		{from: "metallb.io/loadBalancerIPs", say: "read as it is"},
		{from: "metallb.io/allow-shared-ip", say: "read as it is; heraldlb.io/allow-shared-namespaces is added where Services of several namespaces have the key"},
		{from: "metallb.io/ip-allocated-from-pool", say: "MetalLB's own"},
		{from: "metallb.universe.tf/address-pool", say: "as metallb.io/address-pool"},
		{from: "metallb.universe.tf/loadBalancerIPs", say: "as metallb.io/loadBalancerIPs"},
		{from: "metallb.universe.tf/allow-shared-ip", say: "as metallb.io/allow-shared-ip"},
		{from: "metallb.universe.tf/ip-allocated-from-pool", say: "MetalLB's own"},
	}
)

// statuses are the kinds in which MetalLB tells and asks nothing.
var statuses = []string{"ServiceL2Status", "ServiceBGPStatus", "BGPSessionState", "ConfigurationState", "ConfigurationStatus", "FRRNodeState", "FRRK8sConfiguration"}

// metalLB converts one of MetalLB's objects.
func (c *conversion) metalLB(s *source) {
	line := s.node.Line
	if s.kind == "ConfigMap" {
		c.metalLBConfigMap(s)
		return
	}
	switch ours := strings.HasSuffix(s.group, "metallb.io"); {
	case !ours:
		c.foreign(s)
	case slices.Contains(statuses, s.kind):
		c.tell(s, line, "", NotNeeded, "it tells what MetalLB did; Herald writes what it does into objects of its own")
	case s.kind == "FRRConfiguration":
		c.tell(s, line, "", NoEqual, "Herald speaks BGP by itself, without FRR: keep an FRR of your own for what this asks for beyond announcing Services")
	case strings.HasPrefix(s.kind, "OSPF"):
		c.tell(s, line, "", NoEqual, "Herald speaks no OSPF: announce the pools with BGP, or with ARP and NDP")
	case s.kind == "AddressPool":
		c.addressPool(s)
	default:
		at := slices.IndexFunc(c.product.tables[:6], func(t table) bool { return t.title == s.kind })
		if at < 0 {
			c.tell(s, line, "", Refused, "this kind is not known: see what it does, and whether Herald has something like it")
			return
		}
		c.metalLBObject(s, c.product.tables[at])
	}
}

// foreign tells of an object that is not the product's.
func (c *conversion) foreign(s *source) {
	c.tell(s, s.node.Line, "", NotNeeded, "it is no configuration of %s, so it was left alone", c.product.Title)
}

func (c *conversion) metalLBObject(s *source, t table) {
	d := c.draft(s, t.to, s.name)
	if s.kind == config.KindIPAddressPool {
		c.keepLabels(s, d)
	}
	if spec := child(s.node, "spec"); spec != nil {
		c.apply(s, d, spec, "spec.", t.rules)
	}
	if s.kind == config.KindL2Advertisement && d.get("interfaces") == nil {
		c.everyInterface(s, s.node.Line)
	}
}

// keepLabels takes over the labels of a pool, since advertisements select by them.
func (c *conversion) keepLabels(s *source, d *draft) {
	node := child(s.node, "metadata", "labels")
	if node == nil {
		return
	}
	if err := node.Decode(&d.labels); err != nil {
		c.tell(s, node.Line, "metadata.labels", Refused, "the labels cannot be read: %v", err)
	}
}

func (c *conversion) everyInterface(s *source, line int) {
	c.tell(s, line, "spec.interfaces", Check,
		"it names no interface: MetalLB then answers on every one of a node, Herald on those whose subnet holds the address. Name the interfaces if the nodes have no address in the pools' subnets")
}

// prefixes writes prefixes as Herald wants them: 198.51.100.10/24 is 198.51.100.0/24 for MetalLB.
func prefixes(f *field) any {
	list, ok := f.value.([]any)
	if !ok {
		return f.value
	}
	out := make([]any, len(list))
	for i, entry := range list {
		out[i] = entry
		if prefix, err := netip.ParsePrefix(strings.TrimSpace(fmt.Sprint(entry))); err == nil && prefix != prefix.Masked() {
			out[i] = prefix.Masked().String()
		}
	}
	return out
}

// seconds cuts a time to whole seconds, as MetalLB does.
func seconds(f *field) any {
	d, err := time.ParseDuration(fmt.Sprint(f.value))
	if err != nil {
		return f.value
	}
	if d == 0 && strings.HasSuffix(text(f.s.node, "apiVersion"), "/v1beta1") {
		return nil // the API server writes a time down that nobody gave
	}
	return d.Truncate(time.Second).String()
}

// keepalive leaves a keepalive time out that Herald would refuse.
func keepalive(f *field) any {
	value := seconds(f)
	d, err := time.ParseDuration(fmt.Sprint(value))
	if value == nil || err != nil {
		return value
	}
	if d == 0 {
		return nil
	}
	hold, err := time.ParseDuration(siblingText(f, "holdTime", "hold-time"))
	if err != nil || hold == 0 {
		hold = 90 * time.Second
	}
	if 3*d.Truncate(time.Second) > hold {
		f.tell(Check, "%v is more than a third of the hold time (%v), which Herald takes instead", d, hold)
		return nil
	}
	return value
}

// siblingText is the text of the first of these keys that stands beside the field.
func siblingText(f *field, keys ...string) string {
	for _, node := range []*yaml.Node{child(f.s.node, "spec"), f.s.node} {
		for _, key := range keys {
			if node != nil && text(node, key) != "" {
				return text(node, key)
			}
		}
	}
	return ""
}

func always(*field) any { return true }

func bothFamilies(f *field) any {
	if zero(f.value) {
		return nil
	}
	return []any{"IPv4", "IPv6"}
}

// passwordSecret names a Secret to be made for a password that stood in the open.
func passwordSecret(f *field) any {
	name := f.d.name + "-password"
	f.tell(Check, "Herald reads passwords from Secrets alone: kubectl -n herald-system create secret generic %s --from-literal=password=...", name)
	return name
}
