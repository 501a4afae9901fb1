package report

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"heraldlb.io/herald/api/v1beta1"
)

// Announcement is what one node says of one address of one Service.
type Announcement struct {
	Service  string                       `json:"service"`
	Address  string                       `json:"address"`
	Role     v1beta1.AnnouncementRole     `json:"role"`
	Protocol v1beta1.AnnouncementProtocol `json:"protocol,omitempty"`
	Node     string                       `json:"node"`          // of Role None, the one that tells it
	Via      []string                     `json:"via,omitempty"` // interfaces, or peers
	Since    time.Time                    `json:"since"`
	Reason   string                       `json:"reason,omitempty"`
	Message  string                       `json:"message,omitempty"`

	addr netip.Addr
}

// announcements returns what counts of what the speakers say, by address, Service and node. What a speaker said that is
// gone does not count, nor does who was the owner before.
func announcements(s *Snapshot) []Announcement {
	dead := unseen(s)
	var all []Announcement
	latest := map[netip.Addr]time.Time{} // since when the address has the owner by L2 that counts
	for _, slice := range s.AnnouncementSlices {
		if dead[slice.NodeName] {
			continue
		}
		for _, a := range slice.Announcements {
			addr, err := netip.ParseAddr(a.Address)
			if err != nil {
				continue
			}
			one := Announcement{Service: a.Namespace + "/" + a.Name, Address: a.Address, Role: a.Role, Protocol: a.Protocol, Node: slice.NodeName,
				Via: a.Interfaces, Since: a.Since.Time, Reason: a.Reason, Message: a.Message, addr: addr}
			if a.Protocol == v1beta1.ProtocolBGP {
				one.Via = a.Peers
			}
			if one.ownsL2() && one.Since.After(latest[addr]) {
				latest[addr] = one.Since
			}
			all = append(all, one)
		}
	}
	announced := map[string]bool{}
	all = slices.DeleteFunc(all, func(a Announcement) bool { return a.ownsL2() && a.Since.Before(latest[a.addr]) })
	for _, a := range all {
		announced[a.Service+" "+a.Address] = announced[a.Service+" "+a.Address] || a.Role == v1beta1.RoleOwner || a.observed()
	}
	// Between the word of one speaker that nobody announces an address, and that of another that it does, both are there.
	all = slices.DeleteFunc(all, func(a Announcement) bool { return a.Role == v1beta1.RoleNone && announced[a.Service+" "+a.Address] })
	slices.SortFunc(all, func(x, y Announcement) int {
		return cmp.Or(x.addr.Compare(y.addr), cmp.Compare(x.Service, y.Service), cmp.Compare(x.Protocol, y.Protocol), cmp.Compare(x.Node, y.Node))
	})
	return all
}

func (a Announcement) ownsL2() bool {
	return (a.Role == v1beta1.RoleOwner || a.observed()) && a.Protocol == v1beta1.ProtocolL2
}

// observed tells whether the node would announce the address, and does not, because its speaker only observes.
func (a Announcement) observed() bool { return a.Role == v1beta1.RoleObserved }

// Observing names the nodes that only observe, of those that say something.
func Observing(all []Announcement) (nodes []string) {
	for _, a := range all {
		if a.observed() {
			nodes = append(nodes, a.Node)
		}
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// unheard tells whether an announcement reaches nobody: no router has a session.
func (a Announcement) unheard() bool {
	return a.Role == v1beta1.RoleOwner && a.Protocol == v1beta1.ProtocolBGP && len(a.Via) == 0
}

// Filter chooses announcements; what is empty chooses all.
type Filter struct {
	Node    string
	Service string // namespace/name
	IP      netip.Addr
}

// Announcements tells which node announces which address. An address that nobody announces is told of too.
func Announcements(s *Snapshot, f Filter) []Announcement {
	out := slices.DeleteFunc(announcements(s), func(a Announcement) bool {
		return f.Service != "" && a.Service != f.Service || f.IP.IsValid() && a.addr != f.IP ||
			f.Node != "" && (a.Node != f.Node || a.Role == v1beta1.RoleNone)
	})
	if out == nil {
		out = []Announcement{}
	}
	return out
}

// AnnouncementHead is the head of AnnouncementRows.
var AnnouncementHead = []string{"ADDRESS", "SERVICE", "NODE", "ROLE", "BY", "VIA", "AGE"}

// AnnouncementRows are announcements as a table.
func AnnouncementRows(now time.Time, all []Announcement) [][]Cell {
	var rows [][]Cell
	for _, a := range all {
		node, role, via := Cell{Text: a.Node}, Cell{Text: string(a.Role), Tone: Good}, Cell{Text: strings.Join(a.Via, ",")}
		switch {
		case a.Role == v1beta1.RoleNone:
			node.Text, role.Tone, via = "", Bad, Cell{a.Reason, Bad}
		case a.Role == v1beta1.RoleStandIn, a.observed():
			role.Tone = Warn
		case a.unheard():
			role.Tone, via = Warn, Cell{"no session", Warn}
		}
		rows = append(rows, []Cell{{Text: a.Address}, {Text: a.Service}, node, role, {Text: string(a.Protocol)}, via, {Text: Age(now, a.Since)}})
	}
	return rows
}

// words says in a clause what the announcement is.
func (a Announcement) words(now time.Time) string {
	age := Age(now, a.Since)
	switch {
	case a.Role == v1beta1.RoleNone:
		return fmt.Sprintf("nobody announces it since %s: %s (%s)", age, a.Message, a.Reason)
	case a.Role == v1beta1.RoleStandIn:
		return fmt.Sprintf("node %s answers on %s in the owner's place since %s: the owner's speaker is being restarted", a.Node, list(a.Via), age)
	case a.observed():
		return fmt.Sprintf("node %s would announce it by %s on %s: its speaker only observes", a.Node, a.Protocol, list(a.Via))
	case a.Protocol == v1beta1.ProtocolL2:
		return fmt.Sprintf("node %s answers ARP or NDP for it on %s since %s", a.Node, list(a.Via), age)
	case a.unheard():
		return fmt.Sprintf("node %s would tell it to routers and has no session with any", a.Node)
	}
	return fmt.Sprintf("node %s tells it to %s since %s", a.Node, list(a.Via), age)
}
