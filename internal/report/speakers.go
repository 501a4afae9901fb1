package report

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/gossip"
)

// The states of a Speaker.
const (
	SpeakerReady    = "Ready"
	SpeakerNotReady = "NotReady" // it says itself that it cannot announce yet
	SpeakerAway     = "Away"     // its peers say that it is being restarted
	SpeakerUnseen   = "Unseen"   // most of its peers do not see it
	SpeakerAbsent   = "Absent"   // the node has none
)

// Speaker is how the speaker of a node stands.
type Speaker struct {
	Node     string `json:"node"`
	State    string `json:"state"`
	Message  string `json:"message,omitempty"`
	Version  string `json:"version,omitempty"`
	Draining bool   `json:"draining,omitempty"`
	// Observing: it announces nothing, and only tells what it would.
	Observing bool `json:"observing,omitempty"`
	// ServicePath is the status of the condition ServicePathHealthy.
	ServicePath metav1.ConditionStatus `json:"servicePath,omitempty"`
	// Filtered is what of clients' packets the node's kernel drops by reverse path filtering, in words.
	Filtered    string   `json:"filtered,omitempty"`
	Members     int32    `json:"members"`
	Missing     []string `json:"missing,omitempty"` // nodes of which it sees no speaker
	Interfaces  []string `json:"interfaces"`
	Sessions    int      `json:"sessions"`    // with BGP peers
	Established int      `json:"established"` // of them
	Addresses   int      `json:"addresses"`   // that it announces, or would

	fromPod bool // it is a pod of which no more is known than Kubernetes knows
}

// Speakers tells of the speaker of every node, by node.
func Speakers(s *Snapshot) []Speaker {
	dead, away := unseen(s), away(s)
	held := map[string]map[netip.Addr]struct{}{}
	for _, a := range announcements(s) {
		if a.Role != v1beta1.RoleOwner && !a.observed() {
			continue
		}
		if held[a.Node] == nil {
			held[a.Node] = map[netip.Addr]struct{}{}
		}
		held[a.Node][a.addr] = struct{}{}
	}
	out, known := []Speaker{}, map[string]bool{}
	for _, sp := range s.Speakers {
		known[sp.Name] = true
		one := Speaker{Node: sp.Name, State: SpeakerReady, Version: sp.Status.Version, Draining: sp.Status.Draining, Observing: sp.Status.Observing,
			ServicePath: condition(sp.Status.Conditions, v1beta1.SpeakerServicePathHealthy).Status,
			Filtered:    condition(sp.Status.Conditions, v1beta1.SpeakerReversePathFiltered).Message,
			Members:     sp.Status.Gossip.Members, Missing: sp.Status.Gossip.Missing, Interfaces: []string{},
			Sessions: len(sp.Status.Sessions), Addresses: len(held[sp.Name])}
		for _, i := range sp.Status.Interfaces {
			one.Interfaces = append(one.Interfaces, i.Name)
		}
		for _, session := range sp.Status.Sessions {
			if session.State == established {
				one.Established++
			}
		}
		ready := condition(sp.Status.Conditions, v1beta1.SpeakerReady)
		switch {
		case dead[sp.Name]:
			one.State, one.Message = SpeakerUnseen, "most other speakers do not see it, and what it said last may be out of date"
		case away[sp.Name]:
			one.State, one.Message = SpeakerAway, "it is being restarted, and another node answers in its place"
		case ready.Status != metav1.ConditionTrue:
			one.State, one.Message = SpeakerNotReady, ready.Message
		}
		out = append(out, one)
	}
	if s.FromConfigMap {
		for i := range s.Pods {
			if p := &s.Pods[i]; p.Labels["app.kubernetes.io/component"] == "speaker" && p.DeletionTimestamp == nil {
				known[p.Spec.NodeName] = true
				out = append(out, speakerOfPod(p))
			}
		}
	}
	for _, n := range s.Nodes {
		if !known[n.Name] && !s.Missed("Speakers") && !s.Missed("Herald's pods") {
			out = append(out, Speaker{Node: n.Name, State: SpeakerAbsent, Message: "no speaker has run on this node yet", Interfaces: []string{}})
		}
	}
	slices.SortFunc(out, func(x, y Speaker) int { return cmp.Compare(x.Node, y.Node) })
	return out
}

// speakerOfPod is what a pod tells of its speaker, where speakers cannot tell of themselves.
func speakerOfPod(p *corev1.Pod) Speaker {
	sp := Speaker{Node: p.Spec.NodeName, State: SpeakerReady, Interfaces: []string{}, fromPod: true}
	if !podReady(p) {
		sp.State, sp.Message = SpeakerNotReady, podState(p)
	}
	return sp
}

// SpeakerHead is the head of SpeakerRows.
var SpeakerHead = []string{"NODE", "STATE", "MEMBERS", "SERVICE PATH", "INTERFACES", "ADDRESSES", "BGP", "VERSION"}

// SpeakerRows are speakers as a table.
func SpeakerRows(all []Speaker) [][]Cell {
	var rows [][]Cell
	for _, sp := range all {
		state := Cell{sp.State, Good}
		switch {
		case sp.State == SpeakerAbsent || sp.State == SpeakerUnseen:
			state.Tone = Bad
		case sp.State != SpeakerReady:
			state.Tone = Warn
		}
		if sp.Draining {
			state = Cell{state.Text + ",Draining", Warn}
		}
		if sp.Observing {
			state = Cell{state.Text + ",Observing", Warn}
		}
		members := Cell{Text: fmt.Sprint(sp.Members)}
		if len(sp.Missing) > 0 {
			members = Cell{fmt.Sprintf("%d, not %s", sp.Members, strings.Join(sp.Missing, ",")), Bad}
		}
		path := Cell{Text: map[metav1.ConditionStatus]string{metav1.ConditionTrue: "works", metav1.ConditionFalse: "down", metav1.ConditionUnknown: "unknown"}[sp.ServicePath]}
		if sp.ServicePath == metav1.ConditionFalse {
			path.Tone = Bad
		}
		addresses, sessions := Cell{Text: fmt.Sprint(sp.Addresses)}, Cell{}
		if sp.fromPod {
			members, addresses = Cell{}, Cell{}
		}
		if sp.Sessions > 0 {
			sessions.Text = fmt.Sprintf("%d/%d", sp.Established, sp.Sessions)
			if sp.Established < sp.Sessions {
				sessions.Tone = Warn
			}
		}
		rows = append(rows, []Cell{{Text: sp.Node}, state, members, path, {Text: strings.Join(sp.Interfaces, ",")}, addresses, sessions, {Text: sp.Version}})
	}
	return rows
}

// unseen are the nodes whose speaker more than half of the others do not see.
func unseen(s *Snapshot) map[string]bool {
	missed := map[string]int{}
	for _, sp := range s.Speakers {
		for _, node := range sp.Status.Gossip.Missing {
			missed[node]++
		}
	}
	out := map[string]bool{}
	for _, sp := range s.Speakers {
		// Those that are gone too say for ever that they see each other.
		if others := len(s.Speakers) - 1; 2*missed[sp.Name] > others {
			out[sp.Name] = true
		}
	}
	if len(out) == len(s.Speakers) {
		return nil // they are there, and cut off from each other
	}
	return out
}

// away are the nodes whose speaker is being restarted.
func away(s *Snapshot) map[string]bool {
	out := map[string]bool{}
	for _, sp := range s.Speakers {
		for _, node := range sp.Status.Gossip.Away {
			out[node] = true
		}
	}
	return out
}

// members are the speakers that are there, as they know each other.
func members(s *Snapshot) []gossip.Member {
	dead, away := unseen(s), away(s)
	var out []gossip.Member
	for _, sp := range s.Speakers {
		if dead[sp.Name] {
			continue
		}
		m := gossip.Member{Node: sp.Name, Version: sp.Status.Version, Away: away[sp.Name], Health: gossip.Health{
			Draining:        sp.Status.Draining,
			ServicePathDown: condition(sp.Status.Conditions, v1beta1.SpeakerServicePathHealthy).Status == metav1.ConditionFalse,
		}}
		for _, i := range sp.Status.Interfaces {
			mac, _ := net.ParseMAC(i.MAC) // one that is not known is nil
			out := gossip.Interface{Name: i.Name, MAC: mac, ARP: i.ARP, NDP: i.NDP}
			for _, subnet := range i.Subnets {
				if p, err := netip.ParsePrefix(subnet); err == nil {
					out.Subnets = append(out.Subnets, p.Masked())
				}
			}
			m.Health.Interfaces = append(m.Health.Interfaces, out)
		}
		out = append(out, m)
	}
	return out
}
