package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"heraldlb.io/herald/e2etest/lab/namespace"
)

// A lab's helpers are this same program, started again with a role in its environment.
const (
	roleEnv = "HERALD_LAB_ROLE" // which helper to be
	specEnv = "HERALD_LAB_SPEC" // what it needs to know, as JSON

	roleSupervisor = "supervisor"
	roleInit       = "init"
	roleExec       = "exec"
	roleBecome     = "command"
)

// self is the running program, also after its file has been replaced or removed.
const self = "/proc/self/exe"

var mainCalled atomic.Bool

// Main must be the first call in main or TestMain of every program that uses this package: the lab starts the
// program again to be its supervisor, the first process of a host, or the way into one. In such a process Main
// does that work and never returns.
func Main() {
	mainCalled.Store(true)
	role := os.Getenv(roleEnv)
	if role == "" {
		return
	}
	spec := []byte(os.Getenv(specEnv))
	os.Unsetenv(roleEnv)
	os.Unsetenv(specEnv)
	code, err := 1, error(nil)
	switch role {
	case roleSupervisor:
		code, err = supervise(spec)
	case roleInit:
		err = initHost(spec)
	case roleExec:
		code, err = execute(spec, os.Args[1:])
	case roleBecome:
		code, err = 126, become(os.Args[0], os.Args[1:])
	default:
		err = fmt.Errorf("%s=%q: no such role; unset the variable", roleEnv, role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
	}
	os.Exit(code)
}

func checkMain() error {
	if !mainCalled.Load() {
		return errors.New("this program uses the lab and does not call lab.Main first in main or TestMain; add the call")
	}
	return nil
}

// roleCommand starts this program again in a role.
func roleCommand(role string, spec any, env []string) (*exec.Cmd, error) {
	data, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Args = []string{"lab-" + role}
	cmd.Env = append(env, roleEnv+"="+role, specEnv+"="+string(data))
	return cmd, nil
}

// execSpec tells the exec role which host to enter.
type execSpec struct {
	Host string
	Init process
}

// execute runs a command in the namespaces of a host and returns its exit code.
func execute(spec []byte, args []string) (int, error) {
	var s execSpec
	if err := json.Unmarshal(spec, &s); err != nil {
		return 1, err
	}
	if len(args) == 0 {
		return 2, fmt.Errorf("host %s: no command to run; name one", s.Host)
	}
	if !s.Init.alive() {
		return 1, fmt.Errorf("host %s is switched off; start it first", s.Host)
	}
	hs, err := namespace.Of(s.Init.PID, namespace.Net, namespace.Mount, namespace.UTS, namespace.PID)
	if err != nil {
		return 1, fmt.Errorf("host %s: %w", s.Host, err)
	}
	cwd, _ := os.Getwd()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)

	// The child is made by this thread, and dies with it.
	runtime.LockOSThread()
	if err := namespace.Enter(hs); err != nil {
		return 1, fmt.Errorf("host %s: %w", s.Host, err)
	}
	namespace.Close(hs)
	if os.Chdir(cwd) != nil {
		os.Chdir("/")
	}
	// In PATH of the caller, as a shell would look, and then where a daemon would.
	path, err := exec.LookPath(args[0])
	if err != nil {
		os.Setenv("PATH", daemonPath)
		if path, err = exec.LookPath(args[0]); err != nil {
			return 127, fmt.Errorf("host %s: %w", s.Host, err)
		}
	}
	child, err := os.StartProcess(self, append([]string{path}, args...), &os.ProcAttr{
		Env:   append(os.Environ(), roleEnv+"="+roleBecome),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		return 126, fmt.Errorf("host %s: %w", s.Host, err)
	}
	go func() {
		for sig := range signals {
			// From a terminal the child gets these itself, being in the same process group.
			if !foreground() {
				child.Signal(sig)
			}
		}
	}()
	state, err := child.Wait()
	if err != nil {
		return 1, fmt.Errorf("host %s: %w", s.Host, err)
	}
	if ws := state.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return state.ExitCode(), nil
}

// become turns the first process that the exec role starts in a host into the command itself, so that the command
// dies with whoever runs it. SysProcAttr.Pdeathsig cannot do that: it takes the parent, which has no number in
// the host's PID namespace, for dead.
func become(path string, args []string) error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := unix.Exec(path, args, os.Environ()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// foreground tells whether this process group is the one that its terminal sends signals to.
func foreground() bool {
	group, err := unix.IoctlGetInt(int(os.Stdin.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
