package cgroup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tree makes a directory tree like the one that a kernel shows.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func read(t *testing.T, elem ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

func exists(elem ...string) bool {
	_, err := os.Stat(filepath.Join(elem...))
	return err == nil
}

func TestSeparateHierarchiesEachGetTheGroup(t *testing.T) {
	root := tree(t, map[string]string{
		"cpu/cgroup.procs":           "",
		"memory/cgroup.procs":        "",
		"cpuset/cgroup.procs":        "",
		"cpuset/cpuset.cpus":         "0-1",
		"cpuset/cpuset.mems":         "0",
		"unified/cgroup.controllers": "", // hybrid
		"unified/cgroup.procs":       "",
		"other/file":                 "",
	})
	h, err := Find(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Make("lab/n1"); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{"cpu": true, "memory": true, "cpuset": true, "unified": false, "other": false} {
		if got := exists(root, dir, "lab/n1"); got != want {
			t.Errorf("group below %s: %v", dir, got)
		}
	}
	// An empty cpuset admits no process.
	for _, group := range []string{"lab", "lab/n1"} {
		if cpus, mems := read(t, root, "cpuset", group, "cpuset.cpus"), read(t, root, "cpuset", group, "cpuset.mems"); cpus != "0-1" || mems != "0" {
			t.Errorf("cpuset of %s: cpus %q, mems %q", group, cpus, mems)
		}
	}
	if err := h.Make("lab/n1"); err != nil {
		t.Errorf("making it again: %v", err)
	}
}

func TestTheOneHierarchyOfV2HandsItsControllersDown(t *testing.T) {
	root := tree(t, map[string]string{
		"cgroup.controllers":     "cpu memory pids\n",
		"lab/cgroup.controllers": "cpu memory pids\n", // the kernel's doing
	})
	h, err := Find(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Make("lab/n1"); err != nil {
		t.Fatal(err)
	}
	if !exists(root, "lab/n1") {
		t.Error("no group")
	}
	for _, dir := range []string{"", "lab"} {
		if got := read(t, root, dir, "cgroup.subtree_control"); got != "+cpu +memory +pids" {
			t.Errorf("controllers that /%s hands down: %q", dir, got)
		}
	}
	if exists(root, "lab/n1/cgroup.subtree_control") {
		t.Error("the last group hands controllers down, so no process could be in it")
	}
}

func TestAMachineWithoutCgroupsIsRefused(t *testing.T) {
	if _, err := Find(t.TempDir()); err == nil {
		t.Error("accepted")
	}
}

func TestRemoveWaitsForTheLastProcess(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making cgroups needs root")
	}
	h, err := Find(Root)
	if err != nil {
		t.Skip(err)
	}
	group := "herald-test-" + strings.ToLower(t.Name()[:8]) + "-" + filepath.Base(t.TempDir())
	if err := h.Make(group + "/inner"); err != nil {
		t.Fatal(err)
	}
	defer h.Remove(group, time.Second)
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer sleeper.Wait()
	defer sleeper.Process.Kill()
	for _, dir := range h.Exists(group) {
		procs := filepath.Join(dir, "inner", "cgroup.procs")
		if exists(procs) {
			if err := os.WriteFile(procs, []byte(strconv.Itoa(sleeper.Process.Pid)), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := h.Remove(group, 30*time.Millisecond); err == nil {
		t.Error("a group with a process in it is called removed")
	}
	sleeper.Process.Kill()
	if err := h.Remove(group, 5*time.Second); err != nil {
		t.Error(err)
	}
	if left := h.Exists(group); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := h.Remove(group, 0); err != nil {
		t.Errorf("removing what is not there: %v", err)
	}
}
