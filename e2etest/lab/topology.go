package lab

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// MaxNodes is how many nodes the LAN's numbering has room for.
const MaxNodes = 9

// The networks of every lab. They are the same in all labs, which never meet. Documentation ranges stand for
// networks that people would have routable addresses on, private ones for what lives inside the cluster.
var (
	LAN4    = netip.MustParsePrefix("192.0.2.0/24")
	LAN6    = netip.MustParsePrefix("2001:db8:1::/64")
	Remote4 = netip.MustParsePrefix("198.51.100.0/24")
	Remote6 = netip.MustParsePrefix("2001:db8:2::/64")

	pods4     = netip.MustParsePrefix("10.244.0.0/16")
	pods6     = netip.MustParsePrefix("fd00:10:244::/48")
	services4 = netip.MustParsePrefix("10.96.0.0/16")
	services6 = netip.MustParsePrefix("fd00:10:96::/112")
)

// The first addresses of the Service ranges belong to the Service "kubernetes".
var (
	apiService4 = services4.Addr().Next()
	apiService6 = services6.Addr().Next()
)

// The hosts of every lab beside its nodes.
const (
	Switch = "sw"     // the LAN's switch; it has ports and no address
	Router = "router" // between the LAN and the remote network
	Client = "client" // a machine on the LAN that is no part of the cluster
	Remote = "remote" // a machine behind the router
	CP     = "cp"     // the control plane
)

// Host is a machine of the lab: network, mount, process and host name namespaces of its own.
type Host struct {
	Name string
	// MAC is that of eth0; IPv4 and IPv6 are its addresses there. The switch has none of them.
	MAC        net.HardwareAddr
	IPv4, IPv6 netip.Addr
}

// nodeName is the name of the i-th node, counted from 1.
func nodeName(i int) string { return fmt.Sprintf("n%d", i) }

func nodeNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = nodeName(i + 1)
	}
	return names
}

// topology lists all hosts of a lab with n nodes, the switch first.
func topology(n int) []Host {
	hosts := []Host{
		{Name: Switch},
		onLAN(Router, 1),
		onLAN(Client, 2),
		onLAN(CP, 10),
		{Name: Remote, MAC: mac(2, 2), IPv4: nth(Remote4, 2), IPv6: nth(Remote6, 2)},
	}
	for i, name := range nodeNames(n) {
		hosts = append(hosts, onLAN(name, 11+i))
	}
	return hosts
}

func onLAN(name string, number int) Host {
	return Host{Name: name, MAC: mac(1, number), IPv4: nth(LAN4, number), IPv6: nth(LAN6, number)}
}

// onSwitch tells whether the host has a port at the LAN's switch.
func (h Host) onSwitch() bool { return h.Name != Switch && LAN4.Contains(h.IPv4) }

// isNode tells whether the host is a node of the cluster.
func (h Host) isNode() bool { return isNodeName(h.Name) }

func isNodeName(name string) bool {
	return len(name) == 2 && name[0] == 'n' && name[1] >= '1' && name[1] <= '0'+MaxNodes
}

// number is what distinguishes the host's addresses on its network: 11 for n1.
func (h Host) number() int { return int(h.IPv4.As4()[3]) }

// podPrefixes are the ranges from which a node's pods get their addresses.
func (h Host) podPrefixes() (v4, v6 netip.Prefix) {
	i := byte(h.number() - 10)
	a4 := pods4.Addr().As4()
	a4[2] = i
	a6 := pods6.Addr().As16()
	a6[7] = i
	return netip.PrefixFrom(netip.AddrFrom4(a4), 24), netip.PrefixFrom(netip.AddrFrom16(a6), 64)
}

// mac makes a locally administered address that reads like the host's number: 02:00:00:00:01:11 is n1's.
func mac(network, number int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0, 0, 0, byte(network), byte(number/10<<4 | number%10)}
}

// nth is the address that a network has for a number. In IPv6 the number's decimal digits are the last group, so
// that 192.0.2.11 and 2001:db8:1::11 are one host.
func nth(p netip.Prefix, number int) netip.Addr {
	if p.Addr().Is4() {
		b := p.Addr().As4()
		b[3] = byte(number)
		return netip.AddrFrom4(b)
	}
	b := p.Addr().As16()
	b[15] = byte(number/10<<4 | number%10)
	return netip.AddrFrom16(b)
}

// route is a static route of a host.
type route struct {
	to  netip.Prefix
	via netip.Addr
}

// routes are what a host needs beside its connected networks. Every host has a default route, without which a
// node would have no route for the Service ranges and so never reach the point where kube-proxy translates them.
func routes(h Host, hosts []Host) []route {
	if h.Name == Switch {
		return nil
	}
	var rs []route
	if h.Name != Router {
		gw4, gw6 := nth(LAN4, 1), nth(LAN6, 1)
		if h.Name == Remote {
			gw4, gw6 = nth(Remote4, 1), nth(Remote6, 1)
		}
		rs = append(rs,
			route{netip.PrefixFrom(netip.IPv4Unspecified(), 0), gw4},
			route{netip.PrefixFrom(netip.IPv6Unspecified(), 0), gw6})
	}
	if h.Name == Router || h.Name == CP || h.isNode() {
		for _, n := range hosts {
			if n.isNode() && n.Name != h.Name {
				p4, p6 := n.podPrefixes()
				rs = append(rs, route{p4, n.IPv4}, route{p6, n.IPv6})
			}
		}
	}
	return rs
}

// sysctls are set inside the host's network namespace, in this order, before it gets an interface. What a
// namespace starts with depends on the machine, so everything that matters is here.
func sysctls(h Host) [][2]string {
	forward := "0"
	if h.Name == Router || h.isNode() {
		forward = "1"
	}
	s := [][2]string{
		{"net/ipv4/ip_forward", forward},
		{"net/ipv6/conf/all/forwarding", forward},
		{"net/ipv6/conf/default/forwarding", forward},
	}
	for _, conf := range []string{"all", "default"} {
		s = append(s,
			[2]string{"net/ipv6/conf/" + conf + "/disable_ipv6", "0"},
			// Addresses must be usable at once, and be these and no others.
			[2]string{"net/ipv6/conf/" + conf + "/accept_dad", "0"},
			[2]string{"net/ipv6/conf/" + conf + "/accept_ra", "0"},
			[2]string{"net/ipv6/conf/" + conf + "/autoconf", "0"},
			// Replies may come another way than questions went, as they do behind a load balancer.
			[2]string{"net/ipv4/conf/" + conf + "/rp_filter", "0"},
			[2]string{"net/ipv4/conf/" + conf + "/send_redirects", "0"},
			[2]string{"net/ipv4/conf/" + conf + "/arp_ignore", "0"},
			[2]string{"net/ipv4/conf/" + conf + "/arp_announce", "0"},
		)
	}
	if h.Name == Router {
		// Of several next hops each connection goes to one, and not all of a client's to the same.
		s = append(s, [2]string{"net/ipv4/fib_multipath_hash_policy", "1"}, [2]string{"net/ipv6/fib_multipath_hash_policy", "1"})
	}
	if h.Name == Switch {
		// A switch forwards frames and looks into none of them.
		for _, file := range bridgeFilter {
			s = append(s, [2]string{file, "0"})
		}
	}
	if h.isNode() {
		// Pods of one node reach each other through a Service only when bridged packets pass conntrack.
		for _, file := range bridgeFilter {
			s = append(s, [2]string{file, "1"})
		}
	}
	return s
}

var bridgeFilter = []string{"net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"}

// partitionRules is an nftables script for the switch that drops every frame between hosts of different groups.
// A host in no group goes on talking to all. Without groups the script lifts any partition.
func partitionRules(groups [][]string) string {
	var b strings.Builder
	// Adding before deleting makes the deletion work when there is no such table yet.
	b.WriteString("add table bridge herald_lab\ndelete table bridge herald_lab\n")
	if len(groups) == 0 {
		return b.String()
	}
	b.WriteString("table bridge herald_lab {\n\tchain forward {\n\t\ttype filter hook forward priority 0; policy accept;\n")
	for i, from := range groups {
		for j, to := range groups {
			if i != j {
				fmt.Fprintf(&b, "\t\tiifname { %s } oifname { %s } drop\n", ports(from), ports(to))
			}
		}
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}

// ports lists the switch's ports of the hosts; a port is named like the host that is plugged in there.
func ports(hosts []string) string {
	quoted := make([]string, len(hosts))
	for i, h := range hosts {
		quoted[i] = fmt.Sprintf("%q", h)
	}
	return strings.Join(quoted, ", ")
}

// checkGroups refuses groups that make no partition of the hosts at the switch.
func checkGroups(groups [][]string, hosts []Host) error {
	if len(groups) < 2 {
		return fmt.Errorf("partition: %d groups; name at least two, as in n1,n2|n3", len(groups))
	}
	var seen []string
	for _, g := range groups {
		if len(g) == 0 {
			return fmt.Errorf("partition: a group is empty; name hosts on both sides, as in n1,n2|n3")
		}
		for _, name := range g {
			i := slices.IndexFunc(hosts, func(h Host) bool { return h.Name == name && h.onSwitch() })
			if i < 0 {
				return fmt.Errorf("partition: no host %q on the LAN; it has %s", name, strings.Join(switchPorts(hosts), ", "))
			}
			if slices.Contains(seen, name) {
				return fmt.Errorf("partition: host %s is in two groups; a host can be on one side only", name)
			}
			seen = append(seen, name)
		}
	}
	return nil
}

func switchPorts(hosts []Host) []string {
	var names []string
	for _, h := range hosts {
		if h.onSwitch() {
			names = append(names, h.Name)
		}
	}
	return names
}
