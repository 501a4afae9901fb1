package bgp

import (
	"fmt"
	"net/netip"

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

// PathChanged ends the BGP session with a peer to which the path is found broken.
func (s *Speaker) PathChanged(c bfd.Change) {
	if c.State != bfd.Down {
		return
	}
	peer := s.at(c.Peer)
	if peer == "" {
		return // gone meanwhile
	}
	if err := s.Down(peer, fmt.Sprintf("BFD: %v", c.Diagnostic)); err != nil {
		level.Debug(s.logger).Log("msg", "BFD found the path to a peer broken that has no BGP session", "peer", peer, "err", err)
	}
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
