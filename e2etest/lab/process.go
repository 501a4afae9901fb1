package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"heraldlb.io/herald/e2etest/lab/namespace"
)

// daemon is a long-running child of the supervisor.
type daemon struct {
	name    string
	process process // as other processes of the machine see it
	started time.Time
	cmd     *exec.Cmd
	done    chan struct{} // closed when it has ended
	err     error         // how; valid after done

	mu     sync.Mutex
	frozen bool
}

// ended tells whether the daemon has ended.
func (d *daemon) ended() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

func (d *daemon) freeze(stop bool) error {
	sig := syscall.SIGCONT
	if stop {
		sig = syscall.SIGSTOP
	}
	if d.ended() {
		return fmt.Errorf("process %s: is not running (%v)", d.name, d.err)
	}
	if err := d.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("process %s: %w", d.name, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.frozen = stop
	return nil
}

// kill ends the daemon at once and waits until the kernel has closed its connections.
func (d *daemon) kill() error {
	if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("process %s: %w", d.name, err)
	}
	select {
	case <-d.done:
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("process %s: does not end although it was killed", d.name)
	}
}

func (d *daemon) state() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.ended():
		return fmt.Sprintf("ended (%v)", d.err)
	case d.frozen:
		return "frozen"
	}
	return "running"
}

// launch starts a program in the namespaces and lets its output go to the end of the log file.
func launch(spec daemonSpec, logFile string, ns []namespace.Handle) (*daemon, error) {
	out, err := openLog(logFile)
	if err != nil {
		return nil, fmt.Errorf("process %s: %w", spec.Name, err)
	}
	defer out.Close()
	cmd := exec.Command(spec.Argv[0], spec.Argv[1:]...)
	cmd.Env = append(daemonEnv(), spec.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Dir = "/"
	return start(spec.Name, cmd, ns)
}

// start starts a daemon in the namespaces, in a session of its own, and finds out what the machine calls it: the
// supervisor lives in a PID namespace and sees another number.
func start(name string, cmd *exec.Cmd, ns []namespace.Handle) (*daemon, error) {
	d := &daemon{name: name, cmd: cmd, started: time.Now(), done: make(chan struct{})}
	var err error
	if d.process, err = startCommand(cmd, ns); err != nil {
		return nil, fmt.Errorf("process %s: %w", name, err)
	}
	go func() {
		d.err = cmd.Wait()
		close(d.done)
	}()
	return d, nil
}

func startCommand(cmd *exec.Cmd, ns []namespace.Handle) (process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	pidfd := -1
	cmd.SysProcAttr.Setsid = true
	cmd.SysProcAttr.PidFD = &pidfd
	if err := namespace.Run(ns, cmd.Start); err != nil {
		return process{}, err
	}
	if pidfd < 0 {
		return process{}, errors.New("the kernel has no process file descriptors; use Linux 5.4 or newer")
	}
	defer unix.Close(pidfd)
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", pidfd))
	if err != nil {
		return process{}, err
	}
	pid, err := pidOf(string(info))
	if err != nil {
		return process{}, err
	}
	p, err := findProcess(pid)
	if err != nil {
		// It may have ended already; whoever waits for it will tell why.
		return process{PID: pid}, nil
	}
	return p, nil
}

// pidOf reads the "Pid:" line of a process file descriptor's fdinfo: the number in the PID namespace of /proc.
func pidOf(fdinfo string) (int, error) {
	for line := range strings.Lines(fdinfo) {
		if value, ok := strings.CutPrefix(line, "Pid:"); ok {
			return strconv.Atoi(strings.TrimSpace(value))
		}
	}
	return 0, errors.New("no Pid line in the process file descriptor's information")
}

// daemonEnv is all of the environment that the lab's programs get: what a developer has in the shell must not
// change how a cluster behaves.
func daemonEnv() []string {
	return []string{"PATH=" + daemonPath, "HOME=/", "LANG=C.UTF-8"}
}

func openLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
}

// runIn runs a short command in the namespaces and returns its standard output; what it wrote to standard error
// is part of the error.
func runIn(ctx context.Context, ns []namespace.Handle, stdin string, argv ...string) ([]byte, error) {
	program, err := findProgram(argv[0])
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, argv[1:]...)
	cmd.Env = daemonEnv()
	cmd.Dir = "/"
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := namespace.Run(ns, cmd.Start); err != nil {
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(argv[0]), err, withoutWarnings(stderr.String()))
	}
	return stdout.Bytes(), nil
}

// withoutWarnings leaves out of a command's complaints those that are not why it failed.
func withoutWarnings(stderr string) string {
	var kept []string
	for line := range strings.Lines(stderr) {
		if !strings.Contains(line, "level=warning") {
			kept = append(kept, strings.TrimSpace(line))
		}
	}
	return strings.Join(kept, "; ")
}

// findProgram looks a program up where the lab's own programs would, and not in the PATH of a developer's shell.
func findProgram(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	for dir := range strings.SplitSeq(daemonPath, ":") {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("program %s: not found in %s", name, daemonPath)
}

// tail returns the last lines of a file.
func tail(path string, lines int) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > 64<<10 {
		f.Seek(-(64 << 10), 2)
	}
	var last []string
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		last = append(last, scan.Text())
		if len(last) > lines {
			last = last[1:]
		}
	}
	return last
}
