package layer2

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// Filtered is an interface on which the kernel drops what clients beyond the link send to the node's addresses, because the
// replies would leave by another one: strict reverse path filtering (RFC 3704, section 2.2).
type Filtered struct {
	Interface string
	Default   string // the interface that replies to such clients leave by
}

// strictFilter is the value of rp_filter that drops what comes by another way than replies go; 2 is loose, 0 is none.
const strictFilter = 1

// FilteredInterfaces returns those of Interfaces on which IPv4 packets of clients beyond the link are dropped. Nothing tells
// when it would return something else.
func (a *Announcer) FilteredInterfaces() ([]Filtered, error) {
	a.mu.Lock()
	published := a.published
	a.mu.Unlock()

	var strict []string
	for _, i := range published {
		if i.ARP && setting(sysctls, i.Name, "rp_filter") == strictFilter {
			strict = append(strict, i.Name)
		}
	}
	if len(strict) == 0 {
		return nil, nil
	}
	way, err := defaultInterfaces()
	if err != nil || len(way) == 0 { // without a default route no client beyond the links is answered anyway
		return nil, err
	}
	var out []Filtered
	for _, name := range strict {
		other := ""
		for _, d := range way {
			if d == name {
				other = ""
				break
			}
			other = d
		}
		if other != "" {
			out = append(out, Filtered{Interface: name, Default: other})
		}
	}
	return out, nil
}

// defaultInterfaces are those by which IPv4 default routes lead.
func defaultInterfaces() (names []string, err error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{}, netlink.RT_FILTER_DST)
	if err != nil {
		return nil, fmt.Errorf("list default routes: %w", err)
	}
	for _, r := range routes {
		indices := []int{r.LinkIndex}
		for _, hop := range r.MultiPath {
			indices = append(indices, hop.LinkIndex)
		}
		for _, index := range indices {
			if link, err := netlink.LinkByIndex(index); err == nil { // else it went meanwhile
				names = append(names, link.Attrs().Name)
			}
		}
	}
	return names, nil
}
