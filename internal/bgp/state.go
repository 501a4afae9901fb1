package bgp

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/osrg/gobgp/v4/api"
	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/bfd"
)

// State is that of a session, in the words of RFC 4271.
type State string

// The values of State. Waiting and Disabled are not of the protocol: no session is attempted then.
const (
	Waiting     State = "Waiting"
	Disabled    State = "Disabled"
	Idle        State = "Idle"
	Connect     State = "Connect"
	Active      State = "Active"
	OpenSent    State = "OpenSent"
	OpenConfirm State = "OpenConfirm"
	Established State = "Established"
)

// Session is what is known of the session with a peer.
type Session struct {
	Peer    string
	Address netip.Addr // invalid while it is not known
	State   State
	Since   time.Time // when the session came up, went down, or began to wait; attempts to connect do not change it

	// LastError is why there is no session, or why the last one ended: what the kernel, the protocol or the router's
	// NOTIFICATION said. It stays when the session comes back, and is empty when there never was a reason.
	LastError     string
	LastErrorTime time.Time

	// ASN and RouterID are what the router said of itself when it last opened a session; 0 and invalid before.
	ASN      uint32
	RouterID netip.Addr
	// Families are those of the routes that the router is told: while established, those that it takes of those wanted.
	Families []v1beta1.IPFamily
	// GracefulRestart: the router keeps the routes over a restart of this process.
	GracefulRestart bool

	Sent     int // prefixes that the router has been told
	Received int // prefixes that the router sent, all of which are refused
	// BFD is how the session that watches the path stands; nil when none does.
	BFD *bfd.Status
}

// Sessions returns what is known of each peer's session, by name. It waits for no peer.
func (s *Speaker) Sessions() []Session {
	out := s.sessions.list()
	s.mu.Lock()
	defer s.mu.Unlock()
	received := map[string]int{}
	for _, e := range s.engines {
		_ = e.server.ListPeer(context.Background(), &api.ListPeerRequest{}, func(p *api.Peer) {
			for _, a := range p.AfiSafis {
				received[p.State.NeighborAddress] += int(a.State.GetReceived())
			}
		}) // fails only once GoBGP has stopped
	}
	for i := range out {
		one := &out[i]
		if one.State == Established {
			one.Sent, one.Received = s.table.told(one.Peer, one.Families), received[one.Address.String()]
		}
		if s.watcher == nil {
			continue
		}
		if status, ok := s.watcher.State(one.Address); ok {
			one.BFD = &status
		}
	}
	return out
}

// Changed receives after a session came up or went down, began or ceased to wait, or found another reason why it is not
// up, and after BFD found a path up or down; several changes may be told as one, and a session that went down and came back meanwhile has another Since. Attempts
// to connect and numbers of prefixes are no changes. There is one channel, for one receiver.
func (s *Speaker) Changed() <-chan struct{} { return s.sessions.changes }

// told counts the prefixes of these families that a peer is told.
func (t *table) told(peer string, families []v1beta1.IPFamily) int {
	n := 0
	for _, tr := range t.byKey {
		if !slices.ContainsFunc(tr.routes, func(r Route) bool { return r.Peers == nil || slices.Contains(r.Peers, peer) }) {
			continue
		}
		for _, f := range families {
			n += tr.prefixes[f]
		}
	}
	return n
}

// family translates.
func family(f v1beta1.IPFamily) wire.Family {
	if f == v1beta1.IPv4 {
		return wire.RF_IPv4_UC
	}
	return wire.RF_IPv6_UC
}
