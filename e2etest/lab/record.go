package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// DefaultName is the name of a lab when nobody gives it another.
const DefaultName = "herald"

// record is what a lab writes down about itself, in lab.json: enough for other processes to reach into it, and
// for a later one to remove whatever a crash has left.
type record struct {
	Name       string
	Created    time.Time
	Ready      bool
	Owned      bool
	Kubernetes string
	Nodes      int
	// Supervisor is the lab's first process; all others end with it.
	Supervisor process
	// Cgroup is the control group below which all others of the lab are.
	Cgroup string
	// Programs are the directories with the parts that the lab runs.
	Programs programs
	Hosts    map[string]hostRecord
}

// hostRecord is where to find a host's namespaces.
type hostRecord struct {
	// NetFD is the supervisor's file descriptor that keeps the network namespace; NetInode identifies it.
	NetFD    int
	NetInode uint64
	// Init is the first process of the host; PID 0 while the host is switched off.
	Init process
}

// process names a process in a way that stays right when its number is given to another one.
type process struct {
	PID int
	// Start is the process's start time in clock ticks after boot, as /proc/PID/stat has it.
	Start uint64
}

// programs are directories of the cache.
type programs struct {
	Etcd, Kubernetes, Containerd, Pause string
	Bird, BirdLibraries                 string
}

// findProcess describes the living process that /proc shows as pid.
func findProcess(pid int) (process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	start, err := startTime(string(stat))
	if err != nil {
		return process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return process{pid, start}, nil
}

// startTime reads field 22 of a /proc/PID/stat. The second field, the command in parentheses, may hold anything.
func startTime(stat string) (uint64, error) {
	i := strings.LastIndexByte(stat, ')')
	fields := strings.Fields(stat[i+1:])
	if i < 0 || len(fields) < 20 {
		return 0, fmt.Errorf("unexpected stat line %q", stat)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// alive tells whether the process still runs; a zombie does not.
func (p process) alive() bool {
	if p.PID <= 0 {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil {
		return false
	}
	start, err := startTime(string(stat))
	if err != nil || start != p.Start {
		return false
	}
	state := strings.TrimSpace(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	return !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

// kill ends the process, and nothing that has its number by now. It works outside of the lab only: inside its
// PID namespace numbers mean something else.
func (p process) kill() {
	if p.alive() {
		syscall.Kill(p.PID, syscall.SIGKILL)
	}
}

// StateDir is the directory below which every lab keeps its own: $HERALD_LAB_STATE_DIR, else /var/lib/herald-lab.
func StateDir() (string, error) {
	dir := os.Getenv("HERALD_LAB_STATE_DIR")
	if dir == "" {
		return "/var/lib/herald-lab", nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("HERALD_LAB_STATE_DIR=%s: %w", dir, err)
	}
	// A Unix socket's path has room for 107 bytes, and the longest in a lab's directory has this many behind it.
	if len(abs)+len("/")+maxName+len("/control.sock") > 107 {
		return "", fmt.Errorf("HERALD_LAB_STATE_DIR=%s: too long for the path of a Unix socket; use a shorter one", dir)
	}
	return abs, nil
}

const maxName = 24

var validName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

func checkName(name string) error {
	if len(name) > maxName || !validName.MatchString(name) {
		return fmt.Errorf("lab name %q: not usable; use up to %d lower-case letters, digits and hyphens", name, maxName)
	}
	return nil
}

// place is where a lab of a given name keeps things.
type place struct {
	root, name string
}

func findPlace(name string) (place, error) {
	if err := checkName(name); err != nil {
		return place{}, err
	}
	root, err := StateDir()
	return place{root, name}, err
}

func (p place) dir() string { return filepath.Join(p.root, p.name) }
func (p place) path(elem ...string) string {
	return filepath.Join(append([]string{p.dir()}, elem...)...)
}
func (p place) lock() string               { return filepath.Join(p.root, p.name+".lock") }
func (p place) record() string             { return p.path("lab.json") }
func (p place) socket() string             { return p.path("control.sock") }
func (p place) log(process string) string  { return p.path("logs", logName(process)) }
func (p place) cgroup() string             { return "herald-lab-" + p.name }
func (p place) hostDir(name string) string { return p.path("hosts", name) }

// logName is the file of a process's output: n1/kubelet has n1-kubelet.log.
func logName(process string) string { return strings.ReplaceAll(process, "/", "-") + ".log" }

// read returns the lab's record; fs.ErrNotExist when there is none.
func (p place) read() (record, error) {
	var r record
	data, err := os.ReadFile(p.record())
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("record of lab %s: %w", p.name, err)
	}
	return r, nil
}

// write replaces the record in one step, so that a reader never sees half of one.
func (p place) write(r record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("record of lab %s: %w", p.name, err)
	}
	if err := writeFile(p.record()+".new", append(data, '\n')); err != nil {
		return fmt.Errorf("record of lab %s: %w", p.name, err)
	}
	if err := os.Rename(p.record()+".new", p.record()); err != nil {
		return fmt.Errorf("record of lab %s: %w", p.name, err)
	}
	return nil
}

var errLocked = errors.New("locked by a running lab")

// acquire takes the lock that a lab holds as long as any process of it that could still change anything lives:
// the one that starts it, then its supervisor, which inherits the open file. errLocked when it is taken.
func (p place) acquire() (*os.File, error) {
	if err := os.MkdirAll(p.root, 0o755); err != nil {
		return nil, fmt.Errorf("state directory of labs: %w", err)
	}
	for {
		f, err := os.OpenFile(p.lock(), os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			f.Close()
			if err == syscall.EWOULDBLOCK {
				return nil, errLocked
			}
			return nil, fmt.Errorf("lock: %w", err)
		}
		// Whoever removes a lab removes its lock file: make sure that the one we have is still the one to have.
		ours, err1 := f.Stat()
		now, err2 := os.Stat(p.lock())
		if err1 == nil && err2 == nil && os.SameFile(ours, now) {
			return f, nil
		}
		f.Close()
	}
}

// labNames lists the labs that have left anything in the state directory, running or not.
func labNames() ([]string, error) {
	root, err := StateDir()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state directory of labs: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && checkName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}
