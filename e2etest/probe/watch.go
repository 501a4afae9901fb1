package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mdlayher/packet"
)

const (
	// DefaultWatchInterval tells two answerers apart to a few hundredths of a second, for next to no load.
	DefaultWatchInterval = 20 * time.Millisecond
	// lapse is for how many questions a station may be silent until it counts as one that has stopped: a speaker that shares
	// busy cores leaves one or the other of them for later.
	lapse = 15
)

// Watcher asks again and again who has an address, until it is stopped.
type Watcher struct {
	interval time.Duration
	cancel   context.CancelFunc
	running  sync.WaitGroup
	started  time.Time

	mu      sync.Mutex
	err     error
	answers []answer
	ended   time.Time // zero while it asks
}

// answer is one station's word that it has the address.
type answer struct {
	at  time.Time
	mac string
}

// Watch asks for target on an interface of the calling thread's network namespace, with ARP or NDP, every interval; zero is
// DefaultWatchInterval. The caller stops the Watcher, or ends ctx.
func Watch(ctx context.Context, ifname string, target netip.Addr, interval time.Duration) (*Watcher, error) {
	conn, q, err := watching(ifname, target)
	if err != nil {
		return nil, fmt.Errorf("watch who has %s: %w", target, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &Watcher{interval: cmp.Or(interval, DefaultWatchInterval), cancel: cancel, started: time.Now()}
	w.running.Go(func() { w.listen(ctx, conn, q) })
	w.running.Go(func() {
		w.fail(w.ask(ctx, conn, q))
		conn.Close() // ends listen
	})
	return w, nil
}

// watching opens the socket of a Watcher and makes its question.
func watching(ifname string, target netip.Addr) (*packet.Conn, question, error) {
	ifi, prefixes, err := interfaceAddresses(ifname)
	if err != nil {
		return nil, question{}, err
	}
	from, ok := source(prefixes, target)
	if !ok {
		return nil, question{}, fmt.Errorf("interface %s has no address of that family to ask from: give it one", ifname)
	}
	ask := arpQuestion
	if target.Is6() {
		ask = ndpQuestion
	}
	q, err := ask(ifi.HardwareAddr, from, target)
	if err != nil {
		return nil, question{}, err
	}
	conn, err := packet.Listen(ifi, packet.Raw, q.etherType, nil)
	if err != nil {
		return nil, question{}, fmt.Errorf("packet socket on %s, which needs CAP_NET_RAW: %w", ifi.Name, err)
	}
	return conn, q, nil
}

func (w *Watcher) ask(ctx context.Context, conn *packet.Conn, q question) error {
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	for {
		if _, err := conn.WriteTo(q.frame, &packet.Addr{HardwareAddr: q.to}); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (w *Watcher) listen(ctx context.Context, conn *packet.Conn, q question) {
	buffer := make([]byte, 2048)
	for {
		n, _, err := conn.ReadFrom(buffer)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, os.ErrClosed) {
				w.fail(err)
				w.cancel()
			}
			return
		}
		if mac, ok := q.answerer(buffer[:n]); ok {
			w.mu.Lock()
			w.answers = append(w.answers, answer{time.Now(), mac})
			w.mu.Unlock()
		}
	}
}

func (w *Watcher) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

// Stop asks no more and reports. The error is why it stopped to look before it was told to. It may be called again.
func (w *Watcher) Stop() (WatchReport, error) {
	w.cancel()
	w.running.Wait()
	w.mu.Lock()
	if w.ended.IsZero() {
		w.ended = time.Now()
	}
	w.mu.Unlock()
	return w.Report()
}

// Report tells what has been seen so far.
func (w *Watcher) Report() (WatchReport, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ended := w.ended
	if ended.IsZero() {
		ended = time.Now()
	}
	return newWatchReport(w.started, ended, w.interval, w.answers), w.err
}

// Tenure is a time in which one station answered, from its first answer to its last.
type Tenure struct {
	MAC      string
	From, To time.Time
	Answers  int
}

// WatchReport is what a Watcher saw between Started and Ended.
type WatchReport struct {
	Started, Ended time.Time
	// Tenures are in the order of their first answers. A station that was silent for some questions, and nobody else answered
	// meanwhile, has one tenure all the same.
	Tenures []Tenure
	// Double is the longest time in which two stations answered.
	Double Gap
	// Silence is the longest time in which nobody did, also from Started to the first answer and from the last to Ended.
	Silence Gap
}

func newWatchReport(started, ended time.Time, interval time.Duration, answers []answer) WatchReport {
	r := WatchReport{Started: started, Ended: ended}
	current := map[string]int{} // each station's last tenure
	last := ""
	var times []time.Time
	for _, a := range answers {
		times = append(times, a.at)
		i, known := current[a.mac]
		if !known || last != a.mac && a.at.Sub(r.Tenures[i].To) > lapse*interval {
			i = len(r.Tenures)
			current[a.mac] = i
			r.Tenures = append(r.Tenures, Tenure{MAC: a.mac, From: a.at})
		}
		r.Tenures[i].To = a.at
		r.Tenures[i].Answers++
		last = a.mac
	}
	for i, x := range r.Tenures {
		for _, y := range r.Tenures[:i] {
			if both := (Gap{x.From, earlier(x.To, y.To)}); x.MAC != y.MAC && both.Length() > r.Double.Length() {
				r.Double = both
			}
		}
	}
	r.Silence = longestGap(started, ended, times)
	return r
}

func earlier(x, y time.Time) time.Time {
	if x.Before(y) {
		return x
	}
	return y
}

// Stations are the MACs that answered, each once, by first answer.
func (r WatchReport) Stations() []string {
	var out []string
	for _, t := range r.Tenures {
		if !slices.Contains(out, t.MAC) {
			out = append(out, t.MAC)
		}
	}
	return out
}

// String is a summary of a few words for people.
func (r WatchReport) String() string {
	var b strings.Builder
	for _, t := range r.Tenures {
		fmt.Fprintf(&b, "%s answered %d times from %v to %v, ", t.MAC, t.Answers,
			t.From.Sub(r.Started).Round(time.Millisecond), t.To.Sub(r.Started).Round(time.Millisecond))
	}
	fmt.Fprintf(&b, "two at once for %v, nobody for %v", r.Double.Length().Round(time.Millisecond), r.Silence.Length().Round(time.Millisecond))
	return b.String()
}
