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

// removed is what routers are told whose peer is there no more.
const removed = "the peer is removed from the configuration"

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
	engines := s.engines
	s.engines = nil
	s.mu.Unlock()
	for _, e := range engines {
		e.stop(d == Restart, text)
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

// stop ends GoBGP and says why to the routers. With quiet, those that agreed to a graceful restart hear nothing of it and
// keep the routes.
func (e *engine) stop(quiet bool, why string) {
	forgets := map[string]bool{} // whose router would, by address
	for _, one := range e.sessions.list() {
		forgets[one.Address.String()] = one.State == Established && !one.GracefulRestart
	}
	e.end(why, func(p *api.Peer) bool {
		switch p.State.SessionState {
		case api.PeerState_SESSION_STATE_OPENCONFIRM, api.PeerState_SESSION_STATE_ESTABLISHED:
			return !quiet || forgets[p.Conf.NeighborAddress]
		}
		return true
	})
	_ = e.server.StopBgp(context.Background(), &api.StopBgpRequest{AllowGracefulRestart: quiet}) // fails only when it never started
	e.unwatch()
}

// end ends the sessions with some peers, established or not, and waits until that is done, or goodbye is over. GoBGP
// v4.8.0 may close the connection to a peer that it is to forget before it has said why, and routers keep the routes
// then; and when it is to stop, it takes away what a connection that is being opened still needs.
func (e *engine) end(why string, which func(*api.Peer) bool) {
	for deadline := time.Now().Add(goodbye); time.Now().Before(deadline); time.Sleep(poll) {
		var left []string
		_ = e.server.ListPeer(context.Background(), &api.ListPeerRequest{}, func(p *api.Peer) { // fails only when it never started
			ended := p.State.SessionState == api.PeerState_SESSION_STATE_IDLE && p.State.AdminState == api.PeerState_ADMIN_STATE_DOWN
			if !ended && which(p) {
				left = append(left, p.Conf.NeighborAddress)
			}
		})
		if len(left) == 0 {
			return
		}
		for _, address := range left {
			_ = e.server.DisablePeer(context.Background(), &api.DisablePeerRequest{Address: address, Communication: why}) // it is there
		}
	}
}
