// Package probe measures what users of a Service notice: how long no new connection succeeds, which established ones
// break or fall silent, and who answers for an address on the wire. Suites, benches and the demo use the same probers, so
// that their figures mean the same.
//
// It owns the timing, the counting and the definitions of what is counted. It decides nothing about the cluster and never
// chooses a network: connections go through the dial function that it is given, and packet sockets open in the network
// namespace of the calling thread. A prober lives until it is stopped or its context ends, and leaves nothing behind.
//
// Probers share a small machine with the cluster that they probe, so what runs per attempt is kept cheap, and a report
// says when the prober itself was held up.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"heraldlb.io/herald/e2etest/app"
)

// DialFunc opens a connection as net.Dialer.DialContext does; it must give up when its context ends.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Defaults of ConnectConfig.
const (
	// DefaultInterval resolves gaps of a few tens of milliseconds at 200 connections a second, which costs about a tenth
	// of a core.
	DefaultInterval = 5 * time.Millisecond
	// DefaultTimeout is shorter than the first retransmission of a SYN (1 s): an attempt into a gap fails rather than
	// being rescued by its own retransmission, and the gap is measured by attempts made after it.
	DefaultTimeout = 900 * time.Millisecond
	// DefaultInFlight holds all attempts of the default interval that hang until the default timeout (180), with room.
	DefaultInFlight = 512
)

// ConnectConfig says what Connect does. Only Address is required.
type ConnectConfig struct {
	Dial     DialFunc // nil: this process's own network
	Network  string   // tcp (default) or udp
	Address  string   // host:port
	Exchange Exchange // what proves that a connection works; nil: HTTP over tcp, Datagram over udp
	Interval time.Duration
	Timeout  time.Duration // of one attempt, from dial to answer
	InFlight int           // attempts under way at once; beyond it an attempt is skipped and counted as such
}

func (c ConnectConfig) withDefaults() ConnectConfig {
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.Network == "" {
		c.Network = "tcp"
	}
	if c.Exchange == nil {
		c.Exchange = HTTP
		if c.Network == "udp" {
			c.Exchange = Datagram
		}
	}
	if c.Interval <= 0 {
		c.Interval = DefaultInterval
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.InFlight <= 0 {
		c.InFlight = DefaultInFlight
	}
	return c
}

// Connector opens a new connection at every interval, each independent of the others, until it is stopped.
type Connector struct {
	config  ConnectConfig
	ctx     context.Context
	cancel  context.CancelFunc
	stopped chan struct{} // closed when no attempt is under way and none will be
	started time.Time

	mu       sync.Mutex
	samples  []Sample // in order of completion
	launches launches
	names    map[string]string // one copy of each node's and pod's name
	waiters  map[*waiter]struct{}
}

// launches is what is known of attempts before they complete.
type launches struct {
	skipped int
	last    time.Time
	pause   time.Duration // the longest between two
	ended   time.Time     // zero while attempts are being started
}

type waiter struct {
	since time.Time
	left  int
	done  chan struct{}
}

// Connect starts a Connector. The caller stops it, or ends ctx; attempts under way then still run to their end.
func Connect(ctx context.Context, config ConnectConfig) *Connector {
	ctx, cancel := context.WithCancel(ctx)
	now := time.Now()
	c := &Connector{
		config: config.withDefaults(), ctx: ctx, cancel: cancel, stopped: make(chan struct{}), started: now,
		launches: launches{last: now}, names: map[string]string{}, waiters: map[*waiter]struct{}{},
	}
	go c.run()
	return c
}

func (c *Connector) run() {
	defer close(c.stopped)
	var underway sync.WaitGroup
	defer underway.Wait()
	slots := make(chan struct{}, c.config.InFlight)
	tick := time.NewTicker(c.config.Interval)
	defer tick.Stop()
	for {
		now := time.Now()
		select {
		case slots <- struct{}{}:
			c.launched(now, false)
			underway.Go(func() {
				defer func() { <-slots }()
				c.attempt(now)
			})
		default:
			c.launched(now, true)
		}
		select {
		case <-c.ctx.Done():
			c.mu.Lock()
			c.launches.ended = time.Now()
			c.mu.Unlock()
			return
		case <-tick.C:
		}
	}
}

func (c *Connector) launched(now time.Time, skipped bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.launches.pause = max(c.launches.pause, now.Sub(c.launches.last))
	c.launches.last = now
	if skipped {
		c.launches.skipped++
	}
}

// attempt is not cut short by Stop, only by its own timeout: an attempt that would have succeeded is not reported as lost.
func (c *Connector) attempt(start time.Time) {
	ctx, cancel := context.WithDeadline(context.WithoutCancel(c.ctx), start.Add(c.config.Timeout))
	defer cancel()
	answer, err := c.converse(ctx)
	c.complete(Sample{Start: start, End: time.Now(), Node: answer.Node, Pod: answer.Pod, Err: err})
}

func (c *Connector) converse(ctx context.Context) (app.Answer, error) {
	conn, err := c.config.Dial(ctx, c.config.Network, c.config.Address)
	if err != nil {
		return app.Answer{}, err
	}
	defer discard(conn)
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return app.Answer{}, err
	}
	return c.config.Exchange(conn)
}

// discard closes a connection that has served its purpose with a reset: at 200 connections a second, TIME_WAIT would use
// up ports and connection tracking entries.
func discard(conn net.Conn) {
	if l, ok := conn.(interface{ SetLinger(int) error }); ok {
		l.SetLinger(0)
	}
	conn.Close()
}

func (c *Connector) complete(s Sample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Node, s.Pod = c.name(s.Node), c.name(s.Pod)
	c.samples = append(c.samples, s)
	if s.Err != nil {
		return
	}
	for w := range c.waiters {
		if s.Start.Before(w.since) {
			continue
		}
		if w.left--; w.left == 0 {
			close(w.done)
			delete(c.waiters, w)
		}
	}
}

func (c *Connector) name(s string) string {
	if known, ok := c.names[s]; ok {
		return known
	}
	c.names[s] = s
	return s
}

// Wait returns when n attempts that began after this call have succeeded.
func (c *Connector) Wait(ctx context.Context, n int) error {
	if n <= 0 {
		return nil
	}
	w := &waiter{since: time.Now(), left: n, done: make(chan struct{})}
	c.mu.Lock()
	c.waiters[w] = struct{}{}
	c.mu.Unlock()
	var reason error
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		reason = ctx.Err()
	case <-c.stopped:
		reason = errors.New("the prober has ended")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.left == 0 {
		return nil
	}
	delete(c.waiters, w)
	err := fmt.Errorf("waiting for new connections to %s: %d of %d succeeded: %w", c.config.Address, n-w.left, n, reason)
	for i := len(c.samples) - 1; i >= 0; i-- {
		if s := c.samples[i]; s.Err != nil {
			return fmt.Errorf("%w; last failure: %w", err, s.Err)
		}
	}
	return err
}

// Stop starts no more attempts, waits for those under way (the timeout at most) and reports. It may be called again.
func (c *Connector) Stop() Report {
	c.cancel()
	<-c.stopped
	return c.Report()
}

// Report tells what has been seen so far.
func (c *Connector) Report() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	ended := c.launches.ended
	if ended.IsZero() {
		ended = time.Now()
	}
	r := newReport(c.started, ended, c.samples)
	r.Skipped, r.Pause = c.launches.skipped, c.launches.pause
	return r
}
