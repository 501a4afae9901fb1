package announce

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// readyNode is a Node with these internal addresses.
func readyNode(name string, ips ...string) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{corev1.LabelHostname: name}},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
	}
	for _, ip := range ips {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	return n
}

func TestWhatANodeObjectSays(t *testing.T) {
	set := func(c ...corev1.NodeCondition) *corev1.Node {
		n := readyNode("n1")
		n.Status.Conditions = c
		return n
	}
	excluded := readyNode("n1")
	excluded.Labels[corev1.LabelNodeExcludeBalancers] = ""
	for _, tc := range []struct {
		name                                   string
		node                                   *corev1.Node
		notReady, excluded, networkUnavailable bool
	}{
		{"a Ready node", readyNode("n1"), false, false, false},
		{"a node whose kubelet is silent", set(corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}), true, false, false},
		{"a node without conditions", set(), true, false, false},
		{"a node without network", set(corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue},
			corev1.NodeCondition{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue}), false, false, true},
		{"an excluded node", excluded, false, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := nodeOf(tc.node)
			if n.notReady != tc.notReady || n.excluded != tc.excluded || n.networkUnavailable != tc.networkUnavailable {
				t.Errorf("got %+v", n)
			}
		})
	}
}

func TestWhatDrainsANode(t *testing.T) {
	taint := func(key string) func(*corev1.Node) {
		return func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: key, Effect: corev1.TaintEffectNoSchedule}}
		}
	}
	annotation := func(value string) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Annotations = map[string]string{AnnotationDrain: value} }
	}
	notReady := func(message string) func(*corev1.Node) {
		return func(n *corev1.Node) {
			n.Status.Conditions[0] = corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: message}
		}
	}
	for _, tc := range []struct {
		name   string
		change func(*corev1.Node)
		want   bool
	}{
		{"nothing", func(*corev1.Node) {}, false},
		{"the annotation", annotation("true"), true},
		{"the annotation without a value", annotation(""), true},
		{"not the annotation that says no", annotation("false"), false},
		{"not a cordon", func(n *corev1.Node) { n.Spec.Unschedulable = true }, false},
		{"the autoscaler that is about to delete it", taint("ToBeDeletedByClusterAutoscaler"), true},
		{"the cloud that has shut it down", taint("node.cloudprovider.kubernetes.io/shutdown"), true},
		{"somebody who says that it is out of service", taint(corev1.TaintNodeOutOfService), true},
		{"not any taint", taint("node-role.kubernetes.io/control-plane"), false},
		{"a kubelet that shuts down", notReady("node is shutting down"), true},
		{"not a kubelet that is not ready", notReady("container runtime is down"), false},
		{"its deletion", func(n *corev1.Node) { n.DeletionTimestamp = &metav1.Time{} }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := readyNode("n1")
			tc.change(n)
			if got := nodeOf(n); got.draining != tc.want || got.cordoned != n.Spec.Unschedulable {
				t.Errorf("got %+v, want draining %t", got, tc.want)
			}
			if tc.want && restarts(n) {
				t.Error("a speaker that stops there is taken for one that is being restarted")
			}
		})
	}
}

func TestWhenASpeakerThatStopsIsBeingRestarted(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*corev1.Node)
		want   bool
	}{
		{"on a Ready node", func(*corev1.Node) {}, true},
		{"not on a cordoned one", func(n *corev1.Node) { n.Spec.Unschedulable = true }, false},
		{"not on one that is being deleted", func(n *corev1.Node) { n.DeletionTimestamp = &metav1.Time{} }, false},
		{"not on one that shuts down", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse }, false},
		{"not on one whose kubelet is silent", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := readyNode("n1")
			tc.change(n)
			if got := restarts(n); got != tc.want {
				t.Errorf("got %t, want %t", got, tc.want)
			}
		})
	}
	if restarts(nil) {
		t.Error("a node that nothing is known of counts as one that goes on")
	}
}

func TestWhereTheRingMeets(t *testing.T) {
	dual := readyNode("n1", "192.0.2.11", "2001:db8::11")
	for _, tc := range []struct {
		bind, want string
		node       *corev1.Node
		later      bool // the error may mend itself
	}{
		{"", "192.0.2.11:7947", dual, false},
		{":7000", "192.0.2.11:7000", dual, false},
		{"198.51.100.1", "198.51.100.1:7947", nil, false},
		{"198.51.100.1:7000", "198.51.100.1:7000", nil, false},
		{"2001:db8::1", "[2001:db8::1]:7947", nil, false},
		{"[2001:db8::1]:7000", "[2001:db8::1]:7000", nil, false},
		{"", "", nil, true},
		{"", "", readyNode("n1"), true},
		{"0.0.0.0", "", dual, false},
		{"eth0", "", dual, false},
		{":0", "", dual, false},
		{":http", "", dual, false},
	} {
		t.Run(fmt.Sprintf("%q", tc.bind), func(t *testing.T) {
			got, err := gossipAddr(tc.bind, tc.node)
			if tc.want == "" {
				if err == nil || errors.As(err, new(notYet)) != tc.later {
					t.Errorf("got %v and error %v, want one that may mend itself: %t", got, err, tc.later)
				}
				return
			}
			if err != nil || got.String() != tc.want {
				t.Errorf("got %v, %v; want %s", got, err, tc.want)
			}
		})
	}
}

func TestPeersAreMetInOneFamily(t *testing.T) {
	nodes := []*corev1.Node{
		readyNode("n1", "192.0.2.11", "2001:db8::11"), readyNode("n2", "2001:db8::12", "192.0.2.12"),
		readyNode("n3", "192.0.2.13"), readyNode("n4"),
	}
	for ours, want := range map[string]string{
		"192.0.2.11:7947":     "[{n1 192.0.2.11:7947} {n2 192.0.2.12:7947} {n3 192.0.2.13:7947}]",
		"[2001:db8::11]:7000": "[{n1 [2001:db8::11]:7000} {n2 [2001:db8::12]:7000}]",
	} {
		if got := fmt.Sprint(peers(nodes, netip.MustParseAddrPort(ours))); got != want {
			t.Errorf("from %s the peers are %s, want %s", ours, got, want)
		}
	}
}
