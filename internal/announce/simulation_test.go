package announce

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// The simulation runs the planners of several speakers, which are what decides in production too, on a network, an API
// server and nodes that fail at random. Time is driven and all chance comes from a seed, so that a history that breaks a
// rule can be seen again:
//
//	go test ./internal/announce -run Simulation -simulation.seed 4711
var (
	simulationSeed      = flag.Uint64("simulation.seed", 0, "run this one history and print it")
	simulationHistories = flag.Int("simulation.histories", simHistories, "how many histories to run")
)

func TestSimulation(t *testing.T) {
	if *simulationSeed != 0 {
		w := runHistory(*simulationSeed, true)
		t.Log(w.story())
		if w.broken != "" {
			t.Error(w.broken)
		}
		return
	}
	n := *simulationHistories
	if testing.Short() {
		n = min(n, 200)
	}
	var next, events, moves atomic.Uint64
	var mu sync.Mutex
	var double, gap time.Duration
	var failed []uint64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for {
				seed := next.Add(1)
				if seed > uint64(n) {
					return
				}
				w := runHistory(seed, false)
				events.Add(uint64(w.handled))
				moves.Add(uint64(w.moves))
				mu.Lock()
				double, gap = max(double, w.worstDouble), max(gap, w.worstGap)
				if w.broken != "" {
					failed = append(failed, seed)
				}
				enough := len(failed) >= 3
				mu.Unlock()
				if enough {
					return
				}
			}
		})
	}
	workers.Wait()
	t.Logf("%d histories, %d events, %d claims; longest double answer %v, longest gap with somebody eligible %v", n, events.Load(), moves.Load(), double, gap)
	for i, seed := range failed {
		w := runHistory(seed, true)
		if i == 0 {
			t.Log(w.story())
		}
		t.Errorf("-simulation.seed %d: %s", seed, w.broken)
	}
}

// runHistory lives through one history, until it ends or a rule is broken.
func runHistory(seed uint64, record bool) *simWorld {
	w := newSimWorld(seed, record)
	w.plot()
	for w.broken == "" && len(w.queue) > 0 {
		e := heap.Pop(&w.queue).(*simEvent)
		w.now = e.at
		w.handled++
		e.do()
		w.check()
	}
	if w.broken == "" {
		w.checkEnd()
	}
	return w
}

// simEvent is something that happens at a time.
type simEvent struct {
	at    time.Duration
	order int // of those at the same time
	do    func()
}

type simQueue []*simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(e any)   { *q = append(*q, e.(*simEvent)) }
func (q *simQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

// simWorld is everything: the truth, the nodes and what happens next.
type simWorld struct {
	rng     *rand.Rand
	now     time.Duration
	queue   simQueue
	orders  int
	handled int
	moves   int
	record  bool
	lines   []string
	broken  string

	nodes    []*simNode
	services []*simService
	loss     float64 // of a packet
	together [][]time.Duration

	fault   time.Duration         // the last one
	claimed time.Duration         // the last time that anybody claimed something
	frozen  map[netip.Addr]string // what the places were when the API server went
	wished  *simWish              // that nothing stands against

	doubles, gaps map[netip.Addr]*simSpan
	worstDouble   time.Duration
	worstGap      time.Duration
}

// at makes something happen after a time.
func (w *simWorld) after(d time.Duration, do func()) {
	w.orders++
	heap.Push(&w.queue, &simEvent{w.now + d, w.orders, do})
}

// between draws a time.
func (w *simWorld) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.rng.Int64N(int64(most-least)+1))
}

func (w *simWorld) chance(p float64) bool { return w.rng.Float64() < p }

// say writes a line of the history.
func (w *simWorld) say(format string, args ...any) {
	if w.record {
		w.lines = append(w.lines, fmt.Sprintf("%9.3fs  ", w.now.Seconds())+fmt.Sprintf(format, args...))
	}
}

// breaks ends the history: a rule is broken.
func (w *simWorld) breaks(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf("at %.3fs: ", w.now.Seconds()) + fmt.Sprintf(format, args...)
		w.say("BROKEN: %s", w.broken)
	}
}

func (w *simWorld) story() string { return "the history:\n" + strings.Join(w.lines, "\n") }

// clock is the time as planners see it. Every two seconds somebody sets the time of day, forth and back by an hour and more, which
// must make no difference.
func (w *simWorld) clock() time.Time {
	jumps := [...]time.Duration{0, time.Hour, -time.Hour, 100 * 24 * time.Hour}
	return setClock(simStart.Add(w.now), jumps[w.now/(2*time.Second)%time.Duration(len(jumps))])
}

// simStart has a monotonic reading.
var simStart = time.Now()

// setClock returns a time as it would have been read had the time of day been set by so much before, in seconds. There is no
// function for it: this changes the seconds since 1885 that package time keeps, above 30 bits of nanoseconds, in the first word of a time
// that has a monotonic reading.
func setClock(t time.Time, by time.Duration) time.Time {
	*(*uint64)(unsafe.Pointer(&t)) += uint64(by/time.Second) << 30
	return t
}

func TestSetClock(t *testing.T) {
	for _, by := range []time.Duration{0, time.Hour, -time.Hour} {
		set := setClock(simStart, by)
		if got := set.Unix() - simStart.Unix(); got != int64(by/time.Second) || set.Sub(simStart) != 0 {
			t.Errorf("set by %v: the time of day differs by %d s, and %v have passed", by, got, set.Sub(simStart))
		}
	}
}
