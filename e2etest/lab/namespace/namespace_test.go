package namespace

import (
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fresh makes a network namespace that lives as long as its handle.
func fresh(t *testing.T) Handle {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	var h Handle
	err := Run(nil, func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			h, err = Open(Net, "/proc/thread-self/ns/net")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.File.Close() })
	return h
}

func own(t *testing.T) uint64 {
	t.Helper()
	h, err := Open(Net, "/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer h.File.Close()
	inode, err := h.Inode()
	if err != nil {
		t.Fatal(err)
	}
	return inode
}

func TestRunIsInsideAndTheCallerIsNot(t *testing.T) {
	h := fresh(t)
	want, err := h.Inode()
	if err != nil {
		t.Fatal(err)
	}
	before := own(t)
	var inside uint64
	var links []net.Interface
	err = Run([]Handle{h}, func() error {
		in, err := Open(Net, "/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		defer in.File.Close()
		if inside, err = in.Inode(); err != nil {
			return err
		}
		links, err = net.Interfaces()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if inside != want {
		t.Errorf("inside is %d, want %d", inside, want)
	}
	if len(links) == 0 || links[0].Name != "lo" || links[0].Flags&net.FlagUp != 0 {
		t.Errorf("a fresh namespace has %v", links)
	}
	for range 100 { // as many goroutines as the runtime may put on any thread it has
		if got := own(t); got != before {
			t.Fatalf("a thread was left in namespace %d", got)
		}
		runtime.Gosched()
	}
}

// The main thread outlives every goroutine, so a namespace that it was left in would outlive its use.
func TestTheMainThreadIsLeftAlone(t *testing.T) {
	h := fresh(t)
	var wait sync.WaitGroup
	for range 64 { // at once, so that every thread there is gets its share, the main thread too
		wait.Go(func() {
			if err := Run([]Handle{h}, func() error { return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	main, err := Open(Net, "/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer main.File.Close()
	got, err := main.Inode()
	if err != nil {
		t.Fatal(err)
	}
	if inside, err := h.Inode(); err != nil || got == inside {
		t.Errorf("the main thread is in the namespace (%v)", err)
	}
}

func TestASocketStaysWhereItWasMade(t *testing.T) {
	h := fresh(t)
	var l net.Listener
	err := Run([]Handle{h}, func() error {
		var err error
		l, err = net.Listen("tcp", "0.0.0.0:0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// Somebody else may listen on that port here; the listener itself must not see the connection.
	if c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port(l))); err == nil {
		c.Close()
	}
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if c, err := l.Accept(); err == nil {
		c.Close()
		t.Error("a connection from another namespace reaches the listener")
	}
}

func port(l net.Listener) string {
	_, p, _ := net.SplitHostPort(l.Addr().String())
	return p
}

func TestRunReportsTheFunctionsFate(t *testing.T) {
	broken := errors.New("broken")
	if err := Run(nil, func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("an error: got %v", err)
	}
	if err := Run(nil, func() error { runtime.Goexit(); return nil }); !errors.Is(err, errGoexit) {
		t.Errorf("an ended goroutine: got %v", err)
	}
	closed := fresh(t)
	closed.File.Close()
	called := false
	if err := Run([]Handle{closed}, func() error { called = true; return nil }); err == nil || called {
		t.Errorf("a namespace that cannot be entered: got %v, called %v", err, called)
	}
}
