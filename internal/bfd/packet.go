package bfd

import (
	"errors"
	"time"

	wire "github.com/osrg/gobgp/v4/pkg/packet/bfd"
)

// packet is a BFD control packet (RFC 5880, section 4.1) as far as Herald uses it.
type packet struct {
	state      State
	diagnostic Diagnostic
	poll       bool
	final      bool
	demand     bool // the sender wants no periodic packets while both sides are up
	multiplier uint8
	mine       uint32 // discriminators, as the sender sees them
	yours      uint32
	desiredTx  time.Duration
	requiredRx time.Duration
}

// The flags of the second byte that the codec leaves to us.
const (
	flagAuthentication = 1 << 2
	flagDemand         = 1 << 1
	flagMultipoint     = 1 << 0
)

const (
	version    = 1
	minLength  = 24
	lengthByte = 3
	flagsByte  = 1
)

// Why a packet is dropped; the texts are values of a metric's label.
var (
	errMalformed      = errors.New("malformed")
	errVersion        = errors.New("version")
	errAuthentication = errors.New("authentication")
	errTTL            = errors.New("ttl")
	errNoSession      = errors.New("no_session")
)

// parse reads a received packet and makes the checks of RFC 5880, section 6.8.6, that need no session. Bytes after the
// length that the packet gives are not its own and are ignored.
func parse(b []byte) (packet, error) {
	if len(b) < minLength {
		return packet{}, errMalformed
	}
	if b[0]>>5 != version {
		return packet{}, errVersion
	}
	if b[flagsByte]&flagAuthentication != 0 {
		return packet{}, errAuthentication
	}
	length := int(b[lengthByte])
	if length < minLength || length > len(b) || b[flagsByte]&flagMultipoint != 0 {
		return packet{}, errMalformed
	}
	var h wire.BFDHeader
	if err := h.UnmarshalBinary(b[:length]); err != nil {
		return packet{}, errMalformed
	}
	if h.DetectTimeMultiplier == 0 || h.MyDiscriminator == 0 {
		return packet{}, errMalformed
	}
	// Only who does not know us yet may leave our discriminator out.
	if h.YourDiscriminator == 0 && h.State != wire.StateDown && h.State != wire.StateAdminDown {
		return packet{}, errMalformed
	}
	return packet{
		state:      State(h.State),
		diagnostic: Diagnostic(h.Diagnostic),
		poll:       h.Poll,
		final:      h.Final,
		demand:     b[flagsByte]&flagDemand != 0,
		multiplier: h.DetectTimeMultiplier,
		mine:       h.MyDiscriminator,
		yours:      h.YourDiscriminator,
		desiredTx:  time.Duration(h.DesiredMinTxInterval) * time.Microsecond,
		requiredRx: time.Duration(h.RequiredMinRxInterval) * time.Microsecond,
	}, nil
}

// bytes returns the packet as it travels. The bit C stays clear: a session ends with the process that speaks BGP, so it
// shares that process's fate. So does the interval for echo packets, which offers none.
func (p packet) bytes() []byte {
	h := wire.BFDHeader{
		Version:               version,
		Diagnostic:            wire.DiagnosticType(p.diagnostic),
		State:                 wire.StateType(p.state),
		Poll:                  p.poll,
		Final:                 p.final,
		DetectTimeMultiplier:  p.multiplier,
		MyDiscriminator:       p.mine,
		YourDiscriminator:     p.yours,
		DesiredMinTxInterval:  uint32(p.desiredTx / time.Microsecond),
		RequiredMinRxInterval: uint32(p.requiredRx / time.Microsecond),
	}
	b, err := h.MarshalBinary()
	if err != nil {
		// The codec refuses states and diagnostics that a packet has no bits for, and machine makes none.
		return nil
	}
	return b
}
