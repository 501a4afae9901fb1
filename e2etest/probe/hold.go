package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"heraldlb.io/herald/e2etest/app"
)

// Defaults of HoldConfig.
const (
	// DefaultStall is fifty lines of the stream port: far more than a busy machine delays one.
	DefaultStall = time.Second
	// DefaultHoldTimeout leaves room for one retransmitted SYN.
	DefaultHoldTimeout = 5 * time.Second

	// opening bounds how many connections are established at once.
	opening = 16
)

// HoldConfig says what Hold does. Address and Count are required.
type HoldConfig struct {
	Dial    DialFunc // nil: this process's own network
	Address string   // of the application's stream port, or of its echo port with Echo set
	Count   int
	Stall   time.Duration // a silence of this length is reported
	Timeout time.Duration // of establishing one connection
	// Echo, when not zero, is how often each connection sends a line to be echoed. A connection that only listens learns
	// of a reset when it acknowledges what it received, and never of a peer that is gone for good.
	Echo time.Duration
}

// Held is one connection that was established.
type Held struct {
	Node, Pod     string
	Local, Remote string
}

// Break is the end of an established connection that its holder did not ask for.
type Break struct {
	Held
	At  time.Time
	Err error // io.EOF: closed in order by the peer
}

// Stall is a silence of an established connection, from the last byte to the next.
type Stall struct {
	Held
	From, To time.Time // To is zero while it lasts, or when the connection broke in it
}

// HoldReport is what a Holder saw. Breaks and Stalls are in the order in which they happened.
type HoldReport struct {
	Connections []Held
	Breaks      []Break
	Stalls      []Stall
	Silence     time.Duration // the longest of any connection, ended or not, reported as a stall or not
}

// String is a summary of a few words for people.
func (r HoldReport) String() string {
	return fmt.Sprintf("%d established connections held, %d broken, %d stalls, longest silence %s",
		len(r.Connections), len(r.Breaks), len(r.Stalls), r.Silence.Round(time.Millisecond))
}

// Holder keeps established connections until it is stopped.
type Holder struct {
	config  HoldConfig
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	held    []*connection

	mu     sync.Mutex // guards what follows and every connection's progress
	breaks []Break
	stalls []Stall // ended
	ended  time.Time
}

type connection struct {
	Held
	conn    net.Conn
	reader  *bufio.Reader
	last    time.Time // when the last byte came
	silence time.Duration
	broken  bool
}

// Hold establishes all connections, or none, and watches them. The caller stops it, or ends ctx, which closes them.
func Hold(ctx context.Context, config HoldConfig) (*Holder, error) {
	if config.Dial == nil {
		config.Dial = new(net.Dialer).DialContext
	}
	if config.Stall <= 0 {
		config.Stall = DefaultStall
	}
	if config.Timeout <= 0 {
		config.Timeout = DefaultHoldTimeout
	}
	ctx, cancel := context.WithCancel(ctx)
	h := &Holder{config: config, ctx: ctx, cancel: cancel, held: make([]*connection, config.Count)}
	if err := h.establish(); err != nil {
		cancel()
		return nil, fmt.Errorf("hold %d connections to %s: %w", config.Count, config.Address, err)
	}
	now := time.Now()
	for _, c := range h.held {
		c.last = now
		h.running.Go(func() { h.watch(c) })
		if config.Echo > 0 {
			h.running.Go(func() { h.speak(c) })
		}
	}
	return h, nil
}

func (h *Holder) establish() error {
	var all sync.WaitGroup
	slots := make(chan struct{}, opening)
	failures := make([]error, h.config.Count)
	for i := range h.held {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			h.held[i], failures[i] = h.open()
		})
	}
	all.Wait()
	for _, err := range failures {
		if err == nil {
			continue
		}
		for _, c := range h.held {
			if c != nil {
				c.conn.Close()
			}
		}
		return err // one of them tells enough
	}
	return nil
}

func (h *Holder) open() (*connection, error) {
	ctx, cancel := context.WithTimeout(h.ctx, h.config.Timeout)
	defer cancel()
	conn, err := h.config.Dial(ctx, "tcp", h.config.Address)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	r := bufio.NewReaderSize(conn, 512)
	line, err := r.ReadSlice('\n')
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("greeting: %w", err)
	}
	answer, _, err := app.ParseAnswer(line)
	if err != nil {
		conn.Close()
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	held := Held{Node: answer.Node, Pod: answer.Pod, Local: conn.LocalAddr().String(), Remote: conn.RemoteAddr().String()}
	return &connection{Held: held, conn: conn, reader: r}, nil
}

// watch reads until the connection breaks or the holder ends. The read deadline only makes it look at the time.
func (h *Holder) watch(c *connection) {
	defer c.conn.Close()
	closing := context.AfterFunc(h.ctx, func() { c.conn.Close() })
	defer closing()
	buffer := make([]byte, 512)
	for {
		c.conn.SetReadDeadline(time.Now().Add(h.config.Stall))
		n, err := c.reader.Read(buffer)
		if h.ctx.Err() != nil {
			return
		}
		h.mu.Lock()
		if n > 0 {
			h.heard(c)
		}
		broken := err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
		if broken {
			h.broke(c, err)
		}
		h.mu.Unlock()
		if broken {
			return
		}
	}
}

// speak sends lines to be echoed. What it cannot send, watch learns too, or reports as silence.
func (h *Holder) speak(c *connection) {
	tick := time.NewTicker(h.config.Echo)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-h.ctx.Done():
			return
		case <-tick.C:
		}
		c.conn.SetWriteDeadline(time.Now().Add(h.config.Stall))
		if _, err := fmt.Fprintf(c.conn, "%d\n", n); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

func (h *Holder) heard(c *connection) {
	now := time.Now()
	silence := now.Sub(c.last)
	c.silence = max(c.silence, silence)
	if silence >= h.config.Stall {
		h.stalls = append(h.stalls, Stall{Held: c.Held, From: c.last, To: now})
	}
	c.last = now
}

func (h *Holder) broke(c *connection, err error) {
	now := time.Now()
	silence := now.Sub(c.last)
	c.silence, c.broken = max(c.silence, silence), true
	if silence >= h.config.Stall {
		h.stalls = append(h.stalls, Stall{Held: c.Held, From: c.last})
	}
	h.breaks = append(h.breaks, Break{Held: c.Held, At: now, Err: err})
}

// Stop closes every connection, which is no break, and reports. It may be called again.
func (h *Holder) Stop() HoldReport {
	h.mu.Lock()
	if h.ended.IsZero() {
		h.ended = time.Now()
	}
	h.mu.Unlock()
	h.cancel()
	h.running.Wait()
	return h.Report()
}

// Report tells what has been seen so far.
func (h *Holder) Report() HoldReport {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.ended
	if now.IsZero() {
		now = time.Now()
	}
	r := HoldReport{Breaks: slices.Clone(h.breaks), Stalls: slices.Clone(h.stalls)}
	for _, c := range h.held {
		r.Connections = append(r.Connections, c.Held)
		r.Silence = max(r.Silence, c.silence)
		if c.broken {
			continue
		}
		silence := now.Sub(c.last)
		r.Silence = max(r.Silence, silence)
		if silence >= h.config.Stall {
			r.Stalls = append(r.Stalls, Stall{Held: c.Held, From: c.last})
		}
	}
	slices.SortStableFunc(r.Stalls, func(a, b Stall) int { return a.From.Compare(b.From) })
	return r
}
