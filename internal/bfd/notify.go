package bfd

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// notifier tells others what the loop found, on a goroutine of its own: neither a slow receiver nor a full log may hold
// up packets.
type notifier struct {
	logger log.Logger
	notify func(Change)

	wake chan struct{} // holds at most one
	done chan struct{}

	mu      sync.Mutex
	pending []Change
	faults  map[netip.Addr]error // nil means that the fault is gone
	closed  bool
}

func startNotifier(logger log.Logger, notify func(Change)) *notifier {
	n := &notifier{logger: logger, notify: notify, wake: make(chan struct{}, 1), done: make(chan struct{}), faults: map[netip.Addr]error{}}
	go n.run()
	return n
}

// add queues a change.
func (n *notifier) add(c Change) { n.do(func() { n.pending = merge(n.pending, c) }) }

// fault queues that packets to or from a peer fail, or with nil that they no longer do.
func (n *notifier) fault(peer netip.Addr, err error) { n.do(func() { n.faults[peer] = err }) }

// forget drops what is queued about a session that nobody wants any more.
func (n *notifier) forget(peer netip.Addr) {
	n.do(func() {
		n.pending = slices.DeleteFunc(n.pending, func(c Change) bool { return c.Peer == peer })
		delete(n.faults, peer)
	})
}

// close ends the goroutine after all that is queued was told.
func (n *notifier) close() {
	n.do(func() { n.closed = true })
	<-n.done
}

func (n *notifier) do(f func()) {
	n.mu.Lock()
	f()
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *notifier) run() {
	defer close(n.done)
	for range n.wake {
		for {
			n.mu.Lock()
			changes, faults, closed := n.pending, n.faults, n.closed
			n.pending, n.faults = nil, map[netip.Addr]error{}
			n.mu.Unlock()
			for peer, err := range faults {
				n.logFault(peer, err)
			}
			for _, c := range changes {
				n.logChange(c)
				n.notify(c)
			}
			if closed {
				return
			}
			if len(changes) == 0 {
				break
			}
		}
	}
}

func (n *notifier) logFault(peer netip.Addr, err error) {
	if err != nil {
		level.Warn(n.logger).Log("msg", "BFD packets fail", "peer", peer, "err", err)
		return
	}
	level.Info(n.logger).Log("msg", "BFD packets are sent and received again", "peer", peer)
}

func (n *notifier) logChange(c Change) {
	if c.State == Up {
		level.Info(n.logger).Log("msg", "BFD session is up", "peer", c.Peer)
		return
	}
	level.Warn(n.logger).Log("msg", "BFD session is down", "peer", c.Peer, "state", c.State, "diagnostic", c.Diagnostic)
}

// merge queues a change behind others of which none was told yet. Of one peer at most three stay, a Down, an AdminDown and
// an Up: that a session failed is never lost, and how often it did while nobody listened does not matter.
func merge(pending []Change, c Change) []Change {
	pending = slices.DeleteFunc(pending, func(p Change) bool {
		return p.Peer == c.Peer && (p.State == c.State || p.State == Up)
	})
	return append(pending, c)
}
