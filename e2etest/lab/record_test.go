package lab

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestRecordReadsBackAsWritten(t *testing.T) {
	p := place{t.TempDir(), "x"}
	if _, err := p.read(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading before writing: %v", err)
	}
	want := record{
		Name: "x", Created: time.Unix(1700000000, 0).UTC(), Ready: true, Kubernetes: "v1.37.2", Nodes: 3,
		Supervisor: process{42, 4711}, Cgroup: "herald-lab-x", Programs: programs{Etcd: "/e"},
		Hosts: map[string]hostRecord{"n1": {NetFD: 7, NetInode: 4026532000, Init: process{43, 4712}}},
	}
	if err := p.write(want); err != nil {
		t.Fatal(err)
	}
	got, err := p.read()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestStartTimeSurvivesAnyCommandName(t *testing.T) {
	rest := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 123456 20"
	for _, name := range []string{"(sh)", "(a) b (c)", "(odd) S 1 2)"} {
		got, err := startTime("77 " + name + rest)
		if err != nil || got != 123456 {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	for _, bad := range []string{"", "77 (sh) S", "no parenthesis 1 2 3"} {
		if _, err := startTime(bad); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}

func TestAProcessIsKnownByMoreThanItsNumber(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	defer func() {
		if !ended {
			cmd.Process.Kill()
			cmd.Wait()
		}
	}()
	p, err := findProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !p.alive() {
		t.Error("the living process is called dead")
	}
	other := process{p.PID, p.Start + 1}
	if other.alive() {
		t.Error("another process of the same number is taken for it")
	}
	other.kill() // must not hit the process that has the number now
	if !p.alive() {
		t.Fatal("the wrong process was killed")
	}
	p.kill()
	if err := cmd.Wait(); err == nil {
		t.Error("the process ended by itself")
	}
	ended = true
	if p.alive() {
		t.Error("the dead process is called alive")
	}
}

func TestOneLabOfANameAtATime(t *testing.T) {
	p := place{t.TempDir(), "x"}
	first, err := p.acquire()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.acquire(); !errors.Is(err, errLocked) {
		t.Errorf("a second lab of the name: %v", err)
	}
	other, err := place{p.root, "y"}.acquire()
	if err != nil {
		t.Errorf("a lab of another name: %v", err)
	} else {
		other.Close()
	}
	if err := os.Remove(p.lock()); err != nil { // as whoever removes the lab does
		t.Fatal(err)
	}
	first.Close()
	again, err := p.acquire()
	if err != nil {
		t.Fatal("after it has gone:", err)
	}
	again.Close()
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"herald": true, "e2e-01": true, "a": true,
		"": false, "A": false, "-a": false, "a-": false, "a/b": false, "..": false, "a.lock": false,
		strings.Repeat("a", maxName): true, strings.Repeat("a", maxName+1): false,
	} {
		if err := checkName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestPidOfAProcessFileDescriptor(t *testing.T) {
	if pid, err := pidOf("pos:\t0\nflags:\t02\nPid:\t4711\nNSpid:\t4711\t7\n"); err != nil || pid != 4711 {
		t.Errorf("got %d, %v", pid, err)
	}
	if _, err := pidOf("pos:\t0\n"); err == nil {
		t.Error("information without a Pid line is accepted")
	}
}

func TestRestartedNodeIsNotReadyOnItsOldWord(t *testing.T) {
	started := time.Now()
	for _, c := range []struct {
		story  string
		status string
		beat   time.Time
		ready  bool
	}{
		{"no condition yet", "", started, false},
		{"not Ready", "False", started.Add(time.Second), false},
		{"Ready, reported before the restart", "True", started.Add(-3 * time.Second), false},
		{"Ready, reported since", "True", started.Add(time.Second), true},
		{"the API's times have whole seconds", "True", started.Truncate(time.Second), true},
	} {
		if err := nodeReady(nodeWith(c.status, c.beat), started); (err == nil) != c.ready {
			t.Errorf("%s: %v", c.story, err)
		}
	}
}
