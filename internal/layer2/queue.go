package layer2

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"time"
)

const (
	// announceInterval is the least time between two announcements on one interface: 500 a second. Switches police
	// bursts of ARP, and what they drop of a burst are the addresses that stay wrong.
	announceInterval = 2 * time.Millisecond

	// announceCredit is how far behind its pace a queue may catch up after the process was not scheduled; more would
	// make a burst again.
	announceCredit = 5 * announceInterval

	// refreshInterval is how often an address is announced while nothing happens, so that switches which saw no frame
	// of it do not forget their entry and flood: they age entries out after 300 s and, where it was made short, 120 s.
	refreshInterval = 60 * time.Second
)

// repeats are the times between the first announcements of an address that arrived here. One frame can be lost and
// a switch may be moving its own tables just then; after 2 s a host asks by itself.
var repeats = [...]time.Duration{100 * time.Millisecond, 400 * time.Millisecond, 500 * time.Millisecond, time.Second}

// The classes of announcements, most urgent first.
const (
	takeover = iota // the first one of an address
	repeat          // the few after it
	refresh
	classes
)

// queue says which address an interface announces next, and when. It holds no timer and no lock: it is asked with
// the time.
type queue struct {
	entries map[netip.Addr]*entry
	due     [classes]byTime
	free    time.Time // when the pace allows the next announcement
	jitter  func(time.Duration) time.Duration
}

// entry is one address: its nth announcement is at the time at.
type entry struct {
	addr  netip.Addr
	n     int
	at    time.Time
	class int
	pos   int // in due[class]
}

// newQueue makes an empty queue. jitter spreads the announcements that many addresses would else make together.
func newQueue(jitter func(time.Duration) time.Duration) *queue {
	return &queue{entries: map[netip.Addr]*entry{}, jitter: jitter}
}

// tenth returns a random duration within a tenth of d to either side.
func tenth(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

// add starts the announcements of an address, again when it is there.
func (q *queue) add(addr netip.Addr, now time.Time) {
	q.remove(addr)
	e := &entry{addr: addr, at: now, class: takeover}
	q.entries[addr] = e
	heap.Push(&q.due[e.class], e)
}

// remove cancels what is queued of an address.
func (q *queue) remove(addr netip.Addr) {
	if e, ok := q.entries[addr]; ok {
		heap.Remove(&q.due[e.class], e.pos)
		delete(q.entries, addr)
	}
}

// next returns the address to announce now and how many times it was announced before. When there is none, wait is
// how long it will take until there may be one; forever is the answer of an empty queue.
func (q *queue) next(now time.Time) (addr netip.Addr, n int, wait time.Duration) {
	if d := q.free.Sub(now); d > 0 {
		return netip.Addr{}, 0, d
	}
	wait = forever
	for class := range q.due {
		if len(q.due[class]) == 0 {
			continue
		}
		e := q.due[class][0]
		if d := e.at.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		heap.Pop(&q.due[class])
		addr, n = e.addr, e.n
		e.n++
		if n < len(repeats) {
			e.class, e.at = repeat, now.Add(q.jitter(repeats[n]))
		} else {
			e.class, e.at = refresh, now.Add(q.jitter(refreshInterval))
		}
		heap.Push(&q.due[e.class], e)
		if earliest := now.Add(-announceCredit); q.free.Before(earliest) {
			q.free = earliest
		}
		q.free = q.free.Add(announceInterval)
		return addr, n, 0
	}
	return netip.Addr{}, 0, wait
}

// forever is longer than any wait of a queue that has something in it.
const forever = 1000 * time.Hour

// byTime is a heap of entries, the earliest first, and by address among equals so that order is stable.
type byTime []*entry

func (h byTime) Len() int { return len(h) }
func (h byTime) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].addr.Less(h[j].addr)
}
func (h byTime) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}
func (h *byTime) Push(x any) {
	e := x.(*entry)
	e.pos = len(*h)
	*h = append(*h, e)
}
func (h *byTime) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
