package gossip

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// MaxClaims is how many addresses the table of claims holds, at about 100 bytes each. A claim for one more is refused:
	// what comes from the wire must not grow without bound.
	MaxClaims = 1 << 16

	// MaxEpoch is the highest epoch that a claim may have. An owner's change raises it by one, so that it is out of reach;
	// a claim above it is damaged, and nobody could ever exceed the highest number there is.
	MaxEpoch = 1 << 32

	// forgetTime is how long what was forgotten is remembered as such. In it every other member has forgotten too, and
	// cannot bring it back with the next exchange of tables.
	forgetTime = time.Minute
)

// Claim is a node's word that it owns an address. Of two claims for an address the one with the higher epoch counts, and
// with equal epochs [Config.Prefer] decides; the other one is gone.
type Claim struct {
	Addr  netip.Addr
	Node  string
	Epoch uint64
}

// valid tells whether a claim can be one. What can be announced at all is for others to judge.
func (c Claim) valid() bool {
	return c.Addr.IsValid() && c.Addr.Zone() == "" && !c.Addr.Is4In6() && !c.Addr.IsUnspecified() && !c.Addr.IsMulticast() &&
		c.Node != "" && len(c.Node) <= maxName && c.Epoch > 0 && c.Epoch <= MaxEpoch
}

// registers is the table of claims: one last-writer-wins register for each address. Members that have heard of the same
// claims, in any order and however often, hold the same table.
type registers struct {
	prefer func(addr netip.Addr, x, y string) bool
	now    func() time.Time // the monotonic reading counts

	digest atomic.Uint64 // of the claims that are not forgotten

	mu      sync.Mutex
	entries map[netip.Addr]*register
	live    int                     // entries that are not forgotten
	taken   map[netip.Addr]struct{} // changed from outside since the last take
	own     []netip.Addr            // claimed here and not sent to the peers yet
	queue   []netip.Addr            // to be passed on, each once; the first goes first
}

type register struct {
	node      string
	epoch     uint64
	sends     int       // times that it is still to be sent; it is in the queue while there are any
	forgotten time.Time // zero while it counts
}

func newRegisters(prefer func(addr netip.Addr, x, y string) bool) *registers {
	if prefer == nil {
		prefer = func(_ netip.Addr, x, y string) bool { return x < y }
	}
	return &registers{prefer: prefer, now: time.Now, entries: map[netip.Addr]*register{}, taken: map[netip.Addr]struct{}{}}
}

// verdict is what became of a claim.
type verdict int

const (
	claimKnown   verdict = iota // it is no better than what is held
	claimTaken                  // it is held now
	claimInvalid                // it cannot be one
	claimExcess                 // there is no room for it
)

// merge takes in a claim that came from the wire, which is passed on sends times when it is news.
func (t *registers) merge(c Claim, sends int) verdict {
	if !c.valid() {
		return claimInvalid
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e, known := t.entries[c.Addr]
	if known && !t.better(c, e) {
		return claimKnown
	}
	if !t.set(c, e, sends) {
		return claimExcess
	}
	t.taken[c.Addr] = struct{}{}
	return claimTaken
}

// claim takes in a claim of this node's own making. One for an address that was forgotten begins above what was
// forgotten, because others may not take it in else; that, and a claim that loses, is told by take.
func (t *registers) claim(c Claim, sends int) verdict {
	if !c.valid() {
		return claimInvalid
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e, known := t.entries[c.Addr]
	switch {
	case known && !e.forgotten.IsZero() && c.Epoch <= e.epoch:
		c.Epoch = min(e.epoch+1, MaxEpoch)
		t.taken[c.Addr] = struct{}{}
	case known && e.node == c.Node && e.epoch == c.Epoch:
		return claimKnown
	case known && !t.better(c, e):
		t.taken[c.Addr] = struct{}{}
		return claimKnown
	}
	if !t.set(c, e, sends) {
		return claimExcess
	}
	t.own = append(t.own, c.Addr)
	return claimTaken
}

// better tells whether a claim wins against what is held.
func (t *registers) better(c Claim, e *register) bool {
	if c.Epoch != e.epoch {
		return c.Epoch > e.epoch
	}
	return c.Node != e.node && t.prefer(c.Addr, c.Node, e.node)
}

// set holds a claim in place of e, which is nil when there was none, and queues it.
func (t *registers) set(c Claim, e *register, sends int) bool {
	if e == nil {
		if len(t.entries) >= MaxClaims {
			t.sweep()
		}
		if len(t.entries) >= MaxClaims {
			return false
		}
		e = &register{}
		t.entries[c.Addr] = e
		t.live++
	} else if !e.forgotten.IsZero() {
		t.live++
	} else {
		t.toggle(c.Addr, e)
	}
	if e.sends == 0 && sends > 0 {
		t.queue = append(t.queue, c.Addr)
	}
	e.node, e.epoch, e.sends, e.forgotten = c.Node, c.Epoch, sends, time.Time{}
	t.toggle(c.Addr, e)
	return true
}

// toggle takes a claim into the digest or out of it.
func (t *registers) toggle(addr netip.Addr, e *register) {
	t.digest.Store(t.digest.Load() ^ hashClaim(addr, e.node, e.epoch))
}

// forget ends the claims for addresses: they are not passed on any more.
func (t *registers) forget(addrs []netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep()
	now := t.now()
	for _, addr := range addrs {
		if e, ok := t.entries[addr]; ok && e.forgotten.IsZero() {
			e.forgotten = now
			t.live--
			t.toggle(addr, e)
		}
		delete(t.taken, addr)
	}
}

// sweep drops what was forgotten long ago.
func (t *registers) sweep() {
	if t.live == len(t.entries) {
		return
	}
	limit := t.now().Add(-forgetTime)
	for addr, e := range t.entries {
		if !e.forgotten.IsZero() && e.forgotten.Before(limit) && e.sends == 0 {
			delete(t.entries, addr)
		}
	}
}

// take returns, by address, the claims that changed from outside since it was last called.
func (t *registers) take() []Claim {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Claim, 0, len(t.taken))
	for addr := range t.taken {
		e := t.entries[addr]
		out = append(out, Claim{Addr: addr, Node: e.node, Epoch: e.epoch})
	}
	clear(t.taken)
	slices.SortFunc(out, func(x, y Claim) int { return x.Addr.Compare(y.Addr) })
	return out
}

// all returns every claim, those of one node together.
func (t *registers) all() []Claim {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep()
	out := make([]Claim, 0, t.live)
	for addr, e := range t.entries {
		if e.forgotten.IsZero() {
			out = append(out, Claim{Addr: addr, Node: e.node, Epoch: e.epoch})
		}
	}
	slices.SortFunc(out, func(x, y Claim) int { return cmp.Or(cmp.Compare(x.Node, y.Node), x.Addr.Compare(y.Addr)) })
	return out
}

// len returns the number of claims.
func (t *registers) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.live
}

// nextOwn returns a message of at most limit bytes with claims that were made here and not sent yet, nil when there is
// none.
func (t *registers) nextOwn(limit int) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, b := t.write(t.own, limit)
	if t.own = t.own[n:]; len(t.own) == 0 {
		t.own = nil
	}
	return b
}

// next returns a message of at most limit bytes with the claims that wait longest to be passed on, nil when none waits
// or not one fits.
func (t *registers) next(limit int) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, b := t.write(t.queue, limit)
	sent := t.queue[:n:n]
	t.queue = t.queue[n:]
	for _, addr := range sent {
		e := t.entries[addr]
		if !e.forgotten.IsZero() {
			e.sends = 0
		} else if e.sends--; e.sends > 0 {
			t.queue = append(t.queue, addr)
		}
	}
	if len(t.queue) == 0 {
		t.queue = nil
	}
	return b
}

// write returns a message with the claims for the first n addresses, as many as fit into limit bytes, each with its
// newest value; nil when there is none.
func (t *registers) write(addrs []netip.Addr, limit int) (n int, b []byte) {
	var w claimWriter
	for _, addr := range addrs {
		e, ok := t.entries[addr]
		if ok && e.forgotten.IsZero() && !w.append(Claim{Addr: addr, Node: e.node, Epoch: e.epoch}, limit-messageOverhead) {
			break
		}
		n++
	}
	if len(w.b) == 0 {
		return n, nil
	}
	return n, message(section{sectionClaims, w.b})
}
