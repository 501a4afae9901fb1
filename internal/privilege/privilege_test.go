package privilege

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func rawSocket() error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// lower takes NET_RAW off this thread, which ends with the test.
func lower(t *testing.T, permitted bool) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	data[0].Effective &^= 1 << NetRaw
	if !permitted {
		data[0].Permitted &^= 1 << NetRaw
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
}

func TestWith(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: has capabilities to give up")
	}
	runtime.LockOSThread() // and never unlocks it
	if err := With(NetRaw, rawSocket); err != nil {
		t.Errorf("in effect already: %v", err)
	}
	lower(t, true)
	if err := rawSocket(); !errors.Is(err, unix.EPERM) {
		t.Fatalf("without it: %v", err)
	}
	if err := With(NetRaw, rawSocket); err != nil {
		t.Errorf("permitted: %v", err)
	}
	if err := rawSocket(); !errors.Is(err, unix.EPERM) {
		t.Errorf("it is in effect still: %v", err)
	}
	lower(t, false)
	err := With(NetRaw, rawSocket)
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "not permitted NET_RAW") {
		t.Errorf("not permitted: %v", err)
	}
	if err := With(NetRaw, func() error { return nil }); err != nil {
		t.Errorf("not permitted and not needed: %v", err)
	}
}
