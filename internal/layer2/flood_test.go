package layer2

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/mdlayher/ethernet"
	"golang.org/x/sys/unix"
)

// flooder sends frames from the neighbor's end of a link.
type flooder struct {
	t  testing.TB
	fd int
}

func (n *neighbor) flooder(name string) *flooder {
	n.t.Helper()
	f := &flooder{t: n.t}
	n.in(func() (err error) {
		f.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		l, err := n.nl.LinkByName(name)
		if err != nil {
			return err
		}
		return unix.Bind(f.fd, &unix.SockaddrLinklayer{Ifindex: l.Attrs().Index})
	})
	n.t.Cleanup(func() { unix.Close(f.fd) })
	return f
}

func (f *flooder) send(count int, span time.Duration, next func(i int) []byte) {
	f.t.Helper()
	check(f.t, flood(f.fd, count, span, next))
}

// flood sends count frames at an even pace over a span of time; at once when it is 0. next gives each of them.
func flood(fd, count int, span time.Duration, next func(i int) []byte) error {
	const burst = 20
	began := time.Now()
	for i := range count {
		if i%burst == 0 {
			time.Sleep(time.Until(began.Add(span * time.Duration(i) / time.Duration(count))))
		}
		if _, err := unix.Write(fd, next(i)); err != nil && err != unix.ENOBUFS {
			return err
		}
	}
	return nil
}

// asking returns ARP requests for one address after the other.
func asking(from hwAddr, sender string, targets []netip.Addr) func(i int) []byte {
	b := make([]byte, 0, arpFrameLen)
	s := netip.MustParseAddr(sender)
	return func(i int) []byte {
		return appendARP(b, broadcast, from, arpRequest, from, s, hwAddr{}, targets[i%len(targets)])
	}
}

// hosts returns count addresses of other hosts.
func hosts(count int) []netip.Addr {
	var out []netip.Addr
	for i := range count {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 0x0a000000+uint32(i)*7)
		out = append(out, netip.AddrFrom4(b))
	}
	return out
}

// received returns what passed the kernel's filters for ARP, and what of it was dropped.
func (a *Announcer) received() (passed, dropped uint64) {
	a.countReceived()
	return a.metrics.passed[protocolARP].Load(), a.metrics.dropped[protocolARP].Load()
}

func TestOtherPeoplesARPEndsInTheKernel(t *testing.T) {
	n := dual(t)
	a := start(t)
	usesInterface(t, a, "lan0", true)
	var ours []netip.Addr
	scopes := map[netip.Addr]Scope{}
	for i := range 200 {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(50 + i)})
		ours = append(ours, addr)
		scopes[addr] = Scope{BySubnet: true}
	}
	a.Apply(scopes, nil)
	before, _ := a.received()
	n.flooder("lan0").send(20000, 0, asking(hw(theirMAC), "10.0.0.1", hosts(5000)))
	w := n.tap("lan0")                                       // now, so that it does not see the flood
	w.askARP("192.0.2.99", "192.0.2.50", ethernet.Broadcast) // whose sender is one of ours too
	if got := w.answersBefore("192.0.2.51", "192.0.2.50"); got != 1 {
		t.Fatalf("our own was answered %d times, want once", got)
	}
	if after, _ := a.received(); after-before != 2 {
		t.Errorf("%d packets passed the filter, want the 2 questions that are ours", after-before)
	}

	a.Apply(nil, ours)
	before, _ = a.received()
	n.flooder("lan0").send(1000, 0, asking(hw(theirMAC), "192.0.2.2", ours))
	w = n.tap("lan0")
	a.Apply(map[netip.Addr]Scope{netip.MustParseAddr("192.0.2.20"): {BySubnet: true}}, nil)
	w.askARP("192.0.2.2", "192.0.2.20", ethernet.Broadcast)
	w.answersBefore("192.0.2.20", "192.0.2.20")
	if after, _ := a.received(); after-before > 2 {
		t.Errorf("%d packets passed the filter for addresses that were withdrawn", after-before)
	}
}

func TestAHundredThousandQuestionsInASecondMakeNothingGrow(t *testing.T) {
	n := dual(t)
	a := start(t)
	usesInterface(t, a, "lan0", true)
	ours := addrs("192.0.2.100", "192.0.2.101")
	a.Apply(onSubnet("192.0.2.100", "192.0.2.101"), nil)
	f := n.flooder("lan0")
	ask := asking(hw(theirMAC), "192.0.2.2", ours)
	f.send(1000, 0, ask) // so that what is made once is there
	heap, goroutines := liveHeap(), runtime.NumGoroutine()
	began := time.Now()
	f.send(100000, time.Second, ask)
	took := time.Since(began)
	n.resolve("192.0.2.100")
	passed, dropped := a.received()
	t.Logf("100,000 questions in %v: %d passed the filter, %d of them did not fit into the buffer", took.Round(time.Millisecond), passed, dropped)
	if grown := int64(liveHeap()) - int64(heap); grown > 1<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if now := runtime.NumGoroutine(); now > goroutines {
		t.Errorf("%d goroutines, %d before", now, goroutines)
	}
}

// liveHeap returns the bytes that are in use after a collection.
func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
