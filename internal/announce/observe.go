package announce

import (
	"context"
	"net/netip"
	"time"

	"github.com/go-kit/log"

	"heraldlb.io/herald/internal/bgp"
	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/layer2"
)

// A speaker that only observes elects and claims with the others that do, and tells in its own objects what it would
// announce. It does nothing else: its drivers are the ones of this file.

// silentLayer2 looks at interfaces, and sends nothing.
type silentLayer2 struct{ Layer2 }

func (silentLayer2) Apply(map[netip.Addr]layer2.Scope, []netip.Addr) {}
func (silentLayer2) Quiesce()                                        {}

// silentBGP attempts no session.
type silentBGP struct {
	sessions []bgp.Session
	since    time.Time
}

func (s *silentBGP) Apply(peers []bgp.Peer, _ map[netip.Prefix][]bgp.Route) {
	s.sessions = nil
	for _, p := range peers {
		s.sessions = append(s.sessions, bgp.Session{Peer: p.Name, Address: p.Address, State: bgp.Disabled, Since: s.since, Families: p.Families,
			LastError: "none is attempted: the speaker only observes"})
	}
}

func (s *silentBGP) Sessions() []bgp.Session                             { return s.sessions }
func (s *silentBGP) Changed() <-chan struct{}                            { return nil }
func (s *silentBGP) Leave(context.Context, bgp.Departure, time.Duration) {}

// silentEvents tells nobody.
type silentEvents struct{}

func (silentEvents) Record(kube.Event) {}

// observe has the loop do nothing but tell what it would do.
func (l *Loop) observe() {
	l.observes = true
	l.layer2 = silentLayer2{l.layer2}
	l.events = silentEvents{}
	l.logger = log.With(l.logger, "observes", true)
	l.SpeakBGP(&silentBGP{since: time.Now()}, 0)
}
