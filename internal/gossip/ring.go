package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// openInterval is how often a missing secret or an address that cannot be bound is tried again.
	openInterval = time.Second

	// leaveTimeout is how long a member that goes waits for its word to be sent.
	leaveTimeout = 500 * time.Millisecond
)

// Config is what a member needs to know to take part.
type Config struct {
	// Node is the member's name, the name of its Node.
	Node string
	// Version of this speaker, for others to show; at most 32 bytes of it.
	Version string
	// Bind is the address that the member listens on, by UDP and TCP, and is known by to others: one address, not the
	// unspecified one. Port 0 takes any.
	Bind netip.AddrPort
	// Secret reads the secrets that all members share, one on each line, the first being the one to speak with. It is
	// called until it succeeds, its error saying what is missing, and then every few seconds.
	Secret func() ([]byte, error)
	// Label keeps two clusters apart that share a network and, by accident, a secret. It has at most [MaxLabel] bytes.
	Label string
	// RestartGrace is how long a member may be away and keep its addresses; zero is [DefaultRestartGrace]. It is the same
	// for all members.
	RestartGrace time.Duration
	// Detection is how soon a member is held for dead.
	Detection Detection
	// Prefer tells whether x is to have an address that x and y claim at the same epoch. It is the same for all members,
	// must not block, and prefers one of any two; nil prefers the name that sorts first.
	Prefer func(addr netip.Addr, x, y string) bool

	// transport wraps the one that listens on a port.
	transport func(t memberlist.NodeAwareTransport, port int) memberlist.NodeAwareTransport
	// present replaces the look for a node on the network.
	present func(addr netip.AddrPort, within time.Duration) bool
}

// Peer is a member that the ring should have.
type Peer struct {
	Node string
	Addr netip.AddrPort
}

// Member is a member that is alive or away.
type Member struct {
	Node   string
	Addr   netip.AddrPort
	Health Health

	// Version of the member's speaker, for people to read; empty when it did not tell.
	Version string

	// Away: the member's speaker is being restarted, or went without a word, while its node is there. It cannot be relied
	// on to answer; its Health has the interfaces that it offered last.
	Away bool

	// starting: it has not said yet what it can do.
	starting bool

	instance uint32 // the life of its process
	hash     uint64 // of what it says
}

// Ring is this node's part in the gossip. Its methods may be called by several goroutines, before Run and during
// it; none of them waits for the network.
type Ring struct {
	cfg      Config
	logger   log.Logger
	metrics  *metrics
	claims   *registers
	tuning   tuning
	instance uint32       // this life of the process
	keys     *keychain    // of Run
	alive    atomic.Int32 // members
	ml       atomic.Pointer[memberlist.Memberlist]

	memberDigest atomic.Uint64

	changed       chan struct{}
	healthChanged chan struct{}
	wantChanged   chan struct{}
	toTell        chan struct{}
	differs       chan memberlist.Address

	mu              sync.Mutex          // never held while memberlist is called: memberlist calls back
	members         map[string]Member   // that memberlist holds for alive
	away            map[string]*absence // of some of these and of others
	ended           map[string]uint32   // by node, the instance whose absence is known to be over
	looks           map[string]*look    // for nodes of members, in progress or done a short while ago
	refused         map[string]bool     // peers that are no members and whose node refused the last call
	suspected       []string            // members that peers are to be asked to look for
	health          Health
	healthSet       bool
	servicePathDown bool
	wanted          []Peer
	wantSet         bool
	notReady        error // nil once this member takes part and has looked for its peers
	wasReady        bool
	began           time.Time // when the first round began; of the goroutine that calls
	rounds          int       // of looking for absent peers that began
	trusted         int       // the first of them whose end makes this member ready
	rechecked       time.Time // when that was last asked for
	absent          map[string]bool
	compared        comparison
}

// New makes a member that does not take part until it runs.
func New(cfg Config, logger log.Logger, reg prometheus.Registerer) *Ring {
	cfg.RestartGrace = cmp.Or(cfg.RestartGrace, DefaultRestartGrace)
	if cfg.present == nil {
		cfg.present = present
	}
	t := profiles[cfg.Detection]
	return &Ring{
		cfg:           cfg,
		logger:        logger,
		metrics:       newMetrics(reg),
		claims:        newRegisters(cfg.Prefer),
		changed:       make(chan struct{}, 1),
		healthChanged: make(chan struct{}, 1),
		wantChanged:   make(chan struct{}, 1),
		toTell:        make(chan struct{}, 1),
		differs:       make(chan memberlist.Address, 1),
		members:       map[string]Member{},
		away:          map[string]*absence{},
		ended:         map[string]uint32{},
		instance:      1 + rand.Uint32N(math.MaxUint32),
		looks:         map[string]*look{},
		refused:       map[string]bool{},
		tuning:        t,
		compared:      comparison{settle: settleProbes * t.probeInterval, maxPause: t.pushPullInterval},
		absent:        map[string]bool{},
		notReady:      errors.New("gossip: not started"),
	}
}

// Want tells which members the ring should have, in any order; this node may be among them. Those that are absent
// are looked for until they join or are wanted no more. A member that is not wanted stays as long as it lives.
func (r *Ring) Want(peers []Peer) {
	peers = slices.DeleteFunc(slices.Clone(peers), func(p Peer) bool { return p.Node == r.cfg.Node })
	slices.SortFunc(peers, func(x, y Peer) int { return strings.Compare(x.Node, y.Node) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wantSet && slices.Equal(r.wanted, peers) {
		return
	}
	r.wanted, r.wantSet = peers, true
	maps.DeleteFunc(r.absent, func(node string, _ bool) bool { return !r.wants(node) })
	maps.DeleteFunc(r.refused, func(node string, _ bool) bool { return !r.wants(node) })
	maps.DeleteFunc(r.ended, func(node string, _ uint32) bool { return !r.wants(node) })
	r.metrics.wanted.Set(float64(len(peers) + 1))
	notify(r.wantChanged)
}

// wants tells whether a peer is one of those that there should be. It is called with the lock held.
func (r *Ring) wants(node string) bool {
	return slices.ContainsFunc(r.wanted, func(p Peer) bool { return p.Node == node })
}

// SetHealth tells the other members what to think of this one. Whether its service path works is for
// SetServicePathDown to tell as well: it is down when either says so.
func (r *Ring) SetHealth(h Health) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.healthSet && r.health.Equal(h) {
		return
	}
	r.health, r.healthSet = h, true
	notify(r.healthChanged)
	notify(r.changed)
}

// SetServicePathDown tells the other members whether this one's node brings traffic to pods.
func (r *Ring) SetServicePathDown(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.servicePathDown == down {
		return
	}
	r.servicePathDown = down
	notify(r.healthChanged)
	notify(r.changed)
}

// ownHealth is called with the lock held.
func (r *Ring) ownHealth() Health {
	h := r.health
	h.ServicePathDown = h.ServicePathDown || r.servicePathDown
	return h
}

// Members returns those that are alive or away, by name. This node is one of them once it takes part, with the health last
// set.
func (r *Ring) Members() []Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Member, 0, len(r.members))
	for _, m := range r.members {
		if m.Node == r.cfg.Node {
			m.Health, m.Version = r.ownHealth(), r.cfg.Version
		}
		if _, away := r.away[m.Node]; !away {
			out = append(out, m)
		}
	}
	for _, a := range r.away {
		out = append(out, a.member)
	}
	slices.SortFunc(out, func(x, y Member) int { return strings.Compare(x.Node, y.Node) })
	return out
}

// Changed gets a value when Members, TakeClaims or Ready may return something new; several changes may make one value.
func (r *Ring) Changed() <-chan struct{} { return r.changed }

// Ready returns nil once this member takes part and each wanted peer has joined or was found unreachable, and else
// says in words what it waits for. A member that is not ready must not be believed when it thinks that it is alone.
func (r *Ring) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.notReady
}

// Recheck makes a member that was ready look for its absent peers at once, and not be ready until it has. It is for
// when this node's own network was away: that its peers are gone may then be its own fault. With nobody absent it
// does nothing.
func (r *Ring) Recheck() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.notReady != nil || len(r.missing()) == 0 {
		return
	}
	r.trusted, r.rechecked = r.rounds+1, time.Now()
	r.notReady = errors.New("gossip: looking for absent peers, because this node's network was away")
	r.metrics.joined.Set(0)
	level.Info(r.logger).Log("msg", "this node's network was away; nothing is claimed before absent peers were looked for")
	notify(r.wantChanged)
}

// Run takes part until ctx is done, and then leaves. It waits for what is missing at the start, the secret or the
// address, for as long as it takes.
func (r *Ring) Run(ctx context.Context) {
	r.setReady(errors.New("gossip: starting"))
	ml := r.open(ctx)
	if ml == nil {
		return
	}
	r.ml.Store(ml)
	r.setReady(errors.New("gossip: waiting to learn which peers there should be"))

	var running sync.WaitGroup
	running.Go(func() { r.spreadHealth(ctx, ml) })
	running.Go(func() { r.tell(ctx, ml) })
	running.Go(func() { r.repair(ctx, ml) })
	running.Go(func() { r.keepJoined(ctx, ml) })
	running.Go(func() { r.keepKeys(ctx) })
	<-ctx.Done()
	running.Wait()
	if err := ml.Leave(leaveTimeout); err != nil {
		level.Warn(r.logger).Log("msg", "could not tell all members of leaving; they will find out", "err", err)
	}
	if err := ml.Shutdown(); err != nil {
		level.Warn(r.logger).Log("msg", "gossip did not shut down in order", "err", err)
	}
	r.setReady(errors.New("gossip: stopped"))
	r.endAbsences()
}

// open starts memberlist, when it can. It returns nil when ctx is done before.
func (r *Ring) open(ctx context.Context) *memberlist.Memberlist {
	var last string
	for {
		ml, err := r.create()
		if err == nil {
			level.Info(r.logger).Log("msg", "gossip listens", "addr", ml.LocalNode().Address(), "label", r.cfg.Label)
			return ml
		}
		if err.Error() != last {
			last = err.Error()
			level.Error(r.logger).Log("msg", "cannot take part in gossip; trying again every "+openInterval.String(), "err", err)
		}
		r.setReady(err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(openInterval):
		}
	}
}

func (r *Ring) create() (*memberlist.Memberlist, error) {
	wanted, err := r.readKeys()
	if err != nil {
		return nil, err
	}
	if r.cfg.Bind.Addr().IsUnspecified() || !r.cfg.Bind.IsValid() {
		return nil, fmt.Errorf("gossip cannot listen on %s: name the one address that peers reach this node at", r.cfg.Bind)
	}
	if r.keys, err = newKeychain(time.Now(), wanted); err != nil {
		return nil, err
	}
	listener, err := listen(r.cfg.Bind, r.cfg.Label, r.metrics.rejected.WithLabelValues("label").Inc)
	if err != nil {
		return nil, fmt.Errorf("gossip on %s: %w (another address or port: --gossip-bind)", r.cfg.Bind, err)
	}
	c := r.tuning.config()
	c.Name = r.cfg.Node
	c.Label = r.cfg.Label
	c.Keyring = r.keys.ring
	c.BindAddr, c.BindPort = r.cfg.Bind.Addr().String(), listener.port()
	c.AdvertiseAddr, c.AdvertisePort = c.BindAddr, c.BindPort
	c.Delegate = delegate{r}
	c.Events = events{r}
	c.Ping = delegate{r}
	c.Logger = debugLog(r.logger)
	var network memberlist.NodeAwareTransport = listener
	if r.cfg.transport != nil {
		network = r.cfg.transport(network, listener.port())
	}
	c.Transport = watching{network, r}
	ml, err := memberlist.Create(c)
	if err != nil {
		listener.Shutdown()
		return nil, fmt.Errorf("gossip on %s: %w", r.cfg.Bind, err)
	}
	return ml, nil
}

// spreadHealth tells the ring of this member's health whenever it changes.
func (r *Ring) spreadHealth(ctx context.Context, ml *memberlist.Memberlist) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.healthChanged:
		}
		// An error means that it took longer than that; the news is on its way all the same.
		_ = ml.UpdateNode(leaveTimeout)
	}
}

func (r *Ring) setReady(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && r.notReady != nil {
		level.Info(r.logger).Log("msg", "takes part in the ring", "members", len(r.members))
	}
	r.notReady = err
	if err == nil {
		r.wasReady = true
		r.metrics.joined.Set(1)
	} else {
		r.metrics.joined.Set(0)
	}
	notify(r.changed)
}

// jittered returns a duration within a quarter of d to either side, so that members that started together do not
// act together.
func jittered(d time.Duration) time.Duration {
	return d - d/4 + rand.N(d/2)
}

func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
