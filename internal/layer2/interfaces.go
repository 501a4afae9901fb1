package layer2

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"heraldlb.io/herald/internal/config"
)

// Interface is a network interface on which addresses can be announced now: it is up, has carrier, and at least one
// of its sockets works.
type Interface struct {
	Name string
	MAC  net.HardwareAddr

	// ARP and NDP tell which of the two protocols works here, and so which family can be announced.
	ARP, NDP bool

	// Subnets are the prefixes of the interface's own addresses, masked, sorted and without link-local ones.
	Subnets []netip.Prefix
}

// Scope says on which interfaces an address is announced, and for whom. The zero Scope is none.
type Scope struct {
	// BySubnet: on each interface with a subnet that holds the address.
	BySubnet bool
	// Interfaces: on these too, whatever their subnets. They are names and patterns (config.MatchInterface).
	Interfaces []string

	// Absent, when not empty, makes this node a stand-in: it answers with the MAC of an absent node, and announces
	// nothing by itself. These are that node's interfaces on which the address is announced.
	Absent []Absent
}

// Absent is an interface of a node in whose place another one answers.
type Absent struct {
	Name string
	MAC  net.HardwareAddr // unicast
}

// standIn returns the MAC to answer with on one of our interfaces: that of the absent node's interface of the same name,
// which most often is on the same link, else of its first one; nil when the address is this node's own.
func (s Scope) standIn(name string) net.HardwareAddr {
	if !s.isStandIn() {
		return nil
	}
	for _, a := range s.Absent {
		if a.Name == name {
			return a.MAC
		}
	}
	return s.Absent[0].MAC
}

// Includes tells whether the address belongs on the interface, which must speak its family's protocol.
func (s Scope) Includes(i Interface, addr netip.Addr) bool {
	if addr.Is4() && !i.ARP || addr.Is6() && !i.NDP {
		return false
	}
	if named(s.Interfaces, i.Name) {
		return true
	}
	return s.BySubnet && slices.ContainsFunc(i.Subnets, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func (s Scope) isStandIn() bool { return len(s.Absent) > 0 }

// Equal tells whether two scopes have an address announced or answered for in the same way.
func (s Scope) Equal(o Scope) bool {
	return s.BySubnet == o.BySubnet && slices.Equal(s.Interfaces, o.Interfaces) &&
		slices.EqualFunc(s.Absent, o.Absent, func(x, y Absent) bool { return x.Name == y.Name && bytes.Equal(x.MAC, y.MAC) })
}

func named(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return config.MatchInterface(p, name) })
}

// link is an interface of the node as the kernel lists it.
type link struct {
	index   int
	name    string
	mac     net.HardwareAddr
	subnets []netip.Prefix
}

func (l link) equal(o link) bool {
	return l.index == o.index && l.name == o.name && bytes.Equal(l.mac, o.mac)
}

// list returns the links that could announce addresses: up, with carrier, on an Ethernet-like medium that resolves
// addresses, and not enslaved to another interface that speaks for them.
func list() ([]link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	kinds := make(map[int]string, len(links))
	for _, l := range links {
		kinds[l.Attrs().Index] = l.Type()
	}
	var out []link
	for _, l := range links {
		a := l.Attrs()
		if !usable(a, kinds[a.MasterIndex]) {
			continue
		}
		out = append(out, link{index: a.Index, name: a.Name, mac: a.HardwareAddr, subnets: subnets(a.Index, addrs)})
	}
	slices.SortFunc(out, func(x, y link) int { return strings.Compare(x.name, y.name) })
	return out, nil
}

// usable judges one interface by its flags and by the kind of the interface that it is enslaved to.
func usable(a *netlink.LinkAttrs, master string) bool {
	const must = unix.IFF_UP | unix.IFF_RUNNING // IFF_RUNNING: operational in the sense of RFC 2863, so with carrier
	const mustNot = unix.IFF_LOOPBACK | unix.IFF_POINTOPOINT | unix.IFF_NOARP
	if a.RawFlags&must != must || a.RawFlags&mustNot != 0 || len(a.HardwareAddr) != 6 {
		return false
	}
	// What arrives at the port of a bridge or a bond is the affair of the bridge or the bond, which is an interface of
	// its own. A VRF is only a routing table: its interfaces speak for themselves.
	return a.MasterIndex == 0 || master == "vrf"
}

// subnets returns the prefixes that the addresses of an interface span. Host prefixes span nothing, link-local
// ones are no place for a Service.
func subnets(index int, addrs []netlink.Addr) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range addrs {
		if a.LinkIndex != index || a.IPNet == nil || a.Flags&unix.IFA_F_DADFAILED != 0 {
			continue
		}
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		ip = ip.Unmap()
		bits, _ := a.Mask.Size()
		if bits >= ip.BitLen() || ip.IsLinkLocalUnicast() || ip.IsLoopback() {
			continue
		}
		out = append(out, netip.PrefixFrom(ip, bits).Masked())
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

func (i Interface) equal(o Interface) bool {
	return i.Name == o.Name && bytes.Equal(i.MAC, o.MAC) && i.ARP == o.ARP && i.NDP == o.NDP && slices.Equal(i.Subnets, o.Subnets)
}
