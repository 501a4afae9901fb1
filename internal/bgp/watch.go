package bgp

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/go-kit/log/level"

	"heraldlb.io/herald/internal/bfd"
)

// Watcher watches the paths to peers; *bfd.Monitor is one.
type Watcher interface {
	Set(sessions []bfd.Session)
	State(peer netip.Addr) (bfd.Status, bool)
}

// Watch lets w watch the paths to the peers that have a BFD profile. It must be called before Apply, and PathChanged be
// told what w finds.
func (s *Speaker) Watch(w Watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watcher = w
}

// watch lets these paths be watched, and such as were before to peers that none of them leads to. It is called with the lock held.
func (s *Speaker) watch(paths, before []bfd.Session) {
	if s.watcher == nil {
		return
	}
	all := slices.Clone(paths)
	for _, old := range before {
		if !slices.ContainsFunc(paths, func(p bfd.Session) bool { return p.Peer == old.Peer }) {
			all = append(all, old)
		}
	}
	s.watcher.Set(all)
}

// watched are the BFD sessions with the peers that have a place.
func watched(peers []Peer, places map[string]place) []bfd.Session {
	var out []bfd.Session
	for _, p := range peers {
		at, ok := places[p.Name]
		if !ok || p.BFD == nil || p.Disabled {
			continue
		}
		out = append(out, bfd.Session{
			Peer:     at.address,
			Local:    at.source.WithZone(""),
			Multihop: p.EBGPMultiHop || p.MinimumTTL > 0 && p.MinimumTTL < 255,
			Profile: bfd.Profile{
				ReceiveInterval:  p.BFD.ReceiveInterval,
				TransmitInterval: p.BFD.TransmitInterval,
				DetectMultiplier: uint8(p.BFD.DetectMultiplier),
				PassiveMode:      p.BFD.PassiveMode,
				MinimumTTL:       p.BFD.MinimumTTL,
			},
		})
	}
	return out
}

// PathChanged ends the BGP session with a peer to which the path is found broken, and lets one begin that waited for it.
func (s *Speaker) PathChanged(c bfd.Change) {
	s.sessions.tell()
	peer := s.at(c.Peer)
	if peer == "" {
		return // gone meanwhile
	}
	if c.State == bfd.Down {
		if err := s.Down(peer, fmt.Sprintf("BFD: %v", c.Diagnostic)); err != nil {
			level.Debug(s.logger).Log("msg", "BFD found the path to a peer broken that has no BGP session", "peer", peer, "err", err)
		}
	}
	if s.sessions.broken(peer, c.State == bfd.Down) {
		s.look()
	}
}

// broken notes whether the path to a peer is, and tells whether its session depends on it.
func (t *sessions) broken(peer string, broken bool) (strict bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.byName[peer]
	if s == nil {
		return false
	}
	s.broken = broken
	return s.peer.BFDStrictMode
}

// admit returns the places of those peers that may have a session: one in strict mode has to wait until BFD is up. That it
// ceases to be up without having found the path broken, as when the router's operator switches it off, ends no session.
func (s *Speaker) admit(places map[string]place) map[string]place {
	out := maps.Clone(places)
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	for _, p := range s.peers {
		at, ok := places[p.Name]
		if !ok || !p.BFDStrictMode || p.Disabled {
			continue
		}
		why := "bfdStrictMode waits for BFD, whose BFDProfile is not in force"
		if p.BFD != nil && s.watcher != nil {
			status, _ := s.watcher.State(at.address)
			if status.State == bfd.Up {
				continue
			}
			why = fmt.Sprintf("bfdStrictMode waits for BFD, which is %v (%v)", status.State, status.Diagnostic)
		}
		if known := s.sessions.get(p); known.State != Established || known.broken {
			known.Address = at.address
			s.sessions.enter(known, Waiting, why)
			delete(out, p.Name)
		}
	}
	return out
}

// at returns the name of the peer at an address, empty when there is none.
func (s *Speaker) at(address netip.Addr) string {
	for _, one := range s.sessions.list() {
		if one.Address == address {
			return one.Peer
		}
	}
	return ""
}
