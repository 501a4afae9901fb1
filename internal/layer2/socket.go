package layer2

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"heraldlb.io/herald/internal/privilege"
)

// receiveBuffer is asked for, and given as far as net.core.rmem_max allows. The default holds some 280 questions; what comes
// in while this process is not scheduled and does not fit is asked again only a second later.
const receiveBuffer = 4 << 20

// socket is a packet socket of one protocol on one interface. It reads and writes the descriptor itself: the library
// would allocate an address for each frame.
type socket struct {
	conn *packet.Conn
	raw  syscall.RawConn

	writing sync.Mutex // guards what follows, for one write
	frame   []byte
	err     error
	write1  func(fd uintptr) bool // a method value, made once
}

// openSocket opens a socket that receives what the filter passes.
func openSocket(l link, etherType int, filter []bpf.Instruction) (*socket, error) {
	program, err := bpf.Assemble(filter)
	if err != nil {
		return nil, fmt.Errorf("assemble the kernel filter: %w", err)
	}
	s := &socket{}
	s.write1 = s.tryWrite
	ifi := &net.Interface{Index: l.index, Name: l.name, HardwareAddr: l.mac}
	err = privilege.With(privilege.NetRaw, func() (err error) {
		s.conn, err = packet.Listen(ifi, packet.Raw, etherType, &packet.Config{Filter: program})
		return err
	})
	if err != nil {
		return nil, err
	}
	s.raw, err = s.conn.SyscallConn()
	if err == nil {
		err = s.raw.Control(func(fd uintptr) {
			// A smaller buffer is no reason to do without the socket.
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
		})
	}
	if err != nil {
		s.conn.Close()
		return nil, err
	}
	return s, nil
}

func (s *socket) close() { s.conn.Close() }

// setFilter replaces the filter; no frame slips by in between.
func (s *socket) setFilter(filter []bpf.Instruction) error {
	program, err := bpf.Assemble(filter)
	if err != nil {
		return fmt.Errorf("assemble the kernel filter: %w", err)
	}
	return s.conn.SetBPF(program)
}

// allMulticast opens the interface's hardware filter for every group.
func (s *socket) allMulticast(index int) error {
	var err error
	ctlErr := s.raw.Control(func(fd uintptr) {
		mreq := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_ALLMULTI}
		err = os.NewSyscallError("setsockopt PACKET_MR_ALLMULTI", unix.SetsockoptPacketMreq(int(fd), unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq))
	})
	return errors.Join(ctlErr, err)
}

// counts returns how many frames passed the filter since it was asked last, and how many of them did not fit into
// the receive buffer.
func (s *socket) counts() (passed, dropped int) {
	stats, err := s.conn.Stats()
	if err != nil {
		return 0, 0 // it is being closed
	}
	return int(stats.Packets), int(stats.Drops)
}

// write sends a whole frame.
func (s *socket) write(frame []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.frame = frame
	if err := s.raw.Write(s.write1); err != nil {
		return err
	}
	return s.err
}

func (s *socket) tryWrite(fd uintptr) bool {
	_, s.err = unix.Write(int(fd), s.frame)
	return s.err != unix.EAGAIN && s.err != unix.EINTR
}

// read hands each frame that passes the filter to handle, in a buffer that it uses again, until the socket fails or
// is closed.
func (s *socket) read(handle func([]byte)) error {
	buf := make([]byte, frameMax)
	var n int
	var readErr error
	try := func(fd uintptr) bool {
		n, readErr = unix.Read(int(fd), buf)
		return readErr != unix.EAGAIN && readErr != unix.EINTR
	}
	for {
		err := s.raw.Read(try)
		if err == nil {
			err = readErr
		}
		if errors.Is(err, unix.ENETDOWN) {
			continue // told once when the interface goes down; the socket works again when it is back
		}
		if err != nil {
			return err
		}
		handle(buf[:n])
	}
}
