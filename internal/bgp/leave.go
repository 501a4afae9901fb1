package bgp

import (
	"context"
	"time"

	"github.com/go-kit/log/level"
	"github.com/osrg/gobgp/v4/api"
)

// Departure is what the end of this process means for the routes it told.
type Departure int

// The values of Departure.
const (
	// Restart: the node goes on to forward and the process will be back. Routers that agreed to a graceful restart keep the
	// routes; the others are told why the session ends, which withdraws them.
	Restart Departure = iota
	// Drain: the node takes no traffic any more. Routers are asked to prefer other ways, and given the time to.
	Drain
)

const (
	// goodbye bounds the time that notifications and withdrawals have to leave the node.
	goodbye = time.Second
	poll    = 10 * time.Millisecond
)

// Leave ends all sessions, and Apply does nothing any more. drainDelay is how long routers have to turn to other nodes
// before the routes are withdrawn; it ends early when ctx is done. Sessions tells meanwhile how far it is.
func (s *Speaker) Leave(ctx context.Context, d Departure, drainDelay time.Duration) {
	s.mu.Lock()
	nothing := s.left || len(s.engines) == 0
	s.left = true
	s.mu.Unlock()
	if nothing {
		return
	}
	text := "the speaker is being restarted"
	if d == Drain {
		text = "the node is being drained"
		s.drain(ctx, drainDelay)
	}
	s.mu.Lock()
	for _, session := range s.sessions.list() {
		if e := s.engineOf(session.Peer); e != nil && session.State == Established && (d == Drain || !session.GracefulRestart) {
			_ = e.server.DisablePeer(ctx, &api.DisablePeerRequest{Address: session.Address.String(), Communication: text}) // it is there
		}
	}
	s.mu.Unlock()
	s.sessions.await(func(session Session) bool {
		return session.State != Established || d == Restart && session.GracefulRestart
	})
	s.mu.Lock()
	engines := s.engines
	s.engines = nil
	s.mu.Unlock()
	for _, e := range engines {
		e.stop(d == Restart)
	}
}

// drain makes the routes the last choice, waits, and withdraws them.
func (s *Speaker) drain(ctx context.Context, delay time.Duration) {
	s.mu.Lock()
	prefixes := len(s.table.byPrefix)
	if prefixes > 0 {
		level.Info(s.logger).Log("msg", "routes are to be avoided from now on, and withdrawn", "prefixes", prefixes, "after", delay)
		s.follow(s.table.drain())
	}
	s.mu.Unlock()
	if prefixes == 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(delay):
	}
	s.mu.Lock()
	steps := s.table.all()
	for i := range steps {
		steps[i].id = 0
	}
	for _, e := range s.engines {
		if err := e.tell(steps); err != nil {
			level.Warn(s.logger).Log("msg", "routes cannot be withdrawn; the end of the sessions will do it", "err", err)
		}
	}
	s.mu.Unlock()
	time.Sleep(goodbye / 4) // GoBGP does not tell when what it was given has been sent
}

// await waits until all sessions are so, or goodbye is over.
func (t *sessions) await(so func(Session) bool) {
	for deadline := time.Now().Add(goodbye); time.Now().Before(deadline); time.Sleep(poll) {
		all := true
		for _, session := range t.list() {
			all = all && so(session)
		}
		if all {
			return
		}
	}
}
