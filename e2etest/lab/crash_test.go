package lab

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAnOwnedLabEndsWithItsOwner(t *testing.T) {
	needCluster(t)
	name := randomName()
	p, err := findPlace(name)
	if err != nil {
		t.Fatal(err)
	}
	owner := exec.Command(self)
	owner.Env = append(os.Environ(), ownerEnv+"="+name)
	stdin, err := owner.StdinPipe() // so that it ends with this test in any case
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	owner.Stderr = t.Output()
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	defer owner.Wait()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "up "+name {
		t.Fatalf("the owner says %q, %v", line, err)
	}
	tr := findTraces(t, p)
	if tr.left() == nil {
		t.Fatal("the lab that is up has left no trace, so the rest of this test would prove nothing")
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	tr.nothingLeft(t)
}

// writerFunc sees every piece of the progress as it is written.
type writerFunc func(string)

func (f writerFunc) Write(p []byte) (int, error) {
	f(string(p))
	return len(p), nil
}

func TestAnInterruptedStartLeavesNothing(t *testing.T) {
	needCluster(t)
	name := randomName()
	p, err := findPlace(name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var tr traces
	_, err = Up(ctx, Options{Name: name, Nodes: 2, Out: writerFunc(func(line string) {
		if strings.Contains(line, "hosts and their network") {
			rec, err := p.read()
			if err != nil {
				t.Error(err)
			}
			tr = traces{place: p, processes: []process{rec.Supervisor}, namespaces: map[uint64]string{}}
			for host, h := range rec.Hosts {
				tr.processes = append(tr.processes, h.Init)
				tr.namespaces[h.NetInode] = host
			}
			cancel()
		}
	})})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if len(tr.processes) < 7 {
		t.Fatalf("it was interrupted before there was anything to remove: %v", tr.processes)
	}
	tr.nothingLeft(t)
}

func TestWhatACrashHasLeftIsRemovedByItsRecords(t *testing.T) {
	needCluster(t)
	// A state directory of its own: no other lab on the machine may be touched.
	state, err := os.MkdirTemp("", "herald-lab-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(state)
	t.Setenv("HERALD_LAB_STATE_DIR", state)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	name := randomName()
	l, err := Up(ctx, Options{Name: name, Nodes: 1, Out: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Down(context.WithoutCancel(ctx))
	tr := findTraces(t, l.place)
	tr.processes[0].kill() // the supervisor
	eventually(t, 10*time.Second, "all processes die with the supervisor", func() error {
		for _, p := range tr.processes {
			if p.alive() {
				return errors.New("some live")
			}
		}
		return nil
	})
	if tr.left() == nil {
		t.Error("the crash has left nothing, so the rest of this test would prove nothing")
	}
	if _, err := Open(name); err == nil || !strings.Contains(err.Error(), "has died") {
		t.Errorf("opening the crashed lab: %v", err)
	}
	names, err := DownAll(ctx)
	if err != nil || !slices.Equal(names, []string{name}) {
		t.Errorf("removed %v, %v", names, err)
	}
	tr.nothingLeft(t)
	if err := Down(ctx, name); err == nil {
		t.Error("removing what is not there goes unnoticed")
	}
}

func TestALabThatCannotComeUpSaysWhyAndLeavesNothing(t *testing.T) {
	needCluster(t)
	broken := t.TempDir() + "/broken.tar"
	if err := os.WriteFile(broken, []byte("no archive"), 0o644); err != nil {
		t.Fatal(err)
	}
	name := randomName()
	p, err := findPlace(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Up(t.Context(), Options{Name: name, Nodes: 1, Images: []string{broken}, Out: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "broken.tar") || !strings.Contains(err.Error(), "node n1") {
		t.Errorf("got %v", err)
	}
	traces{place: p}.nothingLeft(t)
}
