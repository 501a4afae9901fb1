package bgp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"golang.org/x/sys/unix"
)

// GoBGP drops what a router says before a session is established: that it expects another AS number, is shut down, or has
// no such neighbor. Those are the reasons for most sessions that never come up, so such a router is asked by a connection
// of our own now and then, which is not meant to become a session.

const (
	askAfter = 5 * time.Second // without a session; GoBGP needs about 2 s
	askEvery = time.Minute
	patience = 3 * time.Second // with a router that is asked
)

// question is whom to ask, as the node that GoBGP is.
type question struct {
	peer     Peer
	at       place
	routerID netip.Addr
	offer    []wire.ParameterCapabilityInterface
}

// inquire asks the routers whose sessions do not come up why.
func (s *Speaker) inquire(ctx context.Context) {
	s.mu.Lock()
	routerID := s.chooseRouterID()
	s.mu.Unlock()
	for _, q := range s.sessions.questions(routerID) {
		s.asking.Go(func() {
			if why := ask(ctx, q); why != "" {
				s.sessions.answered(q.peer.Name, why)
			}
		})
	}
}

// questions returns those that are due: for peers that have been without a session for a while, though we connect to them.
func (t *sessions) questions(routerID netip.Addr) []question {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []question
	for _, s := range t.byName {
		now := t.now()
		if !attempted(s.State) || s.peer.Passive || s.offer == nil || now.Sub(s.Since) < askAfter || now.Sub(s.asked) < askEvery {
			continue
		}
		s.asked = now
		out = append(out, question{peer: s.peer, at: s.at, routerID: routerID, offer: s.offer})
	}
	return out
}

// answered takes in why there is no session.
func (t *sessions) answered(peer, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.byName[peer]; s != nil && attempted(s.State) {
		s.answered = t.now()
		t.enter(s, s.State, why)
	}
}

// unreachable takes in that a router could not be connected to. It may have listened no more because it had refused the
// session just before, as BIRD does for a minute, and that says more.
func (t *sessions) unreachable(address, why string) {
	t.blame(address, why, func(s *session) bool { return t.now().Sub(s.answered) > 2*askEvery })
}

// ask returns why the router refuses the session; empty when it does not, or when that shows without asking.
func ask(ctx context.Context, q question) string {
	dialer := net.Dialer{Timeout: patience, Control: q.options}
	if q.at.source.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(q.at.source, 0))
	}
	conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(q.at.address, q.peer.Port).String())
	if err != nil {
		return "" // GoBGP says so too
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(patience)) // reading fails when this does
	if err := writeMessage(conn, q.open); err != nil {
		return ""
	}
	why := q.listen(conn)
	_ = writeMessage(conn, func() (*wire.BGPMessage, error) { // in case that the router would go on
		return wire.NewBGPNotificationMessage(wire.BGP_ERROR_CEASE, wire.BGP_ERROR_SUB_CONNECTION_COLLISION_RESOLUTION, nil), nil
	})
	return why
}

// listen reads the answers to our OPEN until it is clear whether the router goes along.
func (q question) listen(conn net.Conn) string {
	opened := false
	for {
		m, err := readMessage(conn)
		switch {
		case errors.As(err, new(*wire.MessageError)):
			return "" // GoBGP says so too
		case err != nil && opened:
			return "" // it took its time, or changed its mind
		case errors.Is(err, unix.ECONNRESET) || errors.Is(err, io.EOF):
			return "the router closes the connection without a word: does it have this node as a neighbor, is that not shut down, and what does its log say?"
		case err != nil:
			return "the router accepts the connection and says nothing"
		}
		switch body := m.Body.(type) {
		case *wire.BGPNotification:
			return "the router said: " + words(body.ErrorCode, body.ErrorSubcode, communicated(body))
		case *wire.BGPOpen:
			if _, err := wire.ValidateOpenMsg(body, q.peer.remoteASN(), q.peer.asn(), q.routerID); err != nil {
				return "" // GoBGP says so too
			}
			opened = true
		default:
			return ""
		}
	}
}

// open is the OPEN message that GoBGP sends.
func (q question) open() (*wire.BGPMessage, error) {
	asn, hold := q.peer.asn(), q.peer.HoldTime
	if asn > 0xffff {
		asn = wire.AS_TRANS
	}
	if hold == 0 {
		hold = forever
	}
	return wire.NewBGPOpenMessage(uint16(asn), uint16(seconds(hold)), q.routerID,
		[]wire.OptionParameterInterface{wire.NewOptionParameterCapability(q.offer)})
}

// options sets what the router demands of connections: the password and the distance.
func (q question) options(_, _ string, c syscall.RawConn) error {
	level, name, ttl := unix.IPPROTO_IP, unix.IP_TTL, 0
	if q.at.address.Is6() {
		level, name = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
	}
	switch {
	case q.peer.MinimumTTL > 0:
		ttl = 255
	case !q.peer.EBGPMultiHop && q.peer.remoteASN() != q.peer.asn():
		ttl = 1
	}
	var err error
	outer := c.Control(func(fd uintptr) {
		if ttl > 0 {
			err = unix.SetsockoptInt(int(fd), level, name, ttl)
		}
		if q.peer.Password != "" {
			key := unix.TCPMD5Sig{Keylen: uint16(len(q.peer.Password))}
			copy(key.Key[:], q.peer.Password)
			if key.Addr.Family = unix.AF_INET; q.at.address.Is6() {
				key.Addr.Family = unix.AF_INET6
				copy(key.Addr.Data[6:], q.at.address.AsSlice()) // after port and flow
			} else {
				copy(key.Addr.Data[2:], q.at.address.AsSlice()) // after port
			}
			err = errors.Join(err, unix.SetsockoptTCPMD5Sig(int(fd), unix.IPPROTO_TCP, unix.TCP_MD5SIG, &key))
		}
	})
	return errors.Join(outer, err)
}

func writeMessage(w io.Writer, message func() (*wire.BGPMessage, error)) error {
	m, err := message()
	if err != nil {
		return err
	}
	b, err := m.Serialize()
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// readMessage reads one message. The error is a *wire.MessageError when it is none.
func readMessage(r io.Reader) (*wire.BGPMessage, error) {
	b := make([]byte, wire.BGP_HEADER_LENGTH, wire.BGP_MAX_MESSAGE_LENGTH)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	var header wire.BGPHeader
	if err := header.DecodeFromBytes(b); err != nil {
		return nil, err
	}
	if int(header.Len) > cap(b) {
		return nil, wire.NewMessageError(wire.BGP_ERROR_MESSAGE_HEADER_ERROR, wire.BGP_ERROR_SUB_BAD_MESSAGE_LENGTH, nil, "too long")
	}
	body := b[len(b):header.Len]
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	return wire.ParseBGPBody(&header, body)
}

// communicated is the text that a NOTIFICATION carries when an operator ends a session (RFC 9003).
func communicated(n *wire.BGPNotification) string {
	text := n.ErrorCode == wire.BGP_ERROR_CEASE &&
		(n.ErrorSubcode == wire.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN || n.ErrorSubcode == wire.BGP_ERROR_SUB_ADMINISTRATIVE_RESET)
	if !text || len(n.Data) == 0 || len(n.Data) < 1+int(n.Data[0]) {
		return ""
	}
	return strings.ToValidUTF8(string(n.Data[1:1+int(n.Data[0])]), "\ufffd")
}

// roleMismatch refuses a session by RFC 9234, section 4.2, of which GoBGP v4.8.0 knows nothing.
const roleMismatch = 11

// remedies are what to do about NOTIFICATIONs, by code and subcode.
var remedies = map[[2]uint8]string{
	{wire.BGP_ERROR_OPEN_MESSAGE_ERROR, wire.BGP_ERROR_SUB_BAD_PEER_AS}:            "one side's AS number is not what the other expects: compare myASN, localASN and peerASN with the router's",
	{wire.BGP_ERROR_OPEN_MESSAGE_ERROR, wire.BGP_ERROR_SUB_BAD_BGP_IDENTIFIER}:     "both sides have the same router ID: set routerID, or change the router's",
	{wire.BGP_ERROR_OPEN_MESSAGE_ERROR, wire.BGP_ERROR_SUB_UNSUPPORTED_CAPABILITY}: "the router insists on something that it is not offered: compare families with the router's",
	{wire.BGP_ERROR_OPEN_MESSAGE_ERROR, roleMismatch}:                              "the router insists on a BGP role, and Herald has none: lift that there for this node",
	{wire.BGP_ERROR_CEASE, wire.BGP_ERROR_SUB_CONNECTION_REJECTED}:                 "the router has no such neighbor, or has it shut down",
}

// words puts a NOTIFICATION into words.
func words(code, subcode uint8, text string) string {
	out := wire.NewNotificationErrorCode(code, subcode).String()
	if text != "" {
		out += fmt.Sprintf(" (%q)", text)
	}
	if remedy := remedies[[2]uint8{code, subcode}]; remedy != "" {
		out += ": " + remedy
	}
	return out
}
