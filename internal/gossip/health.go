package gossip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
)

// Health is what a member says of itself. The zero Health is that of a member that can announce nothing, such as a
// speaker that has not read the cluster's state yet.
type Health struct {
	// Draining: the member wants to be relieved of its addresses.
	Draining bool

	// Restarting: the member's speaker goes and comes back soon, while its node goes on to forward what arrives there. It
	// wants to keep its addresses, and to be stood in for while it cannot answer.
	Restarting bool

	// ServicePathDown: what forwards traffic from the member's node to pods, kube-proxy or what takes its place, does not
	// work. The member is of use only when there is none whose service path works.
	ServicePathDown bool

	// Interfaces are those on which the member can announce now.
	Interfaces []Interface
}

// Interface is one of a member's interfaces.
type Interface struct {
	Name     string
	MAC      net.HardwareAddr // what neighbors reach the interface at; nil when it is not known
	ARP, NDP bool             // the protocols that work on it
	Subnets  []netip.Prefix   // masked
}

// Equal tells whether two members would be judged alike.
func (h Health) Equal(o Health) bool {
	return h.Draining == o.Draining && h.Restarting == o.Restarting && h.ServicePathDown == o.ServicePathDown &&
		slices.EqualFunc(h.Interfaces, o.Interfaces, Interface.equal)
}

func (i Interface) equal(o Interface) bool {
	return i.Name == o.Name && bytes.Equal(i.MAC, o.MAC) && i.ARP == o.ARP && i.NDP == o.NDP && slices.Equal(i.Subnets, o.Subnets)
}

// meta is all that a member says of itself.
type meta struct {
	Health

	// starting: the member's process began a short while ago, and has not said yet what it can do. That it offers nothing
	// means nothing.
	starting bool

	// version of the member's speaker, at most maxVersion bytes.
	version string

	// instance tells one life of the member's process from the next; 0 when an earlier version did not tell.
	instance uint32
}

// maxVersion is the length of the longest version that is told; more of it is cut off, so that it cannot take the
// room of an interface.
const maxVersion = 32

// metaVersion is the first byte of an encoded meta. A decoder ignores flags that it does not know and bytes that follow
// what it knows, so that fields can be added at the end without a new version.
const metaVersion = 1

const (
	flagDraining        = 1 << 0
	flagRestarting      = 1 << 1
	flagServicePathDown = 1 << 2
	flagStarting        = 1 << 3
)

const (
	flagARP = 1 << 0
	flagNDP = 1 << 1
)

// encode writes m into at most limit bytes, which are more than maxVersion. Interfaces that do not fit are left out, and
// complete is false.
//
// The format is: version, flags, number of interfaces; for each interface flags, MAC (zeros when there is none), length
// of the name, name, number of subnets; for each subnet one byte that is the prefix length of an IPv4 prefix or 33 plus
// that of an IPv6 prefix, and the bytes of the prefix that its length covers; then the length of the speaker's version,
// the version, and four bytes of the instance.
func (m meta) encode(limit int) (b []byte, complete bool) {
	version := m.version[:min(len(m.version), maxVersion)]
	limit -= 1 + len(version) + instanceLen
	b, complete = []byte{metaVersion, m.flags(), 0}, true
	for _, i := range m.Interfaces {
		e := i.append(b)
		if len(e) > limit || b[2] == 255 || len(i.Name) > 255 || len(i.Subnets) > 255 {
			complete = false
			break
		}
		b = e
		b[2]++
	}
	b = append(append(b, byte(len(version))), version...)
	return binary.BigEndian.AppendUint32(b, m.instance), complete
}

func (m meta) flags() (flags byte) {
	for _, f := range []struct {
		set bool
		bit byte
	}{{m.Draining, flagDraining}, {m.Restarting, flagRestarting}, {m.ServicePathDown, flagServicePathDown}, {m.starting, flagStarting}} {
		if f.set {
			flags |= f.bit
		}
	}
	return flags
}

func (i Interface) append(b []byte) []byte {
	var flags byte
	if i.ARP {
		flags |= flagARP
	}
	if i.NDP {
		flags |= flagNDP
	}
	var mac [macLen]byte
	if len(i.MAC) == macLen {
		copy(mac[:], i.MAC)
	}
	b = append(b[:len(b):len(b)], flags)
	b = append(b, mac[:]...)
	b = append(b, byte(len(i.Name)))
	b = append(b, i.Name...)
	b = append(b, byte(len(i.Subnets)))
	for _, p := range i.Subnets {
		bits := p.Bits()
		if p.Addr().Is4() {
			b = append(b, byte(bits))
		} else {
			b = append(b, byte(33+bits))
		}
		b = append(b, p.Addr().AsSlice()[:(bits+7)/8]...)
	}
	return b
}

const (
	macLen      = 6 // of an Ethernet address
	instanceLen = 4
)

var errHealth = errors.New("malformed health")

// decode reads what encode wrote. It accepts any bytes.
func decode(b []byte) (meta, error) {
	var m meta
	r := reader{b: b}
	version, flags, n := r.byte(), r.byte(), int(r.byte())
	if r.short || version != metaVersion {
		return meta{}, errHealth
	}
	m.Draining, m.Restarting = flags&flagDraining != 0, flags&flagRestarting != 0
	m.ServicePathDown, m.starting = flags&flagServicePathDown != 0, flags&flagStarting != 0
	for range n {
		flags := r.byte()
		i := Interface{ARP: flags&flagARP != 0, NDP: flags&flagNDP != 0, MAC: r.mac(), Name: string(r.bytes(int(r.byte())))}
		for range r.byte() {
			p, ok := r.prefix()
			if !ok {
				return meta{}, errHealth
			}
			i.Subnets = append(i.Subnets, p)
		}
		if r.short {
			return meta{}, errHealth
		}
		m.Interfaces = append(m.Interfaces, i)
	}
	if len(r.b) > 0 { // a speaker of the first version ends here
		m.version = string(r.bytes(int(r.byte())))
	}
	if len(r.b) > 0 { // and one of the second here
		m.instance = r.uint32()
	}
	if r.short || len(m.version) > maxVersion {
		return meta{}, errHealth
	}
	return m, nil
}

// reader takes bytes off the front, and remembers when there were too few.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.b) {
		r.short = true
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	b := r.bytes(1)
	if b == nil {
		return 0
	}
	return b[0]
}

// mac returns nil for what no single station can have: it is not to be told to anybody.
func (r *reader) mac() net.HardwareAddr {
	var mac [macLen]byte
	copy(mac[:], r.bytes(macLen))
	if mac == ([macLen]byte{}) || mac[0]&1 != 0 {
		return nil
	}
	return mac[:]
}

func (r *reader) prefix() (netip.Prefix, bool) {
	bits := int(r.byte())
	var a [16]byte
	if bits <= 32 {
		copy(a[:4], r.bytes((bits+7)/8))
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(a[:4])), bits).Masked(), !r.short
	}
	bits -= 33
	if bits > 128 {
		return netip.Prefix{}, false
	}
	copy(a[:], r.bytes((bits+7)/8))
	return netip.PrefixFrom(netip.AddrFrom16(a), bits).Masked(), !r.short
}
