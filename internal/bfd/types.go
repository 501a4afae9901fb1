package bfd

import (
	"fmt"
	"net/netip"
	"time"

	wire "github.com/osrg/gobgp/v4/pkg/packet/bfd"
)

// State is a session's state (RFC 5880, section 6.2).
type State uint8

// The states. AdminDown is what a peer says when its operator has switched the session off: it tells nothing about
// the path, so BGP goes on without BFD.
const (
	AdminDown = State(wire.StateAdminDown)
	Down      = State(wire.StateDown)
	Init      = State(wire.StateInit)
	Up        = State(wire.StateUp)
)

func (s State) String() string {
	switch s {
	case AdminDown:
		return "AdminDown"
	case Down:
		return "Down"
	case Init:
		return "Init"
	case Up:
		return "Up"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Diagnostic says why a session changed its state last (RFC 5880, section 4.1).
type Diagnostic uint8

// The diagnostics that Herald sends.
const (
	NoDiagnostic          = Diagnostic(wire.DiagnosticNoDiagnostic)
	DetectionTimeExpired  = Diagnostic(wire.DiagnosticControlDetectionTimeExpired)
	NeighborSignaledDown  = Diagnostic(wire.DiagnosticNeighborSignaledSessionDown)
	AdministrativelyDown  = Diagnostic(wire.DiagnosticAdministrativelyDown)
	lastDiagnosticInWords = Diagnostic(wire.DiagnosticReverseConcatenatedPathDown)
)

func (d Diagnostic) String() string {
	if d > lastDiagnosticInWords {
		return fmt.Sprintf("diagnostic %d", uint8(d))
	}
	return wire.DiagnosticType(d).String()
}

// Session is a session that there shall be. A peer has one.
type Session struct {
	// Peer is the router. A link-local address has its interface as the zone.
	Peer netip.Addr
	// Local is the address that packets are sent from; invalid means that the kernel chooses. The peer must expect it:
	// where an interface has several addresses of a kind, say which.
	Local netip.Addr
	// Interface is where packets leave and must arrive; empty means wherever the route leads, or the peer's zone.
	Interface string
	// Multihop takes packets that came over several hops, down to the profile's MinimumTTL. The router must see the
	// session the same way, because the two kinds use different ports.
	Multihop bool
	Profile  Profile
}

// Profile is what this side asks for.
type Profile struct {
	ReceiveInterval  time.Duration // the shortest between two packets of the peer that it can take
	TransmitInterval time.Duration // the shortest between two packets that it sends
	DetectMultiplier uint8         // how many packets in a row the peer may miss; at least 1
	PassiveMode      bool          // sends nothing before the peer was heard
	MinimumTTL       int           // of packets over several hops
}

// Change is what happened to a session. Down means that a session that was up failed, and nothing else does:
// a session that never came up, is removed, or whose peer says AdminDown reports no Down.
type Change struct {
	Peer       netip.Addr
	State      State // Up, Down or AdminDown
	Diagnostic Diagnostic
	Time       time.Time
}

// Status is how a session stands.
type Status struct {
	// State is AdminDown when it is the peer that is.
	State      State
	Diagnostic Diagnostic // why it is not up
	Since      time.Time  // when State was reached
	// Interval is the agreed time between two packets that this side sends, and DetectionTime how long the peer may
	// be silent; 0 until the peer was heard.
	Interval      time.Duration
	DetectionTime time.Duration
	// HeldUntil is when a session that failed repeatedly may come up again; zero when it may now.
	HeldUntil time.Time
	// Err is why packets cannot be sent or received, nil when they can.
	Err error
}
