package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"

	"heraldlb.io/herald/e2etest/lab/namespace"
)

// dialFunc opens a connection, as net.Dialer.DialContext does.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// errSecondSocket ends a dial in which the net package wants another socket, which would be one of the machine.
var errSecondSocket = errors.New("the address was not available; try again")

// dialer makes a dialFunc whose sockets belong to the network namespace that open returns. A thread is in that
// namespace only while the socket is made, not while it connects, so that a thousand hanging connections do not
// hold a thousand threads.
func dialer(open func() (ns namespace.Handle, done func(), err error)) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		// A name would be looked up by other goroutines, with sockets of the machine.
		if _, err := netip.ParseAddrPort(addr); err != nil {
			return nil, fmt.Errorf("dial %s in the lab: %w; there is no DNS, give an address and a port", addr, err)
		}
		ns, done, err := open()
		if err != nil {
			return nil, err
		}
		defer done()
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			return nil, err
		}
		defer home.Close()
		// If the way home fails the thread stays locked, and ends with its goroutine instead of harming others.
		back := sync.OnceValue(func() error {
			if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			runtime.UnlockOSThread()
			return nil
		})
		defer back()
		if err := unix.Setns(int(ns.File.Fd()), unix.CLONE_NEWNET); err != nil {
			return nil, fmt.Errorf("enter network namespace: %w", err)
		}
		made := false
		d := net.Dialer{ControlContext: func(context.Context, string, string, syscall.RawConn) error {
			if made {
				return errSecondSocket
			}
			made = true
			return back()
		}}
		return d.DialContext(ctx, network, addr)
	}
}

// restConfig is the administrator's access to the API of the lab in that place.
func restConfig(p place, dial dialFunc) (*rest.Config, error) {
	config := &rest.Config{
		Host:  apiURL(),
		Dial:  dial,
		QPS:   -1, // the lab is there to be used hard
		Burst: -1,
	}
	for file, into := range map[string]*[]byte{
		"ca.crt": &config.CAData, "admin.crt": &config.CertData, "admin.key": &config.KeyData,
	} {
		data, err := os.ReadFile(p.path("pki", file))
		if err != nil {
			return nil, fmt.Errorf("lab %s: credentials: %w", p.name, err)
		}
		*into = data
	}
	return config, nil
}
