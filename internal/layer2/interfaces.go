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

	// Probe: the address is new to the cluster, so the link is asked first whether a stranger has it. Without it, as when
	// the address is taken over from another node, it is answered for and announced at once. It matters when the address arrives
	// here and is no part of what Equal compares.
	Probe bool
}

// Absent is an interface of a node in whose place another one answers.
type Absent struct {
	Name string
	MAC  net.HardwareAddr // unicast
}

// standIn returns the MAC to answer with on one of our interfaces: that of the absent node's interface of the same name,
// which most often is on the same link, else of its first one; zero when the address is this node's own.
func (s Scope) standIn(name string) hwAddr {
	if !s.isStandIn() {
		return hwAddr{}
	}
	for _, a := range s.Absent {
		if a.Name == name {
			return hw(a.MAC)
		}
	}
	return hw(s.Absent[0].MAC)
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

// inventory is what the kernel says of the node's interfaces.
type inventory struct {
	// links are those that could announce addresses: up, with carrier, on an Ethernet-like medium that resolves addresses, and
	// not enslaved to another interface that speaks for them. They are sorted by name.
	links []link
	macs  []hwAddr                // of all interfaces
	local map[netip.Addr][]string // the node's own addresses, and the interfaces that have them
}

// list asks the kernel.
func list() (inv inventory, err error) {
	links, err := netlink.LinkList()
	if err != nil {
		return inv, err
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return inv, err
	}
	byIndex := make(map[int]*netlink.LinkAttrs, len(links))
	kinds := make(map[int]string, len(links))
	for _, l := range links {
		a := l.Attrs()
		byIndex[a.Index], kinds[a.Index] = a, l.Type()
		if mac := hw(a.HardwareAddr); mac.unicast() {
			inv.macs = append(inv.macs, mac)
		}
	}
	inv.local = make(map[netip.Addr][]string, len(addrs))
	spanned := map[int][]netip.Prefix{}
	for _, addr := range addrs {
		p, ok := prefixOf(addr)
		l := byIndex[addr.LinkIndex]
		if !ok || l == nil || addr.Flags&unix.IFA_F_DADFAILED != 0 {
			continue
		}
		inv.local[p.Addr()] = append(inv.local[p.Addr()], l.Name)
		if spans(p) {
			spanned[l.Index] = append(spanned[l.Index], p.Masked())
		}
	}
	for index, l := range byIndex {
		if !usable(l, kinds[l.MasterIndex]) {
			continue
		}
		subnets := spanned[index]
		slices.SortFunc(subnets, netip.Prefix.Compare)
		inv.links = append(inv.links, link{index: index, name: l.Name, mac: l.HardwareAddr, subnets: slices.Compact(subnets)})
	}
	slices.SortFunc(inv.links, func(x, y link) int { return strings.Compare(x.name, y.name) })
	return inv, nil
}

// usable judges one interface by its flags and by the kind of the interface that it is enslaved to.
func usable(a *netlink.LinkAttrs, master string) bool {
	// IFF_RUNNING says operational in the sense of RFC 2863; the kernel brings it up to date with its event, IFF_LOWER_UP as
	// soon as the driver knows.
	const must = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOWER_UP
	const mustNot = unix.IFF_LOOPBACK | unix.IFF_POINTOPOINT | unix.IFF_NOARP
	if a.RawFlags&must != must || a.RawFlags&mustNot != 0 || len(a.HardwareAddr) != 6 {
		return false
	}
	// What arrives at the port of a bridge or a bond is the affair of the bridge or the bond, which is an interface of
	// its own. A VRF is only a routing table: its interfaces speak for themselves.
	return a.MasterIndex == 0 || master == "vrf"
}

// prefixOf returns an interface's address with the length of its prefix.
func prefixOf(a netlink.Addr) (netip.Prefix, bool) {
	if a.IPNet == nil {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(a.IP)
	bits, _ := a.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), bits), ok
}

// spans tells whether an address makes its interface one of a subnet. Host prefixes span nothing, link-local ones are
// no place for a Service.
func spans(p netip.Prefix) bool {
	return p.IsValid() && !p.IsSingleIP() && !p.Addr().IsLinkLocalUnicast() && !p.Addr().IsLoopback()
}

func (i Interface) equal(o Interface) bool {
	return i.Name == o.Name && bytes.Equal(i.MAC, o.MAC) && i.ARP == o.ARP && i.NDP == o.NDP && slices.Equal(i.Subnets, o.Subnets)
}
