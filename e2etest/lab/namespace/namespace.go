// Package namespace runs functions inside the Linux namespaces of other processes.
//
// It exists because a namespace belongs to an operating system thread, while Go moves goroutines between
// threads: everything that has to happen inside a host of the lab goes through Run, which gives the function a
// thread of its own and throws that thread away afterwards. It never changes the namespaces of a thread that
// other goroutines can get.
package namespace

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Kind is the type of a namespace, one of the CLONE_NEW* constants.
type Kind int

// The kinds that a host of the lab has of its own.
const (
	Net   Kind = unix.CLONE_NEWNET
	Mount Kind = unix.CLONE_NEWNS
	UTS   Kind = unix.CLONE_NEWUTS
	PID   Kind = unix.CLONE_NEWPID
)

func (k Kind) file() string {
	switch k {
	case Net:
		return "net"
	case Mount:
		return "mnt"
	case UTS:
		return "uts"
	case PID:
		return "pid"
	}
	return fmt.Sprintf("kind-%#x", int(k))
}

// Handle is an open namespace. It keeps the namespace alive, so close it.
type Handle struct {
	Kind Kind
	File *os.File
}

// Open opens the namespace of the given kind at a path such as /proc/PID/ns/net or /proc/PID/fd/N.
func Open(kind Kind, path string) (Handle, error) {
	f, err := os.Open(path)
	if err != nil {
		return Handle{}, fmt.Errorf("open %s namespace: %w", kind.file(), err)
	}
	return Handle{kind, f}, nil
}

// Of opens namespaces of the process that /proc shows as pid.
func Of(pid int, kinds ...Kind) ([]Handle, error) {
	var hs []Handle
	for _, k := range kinds {
		h, err := Open(k, fmt.Sprintf("/proc/%d/ns/%s", pid, k.file()))
		if err != nil {
			Close(hs)
			return nil, err
		}
		hs = append(hs, h)
	}
	return hs, nil
}

// Close closes all the handles.
func Close(hs []Handle) {
	for _, h := range hs {
		h.File.Close()
	}
}

// Inode identifies the namespace behind a handle; two handles of one namespace have the same.
func (h Handle) Inode() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(h.File.Fd()), &st); err != nil {
		return 0, fmt.Errorf("stat %s namespace: %w", h.Kind.file(), err)
	}
	return st.Ino, nil
}

// Enter moves the calling thread into the namespaces. The caller must have locked its goroutine to the thread
// and must never unlock it again. A PID namespace takes effect on the children that the thread starts. The
// mount namespace comes last, because paths mean something else after it.
func Enter(hs []Handle) error {
	for _, last := range []bool{false, true} {
		for _, h := range hs {
			if (h.Kind == Mount) != last {
				continue
			}
			if h.Kind == Mount {
				// The kernel refuses to move one of several threads that share a file system context.
				if err := unix.Unshare(unix.CLONE_FS); err != nil {
					return fmt.Errorf("unshare file system context: %w", err)
				}
			}
			if err := unix.Setns(int(h.File.Fd()), int(h.Kind)); err != nil {
				return fmt.Errorf("enter %s namespace: %w", h.Kind.file(), err)
			}
		}
	}
	return nil
}

var errGoexit = errors.New("the function ended its goroutine instead of returning")

// Run calls f on a thread of its own inside the namespaces and returns its error. f must not start goroutines
// that are meant to run there too, and must not end its goroutine (testing.T.FailNow does).
func Run(hs []Handle, f func() error) error {
	result := make(chan error, 1)
	go onThread(hs, f, result)
	return <-result
}

// onThread does Run's work. The main thread is the one thread that Go never ends: it would stay in the namespaces
// and keep them alive as long as this process. So a goroutine that finds itself there stays there, which keeps all
// others away, until a second one has done the work elsewhere.
func onThread(hs []Handle, f func() error, result chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		defer runtime.UnlockOSThread()
		second := make(chan error, 1)
		go onThread(hs, f, second)
		result <- <-second
		return
	}
	// Never unlocked from here on: the thread ends with this goroutine.
	err := errGoexit
	defer func() { result <- err }()
	if err = Enter(hs); err == nil {
		err = errGoexit
		err = f()
	}
}
