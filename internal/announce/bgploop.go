package announce

import (
	"context"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"github.com/go-kit/log/level"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/bgp"
	"heraldlb.io/herald/internal/config"
)

// passwordKey is the key of a BGPPeer's Secret.
const passwordKey = "password"

// The reasons why a peer of this node has to wait, beside those of package config.
const (
	reasonSecretNotFound = "SecretNotFound"
	reasonSecretInvalid  = "SecretInvalid"
	reasonBGPOff         = "BGPOff"
)

// speaking is the part of the loop that talks BGP.
type speaking struct {
	driver     BGP
	off        bool // every peer waits
	drainDelay time.Duration
	peers      []bgp.Peer
	waiting    []v1beta1.BGPSession // with peers of this node that something is missing for
	told       bool
	sessions   []bgp.Session // as they were when it was last looked
	stale      bool          // the sessions may have changed since
}

// SpeakBGP lets the loop announce by BGP too. It must be called before Run. When this node leaves for good, routers have
// drainDelay to turn to others.
func (l *Loop) SpeakBGP(driver BGP, drainDelay time.Duration) {
	l.bgp = &speaking{driver: driver, drainDelay: drainDelay}
}

// SpeakNoBGP lets the loop say of each peer of this node that it waits because BGP is off.
func (l *Loop) SpeakNoBGP() { l.bgp = &speaking{driver: &silentBGP{}, off: true} }

// speak makes what routers are told follow. It needs no ring: every node announces for itself.
func (l *Loop) speak(p pending) {
	if l.bgp == nil {
		return
	}
	again := !l.bgp.told || p.config || p.nodes || p.secrets
	if again {
		l.bgp.peers = l.bgpPeers()
		names := make([]string, 0, len(l.bgp.peers))
		for _, peer := range l.bgp.peers {
			names = append(names, peer.Name)
		}
		l.planner.routes.usePeers(names)
	}
	looked := l.planner.routes.looked()
	if changed := l.planner.routeChanges(); again || len(changed) > 0 {
		l.bgp.driver.Apply(l.bgp.peers, changed)
		l.bgp.told, l.bgp.stale = true, true
	}
	if l.bgp.stale {
		l.lookAtSessions()
	}
	for _, addr := range looked {
		var told []types.NamespacedName
		if len(l.bgp.peers) > 0 && !l.observes {
			told = l.planner.toldOf(addr)
		}
		l.seen.told(addr, told, time.Now())
	}
}

// bgpPeers returns the peers of this node with their passwords. One whose Secret is not there has to wait.
func (l *Loop) bgpPeers() []bgp.Peer {
	n := l.cluster.node(l.node)
	if n == nil {
		return nil
	}
	chosen, problems := l.planner.config.PeersOn(config.Node{Name: n.Name, Labels: n.Labels, Annotations: n.Annotations})
	before := l.bgp.waiting
	l.bgp.waiting = nil
	for _, problem := range problems {
		l.suspend(before, problem.Name, problem.Reason, problem.Text())
	}
	var out []bgp.Peer
	for _, p := range chosen {
		if l.bgp.off {
			l.suspend(before, p.Name, reasonBGPOff, "BGP is off: the speaker of this node runs with --bgp=false")
			continue
		}
		peer := bgp.Peer{BGPPeer: p}
		if p.PasswordSecret != "" {
			var reason, why string
			if peer.Password, reason, why = l.cluster.password(p.PasswordSecret); reason != "" {
				l.suspend(before, p.Name, reason, why)
				continue
			}
		}
		out = append(out, peer)
	}
	return out
}

// suspend notes that a peer has to wait, and logs it when that is new.
func (l *Loop) suspend(before []v1beta1.BGPSession, peer, reason, why string) {
	s := v1beta1.BGPSession{Peer: peer, State: string(bgp.Waiting), Since: second(time.Now()), Reason: reason, LastError: cut(why)}
	i := slices.IndexFunc(before, func(b v1beta1.BGPSession) bool {
		return b.Peer == peer && b.Reason == reason && b.LastError == s.LastError
	})
	if i >= 0 {
		s = before[i]
	} else {
		level.Warn(l.logger).Log("msg", "BGP peer has to wait", "peer", peer, "node", l.node, "reason", why)
	}
	l.bgp.waiting = append(l.bgp.waiting, s)
}

// password returns what the Secret of a peer holds, or why it cannot be used.
func (c *Cluster) password(name string) (password, reason, why string) {
	if c.informers.Secrets == nil {
		return "", reasonSecretNotFound, "Secrets are not read"
	}
	secrets := list[*corev1.Secret](c.informers.Secrets)
	i := slices.IndexFunc(secrets, func(s *corev1.Secret) bool { return s.Name == name })
	if i < 0 {
		return "", reasonSecretNotFound, "there is no Secret " + name + " in Herald's namespace: create it"
	}
	value := secrets[i].Data[passwordKey]
	if n := len(value); n == 0 || n > bgp.MaxPassword {
		return "", reasonSecretInvalid, "Secret " + name + " must hold 1 to 80 bytes as " + passwordKey
	}
	return string(value), "", ""
}

// quitBGP ends the sessions: for a while, or for good.
func (l *Loop) quitBGP(restart bool) {
	if l.bgp == nil {
		return
	}
	d := bgp.Drain
	if restart {
		d = bgp.Restart
	}
	l.bgp.driver.Leave(context.Background(), d, l.bgp.drainDelay)
}

// RouterID returns the BGP identifier of a node: its first internal IPv4 address, and for one without it four bytes that
// its name gives.
func (c *Cluster) RouterID(node string) netip.Addr {
	if n := c.node(node); n != nil {
		if ip, ok := internalIP(n, netip.IPv4Unspecified()); ok && ip.Is4() {
			return ip
		}
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(node)) // a hash takes everything
	id := [4]byte(h.Sum(nil))
	id[0] |= 1 // 0.0.0.0 is none
	return netip.AddrFrom4(id)
}
