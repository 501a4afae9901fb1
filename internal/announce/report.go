package announce

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/bgp"
	"heraldlb.io/herald/internal/election"
	"heraldlb.io/herald/internal/layer2"
)

// Reporter takes what is to be shown of this node's speaker; *kube.Reporter is one.
type Reporter interface {
	SetStatus(node types.UID, status v1beta1.SpeakerStatus)
	SetAnnouncements(changed map[netip.Addr][]v1beta1.Announcement)
}

// report hands over what there is to tell of the addresses that were looked at, and how the speaker stands. What it announces
// is told only once it takes part: until then what the process before this one said stands.
func (l *Loop) report() {
	if l.reporter == nil {
		return
	}
	l.reportStatus()
	if !l.started {
		return
	}
	changed := map[netip.Addr][]v1beta1.Announcement{}
	sessions := l.established()
	for addr := range l.planner.looked {
		now := l.planner.announcements(addr, sessions)
		if l.observes {
			now = observed(now)
		}
		if _, told := l.reported[addr]; len(now) == 0 && !told {
			continue // most addresses are no business of this node
		}
		changed[addr] = now
		if len(now) == 0 {
			delete(l.reported, addr)
		} else {
			l.reported[addr] = struct{}{}
		}
	}
	l.planner.looked = map[netip.Addr]struct{}{}
	l.reporter.SetAnnouncements(changed)
}

// observed is what a speaker that only observes tells: that it would be the owner. Nobody is stood in for.
func observed(all []v1beta1.Announcement) (out []v1beta1.Announcement) {
	for _, a := range all {
		switch a.Role {
		case v1beta1.RoleOwner:
			a.Role = v1beta1.RoleObserved
		case v1beta1.RoleStandIn:
			continue
		}
		out = append(out, a)
	}
	return out
}

// reportLeft tells that this node announces nothing any more.
func (l *Loop) reportLeft() {
	if l.reporter == nil {
		return
	}
	changed := map[netip.Addr][]v1beta1.Announcement{}
	for addr := range l.reported {
		changed[addr] = nil
	}
	l.reporter.SetAnnouncements(changed)
}

// announcements are what there is to tell of an address: what this node does with it, by L2 and by BGP, or why no node does
// anything when it is this node's turn to say so.
func (p *planner) announcements(addr netip.Addr, sessions map[string]bgp.Session) (out []v1beta1.Announcement) {
	tell := func(a v1beta1.Announcement) {
		a.Address = addr.String()
		for _, key := range p.holders[addr] {
			a.Namespace, a.Name = key.Namespace, key.Name
			out = append(out, a)
		}
	}
	switch d := p.decisions[addr]; p.self {
	case d.Owner:
		tell(p.owned(d))
	case d.StandIn:
		tell(v1beta1.Announcement{Role: v1beta1.RoleStandIn, Protocol: v1beta1.ProtocolL2, Interfaces: p.interfacesIn(d.Scope, addr)})
	default:
		if d.Owner != "" || d.Heir != "" || p.first(addr) != p.self {
			break
		}
		if reason, message := p.unannounced(addr); reason != "" {
			tell(v1beta1.Announcement{Role: v1beta1.RoleNone, Reason: reason, Message: message})
		}
	}
	if len(p.routes.reasons[addr]) > 0 && p.hasPeer(p.nodes[p.self]) {
		tell(v1beta1.Announcement{Role: v1beta1.RoleOwner, Protocol: v1beta1.ProtocolBGP, Peers: p.listening(addr, sessions)})
	}
	return out
}

// owned is what there is to tell of an address that this node owns. Where a stranger had it first it is not announced.
func (p *planner) owned(d Decision) v1beta1.Announcement {
	a := v1beta1.Announcement{Role: v1beta1.RoleOwner, Protocol: v1beta1.ProtocolL2, Interfaces: p.interfacesIn(d.Scope, d.Addr)}
	for _, c := range p.conflicts[d.Addr] {
		does := "uses it too"
		if c.Held {
			does = "had it first"
			a.Interfaces = slices.DeleteFunc(a.Interfaces, func(name string) bool { return name == c.Interface })
		}
		a.Reason = v1beta1.ReasonAddressConflict
		a.Message = fmt.Sprintf("%s %s on the link of %s of node %s: give that host another address, or exclude this one from the pool",
			c.MAC, does, c.Interface, p.self)
	}
	if a.Reason != "" && len(a.Interfaces) == 0 {
		a.Role, a.Protocol = v1beta1.RoleNone, ""
	}
	return a
}

// setConflicts takes in which strangers use addresses of this node.
func (p *planner) setConflicts(all []layer2.Conflict) {
	for addr := range p.conflicts {
		p.looked[addr] = struct{}{}
	}
	p.conflicts = map[netip.Addr][]layer2.Conflict{}
	for _, c := range all {
		p.conflicts[c.Addr] = append(p.conflicts[c.Addr], c)
		p.looked[c.Addr] = struct{}{}
	}
}

// interfacesIn returns the interfaces of this node that a scope includes.
func (p *planner) interfacesIn(scope layer2.Scope, addr netip.Addr) (out []string) {
	for _, i := range p.members[p.self].Health.Interfaces {
		if scope.Includes(layer2.Interface{Name: i.Name, MAC: i.MAC, ARP: i.ARP, NDP: i.NDP, Subnets: i.Subnets}, addr) {
			out = append(out, i.Name)
		}
	}
	return out
}

// listening returns the peers that are told of an address over an established session.
func (p *planner) listening(addr netip.Addr, sessions map[string]bgp.Session) (out []string) {
	family := v1beta1.IPv6
	if addr.Is4() {
		family = v1beta1.IPv4
	}
	for name, s := range sessions {
		told := slices.ContainsFunc(slices.Collect(maps.Keys(p.routes.reasons[addr])), func(prefix netip.Prefix) bool {
			return slices.ContainsFunc(p.routes.told[prefix], func(r bgp.Route) bool { return r.Peers == nil || slices.Contains(r.Peers, name) })
		})
		if told && slices.Contains(s.Families, family) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// first returns the member whose turn it is to tell of an address that nobody announces.
func (p *planner) first(addr netip.Addr) (node string) {
	for name, m := range p.members {
		if !m.Away && (node == "" || election.Prefer(addr, name, node)) {
			node = name
		}
	}
	return node
}

// unannounced tells why no node announces an address that has no owner; no reason when one may do so by BGP, which it says
// for itself.
func (p *planner) unannounced(addr netip.Addr) (reason, message string) {
	holders := p.holders[addr]
	byL2, byBGP := len(p.advertisements(addr)) > 0, p.advertisedByBGP(addr)
	for name := range p.members {
		if byBGP && len(p.announcedAs(addr, name)) > 0 && p.hasPeer(p.nodes[name]) {
			return "", ""
		}
	}
	switch pool := p.poolOf(addr); {
	case pool == "":
		return v1beta1.ReasonNoAdvertisement, "the address is of no IPAddressPool: add it to one, or let the Service ask for another address"
	case !byL2 && !byBGP:
		return v1beta1.ReasonNoAdvertisement,
			fmt.Sprintf("no L2Advertisement and no BGPAdvertisement in force selects pool %s and Service %s: create one, or see the conditions of those there are", pool, names(holders))
	case !slices.ContainsFunc(holders, func(k types.NamespacedName) bool { return p.services[k].anywhere || len(p.services[k].nodes) > 0 }):
		return v1beta1.ReasonNoEndpoints, fmt.Sprintf("Service %s has no ready endpoint: see its pods", names(holders))
	}
	var parts []string
	if byL2 {
		parts = append(parts, "by L2 no node can: "+grouped(p.whyNotByL2(addr)))
	}
	if byBGP {
		parts = append(parts, "by BGP no node can: "+grouped(p.whyNotByBGP(addr)))
	}
	return v1beta1.ReasonNoEligibleNode, cut(strings.Join(parts, "; "))
}

// advertisedByBGP tells whether a BGPAdvertisement is for the address, on whatever nodes.
func (p *planner) advertisedByBGP(addr netip.Addr) bool {
	pool := p.poolOf(addr)
	for _, a := range p.config.BGPAdvertisements {
		if a.SelectsPool(pool) && slices.ContainsFunc(p.holders[addr], func(k types.NamespacedName) bool { return a.SelectsService(p.services[k].labels) }) {
			return true
		}
	}
	return false
}

// hasPeer tells whether a node has somebody to talk BGP to.
func (p *planner) hasPeer(n node) bool {
	for _, peer := range p.config.BGPPeers {
		if !peer.Disabled && peer.SelectsNode(n.labels) {
			return true
		}
	}
	return false
}

// whyNotByL2 returns what keeps each node from owning an address.
func (p *planner) whyNotByL2(addr netip.Addr) map[string]string {
	out := map[string]string{}
	candidates := p.candidates(addr)
	for i, v := range election.Explain(candidates, "") {
		out[v.Node] = fmt.Sprintf("%s (%s)", because[v.Reason], v.Reason)
		if candidates[i].Away && v.Reason == election.Unclaimed {
			out[v.Node] = "its speaker is being restarted (Away)"
		}
	}
	return out
}

// whyNotByBGP returns what keeps each node from telling routers of an address.
func (p *planner) whyNotByBGP(addr netip.Addr) map[string]string {
	pool := p.poolOf(addr)
	out := map[string]string{}
	for name, n := range p.nodes {
		var why election.Reason
		_, alive := p.members[name]
		switch {
		case !alive:
			why = election.NotAlive
		case n.excluded:
			why = election.ExcludedByLabel
		case n.networkUnavailable:
			why = election.NetworkUnavailable
		case !slices.ContainsFunc(p.holders[addr], func(k types.NamespacedName) bool { return p.services[k].servedBy(name) }):
			why = election.NoEndpoint
		case !p.hasPeer(n):
			out[name] = "no BGPPeer selects it (NoPeer)"
			continue
		default:
			out[name] = fmt.Sprintf("no BGPAdvertisement of pool %s selects it (%s)", pool, election.NotSelected)
			continue
		}
		out[name] = fmt.Sprintf("%s (%s)", because[why], why)
	}
	return out
}

// grouped writes what is said of nodes, the same of several at once.
func grouped(said map[string]string) string {
	nodes := map[string][]string{}
	var order []string
	for _, name := range slices.Sorted(maps.Keys(said)) {
		why := said[name]
		if nodes[why] == nil {
			order = append(order, why)
		}
		nodes[why] = append(nodes[why], name)
	}
	if len(order) == 0 {
		return "there is none"
	}
	var out []string
	for _, why := range order {
		out = append(out, some(nodes[why])+": "+why)
	}
	return strings.Join(out, "; ")
}

// some names the first of many.
func some(all []string) string {
	const most = 5
	if more := len(all) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), more)
	}
	return strings.Join(all, ", ")
}

// maxMessage is the API's limit of a message, in bytes.
const maxMessage = 1024

// cut shortens a message to the limit.
func cut(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	return strings.ToValidUTF8(s[:maxMessage-3], "") + "..."
}
