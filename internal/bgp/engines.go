package bgp

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/go-kit/log/level"
)

// group is what the peers of one GoBGP have in common; nearly always there is one. GoBGP listens where it was started to,
// and its export policy takes a link-local address on several interfaces for one neighbor. What one group needs never
// disturbs the sessions of another.
type group struct {
	listen netip.Addr // the node's address that passive peers connect to; invalid for peers that we connect to
	zone   string     // of peers whose link-local address another peer of the node has too, on another interface
}

// seats returns the group of each peer that has a place. A peer stays in the group that it was in, if it can.
func seats(peers []Peer, places map[string]place, was map[string]group) map[string]group {
	type seat struct {
		group
		address netip.Addr // without a zone
	}
	out, taken := map[string]group{}, map[seat]bool{}
	take := func(p Peer, g group) {
		s := seat{g, places[p.Name].address.WithZone("")}
		if _, seated := out[p.Name]; !seated && !taken[s] {
			out[p.Name], taken[s] = g, true
		}
	}
	for _, p := range peers {
		at, here := places[p.Name]
		if g, known := was[p.Name]; known && here && g.listen == at.listen && (g.zone == "" || g.zone == at.address.Zone()) {
			take(p, g)
		}
	}
	for _, p := range peers {
		if at, here := places[p.Name]; here {
			take(p, group{listen: at.listen})
			take(p, group{listen: at.listen, zone: at.address.Zone()})
		}
	}
	return out
}

// follow makes GoBGP what it should be: the policy first, then the paths, then the peers.
func (s *Speaker) follow(steps []step) {
	if len(s.engines) == 0 && len(s.peers) == 0 {
		return
	}
	links, err := links()
	if err != nil {
		level.Warn(s.logger).Log("msg", "the node's interfaces cannot be read; BGP sessions stay as they are", "err", err)
		return
	}
	places := s.sessions.locate(s.peers, surroundings{links: links, route: sourceTo, router: s.finder.Router})
	paths := watched(s.peers, places)
	s.watch(paths, s.paths) // a router that hears of the end of BFD before that of BGP may keep the routes
	places = s.admit(places)
	s.seats = seats(s.peers, places, s.seats)
	present := map[group][]Peer{}
	for _, p := range s.peers {
		if g, seated := s.seats[p.Name]; seated {
			present[g] = append(present[g], p)
		}
	}
	fresh := s.staff(present)
	for g, e := range s.engines {
		todo := steps
		if fresh[g] {
			todo = s.table.all()
		}
		s.try(g, e.announce(s.table.treatments(), todo, present[g], places))
	}
	swept := s.table.sweep()
	for g, e := range s.engines {
		if swept {
			s.try(g, e.setPolicies(policies(s.table.treatments(), tellable(present[g], places))))
		}
		s.try(g, e.drop(present[g], places)) // everywhere, before one of them is added elsewhere
	}
	s.watch(paths, nil)
	s.paths = paths
	for g, e := range s.engines {
		s.try(g, e.follow(present[g], places, s.waited))
	}
	s.sessions.forget(s.peers)
}

// staff ends the engines that no peer needs, starts those that are missing, and returns which are new. The peers of one
// that cannot be started wait.
func (s *Speaker) staff(present map[group][]Peer) (fresh map[group]bool) {
	routerID := s.chooseRouterID()
	for g, e := range s.engines {
		switch {
		case e.routerID != routerID:
			level.Info(s.logger).Log("msg", "BGP sessions are set up anew: the router ID has changed", "router_id", routerID)
			s.replace(g)
		case len(present[g]) == 0:
			e.stop(false, removed)
			delete(s.engines, g)
		}
	}
	fresh = map[group]bool{}
	for g, peers := range present {
		if s.engines[g] != nil {
			continue
		}
		e, err := start(routerID, g.listen, s.logger, s.sessions)
		if err != nil {
			s.sessions.wait(peers, err.Error())
			continue
		}
		s.engines[g], fresh[g] = e, true
	}
	return fresh
}

// try ends an engine that refused a change, and the next look starts another. Every call was judged by us before; what
// still fails would leave GoBGP in a state that nobody knows.
func (s *Speaker) try(g group, err error) {
	if err == nil || s.engines[g] == nil {
		return
	}
	level.Error(s.logger).Log("msg", "BGP sessions are set up anew: a change was refused", "err", err)
	s.replace(g)
}

// replace ends an engine in whose place another is to come. Its peers may wait for that one.
func (s *Speaker) replace(g group) {
	for name := range s.engines[g].peers {
		s.waited[name] = struct{}{}
	}
	s.engines[g].stop(true, "the session is set up anew")
	delete(s.engines, g)
}

// engineOf returns the engine that a peer is in, nil when there is none.
func (s *Speaker) engineOf(peer string) *engine { return s.engines[s.seats[peer]] }

// startError says what to do about an engine that cannot be started.
func startError(routerID, listen netip.Addr, err error) error {
	switch {
	case !listen.IsValid():
		return fmt.Errorf("start GoBGP with router ID %v: %w", routerID, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listen on port %d of %v: %w: add NET_BIND_SERVICE to the capabilities of the speaker's container, or do without passive", port, listen, err)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listen on port %d of %v: %w: stop the program of the node that has it, or do without passive", port, listen, err)
	}
	return fmt.Errorf("listen on port %d of %v: %w", port, listen, err)
}
