package layer2

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// floodEnv makes this test's binary a flooder, which counts no CPU of the process that is measured: packets a second,
// then the duration, then the interface.
const floodEnv = "HERALD_TEST_FLOOD"

// floodMain sends foreign ARP requests as floodEnv says.
func floodMain(args string) error {
	var rate int
	var span time.Duration
	words := strings.Fields(args)
	if len(words) != 3 {
		return fmt.Errorf("%s=%q: want three words", floodEnv, args)
	}
	var err error
	if rate, err = strconv.Atoi(words[0]); err != nil {
		return err
	}
	if span, err = time.ParseDuration(words[1]); err != nil {
		return err
	}
	ifi, err := net.InterfaceByName(words[2])
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifi.Index}); err != nil {
		return err
	}
	return flood(fd, rate*int(span/time.Second), span, asking(hw(theirMAC), "10.0.0.1", hosts(5000)))
}

// floodFrom floods from the neighbor's end of a link, in another process, and returns when it is done.
func (n *neighbor) floodFrom(name string, rate int, span time.Duration) {
	n.t.Helper()
	var cmd *exec.Cmd
	n.in(func() error { // a child has the namespace of the thread that starts it
		cmd = exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %v %s", floodEnv, rate, span, name))
		cmd.Stderr = os.Stderr
		return cmd.Start()
	})
	check(n.t, cmd.Wait())
}

// cpu returns the time that this process has used.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	check(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkForeignARP compares what this process, which owns 100 addresses, uses while 20,000 questions a second for other hosts
// come in with what it uses while none do.
func BenchmarkForeignARP(b *testing.B) {
	const rate, span = 20000, 3 * time.Second
	n := dual(b)
	a := start(b)
	usesInterface(b, a, "lan0", true)
	a.Apply(manyOnSubnet(netip.MustParseAddr("192.0.2.100"), 100), nil)
	time.Sleep(4 * time.Second) // the first announcements are over
	for b.Loop() {
		began := cpu(b)
		time.Sleep(span)
		idle := cpu(b) - began
		passed, _ := a.received()
		began = cpu(b)
		n.floodFrom("lan0", rate, span)
		flooded := cpu(b) - began
		now, _ := a.received()
		b.ReportMetric(100*idle.Seconds()/span.Seconds(), "idle-%cpu")
		b.ReportMetric(100*flooded.Seconds()/span.Seconds(), "flooded-%cpu")
		b.ReportMetric(float64(now-passed), "passed")
	}
	b.ReportMetric(0, "ns/op")
}

func manyOnSubnet(first netip.Addr, count int) map[netip.Addr]Scope {
	out := map[netip.Addr]Scope{}
	for range count {
		out[first] = Scope{BySubnet: true}
		first = first.Next()
	}
	return out
}

// BenchmarkTakeover takes a thousand addresses over at once, and tells when the last of them is announced for the
// first time.
func BenchmarkTakeover(b *testing.B) {
	for _, first := range []string{"198.18.1.0", "2001:db8::1:0"} {
		for _, count := range []int{1, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", protocolOf(netip.MustParseAddr(first)), count), func(b *testing.B) {
				n := newNeighbor(b)
				n.connect("lan0", ourMAC, []string{"198.18.0.11/15", "2001:db8::11/64"}, nil)
				a := start(b)
				usesInterface(b, a, "lan0", true)
				w := n.tap("lan0")
				many := manyOnSubnet(netip.MustParseAddr(first), count)
				all := make([]netip.Addr, 0, count)
				for addr := range many {
					all = append(all, addr)
				}
				for b.Loop() {
					began := time.Now()
					a.Apply(many, nil)
					applied := time.Since(began)
					seen := map[netip.Addr]struct{}{}
					w.until("the last first announcement", func(f []byte) bool {
						if addr, ok := announcedIn(f); ok {
							seen[addr] = struct{}{}
						}
						return len(seen) == count
					})
					b.ReportMetric(time.Since(began).Seconds()*1000, "ms/last")
					b.ReportMetric(applied.Seconds()*1000, "ms/Apply")
					a.Apply(nil, all)
				}
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// announcedIn returns the address that a frame announces.
func announcedIn(frame []byte) (netip.Addr, bool) {
	if p, ok := parseARP(frame); ok {
		return p.sender, p.sender == p.target
	}
	m, ok := parseNDP(frame)
	return m.target, ok && !m.solicitation
}

// BenchmarkAnswers compares our answers to ARP requests with those of the kernel on the same interface: one question at
// a time, which is the latency, and 64 under way.
func BenchmarkAnswers(b *testing.B) {
	for _, window := range []int{1, 64} {
		for _, by := range []struct{ name, addr string }{{"kernel", "192.0.2.11"}, {"herald", "192.0.2.100"}} {
			b.Run(fmt.Sprintf("by=%s/window=%d", by.name, window), func(b *testing.B) {
				n := dual(b)
				a := start(b)
				usesInterface(b, a, "lan0", true)
				a.Apply(onSubnet("192.0.2.100"), nil)
				time.Sleep(3 * time.Second) // the first announcements are over
				fd := n.asker("lan0")
				frame := asking(hw(theirMAC), "192.0.2.2", addrs(by.addr))(0)
				buf := make([]byte, 128)
				under := 0
				for b.Loop() {
					for under < window {
						_, err := unix.Write(fd, frame)
						check(b, err)
						under++
					}
					_, err := unix.Read(fd, buf)
					for err == unix.EINTR { // by a signal of Go's own
						_, err = unix.Read(fd, buf)
					}
					check(b, err)
					under--
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "replies/s")
			})
		}
	}
}

// asker is a socket at the neighbor's end that receives ARP replies only. A read ends after a second.
func (n *neighbor) asker(name string) (fd int) {
	n.t.Helper()
	n.in(func() (err error) {
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, repliesOnly(n.t)); err != nil {
			return err
		}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifi.Index, Protocol: htons(unix.ETH_P_ARP)})
	})
	n.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// repliesOnly is a filter that passes unicast ARP replies.
func repliesOnly(t testing.TB) *unix.SockFprog {
	t.Helper()
	program := slices.Concat(
		[]bpf.Instruction{bpf.LoadAbsolute{Off: arpOff + 4, Size: 4}}, need(0x0604_0000|arpReply),
		[]bpf.Instruction{bpf.LoadAbsolute{Off: 0, Size: 4}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0xffff_ffff, SkipTrue: 1}, bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: 128}},
	)
	raw, err := bpf.Assemble(program)
	check(t, err)
	var out []unix.SockFilter
	for _, i := range raw {
		out = append(out, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	return &unix.SockFprog{Len: uint16(len(out)), Filter: &out[0]}
}

func htons(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// BenchmarkCarrierLoss tells how long it takes from the loss of carrier until Interfaces knows, and how much of that
// the kernel takes to set the other end down.
func BenchmarkCarrierLoss(b *testing.B) {
	// The kernel reports the carrier of a veth at once unless both ends have the same index by chance.
	pad := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "pad0"}}
	check(b, netlink.LinkAdd(pad))
	b.Cleanup(func() { check(b, netlink.LinkDel(pad)) })
	n := dual(b)
	a := start(b)
	var total, kernel time.Duration
	for b.Loop() {
		usesInterface(b, a, "lan0", true)
		time.Sleep(2 * reconcileInterval) // the link is at rest, as most are
		changes(a)
		began := time.Now()
		n.carrier("lan0", false)
		kernel += time.Since(began)
		for len(a.Interfaces()) > 0 {
			<-a.Changed()
		}
		total += time.Since(began)
		n.carrier("lan0", true)
	}
	b.ReportMetric(total.Seconds()*1000/float64(b.N), "ms/loss")
	b.ReportMetric(kernel.Seconds()*1000/float64(b.N), "ms/kernel")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkGroups joins the solicited-node groups of many addresses.
func BenchmarkGroups(b *testing.B) {
	for _, count := range []int{1000, 10000} {
		b.Run(strconv.Itoa(count), func(b *testing.B) {
			n := newNeighbor(b)
			n.connect("lan0", ourMAC, []string{"2001:db8::11/64"}, nil)
			index := linkOf(b, "lan0").Attrs().Index
			var sockets int
			for b.Loop() {
				g := newGroups(index)
				for addr := range manyOnSubnet(netip.MustParseAddr("2001:db8::1:0"), count) {
					check(b, g.join(addr))
				}
				sockets = len(g.fds)
				g.close()
			}
			b.ReportMetric(float64(sockets), "sockets")
		})
	}
}
