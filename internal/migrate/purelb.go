package migrate

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/service"
)

// pureLB covers the APIs purelb.io/v1 and v2.
var pureLB = Product{
	Name:  "purelb",
	Title: "PureLB",
	Resources: []Resource{
		{GroupVersionResource: schema.GroupVersionResource{Group: "purelb.io", Version: "v2", Resource: "servicegroups"}},
		{GroupVersionResource: schema.GroupVersionResource{Group: "purelb.io", Version: "v2", Resource: "lbnodeagents"}},
		{GroupVersionResource: schema.GroupVersionResource{Group: "purelb.io", Version: "v1", Resource: "servicegroups"}},
		{GroupVersionResource: schema.GroupVersionResource{Group: "purelb.io", Version: "v1", Resource: "lbnodeagents"}},
		{GroupVersionResource: services},
	},
	tables: []table{
		{"ServiceGroup", "IPAddressPool", pureLBGroup},
		{"LBNodeAgent", "L2Advertisement for all local groups", pureLBAgent},
	},
	object: (*conversion).pureLB,
	finish: (*conversion).pureLBAnnouncements,
	notes: []rule{
		{from: "purelb.io/service-group", to: service.AnnotationAddressPool},
		{from: "purelb.io/addresses", to: service.AnnotationAddresses},
		{from: "purelb.io/allow-shared-ip", to: service.AnnotationAllowSharedIP, say: "heraldlb.io/allow-shared-namespaces is added where Services of several namespaces have the key"},
		{from: "purelb.io/allow-local", level: NotNeeded, say: "with externalTrafficPolicy Local, only a node with an endpoint announces the address"},
		{from: "purelb.io/multi-pool", level: NoEqual, say: "a Service has one address of each family: make a Service for each address"},
		{from: "purelb.io/allocated-by", say: "PureLB's own"},
		{from: "purelb.io/allocated-from", say: "PureLB's own"},
		{from: "purelb.io/pool-type", say: "PureLB's own"},
		{from: "purelb.io/skip-ipv6-dad", say: "PureLB's own"},
		{from: "purelb.io/announcing", say: "PureLB's own"},
		{from: "purelb.io/announcing-IPv4", say: "PureLB's own"},
		{from: "purelb.io/announcing-IPv6", say: "PureLB's own"},
	},
}

var (
	pureLBGroup = slices.Concat(
		[]rule{
			{from: "metadata.name", to: "metadata.name", say: "a group that is neither default nor for certain namespaces gets autoAssign: false"},
			{from: "spec.namespaces", to: "spec.serviceAllocation.namespaces", level: Check,
				say: "the pool is for these namespaces alone, also where a Service names it; to let others in, add them"},
			{from: "spec.enforceNamespaces", level: NotNeeded, say: "serviceAllocation of a pool always holds"},
			{from: "spec.namespaceDefault", level: NoEqual, say: "where several pools are for a namespace, set serviceAllocation.priority, or autoAssign: false on those to be named"},
		},
		pureLBRanges("spec.local."), pureLBRanges("spec.remote."),
		[]rule{
			{from: "spec.local.pool", to: "spec.addresses", how: oldRange},
			{from: "spec.local.subnet", level: NotNeeded, say: subnetSay},
			{from: "spec.local.aggregation", how: aggregation},
			{from: "spec.local.skipIPv6DAD", level: NotNeeded, say: "Herald puts no address on an interface"},
			{from: "spec.netbox", level: Refused, say: externalSay},
			{from: "spec.external", level: Refused, say: externalSay},
			{from: "spec.epic", level: Refused, say: externalSay},
		})

	pureLBPool = []rule{
		{from: "pool", how: addRange},
		{from: "subnet", level: NotNeeded, say: subnetSay},
		{from: "aggregation", how: aggregation},
	}

	pureLBAgent = []rule{
		{from: "spec.nodeSelector", to: "spec.nodeSelectors", how: inList},
		{from: "spec.local.localInterface", to: "spec.interfaces", how: interfaces, say: "default: left out; a regular expression becomes a pattern where there is one"},
		{from: "spec.local.localint", to: "spec.interfaces", how: interfaces, say: "as localInterface"},
		{from: "spec.local.dummyInterface", level: NotNeeded, say: "Herald puts no address on an interface"},
		{from: "spec.local.extlbint", level: NotNeeded, say: "Herald puts no address on an interface"},
		{from: "spec.local.interfaces", level: NotNeeded, say: "Herald looks at the subnets of all interfaces"},
		{from: "spec.local.sendgarp", level: NotNeeded, say: "a new owner always announces itself"},
		{from: "spec.local.garpConfig", level: NotNeeded, say: "a new owner always announces itself, repeats it, and keeps below a rate"},
		{from: "spec.local.addressConfig", level: NotNeeded, say: "Herald puts no address on an interface"},
		{from: "spec.epic", level: NoEqual, say: "Herald works with no gateway of that kind"},
	}
)

const (
	subnetSay   = "Herald knows the subnets of the nodes' interfaces"
	externalSay = "Herald gives addresses of its own pools alone: write an IPAddressPool with a range that the other system leaves to it"
)

// pureLBRanges are the fields that local and remote groups have in common.
func pureLBRanges(prefix string) []rule {
	var out []rule
	for _, key := range []string{"v4pool", "v6pool"} {
		out = append(out, rule{from: prefix + key, how: poolOf, say: "pool becomes an entry of spec.addresses; subnet is not needed; for aggregation set aggregationLength in the BGPAdvertisement"})
	}
	for _, key := range []string{"v4pools", "v6pools"} {
		out = append(out, rule{from: prefix + key, how: poolsOf, say: "as v4pool and v6pool, each"})
	}
	return append(out,
		rule{from: prefix + "multiPool", level: NoEqual, say: "a Service has one address of each family"},
		rule{from: prefix + "balancePools", level: NoEqual, say: "addresses are given from the lowest on: make a pool of each range to steer it by hand"})
}

func (c *conversion) pureLB(s *source) {
	spec := child(s.node, "spec")
	switch {
	case s.group != "purelb.io":
		c.foreign(s)
	case spec == nil:
		c.tell(s, s.node.Line, "spec", Refused, "there is no spec")
	case s.kind == "ServiceGroup":
		c.serviceGroup(s, spec)
	case s.kind == "LBNodeAgent":
		d := c.draft(s, config.KindL2Advertisement, s.name)
		c.apply(s, d, spec, "spec.", pureLBAgent)
	default:
		c.tell(s, s.node.Line, "", Refused, "this kind is not known: see what it does, and whether Herald has something like it")
	}
}

func (c *conversion) serviceGroup(s *source, spec *yaml.Node) {
	d := c.draft(s, config.KindIPAddressPool, s.name)
	c.keepLabels(s, d)
	before := len(c.findings)
	c.apply(s, d, spec, "spec.", pureLBGroup)
	if d.get("addresses") == nil {
		c.drafts = c.drafts[:len(c.drafts)-1]
		if !slices.ContainsFunc(c.findings[before:], func(f Finding) bool { return f.Level == Refused }) {
			c.tell(s, s.node.Line, "spec", Refused, "the group has no addresses, so no pool was made of it")
		}
		return
	}
	// PureLB serves a Service that names no group from the one called default.
	if s.name != "default" && d.get("serviceAllocation.namespaces") == nil {
		d.set("spec.autoAssign", false, s.node.Line)
	}
	if child(spec, "remote") != nil {
		c.remote = append(c.remote, d)
		return
	}
	c.local = append(c.local, d)
	if text(s.node, "apiVersion") == "purelb.io/v1" {
		c.tell(s, s.node.Line, "spec.local", Check, "it is announced with ARP and NDP. If its addresses are in no subnet of the nodes, a routing daemon announced them for PureLB: write a BGPAdvertisement for the pool and a BGPPeer for each router")
	}
}

// pureLBAnnouncements has the local groups announced as the agents say, and the remote ones to every router.
func (c *conversion) pureLBAnnouncements() {
	agents := slices.DeleteFunc(slices.Clone(c.drafts), func(d *draft) bool { return d.kind != config.KindL2Advertisement })
	switch {
	case len(c.local) == 0:
		c.drafts = slices.DeleteFunc(c.drafts, func(d *draft) bool { return d.kind == config.KindL2Advertisement })
	case len(agents) == 0:
		agents = []*draft{c.draft(c.local[0].from, config.KindL2Advertisement, "default")}
	case len(agents) > 1:
		c.tell(agents[0].from, agents[0].from.node.Line, "", Check, "of several agents PureLB goes by the one that selects a node best; here each becomes an L2Advertisement, and they add up: check their nodeSelectors")
	}
	for _, d := range agents {
		d.set("spec.ipAddressPools", names(c.local), d.from.node.Line)
	}
	if len(c.remote) > 0 {
		first := c.remote[0].from
		d := c.draft(first, config.KindBGPAdvertisement, "remote")
		d.set("spec.ipAddressPools", names(c.remote), first.node.Line)
		c.tell(first, first.node.Line, "spec.remote", Check, "a routing daemon beside PureLB announced remote groups; now the BGPAdvertisement remote does: write a BGPPeer for each router")
	}
}

func names(pools []*draft) any {
	var out []any
	for _, d := range pools {
		out = append(out, d.name)
	}
	return out
}

func poolOf(f *field) any {
	f.c.apply(f.s, f.d, f.node, "", pureLBPool)
	return nil
}

func poolsOf(f *field) any {
	for _, entry := range f.node.Content {
		f.c.apply(f.s, f.d, resolve(entry), "", pureLBPool)
	}
	return nil
}

// addRange adds a prefix or range to the pool's addresses.
func addRange(f *field) any {
	list, _ := f.d.get("addresses").([]any)
	f.d.set("spec.addresses", append(list, pureLBRange(f)), f.node.Line)
	return nil
}

func oldRange(f *field) any { return []any{pureLBRange(f)} }

func pureLBRange(f *field) any {
	f.value = []any{f.value}
	return prefixes(f).([]any)[0]
}

// aggregation tells of prefixes that a routing daemon made of the addresses. Whole addresses are what Herald announces
// by itself, and the default of local groups matters to nobody but the interface.
func aggregation(f *field) any {
	length, err := strconv.Atoi(strings.TrimPrefix(fmt.Sprint(f.value), "/"))
	local := child(f.s.node, "spec", "local") != nil
	if err == nil && (length == 32 || length == 128) || local && f.value == "default" {
		return nil
	}
	f.tell(Check, "%v: a routing daemon announced prefixes; Herald announces each address by itself. If the routers want prefixes, set aggregationLength or aggregationLengthV6 in the BGPAdvertisement, and give the pool whole ones", f.value)
	return nil
}

func inList(f *field) any { return []any{f.value} }

var plainInterface = regexp.MustCompile(`^\^?([A-Za-z0-9_-]+)(\.\*)?\$?$`)

// interfaces makes a pattern of a regular expression: eth.* is eth*.
func interfaces(f *field) any {
	value := fmt.Sprint(f.value)
	if value == "default" {
		return nil
	}
	m := plainInterface.FindStringSubmatch(value)
	if m == nil {
		f.tell(NoEqual, "the regular expression %q is no pattern as a shell knows it: write spec.interfaces of the L2Advertisement, such as eth* or bond[0-3]", value)
		return nil
	}
	if m[2] != "" {
		return []any{m[1] + "*"}
	}
	return []any{m[1]}
}
