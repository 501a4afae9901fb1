package announce

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/bgp"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/kube"
)

// The reasons of the events on a BGPPeer.
const (
	eventSessionEstablished = "SessionEstablished"
	eventSessionDown        = "SessionDown"
)

// sessionsChanged is where the driver tells of sessions; nil without BGP.
func (l *Loop) sessionsChanged() <-chan struct{} {
	if l.bgp == nil {
		return nil
	}
	return l.bgp.driver.Changed()
}

// established returns the sessions over which routers listen, by peer; of a speaker that observes, those over which they
// would.
func (l *Loop) established() map[string]bgp.Session {
	out := map[string]bgp.Session{}
	if l.bgp != nil {
		for _, s := range l.bgp.sessions {
			if s.State == bgp.Established || l.observes {
				out[s.Peer] = s
			}
		}
	}
	return out
}

// lookAtSessions takes in how the sessions stand, and tells of those that came up or went down.
func (l *Loop) lookAtSessions() {
	before := l.established()
	l.bgp.sessions, l.bgp.stale = l.bgp.driver.Sessions(), false
	now := l.established()
	if !maps.EqualFunc(before, now, func(x, y bgp.Session) bool { return slices.Equal(x.Families, y.Families) }) {
		for addr := range l.planner.routes.reasons {
			l.planner.looked[addr] = struct{}{} // others listen now
		}
	}
	for _, s := range l.bgp.sessions {
		old, was := before[s.Peer]
		_, is := now[s.Peer]
		if was && (!is || !old.Since.Equal(s.Since)) {
			l.tellSession(s.Peer, corev1.EventTypeWarning, eventSessionDown,
				fmt.Sprintf("the BGP session of node %s with %s has ended: %s", l.node, old.Address, s.LastError))
		}
		if is && (!was || !old.Since.Equal(s.Since)) {
			l.tellSession(s.Peer, corev1.EventTypeNormal, eventSessionEstablished,
				fmt.Sprintf("node %s has a BGP session with %s, AS number %d", l.node, s.Address, s.ASN))
		}
	}
}

// tellSession tells of a session at its BGPPeer or, when that is no API object, at the Node.
func (l *Loop) tellSession(peer, kind, reason, note string) {
	n := l.cluster.node(l.node)
	if n == nil {
		return
	}
	regarding := nodeReference(n)
	for _, p := range l.cluster.resources().BGPPeers {
		if p.Name == peer && p.UID != "" {
			regarding = corev1.ObjectReference{
				APIVersion: v1beta1.GroupVersion.String(), Kind: config.KindBGPPeer, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion,
			}
		}
	}
	l.events.Record(kube.Event{Regarding: regarding, Type: kind, Reason: reason, Action: "Announce", Note: note})
}
