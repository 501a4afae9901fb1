package assign

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/service"
)

// heard is one announcement, with what is known of the node that tells of it.
type heard struct {
	v1beta1.Announcement
	node  string
	ready bool
}

// fold makes the condition service.ConditionAnnounced of what speakers tell of a Service's addresses. unreported tells that
// nobody tells anything of one of them.
func fold(addrs []netip.Addr, all []heard) (c *metav1.Condition, unreported bool) {
	c = &metav1.Condition{Type: service.ConditionAnnounced, Status: metav1.ConditionTrue, Reason: service.ReasonAnnounced}
	var said []string
	for _, addr := range addrs {
		text := addr.String()
		v := judgeAddress(slices.DeleteFunc(slices.Clone(all), func(h heard) bool { return h.Address != text }))
		unreported = unreported || v.reason == service.ReasonNotReported
		if v.status != metav1.ConditionTrue && (c.Status == metav1.ConditionTrue || c.Status == metav1.ConditionUnknown && v.status == metav1.ConditionFalse) {
			c.Status, c.Reason = v.status, v.reason
		}
		if v.status == metav1.ConditionTrue && v.reason != service.ReasonAnnounced && c.Status == metav1.ConditionTrue {
			c.Reason = v.reason
		}
		said = append(said, text+" "+v.message)
	}
	c.Message = strings.Join(said, "; ")
	return c, unreported
}

// verdictOn is what is made of one address.
type verdictOn struct {
	status          metav1.ConditionStatus
	reason, message string
}

// judgeAddress judges one address by what is told of it. Of those that say to own it by L2, and those who say that nobody
// does, the latest is believed: a node that died cannot take its word back.
func judgeAddress(all []heard) verdictOn {
	var last *heard
	// Nodes whose routers listen, the same of those not Ready, nodes without a session, and those whose speaker only observes.
	var listening, late, silent, observing []string
	for i, h := range all {
		switch {
		case h.Role == v1beta1.RoleObserved:
			observing = append(observing, h.node)
		case h.Protocol == v1beta1.ProtocolBGP && len(h.Peers) == 0:
			silent = append(silent, h.node)
		case h.Protocol == v1beta1.ProtocolBGP && h.ready:
			listening = append(listening, h.node)
		case h.Protocol == v1beta1.ProtocolBGP:
			late = append(late, h.node)
		case h.Role != v1beta1.RoleStandIn && (last == nil || last.Since.Before(&h.Since)):
			last = &all[i]
		}
	}
	var how []string
	if last != nil && last.Role == v1beta1.RoleOwner {
		how = append(how, "by L2 from node "+last.node)
	}
	if len(listening) > 0 {
		how = append(how, "by BGP from "+nodesText(listening))
	}
	switch {
	case len(how) > 0 && last != nil && last.Role == v1beta1.RoleOwner && last.Reason != "":
		return verdictOn{metav1.ConditionTrue, last.Reason, "is announced " + strings.Join(how, " and ") + ", but " + last.Message}
	case len(how) > 0:
		return verdictOn{metav1.ConditionTrue, service.ReasonAnnounced, "is announced " + strings.Join(how, " and ")}
	case len(late) > 0:
		return verdictOn{metav1.ConditionUnknown, service.ReasonNodesNotReady, "was announced by BGP from " + nodesText(late) + ", of which none is Ready now"}
	case len(silent) > 0:
		return verdictOn{metav1.ConditionFalse, service.ReasonNoSession,
			"is announced by nobody: no router has a BGP session with " + nodesText(silent) + ": see status.sessions of the Speakers of these names"}
	case len(observing) > 0:
		return verdictOn{metav1.ConditionFalse, service.ReasonObserving, "is announced by nobody: the speaker of " + nodesText(observing) + " only observes (--observe)"}
	case last != nil:
		return verdictOn{metav1.ConditionFalse, last.Reason, "is announced by no node: " + last.Message}
	}
	return verdictOn{metav1.ConditionUnknown, service.ReasonNotReported, "is mentioned by no speaker: see whether they are ready: kubectl get speakers"}
}

// nodesText names the first of some nodes.
func nodesText(nodes []string) string {
	const most = 3
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	switch n := len(nodes); {
	case n == 1:
		return "node " + nodes[0]
	case n <= most:
		return "nodes " + strings.Join(nodes, ", ")
	default:
		return fmt.Sprintf("nodes %s and %d more", strings.Join(nodes[:most], ", "), n-most)
	}
}
