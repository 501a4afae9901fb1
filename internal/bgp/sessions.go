package bgp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"heraldlb.io/herald/api/v1beta1"
)

// sessions holds the sessions' states, and what the states depend on that is not GoBGP's. GoBGP calls it, so nobody calls
// GoBGP while holding mu.
type sessions struct {
	logger  log.Logger
	metrics *metrics
	now     func() time.Time

	changes chan struct{} // of what Changed tells

	mu     sync.Mutex
	byName map[string]*session
}

type session struct {
	Session
	peer            Peer
	at              place
	offer           []wire.ParameterCapabilityInterface // what the router is offered in an OPEN
	asked, answered time.Time                           // last, why there is no session
	note            string                              // why the session is about to end
	broken          bool                                // BFD found the path broken, and has not been up since
	limited         time.Time                           // since when the session is closed because the peer sent too much
}

func newSessions(logger log.Logger) *sessions {
	return &sessions{logger: logger, now: time.Now, changes: make(chan struct{}, 1), byName: map[string]*session{}}
}

// list returns what is known without asking GoBGP, by name.
func (t *sessions) list() []Session {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Session, 0, len(t.byName))
	for _, name := range slices.Sorted(maps.Keys(t.byName)) {
		out = append(out, t.byName[name].Session)
	}
	return out
}

// get returns the session of a peer, which is made when there is none.
func (t *sessions) get(p Peer) *session {
	s := t.byName[p.Name]
	if s == nil {
		s = &session{Session: Session{Peer: p.Name, State: Waiting, Since: t.now()}}
		t.byName[p.Name] = s
		t.metrics.appear(p.Name)
	}
	s.peer = p
	if s.State != Established {
		s.Families = p.Families
	}
	return s
}

// locate returns the places of those peers that have one.
func (t *sessions) locate(peers []Peer, around surroundings) map[string]place {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]place{}
	for _, p := range peers {
		s := t.get(p)
		at, err := locate(p, around)
		switch {
		case err == nil:
			out[p.Name] = at
		case p.Disabled:
			t.enter(s, Disabled, "")
		default:
			t.enter(s, Waiting, err.Error())
		}
	}
	return out
}

// wait notes why nothing is attempted with peers.
func (t *sessions) wait(peers []Peer, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range peers {
		t.enter(t.get(p), Waiting, why)
	}
}

// know notes where a peer is.
func (t *sessions) know(p Peer, at place) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.get(p)
	s.Address, s.at = at.address, at
	switch {
	case p.Disabled:
		t.enter(s, Disabled, "")
	case s.State == Waiting || s.State == Disabled:
		t.enter(s, Idle, "")
	}
}

// forget drops the peers that are there no more.
func (t *sessions) forget(peers []Peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.byName {
		if !slices.ContainsFunc(peers, func(p Peer) bool { return p.Name == name }) {
			delete(t.byName, name)
			t.metrics.vanish(name)
			t.tell()
		}
	}
}

// enter changes a session's state, and tells when it comes up and goes down.
func (t *sessions) enter(s *session, state State, why string) {
	was := s.State
	if state == was && (why == "" || why == s.LastError) {
		return
	}
	s.State = state
	if state != was && !(attempted(state) && attempted(was)) {
		s.Since = t.now()
		t.tell()
	}
	switch {
	case state == Established:
		t.metrics.established.WithLabelValues(s.Peer).Inc()
		level.Info(t.logger).Log("msg", "BGP session is established", "peer", s.Peer, "address", s.Address)
	case was == Established:
		s.fail(cmp.Or(why, "the session ended"), t.now())
		s.GracefulRestart, s.Families = false, s.peer.Families
		level.Warn(t.logger).Log("msg", "BGP session has ended", "peer", s.Peer, "address", s.Address, "reason", s.LastError)
	case why != "" && why != s.LastError:
		s.fail(why, t.now())
		t.tell()
		level.Warn(t.logger).Log("msg", "there is no BGP session", "peer", s.Peer, "address", s.Address, "state", state, "reason", why)
	}
}

// attempted tells whether a session in this state is being set up.
func attempted(s State) bool { return s != Waiting && s != Disabled && s != Established }

func (s *session) fail(why string, now time.Time) { s.LastError, s.LastErrorTime = why, now }

// tell lets whoever waits for Changed look.
func (t *sessions) tell() {
	select {
	case t.changes <- struct{}{}:
	default: // there is something to look at already
	}
}

// blame notes why there is no session, or why it is about to end, if that is news. GoBGP calls it through its log.
func (t *sessions) blame(address, why string, news func(*session) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.byName {
		switch {
		case s.Address.String() != address || s.State == Waiting || s.State == Disabled:
		case s.State == Established:
			s.note = why
		case news(s):
			t.enter(s, s.State, why)
		}
	}
}

func always(*session) bool { return true }

// changed takes in a change of a session.
func (e *engine) changed(event *apiutil.WatchEventMessage_PeerEvent, _ time.Time) {
	t := e.sessions
	t.mu.Lock()
	defer t.mu.Unlock()
	if event.Type != apiutil.PEER_EVENT_STATE && event.Type != apiutil.PEER_EVENT_INIT {
		return
	}
	st := event.Peer.State
	for _, s := range t.byName {
		if s.Address != st.NeighborAddress || s.State == Waiting {
			continue
		}
		s.offer = st.LocalCap
		if st.SessionState == wire.BGP_FSM_ESTABLISHED {
			s.ASN, s.RouterID, s.Families = st.PeerASN, st.RouterID, agreed(s.peer.Families, st.RemoteCap)
			s.GracefulRestart = s.peer.GracefulRestart != nil && slices.ContainsFunc(st.RemoteCap, func(c wire.ParameterCapabilityInterface) bool {
				return c.Code() == wire.BGP_CAP_GRACEFUL_RESTART
			})
			if s.peer.remoteASN() == 0 && st.PeerASN == s.peer.asn() {
				e.refuseInternal(s)
				return
			}
		}
		why := cmp.Or(s.note, reason(st))
		s.note = ""
		if st.AdminState == api.PeerState_ADMIN_STATE_PFX_CT {
			why = fmt.Sprintf("the router sends more than %d routes of a family, none of which is wanted: let it send none (tried again in %v)", MaxPrefixes, limitPause)
			if s.limited.IsZero() {
				s.limited = t.now()
			}
		}
		t.enter(s, stateOf(st.SessionState), why)
		if s.peer.Disabled {
			t.enter(s, Disabled, "")
		}
	}
}

// agreed are those of the families wanted that a router with these capabilities takes.
func agreed(wanted []v1beta1.IPFamily, capabilities []wire.ParameterCapabilityInterface) []v1beta1.IPFamily {
	takes := func(f wire.Family) bool {
		return slices.ContainsFunc(capabilities, func(c wire.ParameterCapabilityInterface) bool {
			mp, ok := c.(*wire.CapMultiProtocol)
			return ok && mp.CapValue == f
		})
	}
	var out []v1beta1.IPFamily
	for _, f := range wanted {
		if takes(family(f)) {
			out = append(out, f)
		}
	}
	return out
}

// refuseInternal ends a session whose peer has the own AS number where dynamicASN says that it must not.
func (e *engine) refuseInternal(s *session) {
	why := fmt.Sprintf("the router has AS number %d, which is the node's own: write dynamicASN: internal, or peerASN", s.peer.asn())
	e.sessions.enter(s, Idle, why)
	go func() { // GoBGP waits for this callback
		_ = e.server.DisablePeer(context.Background(), &api.DisablePeerRequest{Address: s.Address.String(), Communication: why})
	}()
}

// limitPause is how long the session with a peer that sent too many routes stays closed.
const limitPause = time.Minute

// forgive lets peers that sent too many routes try again once their pause is over.
func (s *Speaker) forgive() {
	again := map[string]string{} // addresses by name
	s.sessions.mu.Lock()
	for _, one := range s.sessions.byName {
		if !one.limited.IsZero() && s.sessions.now().Sub(one.limited) >= limitPause {
			one.limited = time.Time{}
			again[one.Peer] = one.Address.String()
		}
	}
	s.sessions.mu.Unlock()
	for peer, address := range again {
		if e := s.engineOf(peer); e != nil {
			_ = e.server.EnablePeer(context.Background(), &api.EnablePeerRequest{Address: address}) // it may have gone
		}
	}
}

// stateOf translates.
func stateOf(s wire.FSMState) State {
	switch s {
	case wire.BGP_FSM_ACTIVE:
		return Active
	case wire.BGP_FSM_CONNECT:
		return Connect
	case wire.BGP_FSM_OPENSENT:
		return OpenSent
	case wire.BGP_FSM_OPENCONFIRM:
		return OpenConfirm
	case wire.BGP_FSM_ESTABLISHED:
		return Established
	}
	return Idle
}

// reason says in words why a session is not, or no longer, established; empty when there is nothing to say.
func reason(st apiutil.PeerState) string {
	switch st.DisconnectReason {
	case api.PeerState_DISCONNECT_REASON_HOLD_TIMER_EXPIRED:
		return "the hold timer expired: nothing was heard from the router"
	case api.PeerState_DISCONNECT_REASON_READ_FAILED, api.PeerState_DISCONNECT_REASON_WRITE_FAILED, api.PeerState_DISCONNECT_REASON_GRACEFUL_RESTART:
		return "the connection broke without a notification"
	}
	return ""
}

// errGone is why a session is asked for that is not there.
var errGone = errors.New("there is no such peer")

// Down ends the session with a peer when it is established, as when BFD finds the way to it broken. The router is told
// why, should it still hear.
func (s *Speaker) Down(peer, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions.mu.Lock()
	known, ok := s.sessions.byName[peer]
	up := ok && known.State == Established
	var address string
	if ok {
		address = known.Address.String()
	}
	s.sessions.mu.Unlock()
	e := s.engineOf(peer)
	if !ok || e == nil {
		return fmt.Errorf("end the BGP session with %s: %w", peer, errGone)
	}
	if !up {
		return nil
	}
	return e.server.ResetPeer(context.Background(), &api.ResetPeerRequest{Address: address, Communication: why})
}
