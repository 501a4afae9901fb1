package migrate

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"go4.org/netipx"

	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/service"
)

// kubeVIP covers the ConfigMap of kube-vip-cloud-provider, which gives the addresses, and the annotations of kube-vip,
// which announces them.
var kubeVIP = Product{
	Name:  kubeVIPName,
	Title: kubeVIPName,
	Resources: []Resource{
		{GroupVersionResource: configMaps, Namespace: "kube-system", Name: "kubevip"},
		{GroupVersionResource: services},
	},
	tables: []table{{"The ConfigMap", "IPAddressPool and L2Advertisement", kubeVIPMap}},
	object: (*conversion).kubeVIP,
	notes: []rule{
		{from: "kube-vip.io/loadbalancerIPs", to: service.AnnotationAddresses, how: noDHCP, say: "with heraldlb.io/allow-shared-ip where several Services have the address"},
		{from: "kube-vip.io/serviceInterface", level: NoEqual, say: "write an L2Advertisement with serviceSelectors and interfaces"},
		{from: "kube-vip.io/ignore", level: NoEqual, say: "a Service that Herald is to leave alone has another spec.loadBalancerClass"},
		{from: "kube-vip.io/loadbalancerHostname", level: NoEqual, say: "Herald asks no DHCP server: give the Service an address of a pool"},
		{from: "kube-vip.io/requestedIP", level: NoEqual, say: "Herald asks no DHCP server: give the Service an address of a pool"},
		{from: "kube-vip.io/egress", level: NoEqual, say: "Herald does not change where pods' own traffic comes from: use the egress gateway of the network plugin"},
		{from: "kube-vip.io/forwardUPNP", level: NoEqual, say: "forward the port on the router"},
		{from: "kube-vip.io/ignore-service-security", level: NotNeeded, say: "Herald drops no traffic"},
		{from: "kube-vip.io/rp_filter", level: NotNeeded, say: "Herald puts no address on an interface"},
		{from: "kube-vip.io/flush-conntrack", level: NotNeeded, say: "it belongs to egress"},
		{from: "kube-vip.io/leaseName", level: NotNeeded, say: "owners are agreed on by gossip, without Leases"},
		{from: "kube-vip.io/hwaddr", say: "kube-vip's own"},
		{from: "kube-vip.io/vipHost", say: "kube-vip's own"},
		{from: "kube-vip.io/active-endpoint", say: "kube-vip's own"},
		{from: "kube-vip.io/active-endpoint-ipv6", say: "kube-vip's own"},
	},
}

// kubeVIPMap is for the documentation: the keys end in names of namespaces, so code reads them.
var kubeVIPMap = []rule{
	{from: "data.cidr-global", to: "spec.addresses", say: "IPAddressPool global; an IPv4 prefix without its first and last address, as a range"},
	{from: "data.cidr-NAMESPACE", to: "spec.addresses", say: "IPAddressPool NAMESPACE, with serviceAllocation.namespaces. When it is exhausted, Services of the namespace are served from pools that are open to all"},
	{from: "data.range-global", to: "spec.addresses", say: "IPAddressPool global; left out where there is cidr-global, since that goes first"},
	{from: "data.range-NAMESPACE", to: "spec.addresses", say: "IPAddressPool NAMESPACE; left out where there is cidr-global or cidr-NAMESPACE, since these go first"},
	{from: "data.interface-global", to: "spec.interfaces", say: "of the L2Advertisement of each pool without one of its own"},
	{from: "data.interface-NAMESPACE", to: "spec.interfaces", say: "of the L2Advertisement NAMESPACE"},
	{from: "data.allow-share-global", level: Check, say: shareSay},
	{from: "data.allow-share-NAMESPACE", level: Check, say: shareSay},
	{from: "data.search-order", level: NoEqual, say: orderSay},
}

const (
	kubeVIPName = "kube-vip-cloud-provider"
	globalPool  = "global"
	shareSay    = "Services that share an address now get heraldlb.io/allow-shared-ip; new ones need it too"
	orderSay    = "addresses are given from the lowest on"
)

// entry is one key of the ConfigMap: what it is about, for which namespace, and its value.
type entry struct {
	key, value string
	line       int
}

func (c *conversion) kubeVIP(s *source) {
	if s.kind != "ConfigMap" || s.group != "" {
		c.foreign(s)
		return
	}
	byKind := map[string]map[string]entry{"cidr": {}, "range": {}, "interface": {}, "allow-share": {}}
	data := child(s.node, "data")
	if data == nil || data.Kind != yaml.MappingNode {
		c.foreign(s)
		return
	}
	for i := 0; i+1 < len(data.Content); i += 2 {
		e := entry{data.Content[i].Value, resolve(data.Content[i+1]).Value, data.Content[i].Line}
		c.sortKey(s, byKind, e)
	}
	c.kubeVIPPools(s, byKind)
}

// sortKey files an entry under its kind and namespace, or tells that it stands for nothing.
func (c *conversion) sortKey(s *source, byKind map[string]map[string]entry, e entry) {
	for kind := range byKind {
		if namespace, ok := strings.CutPrefix(e.key, kind+"-"); ok && namespace != "" {
			byKind[kind][namespace] = e
			if kind == "allow-share" && e.value == "true" {
				c.tell(s, e.line, "data."+e.key, Check, shareSay)
			}
			return
		}
	}
	if e.key == "search-order" {
		if e.value == "desc" {
			c.tell(s, e.line, "data."+e.key, NoEqual, orderSay)
		}
		return
	}
	c.tell(s, e.line, "data."+e.key, NoEqual, "this key is not known, so nothing became of it")
}

// kubeVIPPools makes a pool and its L2Advertisement of each namespace's addresses, those that are in use: a prefix goes
// before a range, be it the namespace's or the global one.
func (c *conversion) kubeVIPPools(s *source, byKind map[string]map[string]entry) {
	cidr, ranges := byKind["cidr"], byKind["range"]
	used := maps.Clone(cidr)
	_, globalPrefix := cidr[globalPool]
	for _, namespace := range slices.Sorted(maps.Keys(ranges)) {
		e := ranges[namespace]
		if _, prefix := cidr[namespace]; prefix || globalPrefix {
			c.tell(s, e.line, "data."+e.key, NotNeeded, "%s never looked at it, since a cidr key goes first", c.product.Title)
			continue
		}
		used[namespace] = e
	}
	for _, namespace := range slices.Sorted(maps.Keys(used)) {
		e := used[namespace]
		addresses := c.kubeVIPAddresses(s, e)
		if addresses == nil {
			continue
		}
		pool := c.draft(s, config.KindIPAddressPool, namespace)
		pool.set("spec.addresses", distinct(addresses), e.line)
		l2 := c.draft(s, config.KindL2Advertisement, namespace)
		l2.set("spec.ipAddressPools", []any{namespace}, e.line)
		if namespace != globalPool {
			pool.set("spec.serviceAllocation.namespaces", []any{namespace}, e.line)
		}
		for _, from := range []string{namespace, globalPool} {
			if one, ok := byKind["interface"][from]; ok && l2.get("interfaces") == nil {
				l2.set("spec.interfaces", []any{one.value}, one.line)
			}
		}
	}
	if len(used) > 0 {
		c.tell(s, s.node.Line, "", Check, "the ConfigMap does not say how kube-vip announces: with ARP it is as written here; with BGP write BGPPeers and BGPAdvertisements in place of the L2Advertisements")
	}
	if _, hasGlobal := used[globalPool]; hasGlobal && len(used) > 1 {
		c.tell(s, s.node.Line, "", Check, "a namespace with a pool of its own never got an address of the global one; with Herald it does when its own is exhausted")
	}
}

// kubeVIPAddresses reads prefixes and ranges between commas; nil when there is nothing to make a pool of.
func (c *conversion) kubeVIPAddresses(s *source, e entry) any {
	var out []any
	for one := range strings.SplitSeq(e.value, ",") {
		one = strings.TrimSpace(one)
		if one == "0.0.0.0/32" {
			c.tell(s, e.line, "data."+e.key, Refused, "Herald asks no DHCP server: write an IPAddressPool with addresses that the server leaves alone")
			return nil
		}
		out = append(out, hosts(one))
	}
	return out
}

// hosts writes an IPv4 prefix as the range without its first and last address, which the cloud provider never gave.
func hosts(entry string) string {
	prefix, err := netip.ParsePrefix(entry)
	switch {
	case err != nil:
		return entry
	case !prefix.Addr().Is4() || prefix.Bits() > 30:
		return prefix.Masked().String()
	}
	r := netipx.RangeOfPrefix(prefix)
	return r.From().Next().String() + "-" + r.To().Prev().String()
}

// noDHCP leaves the address out that stands for one of a DHCP server.
func noDHCP(f *field) any {
	if value, _ := f.value.(string); value == "0.0.0.0" || value == "::" {
		f.tell(NoEqual, "it has its address from a DHCP server, which Herald does not ask: it gets one of a pool")
		return nil
	}
	return f.value
}
