package layer2

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// withNetRaw calls f on a thread that has the capability NET_RAW in effect, if the process is permitted it at all. Only
// opening a packet socket needs it, so for the rest of the time no thread has it. Where it is not permitted f runs
// all the same, and its error says so too.
func withNetRaw(f func() error) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var before [2]unix.CapUserData // the low 32 capabilities, then the high ones

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Capget(&header, &before[0]); err != nil {
		return fmt.Errorf("read this thread's capabilities: %w", err)
	}
	const netRaw = 1 << unix.CAP_NET_RAW
	if before[0].Permitted&netRaw == 0 {
		if err := f(); err != nil {
			return fmt.Errorf("%w (this process is not permitted NET_RAW: add it to the container's securityContext.capabilities)", err)
		}
		return nil
	}
	if before[0].Effective&netRaw != 0 {
		return f()
	}
	raised := before
	raised[0].Effective |= netRaw
	if err := unix.Capset(&header, &raised[0]); err != nil {
		return fmt.Errorf("raise NET_RAW: %w", err)
	}
	err := f()
	if lowerErr := unix.Capset(&header, &before[0]); lowerErr != nil && err == nil {
		err = fmt.Errorf("lower NET_RAW again: %w", lowerErr)
	}
	return err
}
