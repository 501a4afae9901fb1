package lab

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"heraldlb.io/herald/e2etest/lab/cgroup"
	"heraldlb.io/herald/e2etest/parts"
	"heraldlb.io/herald/internal/oci"
)

//go:embed pause/main.go
var pauseSource []byte

// Up brings a lab up and returns when all its nodes are Ready. What the lab needs and the cache has not, it
// builds first, which takes minutes the first time. When Up fails, or ctx ends before it returns, nothing of the
// lab is left.
func Up(ctx context.Context, o Options) (*Lab, error) {
	if err := checkMain(); err != nil {
		return nil, err
	}
	if o.Name == "" {
		o.Name = DefaultName
	}
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	p, err := findPlace(o.Name)
	if err != nil {
		return nil, err
	}
	if o.Nodes < 1 || o.Nodes > MaxNodes {
		return nil, fmt.Errorf("lab %s: %d nodes; it can have 1 to %d", o.Name, o.Nodes, MaxNodes)
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("lab %s: namespaces and mounts need root; run it as root", o.Name)
	}
	kubernetes, err := parts.KubernetesVersion(o.Kubernetes)
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", o.Name, err)
	}
	images, err := absolute(o.Images)
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", o.Name, err)
	}
	b, pause, err := supply(ctx, kubernetes, o.Out)
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", o.Name, err)
	}
	l, err := launchLab(ctx, p, upSpec{
		Root: p.root, Name: o.Name, Nodes: o.Nodes, Kubernetes: kubernetes, Owned: o.Owned,
		KeepOnFailure: o.KeepOnFailure, Programs: b, Images: append([]string{pause}, images...),
	}, o.Out)
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", o.Name, err)
	}
	return l, nil
}

// supply makes sure of everything that a lab runs, and returns it with the pause image's archive.
func supply(ctx context.Context, kubernetes string, out io.Writer) (b programs, pause string, err error) {
	progress := func(line string) { fmt.Fprintln(out, line) }
	if err := parts.Install(ctx, progress); err != nil {
		return b, "", err
	}
	dir, err := parts.CacheDir()
	if err != nil {
		return b, "", err
	}
	cache := parts.Cache{Dir: dir, Progress: progress}
	for _, step := range []struct {
		module parts.Module
		into   *string
	}{
		{parts.Etcd(), &b.Etcd},
		{parts.Containerd(), &b.Containerd},
		{parts.Kubernetes(kubernetes), &b.Kubernetes},
	} {
		if *step.into, err = cache.Build(ctx, step.module); err != nil {
			return b, "", err
		}
	}
	bird, err := cache.Router(ctx)
	if err != nil {
		return b, "", err
	}
	b.Bird, b.BirdLibraries = bird.Program, bird.LibraryPath
	if b.Pause, err = cache.BuildSource(ctx, "pause", pauseSource); err != nil {
		return b, "", err
	}
	pause = filepath.Join(b.Pause, "pause.tar")
	if _, err := os.Stat(pause); errors.Is(err, fs.ErrNotExist) {
		err = oci.Write(pause, oci.Image{
			Ref:          pauseImage,
			Entrypoint:   []string{"/pause"},
			Files:        []oci.File{{Path: "/pause", Mode: 0o755, Source: filepath.Join(b.Pause, "pause")}},
			Architecture: runtime.GOARCH,
		})
		if err != nil {
			return b, "", err
		}
	}
	return b, pause, nil
}

// launchLab starts the supervisor and waits until it reports the lab ready.
func launchLab(ctx context.Context, p place, spec upSpec, out io.Writer) (*Lab, error) {
	lock, err := p.acquire()
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("it is up already; use it, remove it with lab down --name %s, or choose another --name", p.name)
	}
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := sweep(p); err != nil { // what a crash of an earlier lab of that name has left
		return nil, err
	}
	if err := os.MkdirAll(p.path("logs"), 0o755); err != nil {
		return nil, err
	}
	s, err := startSupervisor(p, spec, lock)
	if err != nil {
		return nil, errors.Join(err, discard(p))
	}
	l := &Lab{place: p, hosts: topology(spec.Nodes), owner: s.owner}
	stop := context.AfterFunc(ctx, l.release) // the supervisor then removes all it has made
	defer stop()
	err = s.follow(out)
	if err == nil && ctx.Err() == nil {
		l.rec, err = p.read()
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil && spec.KeepOnFailure && ctx.Err() == nil {
		l.disown()
		return nil, fmt.Errorf("%w; kept for a look, remove it with lab down --name %s", err, p.name)
	}
	if err != nil {
		l.release()
		return nil, errors.Join(err, s.end(), discard(p))
	}
	if !spec.Owned {
		l.disown()
	}
	go s.cmd.Wait() // so that no zombie of it is left in this process
	return l, nil
}

// disown lets the lab live on when this process ends.
func (l *Lab) disown() {
	l.mu.Lock()
	if l.owner >= 0 {
		unix.Write(l.owner, []byte{detach})
	}
	l.mu.Unlock()
	l.release()
}

// started is a supervisor that this process has just started.
type started struct {
	cmd     *exec.Cmd
	owner   int      // our end of the owner's pipe, a bare descriptor: a lab must not end because of a garbage collection
	reports *os.File // what it reports
	log     string
}

func startSupervisor(p place, spec upSpec, lock *os.File) (*started, error) {
	cmd, err := roleCommand(roleSupervisor, spec, daemonEnv())
	if err != nil {
		return nil, err
	}
	log, err := openLog(p.log("supervisor"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	ownerEnd := os.NewFile(uintptr(pipe[0]), "owner")
	defer ownerEnd.Close()
	reports, reportsW, err := os.Pipe()
	if err != nil {
		unix.Close(pipe[1])
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	defer reportsW.Close()
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{lock, ownerEnd, reportsW}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		unix.Close(pipe[1])
		reports.Close()
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	return &started{cmd: cmd, owner: pipe[1], reports: reports, log: p.log("supervisor")}, nil
}

// follow prints the supervisor's reports until it says that the lab is ready, or that it failed.
func (s *started) follow(out io.Writer) error {
	defer s.reports.Close()
	scan := bufio.NewScanner(s.reports)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		var r report
		if err := json.Unmarshal(scan.Bytes(), &r); err != nil {
			return fmt.Errorf("supervisor: %w", err)
		}
		switch {
		case r.Ready:
			return nil
		case r.Error != "":
			return errors.New(r.Error)
		default:
			fmt.Fprintln(out, strings.TrimRight(r.Progress, "\n"))
		}
	}
	return fmt.Errorf("supervisor died: %s", strings.Join(tail(s.log, 20), "\n"))
}

// end waits for the supervisor to finish its work of removal, and kills it if it does not.
func (s *started) end() error {
	done := make(chan struct{})
	go func() {
		s.cmd.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-time.After(20 * time.Second):
	}
	s.cmd.Process.Kill()
	select {
	case <-done:
		return nil
	case <-time.After(5 * time.Second):
		return fmt.Errorf("supervisor: process %d does not end although it was killed", s.cmd.Process.Pid)
	}
}

// sweep removes what is left of a lab that has no living process, for a caller who holds its lock.
func sweep(p place) error {
	if rec, err := p.read(); err == nil {
		rec.Supervisor.kill()
		for _, h := range rec.Hosts {
			h.Init.kill()
		}
	}
	groups, err := cgroup.Find(cgroup.Root)
	if err != nil {
		return err
	}
	return remove(p, groups)
}

// discard is sweep and the end of the lock.
func discard(p place) error {
	if err := sweep(p); err != nil {
		return err
	}
	if err := os.Remove(p.lock()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// down ends the lab in that place, whatever state it is in, and removes all of it.
func down(ctx context.Context, p place) error {
	asked := false
	deadline := time.Now().Add(20 * time.Second)
	for {
		lock, err := p.acquire()
		if err == nil {
			defer lock.Close()
			err = discard(p)
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, errLocked) {
			return fmt.Errorf("lab %s: %w", p.name, err)
		}
		if !asked {
			patience, cancel := context.WithTimeout(ctx, 3*time.Second)
			_, err := p.call(patience, request{Op: opDown})
			cancel()
			if rec, readErr := p.read(); err != nil && readErr == nil {
				rec.Supervisor.kill() // it does not answer: it is starting, frozen, or broken
			}
			asked = true
		}
		if time.Now().After(deadline) {
			if rec, err := p.read(); err == nil {
				rec.Supervisor.kill()
			}
			if time.Now().After(deadline.Add(5 * time.Second)) {
				return fmt.Errorf("lab %s: its processes do not end; see who holds %s", p.name, p.lock())
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("lab %s: %w", p.name, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// DownAll ends and removes every lab of which the state directory has a trace, and returns their names.
func DownAll(ctx context.Context) ([]string, error) {
	names, err := labNames()
	if err != nil {
		return nil, err
	}
	var group errgroup.Group
	for _, name := range names {
		group.Go(func() error {
			p, err := findPlace(name)
			if err != nil {
				return err
			}
			return down(ctx, p)
		})
	}
	return names, group.Wait()
}

// Down ends and removes the lab of a name, also one that has not come up or has crashed.
func Down(ctx context.Context, name string) error {
	p, err := findPlace(name)
	if err != nil {
		return err
	}
	if _, err := os.Stat(p.dir()); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("lab %s: there is none to remove; the state directory is %s", name, p.root)
	}
	return down(ctx, p)
}

func absolute(paths []string) ([]string, error) {
	abs := make([]string, len(paths))
	for i, path := range paths {
		a, err := filepath.Abs(path)
		if err == nil {
			_, err = os.Stat(a)
		}
		if err != nil {
			return nil, fmt.Errorf("image archive: %w", err)
		}
		abs[i] = a
	}
	return abs, nil
}
