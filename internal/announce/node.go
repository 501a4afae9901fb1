package announce

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"heraldlb.io/herald/internal/gossip"
)

// node is what a Plan needs to know of a Node.
type node struct {
	labels             labels.Set
	excluded           bool
	notReady           bool
	networkUnavailable bool
	cordoned           bool
	draining           bool
}

// AnnotationDrain on a Node asks its speaker to give its addresses away; the value "false" is as good as none. It is
// for whoever takes a node out of service without a word to the scheduler.
const AnnotationDrain = "heraldlb.io/drain"

// drainTaints are those of a node that is about to go.
var drainTaints = []string{
	"ToBeDeletedByClusterAutoscaler",
	"node.cloudprovider.kubernetes.io/shutdown",
	corev1.TaintNodeOutOfService,
}

// shutdownMessage is in the message of condition Ready while the kubelet ends the pods of a node that shuts down; there
// is no reason of its own for it.
const shutdownMessage = "node is shutting down"

func nodeOf(n *corev1.Node) node {
	out := node{labels: n.Labels, notReady: true, cordoned: n.Spec.Unschedulable, draining: n.DeletionTimestamp != nil}
	_, out.excluded = n.Labels[corev1.LabelNodeExcludeBalancers]
	if v, ok := n.Annotations[AnnotationDrain]; ok && v != "false" {
		out.draining = true
	}
	for _, t := range n.Spec.Taints {
		out.draining = out.draining || slices.Contains(drainTaints, t.Key)
	}
	for _, c := range n.Status.Conditions {
		switch c.Type {
		case corev1.NodeReady:
			out.notReady = c.Status != corev1.ConditionTrue
			out.draining = out.draining || out.notReady && strings.Contains(c.Message, shutdownMessage)
		case corev1.NodeNetworkUnavailable:
			out.networkUnavailable = c.Status == corev1.ConditionTrue
		}
	}
	return out
}

// restarts tells whether a speaker that is told to stop on this Node is to be expected back soon, on a node that goes on
// to forward meanwhile. On one that is being emptied, deleted or shut down, or that nothing is known of, it is not.
func restarts(n *corev1.Node) bool {
	if n == nil {
		return false
	}
	of := nodeOf(n)
	return !of.cordoned && !of.draining && !of.notReady
}

func (n node) equal(o node) bool {
	return n.excluded == o.excluded && n.notReady == o.notReady && n.networkUnavailable == o.networkUnavailable &&
		n.cordoned == o.cordoned && n.draining == o.draining && maps.Equal(n.labels, o.labels)
}

// internalIP returns the node's first internal address, of the family of like when it has one of that and like is
// valid.
func internalIP(n *corev1.Node, like netip.Addr) (netip.Addr, bool) {
	var first netip.Addr
	for _, a := range n.Status.Addresses {
		ip, err := netip.ParseAddr(a.Address)
		if a.Type != corev1.NodeInternalIP || err != nil {
			continue
		}
		ip = ip.Unmap()
		if like.IsValid() && ip.Is4() == like.Is4() {
			return ip, true
		}
		first = cmp.Or(first, ip)
	}
	return first, first.IsValid()
}

// GossipPort is where members of the ring listen when nothing else is said. It is not memberlist's own 7946: other load
// balancers use that on the same nodes, also while a cluster moves from them to this one.
const GossipPort = 7947

// notYet is an error that time can mend.
type notYet struct{ error }

// gossipAddr returns where a node's member of the ring listens. bind may be an address, an address and a port, a
// port as ":7946", or empty; what it leaves out is the node's first internal address, and GossipPort.
func gossipAddr(bind string, n *corev1.Node) (netip.AddrPort, error) {
	host, port := bind, uint16(GossipPort)
	if h, p, err := net.SplitHostPort(bind); err == nil {
		parsed, err := strconv.ParseUint(p, 10, 16)
		if err != nil || parsed == 0 {
			return netip.AddrPort{}, fmt.Errorf("gossip address %q: %q is no port: want 1 to 65535", bind, p)
		}
		host, port = h, uint16(parsed)
	}
	if host != "" {
		ip, err := netip.ParseAddr(host)
		if err != nil || ip.IsUnspecified() {
			return netip.AddrPort{}, fmt.Errorf("gossip address %q: want one IP address that peers reach this node at, with or without a port", bind)
		}
		return netip.AddrPortFrom(ip.Unmap(), port), nil
	}
	if n == nil {
		return netip.AddrPort{}, notYet{errors.New("there is no Node of this name: --node-name must be the name of the Node this speaker runs on")}
	}
	ip, ok := internalIP(n, netip.Addr{})
	if !ok {
		return netip.AddrPort{}, notYet{errors.New("its Node has no internal address for gossip: name one with --gossip-bind")}
	}
	return netip.AddrPortFrom(ip, port), nil
}

// peers returns where the speakers of the nodes should be: at their internal addresses, of the same family as ours,
// and the same port. Nodes that cannot talk to each other in one family have no ring.
func peers(nodes []*corev1.Node, ours netip.AddrPort) []gossip.Peer {
	var out []gossip.Peer
	for _, n := range nodes {
		if ip, ok := internalIP(n, ours.Addr()); ok && ip.Is4() == ours.Addr().Is4() {
			out = append(out, gossip.Peer{Node: n.Name, Addr: netip.AddrPortFrom(ip, ours.Port())})
		}
	}
	return out
}
