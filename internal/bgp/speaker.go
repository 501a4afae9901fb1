package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	gobgp "github.com/osrg/gobgp/v4/pkg/server"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
)

// placeholderASN is GoBGP's own AS number, which it wants to have and no peer is ever shown: each has its own.
const placeholderASN = 23456

// look is how often the node's addresses and what is heard on unnumbered links are looked at, and a peer that sent too
// many routes is given another chance.
const look = 5 * time.Second

// Speaker talks BGP for this node.
type Speaker struct {
	routerID netip.Addr // unless a peer says otherwise
	logger   log.Logger
	sessions *sessions

	watcher Watcher // nil without BFD

	mu      sync.Mutex // of what follows; held over calls into GoBGP, which none of the peers can hold up
	engine  *engine    // nil until there is a peer, and after Leave
	left    bool
	started bool // Apply was called
	peers   []Peer
	// waited are the peers that may still wait for who was here before: for the process before this one, or the engine
	// before this one. Those that are configured later do not.
	waited map[string]struct{}
	table  *table
}

// New makes a Speaker. It says nothing before Apply. routerID is the BGP identifier of the node, an IPv4 address.
func New(routerID netip.Addr, logger log.Logger, reg prometheus.Registerer) *Speaker {
	s := &Speaker{routerID: routerID, logger: logger, table: newTable(), sessions: newSessions(logger)}
	s.sessions.metrics = newMetrics(reg, s)
	return s
}

// Run keeps looking at what sessions depend on besides what Apply is told, until ctx is done. Sessions go on then: Leave
// ends them.
func (s *Speaker) Run(ctx context.Context) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.mu.Lock()
			s.follow(nil)
			s.forgive()
			s.mu.Unlock()
		}
	}
}

// Apply makes the sessions those of the peers, no two of which have one name or one place, and the routes of each prefix
// in changed those given: no route is no prefix. Of the routes of a prefix, a peer is told the first that names it. The
// first call must bring all prefixes: when it returns the peers are being told. Apply does not wait for any peer, and
// what cannot be done yet is tried again; Sessions tells what it waits for.
func (s *Speaker) Apply(peers []Peer, changed map[netip.Prefix][]Route) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left {
		return
	}
	s.peers = slices.SortedFunc(slices.Values(peers), peerName)
	if !s.started {
		s.started, s.waited = true, names(s.peers)
	}
	s.follow(s.table.set(changed))
}

func names(peers []Peer) map[string]struct{} {
	out := map[string]struct{}{}
	for _, p := range peers {
		out[p.Name] = struct{}{}
	}
	return out
}

// follow makes GoBGP what it should be: the policy first, then the paths, then the peers.
func (s *Speaker) follow(steps []step) {
	if s.left || s.engine == nil && len(s.peers) == 0 {
		return
	}
	links, err := links()
	if err != nil {
		level.Warn(s.logger).Log("msg", "the node's interfaces cannot be read; BGP sessions stay as they are", "err", err)
		return
	}
	places := s.sessions.locate(s.peers, links, sourceTo)
	want := identity{routerID: s.chooseRouterID(), listen: listeners(s.peers, places, sourceTo)}
	if s.engine != nil && !s.engine.identity.equal(want) {
		level.Info(s.logger).Log("msg", "BGP sessions are set up anew: the router ID or the addresses to listen on have changed", "router_id", want.routerID)
		s.engine.stop(true)
		s.engine = nil
	}
	if s.engine == nil {
		s.waited = names(s.peers)
		steps = s.table.all()
		if s.engine, err = start(want, s.logger, s.sessions); err != nil {
			level.Error(s.logger).Log("msg", "BGP cannot be started, and will be tried again", "err", err)
			return
		}
	}
	if s.watcher != nil {
		s.watcher.Set(watched(s.peers, places))
	}
	if err := s.engine.follow(s.table, steps, s.peers, s.admit(places), s.waited); err != nil {
		// Every call was judged by us before; what still fails would leave GoBGP in a state that nobody knows.
		level.Error(s.logger).Log("msg", "BGP sessions are set up anew: a change was refused", "err", err)
		s.engine.stop(true)
		s.engine = nil
	}
}

// chooseRouterID returns the one that a peer asks for, else the node's own.
func (s *Speaker) chooseRouterID() netip.Addr {
	for _, p := range s.peers {
		if p.RouterID.IsValid() {
			return p.RouterID
		}
	}
	return s.routerID
}

// listeners returns the node's addresses that peers connect to: those of sessions with passive peers, and none else.
func listeners(peers []Peer, places map[string]place, route func(netip.Addr) (netip.Addr, error)) []netip.Addr {
	var out []netip.Addr
	for _, p := range peers {
		at, ok := places[p.Name]
		if !p.Passive || p.Disabled || !ok {
			continue
		}
		own := at.source
		if !own.IsValid() {
			var err error
			if own, err = route(at.address); err != nil {
				continue // the next look may find a way
			}
			own = own.WithZone(at.address.Zone())
		}
		out = append(out, own)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// identity is what GoBGP cannot change while it runs.
type identity struct {
	routerID netip.Addr
	listen   []netip.Addr
}

func (i identity) equal(o identity) bool {
	return i.routerID == o.routerID && slices.Equal(i.listen, o.listen)
}

// engine is GoBGP, and what it was told.
type engine struct {
	identity
	server   *gobgp.BgpServer
	unwatch  context.CancelFunc
	sessions *sessions
	policy   *api.SetPoliciesRequest
	peers    map[string]*api.Peer // by name
}

func start(i identity, logger log.Logger, sessions *sessions) (*engine, error) {
	debug := &slog.LevelVar{}
	debug.Set(slog.LevelDebug)
	e := &engine{
		identity: i,
		server:   gobgp.NewBgpServer(gobgp.LoggerOption(slog.New(library{logger: logger, sessions: sessions}), debug)),
		sessions: sessions,
		peers:    map[string]*api.Peer{},
	}
	go e.server.Serve()
	ctx, cancel := context.WithCancel(context.Background())
	e.unwatch = cancel
	global := &api.Global{Asn: placeholderASN, RouterId: i.routerID.String(), ListenPort: -1}
	if len(i.listen) > 0 {
		global.ListenPort = 179
		for _, a := range i.listen {
			global.ListenAddresses = append(global.ListenAddresses, a.String())
		}
	}
	err := e.server.StartBgp(ctx, &api.StartBgpRequest{Global: global})
	if err == nil {
		err = e.server.WatchEvent(ctx, gobgp.WatchEventMessageCallbacks{OnPeerUpdate: e.changed}, gobgp.WatchPeer())
	}
	if err == nil {
		err = e.setPolicies(policies(nil, nil))
	}
	for _, a := range assignments() {
		if err == nil {
			err = e.server.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: a})
		}
	}
	if err != nil {
		e.stop(false)
		return nil, fmt.Errorf("start GoBGP with router ID %v, listening on %v: %w", i.routerID, i.listen, err)
	}
	return e, nil
}

// stop ends GoBGP. With quiet, peers that agreed to a graceful restart hear nothing of it and keep the routes.
func (e *engine) stop(quiet bool) {
	_ = e.server.StopBgp(context.Background(), &api.StopBgpRequest{AllowGracefulRestart: quiet}) // fails only when it never started
	e.unwatch()
}

func (e *engine) setPolicies(p *api.SetPoliciesRequest) error {
	if e.policy != nil && proto.Equal(e.policy, p) {
		return nil
	}
	if err := e.server.SetPolicies(context.Background(), p); err != nil {
		return fmt.Errorf("set the export policy: %w", err)
	}
	e.policy = p
	return nil
}

// follow takes steps, and makes the sessions those of the peers that have a place. Those that are added are struck off
// waited.
func (e *engine) follow(t *table, steps []step, peers []Peer, places map[string]place, waited map[string]struct{}) error {
	var present []told
	wanted := map[string]*api.Peer{}
	for _, p := range peers {
		at, ok := places[p.Name]
		if !ok {
			continue
		}
		present = append(present, told{name: p.Name, address: at.address, nextHop: at.nextHop})
		wanted[p.Name] = neighbor(p, at, false)
		e.sessions.know(p, at)
	}
	if err := e.setPolicies(policies(t.treatments(), present)); err != nil {
		return err
	}
	if err := e.tell(steps); err != nil {
		return err
	}
	if t.sweep() {
		if err := e.setPolicies(policies(t.treatments(), present)); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.peers)) {
		if w, ok := wanted[name]; !ok || w.Conf.NeighborAddress != e.peers[name].Conf.NeighborAddress {
			if err := e.remove(name); err != nil {
				return err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		_, restarting := waited[name]
		if err := e.add(name, wanted[name], restarting); err != nil {
			return err
		}
		delete(waited, name)
	}
	e.sessions.forget(peers)
	return nil
}

// tell makes the paths follow.
func (e *engine) tell(steps []step) error {
	var add, withdraw []*apiutil.Path
	for _, s := range steps {
		p, err := path(s)
		if err != nil {
			return fmt.Errorf("prefix %v: %w", s.prefix, err)
		}
		if p.Withdrawal {
			withdraw = append(withdraw, p)
		} else {
			add = append(add, p)
		}
	}
	if len(add) > 0 {
		if _, err := e.server.AddPath(apiutil.AddPathRequest{Paths: add}); err != nil {
			return fmt.Errorf("announce %d prefixes: %w", len(add), err)
		}
	}
	if len(withdraw) > 0 {
		if err := e.server.DeletePath(apiutil.DeletePathRequest{Paths: withdraw}); err != nil {
			return fmt.Errorf("withdraw %d prefixes: %w", len(withdraw), err)
		}
	}
	return nil
}

// add adds a peer or changes it.
func (e *engine) add(name string, p *api.Peer, restarting bool) error {
	ctx := context.Background()
	old, known := e.peers[name]
	if known && proto.Equal(old, p) {
		return nil
	}
	var err error
	if known {
		_, err = e.server.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: p})
	} else {
		first, _ := proto.Clone(p).(*api.Peer)
		if restarting && first.GracefulRestart != nil {
			first.GracefulRestart.LocalRestarting = true
		}
		err = e.server.AddPeer(ctx, &api.AddPeerRequest{Peer: first})
	}
	if err != nil {
		return fmt.Errorf("set up peer %s: %w", name, err)
	}
	e.peers[name] = p
	return nil
}

// remove ends the session with a peer. Its password, which guards a listener, goes first: GoBGP forgets it there only
// while it knows it.
func (e *engine) remove(name string) error {
	p := e.peers[name]
	delete(e.peers, name)
	if p.Conf.AuthPassword != "" && len(e.listen) > 0 {
		open, _ := proto.Clone(p).(*api.Peer)
		open.Conf.AuthPassword = ""
		open.Conf.AdminDown = true
		if _, err := e.server.UpdatePeer(context.Background(), &api.UpdatePeerRequest{Peer: open}); err != nil {
			return fmt.Errorf("remove the password of peer %s: %w", name, err)
		}
	}
	if err := e.server.DeletePeer(context.Background(), &api.DeletePeerRequest{Address: p.Conf.NeighborAddress}); err != nil {
		return fmt.Errorf("remove peer %s: %w", name, err)
	}
	return nil
}
