package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"heraldlb.io/herald/api/v1beta1"
)

// established is the State of a session over which routes are told.
const established = "Established"

// bfdUp is the state of a BFD session whose path works.
const bfdUp = "Up"

// Session is that of a node with a router.
type Session struct {
	Node string `json:"node"`
	v1beta1.BGPSession
}

// Peers tells of the sessions of all nodes, by peer and node.
func Peers(s *Snapshot) []Session {
	out := []Session{}
	dead := unseen(s)
	for _, sp := range s.Speakers {
		for _, session := range sp.Status.Sessions {
			if dead[sp.Name] {
				session.State, session.LastError = "Unknown", "most other speakers do not see that of this node, and what it said last may be out of date"
			}
			out = append(out, Session{sp.Name, session})
		}
	}
	slices.SortFunc(out, func(x, y Session) int { return cmp.Or(cmp.Compare(x.Peer, y.Peer), cmp.Compare(x.Node, y.Node)) })
	return out
}

// PeerHead is the head of PeerRows.
var PeerHead = []string{"PEER", "NODE", "ADDRESS", "STATE", "AGE", "BFD", "FAMILIES", "SENT", "LAST ERROR"}

// PeerRows are sessions as a table.
func PeerRows(now time.Time, all []Session) [][]Cell {
	var rows [][]Cell
	for _, p := range all {
		state := Cell{p.State, Bad}
		switch p.State {
		case established:
			state.Tone = Good
		case "Disabled":
			state.Tone = Plain
		}
		if p.Reason != "" {
			state.Text += "," + p.Reason
		}
		bfd := Cell{Text: p.BFD}
		if p.BFD != "" && p.BFD != bfdUp {
			bfd.Tone = Bad
		}
		var families []string
		for _, f := range p.Families {
			families = append(families, string(f))
		}
		rows = append(rows, []Cell{{Text: p.Peer}, {Text: p.Node}, {Text: p.Address}, state, {Text: Age(now, p.Since.Time)}, bfd,
			{Text: strings.Join(families, ",")}, {Text: fmt.Sprint(p.PrefixesSent)}, {Text: p.LastError}})
	}
	return rows
}
