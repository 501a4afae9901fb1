package layer2

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// KernelAddress is an address of a Service for which this node's kernel answers by itself, because it is bound to an
// interface: by IPVS without strict ARP, or by somebody's hand. Whoever owns the address, this node is told as its place
// too.
type KernelAddress struct {
	Addr      netip.Addr
	Bound     string // the interface that has it
	Interface string // one on which the kernel answers
}

// KernelAddresses returns the addresses among ours for which the node's kernel answers on an interface of Interfaces,
// sorted. Changed tells when it may return something new, unless only arp_ignore was set.
func (a *Announcer) KernelAddresses(ours func(netip.Addr) bool) []KernelAddress {
	a.mu.Lock()
	local := a.local // replaced, never changed
	published := a.published
	a.mu.Unlock()

	var ignore map[string]int
	var out []KernelAddress
	for addr, holders := range local {
		if !ours(addr) {
			continue
		}
		if ignore == nil { // most nodes need not look
			ignore = map[string]int{}
			for _, i := range published {
				ignore[i.Name] = setting(sysctls, i.Name, "arp_ignore")
			}
		}
		for _, i := range published {
			at := slices.IndexFunc(holders, func(h string) bool { return kernelAnswers(addr, h == i.Name, ignore[i.Name]) })
			if at >= 0 {
				out = append(out, KernelAddress{Addr: addr, Bound: holders[at], Interface: i.Name})
				break
			}
		}
	}
	slices.SortFunc(out, func(x, y KernelAddress) int { return x.Addr.Compare(y.Addr) })
	return out
}

// kernelAnswers tells whether the kernel answers for a bound address on an interface with this arp_ignore: it always does
// on the one that has the address. For IPv4 it does on every other one too, in its default mode; for IPv6 never.
func kernelAnswers(addr netip.Addr, here bool, ignore int) bool {
	const (
		always   = 0
		notHost  = 3 // addresses of scope host are not answered for; which one this is we do not know
		notAtAll = 8
	)
	if addr.Is6() {
		return here
	}
	if here {
		return ignore != notAtAll
	}
	return ignore == always || ignore == notHost
}

// sysctls are the kernel's settings of interfaces.
const sysctls = "/proc/sys/net/ipv4/conf"

// setting returns what counts for an interface of a setting: the higher one of what is set for all and for this one. What
// cannot be read is the default, 0.
func setting(conf, ifname, name string) int {
	value := 0
	for _, of := range []string{"all", ifname} {
		b, err := os.ReadFile(filepath.Join(conf, of, name))
		if err != nil {
			continue
		}
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			value = max(value, n)
		}
	}
	return value
}
