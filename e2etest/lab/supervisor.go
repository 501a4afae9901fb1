package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"heraldlb.io/herald/e2etest/lab/cgroup"
	"heraldlb.io/herald/e2etest/lab/namespace"
)

// upSpec is what the supervisor is told when it is started.
type upSpec struct {
	Root, Name    string
	Nodes         int
	Kubernetes    string
	Owned         bool
	KeepOnFailure bool
	Programs      programs
	Images        []string
}

// The supervisor's inherited file descriptors.
const (
	fdLock   = 3 + iota // the lab's lock, held as long as the supervisor lives
	fdOwner             // reads detach, or end of file when the owner is gone
	fdReport            // takes reports about the start, one JSON object a line
)

// detach is what the owner writes to let the lab outlive it.
const detach = 'd'

// report is a line from the supervisor to whoever starts it.
type report struct {
	Progress string `json:",omitempty"`
	Ready    bool   `json:",omitempty"`
	Error    string `json:",omitempty"`
}

// supervisor is the lab's first process. It is process 1 of a PID namespace and lives in a mount namespace of
// its own: when it dies, by whatever cause, the kernel kills all that the lab has started, and with the last
// process of a namespace go its mounts, interfaces and rules.
type supervisor struct {
	upSpec
	place   place
	groups  cgroup.Hierarchies
	report  func(report)
	started time.Time

	mu          sync.Mutex // one change at a time
	rec         record
	hosts       []Host
	net         network
	inits       map[string]*daemon // first processes, by host
	daemons     map[string]*daemon // all others, by process name
	cut         map[string]bool    // nodes whose cable is pulled
	partition   [][]string
	snapshotter string
	images      []string                   // kept copies, in the order they came
	imported    map[string]map[string]bool // by node, the copies it has
	waiting     map[string]bool            // what up waits for
	spoke       time.Time                  // when up last reported progress
}

// supervise is the supervisor's whole life. It returns the exit code.
func supervise(spec []byte) (int, error) {
	s := &supervisor{
		started:  time.Now(),
		inits:    map[string]*daemon{},
		daemons:  map[string]*daemon{},
		cut:      map[string]bool{},
		imported: map[string]map[string]bool{},
		waiting:  map[string]bool{},
		net:      network{ns: map[string]namespace.Handle{}},
	}
	if err := json.Unmarshal(spec, &s.upSpec); err != nil {
		return 1, err
	}
	for fd := fdLock; fd <= fdReport; fd++ {
		unix.CloseOnExec(fd)
	}
	s.place = place{s.Root, s.Name}
	s.report = reporter(os.NewFile(fdReport, "report"))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	owner := make(chan bool, 1) // whether the lab is to live on
	go func() { owner <- waitForOwner(os.NewFile(fdOwner, "owner")) }()
	down := make(chan struct{}, 1)
	up := make(chan error, 1)
	go func() { up <- s.up(ctx) }()

	for alive := true; alive; {
		select {
		case err := <-up:
			if err != nil {
				alive = s.failed(err)
				break
			}
			if err := s.serve(down); err != nil {
				alive = s.failed(err)
				break
			}
			s.report(report{Ready: true})
		case alive = <-owner:
			owner = nil
		case <-signals:
			alive = false
		case <-down:
			alive = false
		}
	}
	cancel()
	return 0, s.tearDown()
}

// failed reports why the lab did not come up, with what the logs say, and tells whether to keep it for a look.
func (s *supervisor) failed(err error) bool {
	s.report(report{Progress: s.logTails()})
	s.report(report{Error: err.Error()})
	return s.KeepOnFailure
}

// waitForOwner returns true when the owner lets go of the lab, and false when it is gone.
func waitForOwner(f *os.File) bool {
	b := make([]byte, 1)
	n, _ := f.Read(b)
	return n == 1 && b[0] == detach
}

func reporter(f *os.File) func(report) {
	var mu sync.Mutex
	enc := json.NewEncoder(f)
	return func(r report) {
		mu.Lock()
		defer mu.Unlock()
		if f == nil {
			return
		}
		enc.Encode(r) // whoever started the lab may be gone, which the owner's pipe tells
		if r.Ready || r.Error != "" {
			f.Close()
			f = nil
		}
	}
}

func (s *supervisor) progress(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	s.mu.Lock()
	s.spoke = time.Now()
	s.mu.Unlock()
	fmt.Fprintf(os.Stderr, "%s %s\n", time.Now().Format(time.RFC3339Nano), line)
	s.report(report{Progress: fmt.Sprintf("%5.1fs  %s", time.Since(s.started).Seconds(), line)})
}

// patience is the longest silence while the lab comes up.
const patience = 2500 * time.Millisecond

// breakSilence says what the lab is waiting for when it has said nothing for a while, until ctx ends.
func (s *supervisor) breakSilence(ctx context.Context) {
	tick := time.NewTicker(patience / 5)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		silent := time.Since(s.spoke) >= patience
		waiting := slices.Sorted(maps.Keys(s.waiting))
		s.mu.Unlock()
		if silent && len(waiting) > 0 {
			s.progress("waiting for %s", strings.Join(waiting, ", "))
		}
	}
}

// prepare writes the lab's record, before there is anything else to clean up after.
func (s *supervisor) prepare() error {
	// What the machine unmounts must go away here too; what is mounted here must not show there.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("separate the mounts of the lab: %w", err)
	}
	pid, err := os.Readlink("/proc/self") // /proc is the machine's and so tells the machine's number
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(pid)
	if err != nil {
		return err
	}
	own, err := findProcess(n)
	if err != nil {
		return err
	}
	if s.groups, err = cgroup.Find(cgroup.Root); err != nil {
		return err
	}
	if s.snapshotter, err = snapshotterFor(s.place.dir()); err != nil {
		return err
	}
	s.hosts = topology(s.Nodes)
	s.rec = record{
		Name: s.Name, Created: s.started, Owned: s.Owned, Kubernetes: s.Kubernetes, Nodes: s.Nodes,
		Supervisor: own, Cgroup: s.place.cgroup(), Programs: s.Programs, Hosts: map[string]hostRecord{},
	}
	return s.place.write(s.rec)
}

// boot starts the first process of a host, in the network namespace that the host has had from its first boot.
func (s *supervisor) boot(h Host) error {
	spec := initSpec{Name: h.Name, Dir: s.place.dir(), HostDir: s.place.hostDir(h.Name), Node: h.isNode()}
	if err := os.MkdirAll(spec.HostDir, 0o755); err != nil {
		return fmt.Errorf("host %s: %w", h.Name, err)
	}
	cmd, err := roleCommand(roleInit, spec, daemonEnv())
	if err != nil {
		return fmt.Errorf("host %s: %w", h.Name, err)
	}
	logFile := s.place.log(h.Name)
	out, err := openLog(logFile)
	if err != nil {
		return fmt.Errorf("host %s: %w", h.Name, err)
	}
	defer out.Close()
	ready, readyW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("host %s: %w", h.Name, err)
	}
	defer ready.Close()
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, "/"
	cmd.ExtraFiles = []*os.File{readyW}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWPID}
	s.mu.Lock()
	net, again := s.net.ns[h.Name]
	s.mu.Unlock()
	var inside []namespace.Handle
	if again {
		inside = append(inside, net)
	} else {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWNET
	}
	init, err := start(h.Name, cmd, inside)
	readyW.Close()
	if err != nil {
		return fmt.Errorf("host %s: %w", h.Name, err)
	}
	if _, err := io.ReadFull(ready, make([]byte, len("ready"))); err != nil {
		return fmt.Errorf("host %s did not start: %v", h.Name, tail(logFile, 3))
	}
	if !again {
		if net, err = namespace.Open(namespace.Net, fmt.Sprintf("/proc/%d/ns/net", init.process.PID)); err != nil {
			return fmt.Errorf("host %s: %w", h.Name, err)
		}
	}
	inode, err := net.Inode()
	if err != nil {
		return fmt.Errorf("host %s: %w", h.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.net.ns[h.Name] = net
	s.inits[h.Name] = init
	s.rec.Hosts[h.Name] = hostRecord{NetFD: int(net.File.Fd()), NetInode: inode, Init: init.process}
	return nil
}

// inHost opens the namespaces of a running host; close them.
func (s *supervisor) inHost(name string) ([]namespace.Handle, error) {
	s.mu.Lock()
	rec := s.rec.Hosts[name]
	s.mu.Unlock()
	if !rec.Init.alive() {
		return nil, fmt.Errorf("host %s is switched off; start it first", name)
	}
	hs, err := namespace.Of(rec.Init.PID, namespace.Net, namespace.Mount, namespace.UTS, namespace.PID)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	return hs, nil
}

// run starts a daemon and enters it in the process table, in the place of one that has ended.
func (s *supervisor) run(spec daemonSpec) (*daemon, error) {
	ns, err := s.inHost(spec.Host)
	if err != nil {
		return nil, err
	}
	defer namespace.Close(ns)
	d, err := launch(spec, s.place.log(spec.Name), ns)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.daemons[spec.Name] = d
	return d, nil
}

func (s *supervisor) daemon(name string) *daemon {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.daemons[name]
}

// host finds a host by its name.
func (s *supervisor) host(name string) (Host, error) { return findHost(s.hosts, name) }

// tearDown ends every process of the lab and removes what it has left on the machine.
func (s *supervisor) tearDown() error {
	deadline := time.Now().Add(10 * time.Second)
	// To process 1 of a PID namespace, -1 is everything in it and in those below.
	for unix.Kill(-1, unix.SIGKILL) != unix.ESRCH {
		if time.Now().After(deadline) {
			return errors.New("processes of the lab do not end although they were killed")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := remove(s.place, s.groups); err != nil {
		return err
	}
	return os.Remove(s.place.lock())
}

// remove deletes a lab's control groups, then its directory, by which they would be found if that failed. The
// caller holds the lock, and no process of the lab is left.
func remove(p place, groups cgroup.Hierarchies) error {
	if err := groups.Remove(p.cgroup(), 5*time.Second); err != nil {
		return err
	}
	return removeAll(p.dir(), 5*time.Second)
}

// removeAll tries again for a while: the kernel takes mounts of ended processes away a moment later.
func removeAll(dir string, within time.Duration) error {
	deadline := time.Now().Add(within)
	for {
		err := os.RemoveAll(dir)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// logTails is the end of every log of a process that has ended, and of the supervisor's own.
func (s *supervisor) logTails() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := ""
	add := func(name string) {
		text += fmt.Sprintf("--- end of %s\n", s.place.log(name))
		for _, line := range tail(s.place.log(name), 12) {
			text += line + "\n"
		}
	}
	for name, d := range s.daemons {
		if host, proc := splitProcess(name); d.ended() || name == procAPIServer || proc == procKubelet && host == nodeName(1) {
			add(name)
		}
	}
	entries, _ := filepath.Glob(filepath.Join(filepath.Dir(s.place.log("")), "*"))
	if len(entries) == 0 {
		return "the lab has written no logs"
	}
	return text
}
