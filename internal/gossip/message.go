package gossip

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// What members say to each other beyond their health is one format, in a packet as in an exchange of whole states: a
// version byte, and then sections. A section is its kind, one byte; its length, four bytes, big endian; and that many
// bytes. A member skips the sections of a kind that it does not know, so that a later version can say more without a new
// version byte.
const messageVersion = 1

const (
	// sectionClaims has claims one after the other. Each is a byte of flags; when flagNode is set the length of the node's
	// name and the name, and else the node is that of the claim before; 4 or, with flagIPv6, 16 bytes of the address;
	// and the epoch as a varint.
	sectionClaims = 1

	// sectionSuspect has the name of a member that did not answer its sender.
	sectionSuspect = 2

	// sectionAbsence has a member that is away: the length of its name and the name, the length of its address and the
	// address, its port as two bytes, big endian; how many milliseconds it may still stay away, four bytes; and its
	// metadata.
	sectionAbsence = 3
)

const (
	flagNode = 1 << 0
	flagIPv6 = 1 << 1
)

const (
	// messageOverhead is what a message of one section has beside the section's own bytes.
	messageOverhead = 1 + sectionOverhead
	sectionOverhead = 1 + 4

	// maxName is the length of the longest name that a Node can have, which a byte can tell.
	maxName = 253
)

var (
	errMessage = errors.New("malformed message")
	errVersion = errors.New("message of an unknown version")
)

type section struct {
	kind byte
	b    []byte
}

func message(sections ...section) []byte {
	size := 1
	for _, s := range sections {
		size += sectionOverhead + len(s.b)
	}
	out := append(make([]byte, 0, size), messageVersion)
	for _, s := range sections {
		out = binary.BigEndian.AppendUint32(append(out, s.kind), uint32(len(s.b)))
		out = append(out, s.b...)
	}
	return out
}

// sections reads what message wrote. It accepts any bytes, and copies none.
func sections(b []byte) ([]section, error) {
	r := reader{b: b}
	if version := r.byte(); !r.short && version != messageVersion {
		return nil, errVersion
	}
	var out []section
	for len(r.b) > 0 {
		s := section{kind: r.byte()}
		s.b = r.bytes(int(r.uint32()))
		out = append(out, s)
	}
	if r.short {
		return nil, errMessage
	}
	return out, nil
}

// claimWriter writes the bytes of a section of claims.
type claimWriter struct {
	b    []byte
	node string
}

// append adds a claim, unless there would be more than limit bytes then.
func (w *claimWriter) append(c Claim, limit int) bool {
	b := w.b
	var flags byte
	if !c.Addr.Is4() {
		flags |= flagIPv6
	}
	if c.Node != w.node {
		flags |= flagNode
	}
	b = append(b, flags)
	if c.Node != w.node {
		b = append(b, byte(len(c.Node)))
		b = append(b, c.Node...)
	}
	if c.Addr.Is4() {
		a := c.Addr.As4()
		b = append(b, a[:]...)
	} else {
		a := c.Addr.As16()
		b = append(b, a[:]...)
	}
	b = binary.AppendUvarint(b, c.Epoch)
	if len(b) > limit {
		return false // what was appended lies beyond the end of w.b
	}
	w.b, w.node = b, c.Node
	return true
}

// readClaims calls f with each claim of a section, until there is something wrong with its bytes. The claims may be
// invalid.
func readClaims(b []byte, f func(Claim)) error {
	r := reader{b: b}
	node := ""
	for len(r.b) > 0 {
		flags := r.byte()
		if flags&flagNode != 0 {
			node = string(r.bytes(int(r.byte())))
		}
		c := Claim{Node: node}
		if flags&flagIPv6 != 0 {
			c.Addr, _ = netip.AddrFromSlice(r.bytes(16))
		} else {
			c.Addr, _ = netip.AddrFromSlice(r.bytes(4))
		}
		c.Epoch = r.uvarint()
		if r.short {
			return errMessage
		}
		f(c)
	}
	return nil
}

func writeAbsence(m Member, left time.Duration) []byte {
	b := append([]byte{byte(len(m.Node))}, m.Node...)
	addr := m.Addr.Addr().AsSlice()
	b = append(append(b, byte(len(addr))), addr...)
	b = binary.BigEndian.AppendUint16(b, m.Addr.Port())
	b = binary.BigEndian.AppendUint32(b, uint32(max(0, left.Milliseconds())))
	said, _ := meta{Health: m.Health, version: m.Version, instance: m.instance}.encode(memberlist.MetaMaxSize)
	return append(b, said...)
}

func readAbsence(b []byte) (m Member, left time.Duration, err error) {
	r := reader{b: b}
	m.Node = string(r.bytes(int(r.byte())))
	addr, ok := netip.AddrFromSlice(r.bytes(int(r.byte())))
	m.Addr = netip.AddrPortFrom(addr.Unmap(), r.uint16())
	left = time.Duration(r.uint32()) * time.Millisecond
	if r.short || !ok || m.Node == "" {
		return Member{}, 0, errMessage
	}
	said, err := decode(r.b)
	m.Health, m.Version, m.instance = said.Health, said.version, said.instance
	return m, left, err
}

func (r *reader) uint16() uint16 {
	b := r.bytes(2)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint16(b)
}

func (r *reader) uint32() uint32 {
	b := r.bytes(4)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.short = true
		return 0
	}
	r.b = r.b[n:]
	return v
}
