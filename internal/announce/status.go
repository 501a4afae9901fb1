package announce

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/go-kit/log/level"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/bgp"
	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/layer2"
)

// The reasons of a Speaker's conditions.
const (
	reasonAnnounces = "Announces"
	reasonObserves  = "Observes"
	reasonNotReady  = "NotReady"
	reasonHealthy   = "Healthy"
	reasonUnhealthy = "Unhealthy"
	reasonStrict    = "StrictReversePathFilter"
)

// The reasons of the events on a Node.
const eventKernelAnswers = "KernelAnswers"

// mostListed is how many of a kind a status lists where there may be very many.
const mostListed = 100

// ReportTo has the loop tell what this node's speaker does. It must be called before Run.
func (l *Loop) ReportTo(r Reporter, version string) { l.reporter, l.version = r, version }

// reportStatus tells how the speaker stands.
func (l *Loop) reportStatus() {
	if l.reporter == nil {
		return
	}
	n := l.cluster.node(l.node)
	if n == nil {
		l.reporter.SetStatus("", v1beta1.SpeakerStatus{})
		return
	}
	l.reporter.SetStatus(n.UID, l.status())
}

func (l *Loop) status() v1beta1.SpeakerStatus {
	s := v1beta1.SpeakerStatus{
		Conditions: []metav1.Condition{readyCondition(errors.Join(l.Ready(), l.layer2.Ready()), l.observes)},
		Version:    l.version,
		Observing:  l.observes,
		Draining:   l.draining || l.planner.nodes[l.node].draining,
		Gossip:     l.planner.gossip(),
		Sessions:   l.sessionStatus(),
	}
	if self, ok := l.planner.members[l.node]; ok {
		s.Conditions = append(s.Conditions, pathCondition(self.Health.ServicePathDown))
	}
	if len(l.filtered) > 0 {
		s.Conditions = append(s.Conditions, filterCondition(l.filtered))
	}
	for _, i := range l.offered {
		one := v1beta1.SpeakerInterface{Name: i.Name, MAC: i.MAC.String(), ARP: i.ARP, NDP: i.NDP}
		for _, subnet := range i.Subnets {
			one.Subnets = append(one.Subnets, subnet.String())
		}
		s.Interfaces = append(s.Interfaces, one)
	}
	for _, c := range l.conflicts[:min(len(l.conflicts), mostListed)] {
		s.Conflicts = append(s.Conflicts, v1beta1.AddressConflict{Address: c.Addr.String(), MAC: c.MAC.String(), Interface: c.Interface, Held: c.Held})
	}
	for _, k := range l.kernel[:min(len(l.kernel), mostListed)] {
		s.KernelAddresses = append(s.KernelAddresses, v1beta1.KernelAddress{Address: k.Addr.String(), Bound: k.Bound, Interface: k.Interface})
	}
	return s
}

func readyCondition(err error, observes bool) metav1.Condition {
	if err != nil {
		return metav1.Condition{Type: v1beta1.SpeakerReady, Status: metav1.ConditionFalse, Reason: reasonNotReady, Message: cut(err.Error())}
	}
	if observes {
		return metav1.Condition{Type: v1beta1.SpeakerReady, Status: metav1.ConditionTrue, Reason: reasonObserves,
			Message: "The speaker tells what it would announce, and announces nothing"}
	}
	return metav1.Condition{Type: v1beta1.SpeakerReady, Status: metav1.ConditionTrue, Reason: reasonAnnounces, Message: "The speaker announces what it is to"}
}

func pathCondition(down bool) metav1.Condition {
	if down {
		return metav1.Condition{Type: v1beta1.SpeakerServicePathHealthy, Status: metav1.ConditionFalse, Reason: reasonUnhealthy,
			Message: "The node's service proxy does not answer that it works: see kube-proxy on this node"}
	}
	return metav1.Condition{Type: v1beta1.SpeakerServicePathHealthy, Status: metav1.ConditionTrue, Reason: reasonHealthy, Message: "Nothing is known against the node's service proxy"}
}

func filterCondition(filtered []layer2.Filtered) metav1.Condition {
	var parts []string
	for _, f := range filtered {
		parts = append(parts, fmt.Sprintf("what clients beyond the subnets of %s send to addresses that are announced there is dropped, since rp_filter is 1 (strict) for it "+
			"and replies to them leave by %s", f.Interface, f.Default))
	}
	return metav1.Condition{Type: v1beta1.SpeakerReversePathFiltered, Status: metav1.ConditionTrue, Reason: reasonStrict, Message: cut(strings.Join(parts, "; "))}
}

// filterInterval is how often the kernel's reverse path filters are looked at, as far as the loop has something to do: no
// event tells of them.
const filterInterval = 10 * time.Second

// watchFilters looks for interfaces on which the kernel drops what clients send.
func (l *Loop) watchFilters(now time.Time) {
	if now.Sub(l.filters) < filterInterval {
		return
	}
	l.filters = now
	filtered, err := l.layer2.FilteredInterfaces()
	if err != nil {
		level.Warn(l.logger).Log("msg", "cannot tell whether reverse path filters drop what clients send", "node", l.node, "err", err)
		return
	}
	l.filtered = filtered
}

// gossip tells what is seen of the others.
func (p *planner) gossip() v1beta1.GossipStatus {
	s := v1beta1.GossipStatus{Members: int32(len(p.members))}
	for name, m := range p.members {
		if m.Away {
			s.Away = append(s.Away, name)
		}
	}
	for name := range p.nodes {
		if _, there := p.members[name]; !there {
			s.Missing = append(s.Missing, name)
		}
	}
	slices.Sort(s.Away)
	slices.Sort(s.Missing)
	s.Away, s.Missing = s.Away[:min(len(s.Away), mostListed)], s.Missing[:min(len(s.Missing), mostListed)]
	return s
}

// sessionStatus tells of the sessions with the peers, and of the peers that have to wait.
func (l *Loop) sessionStatus() (out []v1beta1.BGPSession) {
	if l.bgp == nil {
		return nil
	}
	out = slices.Clone(l.bgp.waiting)
	for _, s := range l.bgp.sessions {
		one := v1beta1.BGPSession{
			Peer: s.Peer, State: string(s.State), Since: second(s.Since), LastError: cut(s.LastError), Families: s.Families,
			PrefixesSent: int32(s.Sent), PrefixLimit: bgp.MaxPrefixes,
		}
		if s.State != bgp.Established && s.State != bgp.Waiting && s.State != bgp.Disabled {
			one.State = string(bgp.Idle) // what an attempt to connect has come to changes by the second
		}
		if s.Address.IsValid() {
			one.Address = s.Address.String()
		}
		if s.BFD != nil {
			one.BFD = s.BFD.State.String()
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(x, y v1beta1.BGPSession) int { return strings.Compare(x.Peer, y.Peer) })
	return out
}

// second is a time as the API shows it.
func second(t time.Time) metav1.Time { return metav1.NewTime(t.Truncate(time.Second)) }

// watchKernel looks for addresses of Services that this node's kernel answers for by itself, and tells when there begin to be
// some: whoever owns them, neighbors are told of this node too.
func (l *Loop) watchKernel() {
	before := len(l.kernel)
	l.kernel = l.layer2.KernelAddresses(func(addr netip.Addr) bool { return len(l.planner.holders[addr]) > 0 })
	l.metrics.kernel.Set(float64(len(l.kernel)))
	n := l.cluster.node(l.node)
	if before > 0 || len(l.kernel) == 0 || n == nil {
		return
	}
	l.events.Record(kube.Event{
		Regarding: nodeReference(n),
		Type:      corev1.EventTypeWarning, Reason: eventKernelAnswers, Action: "Announce", Note: kernelNote(l.node, l.kernel),
	})
}

func kernelNote(node string, found []layer2.KernelAddress) string {
	return fmt.Sprintf("the kernel of node %s answers by itself for addresses of Services, %d now, such as %s on %s, because they are bound to %s: "+
		"set strictARP: true in kube-proxy's IPVS configuration, or net.ipv4.conf.all.arp_ignore=1 and arp_announce=2 on the node, or remove the addresses",
		node, len(found), found[0].Addr, found[0].Interface, found[0].Bound)
}

func nodeReference(n *corev1.Node) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion}
}
