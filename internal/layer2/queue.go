package layer2

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"time"
)

// repeats are the times between the first announcements of an address that arrived here. One frame can be lost and
// a switch may be moving its own tables just then; after 2 s a host asks by itself.
var repeats = [...]time.Duration{100 * time.Millisecond, 400 * time.Millisecond, 500 * time.Millisecond, time.Second}

const (
	// probes is how often an address is asked for before it is used (PROBE_NUM of RFC 5227, section 1.1): less often, but
	// once at least, where so many are new at once that the pace has no room for more while each is asked for.
	probes = 3

	// probeInterval is the time between two of them, and after the last. RFC 5227 wants 1 to 2 s, and up to 7 s in all, for
	// hosts whose link has just come up and may not forward yet. Ours has been up, a host answers in less than a
	// millisecond, and a user waits. Who answers later than 300 ms is found when the address has been announced.
	probeInterval = 100 * time.Millisecond

	// holdInterval is how long an address that somebody else has is left alone before it is asked for again.
	holdInterval = 10 * time.Second

	// defendInterval is how often an address that somebody else claims is defended with an announcement, at most
	// (DEFEND_INTERVAL of RFC 5227, section 1.1). Two hosts that answer each other at once would fill the link.
	defendInterval = 10 * time.Second

	// remindAfter is how long after a member has come back all addresses are announced once more: it has heard by then who has them,
	// and has stopped to answer for those that are not its own any more.
	remindAfter = time.Second

	// paceCredit is how many packets behind its pace a queue may catch up after the process was not scheduled; more would
	// make a burst again.
	paceCredit = 5
)

// The classes of packets, most urgent first.
const (
	takeover = iota // the first announcement of an address that others had
	probing         // the first question before it, for an address that is new
	reprobe         // the other questions
	arrival         // the first announcement of an address that is in use already, and that nobody had before
	repeat          // the announcements after the first, and the defense of an address
	refresh
	classes
)

// queue says about which address an interface says something next, and when. It holds no timer and no lock: it is asked
// with the time.
type queue struct {
	interval, refresh time.Duration // between two packets, and between two announcements in quiet times
	noProbes          bool
	jitter            func(time.Duration) time.Duration

	entries map[netip.Addr]*entry
	due     [classes]byTime
	free    time.Time // when the pace allows the next packet
}

// entry is one address, and what will be said about it at the time at.
type entry struct {
	addr      netip.Addr
	n         int // announcements before; below 0, the probes that are left
	probed    bool
	asked     time.Time // until when it is asked for, once it is
	contested bool      // somebody else claims it
	at        time.Time
	class     int
	pos       int // in due[class]
}

// step is what to send about an address: its nth announcement, with a probe after it if probe is set. While n is below
// 0 it is a probe alone; when silent is set it is nothing, and tells that the probes are over.
type step struct {
	addr   netip.Addr
	n      int
	probe  bool
	silent bool
}

// newQueue makes an empty queue. jitter spreads the announcements that many addresses would else make together.
func newQueue(c Config, jitter func(time.Duration) time.Duration) *queue {
	c = c.withDefaults()
	return &queue{
		interval: time.Second / time.Duration(c.PacketsPerSecond),
		refresh:  c.Refresh,
		noProbes: c.NoProbes,
		jitter:   jitter,
		entries:  map[netip.Addr]*entry{},
	}
}

// tenth returns a random duration within a tenth of d to either side.
func tenth(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

// add starts the announcements of an address, again when it is there; with probe, it starts the probes before them.
func (q *queue) add(addr netip.Addr, now time.Time, probe bool) {
	q.remove(addr)
	e := &entry{addr: addr, at: now, class: takeover, probed: probe}
	if probe {
		e.n, e.class = -probes, probing
	}
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

// hold puts the probes of an address off, because somebody has it.
func (q *queue) hold(addr netip.Addr, now time.Time) {
	if e, ok := q.entries[addr]; ok && (e.class == probing || e.class == reprobe) {
		e.n = -probes
		q.move(e, probing, now.Add(q.jitter(holdInterval)))
	}
}

// contest has an address that somebody else claims defended: announced at once, unless its first announcements are
// going on, and from then on every defendInterval, with a probe that shows whether the other still has it.
func (q *queue) contest(addr netip.Addr, now time.Time) {
	e, ok := q.entries[addr]
	if !ok || e.contested {
		return
	}
	e.contested = true
	if e.class == refresh {
		q.move(e, repeat, now)
	}
}

// remind has the addresses announced soon that are to be refreshed later.
func (q *queue) remind(now time.Time) {
	at := now.Add(q.jitter(remindAfter))
	for _, e := range q.entries {
		if e.class == refresh && at.Before(e.at) {
			q.move(e, refresh, at)
		}
	}
}

// settle ends what contest began.
func (q *queue) settle(addr netip.Addr) {
	if e, ok := q.entries[addr]; ok {
		e.contested = false
	}
}

func (q *queue) move(e *entry, class int, at time.Time) {
	heap.Remove(&q.due[e.class], e.pos)
	e.class, e.at = class, at
	heap.Push(&q.due[class], e)
}

// next returns what to send now. When it is nothing, wait is how long it will take until there may be something; forever
// is the answer of an empty queue.
func (q *queue) next(now time.Time) (s step, wait time.Duration) {
	if s, over := q.unclaimed(now); over {
		return s, 0
	}
	if d := q.free.Sub(now); d > 0 {
		return step{}, d
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
		return q.take(e, now), 0
	}
	return step{}, wait
}

// unclaimed returns an address that nobody turned out to have in the time for that. Who announces it may answer for it, and
// that does not wait for the pace.
func (q *queue) unclaimed(now time.Time) (s step, over bool) {
	if len(q.due[reprobe]) == 0 {
		return step{}, false
	}
	e := q.due[reprobe][0]
	if now.Before(e.at) || now.Before(e.asked) {
		return step{}, false
	}
	e.n = 0
	q.move(e, arrival, now)
	return step{addr: e.addr, silent: true}, true
}

// take returns what an entry has to say, and schedules what it will say next.
func (q *queue) take(e *entry, now time.Time) step {
	s := step{addr: e.addr, n: e.n}
	// An address that was taken over is not delayed by a probe. It is asked for once when all know where it is now: a
	// host that had it all along, and a kernel that answers by itself, are found then.
	s.probe = s.n >= 0 && !q.noProbes && (e.contested || s.n == len(repeats) && !e.probed)
	e.n++
	switch {
	case s.n < 0:
		if e.class == probing {
			e.asked = now.Add(probes * probeInterval)
		}
		next := now.Add(probeInterval) // also the least that somebody has to answer
		if next.After(e.asked) || e.n == 0 {
			e.asked = next
		}
		q.move(e, reprobe, next)
	case s.n < len(repeats):
		q.move(e, repeat, now.Add(q.jitter(repeats[s.n])))
	case e.contested:
		q.move(e, repeat, now.Add(defendInterval+q.jitter(defendInterval/5)))
	default:
		q.move(e, refresh, now.Add(q.jitter(q.refresh)))
	}
	if earliest := now.Add(-paceCredit * q.interval); q.free.Before(earliest) {
		q.free = earliest
	}
	q.free = q.free.Add(q.interval)
	if s.probe {
		q.free = q.free.Add(q.interval)
	}
	return s
}

// waiting counts the addresses about which there is something to say that the pace holds back.
func (q *queue) waiting(now time.Time) int {
	n := 0
	for _, e := range q.entries {
		if !e.at.After(now) {
			n++
		}
	}
	return n
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
