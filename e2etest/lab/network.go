package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"heraldlb.io/herald/e2etest/lab/namespace"
)

// lanBridge is the switch's own interface.
const lanBridge = "lan"

// network builds and changes the wires between the hosts of a lab. Every link is made inside a namespace of the
// lab, so that none ever shows up on the machine itself.
type network struct {
	ns map[string]namespace.Handle // network namespaces by host
}

// inside runs f in the host's network namespace.
func (n network) inside(host string, f func() error) error {
	return namespace.Run([]namespace.Handle{n.ns[host]}, f)
}

// handle opens a netlink socket in the host's network namespace; close it.
func (n network) handle(host string) (*netlink.Handle, error) {
	var h *netlink.Handle
	// Not netlink.NewHandleAt: it looks for its own thread in /proc, which is the machine's and numbers otherwise.
	err := n.inside(host, func() (err error) {
		h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("netlink socket of host %s: %w", host, err)
	}
	return h, nil
}

// build sets up the namespaces of all hosts: kernel settings, links, addresses, routes.
func (n network) build(hosts []Host) error {
	for _, h := range hosts {
		if err := n.inside(h.Name, func() error { return writeSysctls(sysctls(h)) }); err != nil {
			return fmt.Errorf("host %s: %w", h.Name, err)
		}
	}
	sw, err := n.handle(Switch)
	if err != nil {
		return err
	}
	defer sw.Close()
	if err := buildSwitch(sw); err != nil {
		return fmt.Errorf("switch: %w", err)
	}
	for _, h := range hosts {
		if h.onSwitch() {
			if err := n.plug(sw, h); err != nil {
				return fmt.Errorf("host %s: %w", h.Name, err)
			}
		}
	}
	if err := n.connectRemote(hosts); err != nil {
		return fmt.Errorf("remote network: %w", err)
	}
	for _, h := range hosts {
		if err := n.configure(h, hosts); err != nil {
			return fmt.Errorf("host %s: %w", h.Name, err)
		}
	}
	return nil
}

func writeSysctls(settings [][2]string) error {
	for _, s := range settings {
		err := os.WriteFile(filepath.Join("/proc/sys", s[0]), []byte(s[1]), 0)
		if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(s[0], "net/bridge/") {
			if s[1] == "0" {
				continue // what is not there is off
			}
			return fmt.Errorf("sysctl %s: the kernel has no bridge filter; run: modprobe br_netfilter", s[0])
		}
		if err != nil {
			return fmt.Errorf("sysctl %s: %w", s[0], err)
		}
	}
	return nil
}

func buildSwitch(sw *netlink.Handle) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = lanBridge
	attrs.HardwareAddr = net.HardwareAddr{0x02, 0, 0, 0, 1, 0xfe} // else it changes with the ports
	snooping := false
	bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}
	if err := sw.LinkAdd(bridge); err != nil {
		return fmt.Errorf("create bridge: %w", err)
	}
	return sw.LinkSetUp(bridge)
}

// plug connects the host's eth0 to a port of the switch that has the host's name.
func (n network) plug(sw *netlink.Handle, h Host) error {
	bridge, err := sw.LinkByName(lanBridge)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = h.Name
	attrs.MasterIndex = bridge.Attrs().Index
	port := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         "eth0",
		PeerHardwareAddr: h.MAC,
		PeerNamespace:    netlink.NsFd(n.ns[h.Name].File.Fd()),
	}
	if err := sw.LinkAdd(port); err != nil {
		return fmt.Errorf("create link to the switch: %w", err)
	}
	return sw.LinkSetUp(port)
}

// connectRemote lays the wire between the router's eth1 and the remote host's eth0.
func (n network) connectRemote(hosts []Host) error {
	router, err := n.handle(Router)
	if err != nil {
		return err
	}
	defer router.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth1"
	attrs.HardwareAddr = mac(2, 1)
	link := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         "eth0",
		PeerHardwareAddr: mac(2, 2),
		PeerNamespace:    netlink.NsFd(n.ns[Remote].File.Fd()),
	}
	if err := router.LinkAdd(link); err != nil {
		return fmt.Errorf("create link: %w", err)
	}
	return address(router, "eth1", netip.PrefixFrom(nth(Remote4, 1), Remote4.Bits()), netip.PrefixFrom(nth(Remote6, 1), Remote6.Bits()))
}

// configure gives a host its addresses and routes.
func (n network) configure(h Host, hosts []Host) error {
	nl, err := n.handle(h.Name)
	if err != nil {
		return err
	}
	defer nl.Close()
	lo, err := nl.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := nl.LinkSetUp(lo); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if h.Name == Switch {
		return nil
	}
	p4, p6 := LAN4, LAN6
	if h.Name == Remote {
		p4, p6 = Remote4, Remote6
	}
	if err := address(nl, "eth0", netip.PrefixFrom(h.IPv4, p4.Bits()), netip.PrefixFrom(h.IPv6, p6.Bits())); err != nil {
		return err
	}
	for _, r := range routes(h, hosts) {
		err := nl.RouteAdd(&netlink.Route{Dst: ipNet(r.to), Gw: r.via.AsSlice()})
		if err != nil {
			return fmt.Errorf("route to %s via %s: %w", r.to, r.via, err)
		}
	}
	return nil
}

func address(nl *netlink.Handle, link string, addrs ...netip.Prefix) error {
	l, err := nl.LinkByName(link)
	if err != nil {
		return fmt.Errorf("interface %s: %w", link, err)
	}
	for _, a := range addrs {
		if err := nl.AddrAdd(l, &netlink.Addr{IPNet: ipNet(a)}); err != nil {
			return fmt.Errorf("interface %s: address %s: %w", link, a, err)
		}
	}
	if err := nl.LinkSetUp(l); err != nil {
		return fmt.Errorf("interface %s: %w", link, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// setPort pulls or plugs the host's cable at the switch: its eth0 loses or regains the carrier.
func (n network) setPort(host string, up bool) error {
	sw, err := n.handle(Switch)
	if err != nil {
		return err
	}
	defer sw.Close()
	port, err := sw.LinkByName(host)
	if err != nil {
		return fmt.Errorf("switch port of host %s: %w", host, err)
	}
	if up {
		err = sw.LinkSetUp(port)
	} else {
		err = sw.LinkSetDown(port)
	}
	if err != nil {
		return fmt.Errorf("switch port of host %s: %w", host, err)
	}
	return nil
}

// forgetPods removes what the pods of a dead node have left in its network namespace, which a machine that is
// switched off would not remember either.
func (n network) forgetPods(node string) error {
	nl, err := n.handle(node)
	if err != nil {
		return err
	}
	defer nl.Close()
	links, err := nl.LinkList()
	if err != nil {
		return fmt.Errorf("host %s: list interfaces: %w", node, err)
	}
	for _, l := range links {
		if name := l.Attrs().Name; name == "lo" || name == "eth0" {
			continue
		}
		if err := nl.LinkDel(l); err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) {
			return fmt.Errorf("host %s: remove interface %s: %w", node, l.Attrs().Name, err)
		}
	}
	return nil
}
