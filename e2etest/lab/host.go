package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"heraldlb.io/herald/e2etest/lab/cgroup"
)

// daemonPath is where the lab's processes find the machine's programs.
const daemonPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// initSpec tells the first process of a host what its machine looks like.
type initSpec struct {
	Name string
	// Dir is the lab's directory, HostDir the host's own in it.
	Dir, HostDir string
	Node         bool
}

// nodeDirs are the directories that programs of a node insist on, and what in the host's directory stands for
// them. The machine's own stay as they are.
var nodeDirs = []struct{ path, own string }{
	{"/var/lib/kubelet", "kubelet"},
	{"/var/log/pods", "log/pods"},
	{"/var/log/containers", "log/containers"},
}

// kubeletSysctls are kernel settings that the kubelet would make for the whole machine. It leaves them alone
// where they read right, so a node shows it files that do.
var kubeletSysctls = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// initHost is process 1 of a host. It makes the host's file systems, says so by closing file descriptor 3, and
// then lives only to keep the namespaces and to reap orphans.
func initHost(spec []byte) error {
	var s initSpec
	if err := json.Unmarshal(spec, &s); err != nil {
		return err
	}
	// To the first process of a PID namespace these mean nothing, and they must not end it.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)

	if err := unix.Sethostname([]byte(s.Name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := mountHost(s); err != nil {
		return err
	}
	ready := os.NewFile(3, "ready")
	if _, err := ready.WriteString("ready"); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	ready.Close()
	for range children {
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if pid <= 0 || (err != nil && err != syscall.EINTR) {
				break
			}
		}
	}
	return nil
}

// mounts collects the first error of a list of mounts.
type mounts struct{ err error }

func (m *mounts) mount(source, target, fstype string, flags uintptr, data string) {
	if m.err == nil {
		if err := unix.Mount(source, target, fstype, flags, data); err != nil {
			m.err = fmt.Errorf("mount %s on %s: %w", source, target, err)
		}
	}
}

func (m *mounts) bind(source, target string) { m.mount(source, target, "", unix.MS_BIND, "") }
func (m *mounts) bindAll(source, target string) {
	m.mount(source, target, "", unix.MS_BIND|unix.MS_REC, "")
}
func (m *mounts) mkdir(elem ...string) (p string) {
	p = filepath.Join(elem...)
	if m.err == nil {
		m.err = os.MkdirAll(p, 0o755)
	}
	return p
}

func mountHost(s initSpec) error {
	var m mounts
	m.mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	m.mount("proc", "/proc", "proc", 0, "")
	if !s.Node {
		m.mount("sysfs", "/sys", "sysfs", 0, "")
		return m.err
	}
	mountSys(&m, s)
	mountVar(&m, s)
	m.mount("tmpfs", "/run", "tmpfs", 0, "mode=755")
	for _, dir := range []string{"containerd", "netns", "lock"} {
		m.mkdir("/run", dir)
	}
	for _, d := range nodeDirs {
		m.bind(m.mkdir(s.HostDir, d.own), m.mkdir(d.path))
	}
	// CNI results and leases of addresses mean nothing after the node has been switched off.
	m.mount("tmpfs", m.mkdir("/var/lib/cni"), "tmpfs", 0, "mode=755")
	protectSysctls(&m, s)
	return m.err
}

// mountSys shows the devices of this network namespace below /sys, and keeps the cgroups there.
func mountSys(m *mounts, s initSpec) {
	keep := m.mkdir(s.HostDir, "cgroup")
	m.bindAll(cgroup.Root, keep)
	m.mount("sysfs", "/sys", "sysfs", 0, "")
	m.bindAll(keep, cgroup.Root)
	if m.err == nil {
		m.err = unix.Unmount(keep, unix.MNT_DETACH)
	}
}

// mountVar puts a layer over /var that takes what the node adds there and forgets it with the node.
func mountVar(m *mounts, s initSpec) {
	layer := m.mkdir(s.HostDir, "var")
	lab, err := os.Open(s.Dir)
	if err != nil {
		m.err = errors.Join(m.err, err)
		return
	}
	defer lab.Close()
	m.mount("tmpfs", layer, "tmpfs", 0, "mode=755")
	upper, work := m.mkdir(layer, "upper"), m.mkdir(layer, "work")
	m.mount("overlay", "/var", "overlay", 0, "lowerdir=/var,upperdir="+upper+",workdir="+work)
	if resolved, err := filepath.EvalSymlinks(s.Dir); err == nil && strings.HasPrefix(resolved, "/var/") {
		m.bindAll(fmt.Sprintf("/proc/self/fd/%d", lab.Fd()), s.Dir) // the layer must not swallow what the lab writes
	}
}

// protectSysctls lets a node change the settings of its own network namespace and no other setting of the kernel.
func protectSysctls(m *mounts, s initSpec) {
	fake := m.mkdir(s.HostDir, "sysctl")
	for name, value := range kubeletSysctls {
		file := filepath.Join(fake, strings.ReplaceAll(name, "/", "."))
		if m.err == nil {
			m.err = os.WriteFile(file, []byte(value+"\n"), 0o644)
		}
		m.bind(file, filepath.Join("/proc/sys", name))
	}
	m.bind("/proc/sys/net", "/proc/sys/net")
	m.bindAll("/proc/sys", "/proc/sys")
	m.mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}
