// Package privilege lends capabilities to the code that needs them.
//
// The speaker's file carries its capabilities as permitted and not as effective, so that it starts where the container does
// not give them, and says what it lacks. This package puts one into effect on one thread for one call. It must never leave
// one in effect behind, and decides nothing about what a process may do: the container does.
package privilege

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Capability is one of capabilities(7), by its number, which is below 32.
type Capability uint

// The capabilities that Herald has a use for.
const (
	NetBindService = Capability(unix.CAP_NET_BIND_SERVICE)
	NetRaw         = Capability(unix.CAP_NET_RAW)
)

func (c Capability) String() string {
	if c == NetRaw {
		return "NET_RAW"
	}
	return "NET_BIND_SERVICE"
}

// With calls f on a thread that has the capability in effect, if the process is permitted it at all. In any case f is called;
// where the capability is not permitted, its error says so too.
func With(c Capability, f func() error) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var before [2]unix.CapUserData // the low 32 capabilities, then the high ones

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Capget(&header, &before[0]); err != nil {
		return errors.Join(fmt.Errorf("read this thread's capabilities: %w", err), f())
	}
	bit := uint32(1) << c
	if before[0].Permitted&bit == 0 {
		if err := f(); err != nil {
			return fmt.Errorf("%w (this process is not permitted %v: add it to the container's securityContext.capabilities)", err, c)
		}
		return nil
	}
	if before[0].Effective&bit != 0 {
		return f()
	}
	raised := before
	raised[0].Effective |= bit
	if err := unix.Capset(&header, &raised[0]); err != nil {
		return errors.Join(fmt.Errorf("raise %v: %w", c, err), f())
	}
	err := f()
	if lowerErr := unix.Capset(&header, &before[0]); lowerErr != nil && err == nil {
		err = fmt.Errorf("lower %v again: %w", c, lowerErr)
	}
	return err
}
