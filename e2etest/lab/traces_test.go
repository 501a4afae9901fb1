package lab

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/lab/cgroup"
	"heraldlb.io/herald/e2etest/lab/namespace"
)

// traces is what a lab has on the machine while it runs.
type traces struct {
	place      place
	processes  []process
	namespaces map[uint64]string
}

func findTraces(t *testing.T, p place) traces {
	t.Helper()
	rec, err := p.read()
	if err != nil {
		t.Fatal(err)
	}
	tr := traces{place: p, processes: []process{rec.Supervisor}, namespaces: map[uint64]string{}}
	for name, h := range rec.Hosts {
		tr.processes = append(tr.processes, h.Init)
		tr.namespaces[h.NetInode] = name
	}
	resp, err := p.call(t.Context(), request{Op: opStatus})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range resp.Status.Processes {
		proc, err := findProcess(d.PID)
		if err != nil {
			t.Fatalf("process %s: %v", d.Name, err)
		}
		tr.processes = append(tr.processes, proc)
	}
	return tr
}

// left tells what remains: processes, anything in one of the namespaces, mounts, control groups.
func (tr traces) left() error {
	var left []error
	for _, p := range tr.processes {
		if p.alive() {
			left = append(left, fmt.Errorf("process %d", p.PID))
		}
	}
	groups, err := cgroup.Find(cgroup.Root)
	if err != nil {
		return err
	}
	for _, dir := range groups.Exists(tr.place.cgroup()) {
		left = append(left, errors.New(dir))
	}
	threads, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, proc := range threads {
		if h, err := namespace.Open(namespace.Net, proc+"/ns/net"); err == nil {
			inode, err := h.Inode()
			h.File.Close()
			if host := tr.namespaces[inode]; err == nil && host != "" {
				left = append(left, fmt.Errorf("%s in the network namespace of %s", proc, host))
			}
		}
		if mounts, err := os.ReadFile(proc + "/mountinfo"); err == nil && bytes.Contains(mounts, []byte(tr.place.dir()+"/")) {
			left = append(left, fmt.Errorf("%s with a mount of the lab", proc))
		}
	}
	return errors.Join(left...)
}

// nothingLeft waits until the lab has left nothing, its files among it.
func (tr traces) nothingLeft(t *testing.T) {
	t.Helper()
	eventually(t, 15*time.Second, "nothing of the lab left", func() error {
		err := tr.left()
		for _, path := range []string{tr.place.dir(), tr.place.lock()} {
			if _, statErr := os.Stat(path); statErr == nil {
				err = errors.Join(err, errors.New(path))
			}
		}
		return err
	})
}

// machine describes what a lab must never change: the interfaces, the routes and the kernel settings.
func machine(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		addrs, _ := l.Addrs()
		fmt.Fprintln(&b, l.Name, l.Flags, addrs)
	}
	files := []string{"/proc/net/route", "/proc/net/ipv6_route", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding",
		"/proc/sys/net/ipv4/conf/all/rp_filter"}
	for _, name := range slices.Sorted(maps.Keys(kubeletSysctls)) {
		files = append(files, "/proc/sys/"+name)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if strings.Contains(f, "route") { // without use counters
				line = strings.Join(strings.Fields(line)[:4], " ")
			}
			fmt.Fprintln(&b, f, line)
		}
	}
	if entries, err := os.ReadDir("/var/lib"); err == nil {
		for _, e := range entries {
			if e.Name() == "kubelet" || e.Name() == "cni" {
				fmt.Fprintln(&b, "/var/lib/"+e.Name())
			}
		}
	}
	return b.String()
}
