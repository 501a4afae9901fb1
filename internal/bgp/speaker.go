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
	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/config/oc"
	gobgp "github.com/osrg/gobgp/v4/pkg/server"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"heraldlb.io/herald/internal/bfd"
	"heraldlb.io/herald/internal/privilege"
	"heraldlb.io/herald/internal/unnumbered"
)

// placeholderASN is GoBGP's own AS number, which it wants to have and no peer is ever shown: each has its own.
const placeholderASN = 23456

// look is how often the node's addresses are looked at, and a peer that sent too many routes is given another chance.
const look = 5 * time.Second

// Speaker talks BGP for this node.
type Speaker struct {
	routerID netip.Addr // unless a peer says otherwise
	logger   log.Logger
	sessions *sessions
	finder   *unnumbered.Finder
	asking   sync.WaitGroup // routers why there is no session
	found    chan struct{}  // there is another router at an interface

	watcher Watcher // nil without BFD

	mu      sync.Mutex // of what follows; held over calls into GoBGP, which none of the peers can hold up
	engines map[group]*engine
	seats   map[string]group // by the peer's name
	left    bool
	started bool // Apply was called
	peers   []Peer
	paths   []bfd.Session // that are watched
	// waited are the peers that may still wait for who was here before: for the process before this one, or the engine
	// before this one. Those that are configured later do not.
	waited map[string]struct{}
	table  *table
}

// New makes a Speaker. It says nothing before Apply. routerID is the BGP identifier of the node, an IPv4 address.
func New(routerID netip.Addr, logger log.Logger, reg prometheus.Registerer) *Speaker {
	s := &Speaker{routerID: routerID, logger: logger, engines: map[group]*engine{}, waited: map[string]struct{}{}, table: newTable(), sessions: newSessions(logger)}
	s.sessions.metrics = newMetrics(reg, s)
	s.found = make(chan struct{}, 1)
	s.finder = unnumbered.New(logger, func() {
		select {
		case s.found <- struct{}{}:
		default: // it will be looked for anyway
		}
	})
	return s
}

// Run keeps looking at what sessions depend on besides what Apply is told, until ctx is done. Sessions go on then: Leave
// ends them.
func (s *Speaker) Run(ctx context.Context) {
	var finding sync.WaitGroup
	defer finding.Wait()
	defer s.asking.Wait()
	finding.Go(func() { s.finder.Run(ctx) })
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.look()
			s.inquire(ctx)
		case <-s.found:
			s.look()
		}
	}
}

// look brings the sessions to what is there now.
func (s *Speaker) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.left {
		s.follow(nil)
		s.forgive()
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
	var interfaces []string
	for _, p := range s.peers {
		if p.unnumbered() && !p.Disabled {
			interfaces = append(interfaces, p.Interface)
		}
	}
	s.finder.Set(interfaces)
	if !s.started {
		s.started = true
		for _, p := range s.peers {
			s.waited[p.Name] = struct{}{}
		}
	}
	s.follow(s.table.set(changed))
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

// engine is GoBGP, and what it was told.
type engine struct {
	routerID netip.Addr
	listens  bool
	server   *gobgp.BgpServer
	unwatch  context.CancelFunc
	sessions *sessions
	policy   *api.SetPoliciesRequest
	peers    map[string]*api.Peer // by name
}

// port is that of BGP.
const port = 179

// start starts GoBGP, which listens on an address, if that is valid.
func start(routerID, listen netip.Addr, logger log.Logger, sessions *sessions) (*engine, error) {
	debug := &slog.LevelVar{}
	debug.Set(slog.LevelDebug)
	e := &engine{
		routerID: routerID,
		listens:  listen.IsValid(),
		server:   gobgp.NewBgpServer(gobgp.LoggerOption(slog.New(library{logger: logger, sessions: sessions}), debug)),
		sessions: sessions,
		peers:    map[string]*api.Peer{},
	}
	if e.listens {
		go func() {
			_ = privilege.With(privilege.NetBindService, func() error { // StartBgp says when it is missing
				e.server.Serve() // which opens the socket
				return nil
			})
		}()
	} else {
		go e.server.Serve()
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.unwatch = cancel
	global := &api.Global{
		Asn: placeholderASN, RouterId: routerID.String(), ListenPort: -1,
		// GoBGP keeps two empty tables for each family that it is not told to leave out, of half a megabyte together.
		Families: []uint32{uint32(oc.AFI_SAFI_TYPE_IPV4_UNICAST.ToInt()), uint32(oc.AFI_SAFI_TYPE_IPV6_UNICAST.ToInt())},
	}
	if e.listens {
		global.ListenPort, global.ListenAddresses = port, []string{listen.String()}
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
		e.stop(false, "")
		return nil, startError(routerID, listen, err)
	}
	return e, nil
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

// tellable are the peers as the policy has to know them.
func tellable(peers []Peer, places map[string]place) []told {
	out := make([]told, 0, len(peers))
	for _, p := range peers {
		at := places[p.Name]
		out = append(out, told{name: p.Name, address: at.address, nextHop: at.nextHop})
	}
	return out
}

// announce takes steps, after which the peers are told by these treatments.
func (e *engine) announce(treatments []*treatment, steps []step, peers []Peer, places map[string]place) error {
	if err := e.setPolicies(policies(treatments, tellable(peers, places))); err != nil {
		return err
	}
	return e.tell(steps)
}

// drop ends the sessions with those that are none of the peers any more, or at another address.
func (e *engine) drop(peers []Peer, places map[string]place) error {
	var gone, at []string
	for _, name := range slices.Sorted(maps.Keys(e.peers)) {
		stays := slices.ContainsFunc(peers, func(p Peer) bool { return p.Name == name })
		if address := e.peers[name].Conf.NeighborAddress; !stays || address != places[name].address.String() {
			gone, at = append(gone, name), append(at, address)
		}
	}
	if len(gone) > 0 {
		e.end(removed, func(p *api.Peer) bool { return slices.Contains(at, p.Conf.NeighborAddress) })
	}
	for _, name := range gone {
		if err := e.remove(name); err != nil {
			return err
		}
	}
	return nil
}

// follow makes the sessions with the peers what they should be. Those that are added are struck off waited.
func (e *engine) follow(peers []Peer, places map[string]place, waited map[string]struct{}) error {
	for _, p := range peers {
		e.sessions.know(p, places[p.Name])
		_, restarting := waited[p.Name]
		if err := e.add(p.Name, neighbor(p, places[p.Name], false), restarting); err != nil {
			return err
		}
		delete(waited, p.Name)
	}
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
	if p.Conf.AuthPassword != "" && e.listens {
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
