package announce

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"heraldlb.io/herald/internal/election"
)

// AnnotationMove on a Node asks its speaker to take addresses over from whoever has them, once, and until a time: the value
// is a [Move]. Nobody else need know of it: that the speaker claims them tells all others, also those of older versions.
const AnnotationMove = "heraldlb.io/move"

// moveMost is how far ahead the end of a Move may be, so that one that nobody takes back does not wait for a bad day.
const moveMost = 10 * time.Minute

// Move is a person's wish that a node have addresses.
type Move struct {
	Addrs []netip.Addr
	Until time.Time
}

const moveUntil = " until "

// String writes the Move as ParseMove reads it: "192.0.2.100,2001:db8::1 until 2026-01-02T12:00:30Z".
func (m Move) String() string {
	addrs := make([]string, len(m.Addrs))
	for i, a := range m.Addrs {
		addrs[i] = a.String()
	}
	return strings.Join(addrs, ",") + moveUntil + m.Until.UTC().Format(time.RFC3339)
}

// ParseMove reads a Move.
func ParseMove(s string) (Move, error) {
	addrs, until, ok := strings.Cut(s, moveUntil)
	if !ok {
		return Move{}, fmt.Errorf("%q: want addresses, %q and a time", s, strings.TrimSpace(moveUntil))
	}
	var m Move
	for a := range strings.SplitSeq(addrs, ",") {
		addr, err := netip.ParseAddr(strings.TrimSpace(a))
		if err != nil {
			return Move{}, fmt.Errorf("%q: %q is no IP address", s, a)
		}
		m.Addrs = append(m.Addrs, addr.Unmap())
	}
	var err error
	if m.Until, err = time.Parse(time.RFC3339, strings.TrimSpace(until)); err != nil {
		return Move{}, fmt.Errorf("%q: %q is no time such as 2026-01-02T12:00:30Z", s, until)
	}
	return m, nil
}

// setMove takes in which addresses this node is asked to take over, as its annotation says; empty for none. A Move that was
// seen before is no news: what of it was done is done. An error says why it counts for nothing.
func (p *planner) setMove(value string, now time.Time) error {
	if value == p.asked {
		return nil
	}
	p.asked = value
	clear(p.moves)
	if value == "" {
		return nil
	}
	m, err := ParseMove(value)
	if err != nil {
		return err
	}
	if m.Until.Sub(now) > moveMost {
		return fmt.Errorf("%q: its end is more than %v ahead of this node's clock", value, moveMost)
	}
	for _, addr := range m.Addrs {
		p.moves[addr] = m.Until
		if len(p.holders[addr]) > 0 {
			p.dirty[addr] = struct{}{}
		}
	}
	return nil
}

// moved tells whether this node is to claim an address because it was asked to: another one has it, and this one would keep
// it. One that sees no more than half of the cluster waits: its claim would not count against an owner that sees it.
func (p *planner) moved(addr netip.Addr, candidates []election.Candidate, now time.Time) bool {
	until, asked := p.moves[addr]
	if !asked || !now.Before(until) {
		return false
	}
	return p.claims[addr].Node != "" && p.majority() && p.stays(addr, candidates) == election.Fit
}

// stays tells whether an address would stay with this node if it claimed it, and if not why.
func (p *planner) stays(addr netip.Addr, candidates []election.Candidate) election.Reason {
	return election.Judge(candidates, p.self, p.electorate(addr).rebalance).Why
}
