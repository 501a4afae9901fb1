// Package lab runs a real Kubernetes cluster on one machine, for Herald's tests, benches and demo and for people.
//
// A lab is a control plane, up to nine nodes, a client and a router on one LAN, and a remote client behind the
// router: each a host with network, mount, process and host name namespaces of its own, in which etcd, the
// Kubernetes programs, containerd and BIRD run as they would on machines. IPv4 and IPv6 work everywhere. There
// is no DNS in the cluster.
//
// One supervisor process per lab owns everything in it. When it ends, by whatever cause, the kernel ends all its
// processes and with them every namespace, mount, interface and rule; what can remain after a crash, files and
// empty control groups, is found and removed through the lab's own records. The package writes below the state
// directory, the cache and the lab's own control groups only. It must never change the machine's network, its
// sysctls, or files of anybody else.
package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"

	"heraldlb.io/herald/e2etest/lab/namespace"
)

// Options say what lab to bring up.
type Options struct {
	// Name tells labs on one machine apart; empty means DefaultName.
	Name string
	// Nodes is their number, at most MaxNodes; 0 means 3.
	Nodes int
	// Kubernetes is its version, such as 1.36; empty means the lab's default.
	Kubernetes string
	// Owned ties the lab to this process: when the process ends, in any way, so does the lab.
	Owned bool
	// Images are archives with container images that every node has from the start.
	Images []string
	// Out receives lines about the progress; nil discards them.
	Out io.Writer
	// KeepOnFailure leaves a lab that does not come up as it is, for a look; remove it with lab down.
	KeepOnFailure bool
}

// Lab is a running lab.
type Lab struct {
	place place
	rec   record // as it was when the lab was opened
	hosts []Host

	mu    sync.Mutex
	owner int // the file descriptor whose closing ends an owned lab; -1 when there is none
}

// Open returns a lab that is already up, started by whichever process.
func Open(name string) (*Lab, error) {
	if err := checkMain(); err != nil {
		return nil, err
	}
	if name == "" {
		name = DefaultName
	}
	p, err := findPlace(name)
	if err != nil {
		return nil, err
	}
	return open(p)
}

func open(p place) (*Lab, error) {
	rec, err := p.read()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("lab %s: there is none; start it with lab up --name %s", p.name, p.name)
	case err != nil:
		return nil, err
	case !rec.Supervisor.alive():
		return nil, fmt.Errorf("lab %s: it has died; remove what is left with lab down --name %s", p.name, p.name)
	case !rec.Ready:
		return nil, fmt.Errorf("lab %s: it is not up yet; wait for lab up to finish, or remove it with lab down --name %s", p.name, p.name)
	}
	return &Lab{place: p, rec: rec, hosts: topology(rec.Nodes), owner: -1}, nil
}

// Name is the lab's name.
func (l *Lab) Name() string { return l.place.name }

// Kubernetes is the version that the lab runs.
func (l *Lab) Kubernetes() string { return l.rec.Kubernetes }

// Nodes lists the names of the cluster's nodes.
func (l *Lab) Nodes() []string { return nodeNames(l.rec.Nodes) }

// Host describes a host: a node, Client, Router, Remote or CP. A name that the lab does not have gives the zero
// Host.
func (l *Lab) Host(name string) Host {
	h, _ := findHost(l.hosts, name)
	return h
}

// Down ends the lab and removes everything of it.
func (l *Lab) Down(ctx context.Context) error {
	err := down(ctx, l.place)
	l.release()
	return err
}

// release closes the owner's end of the pipe, if this process owns the lab.
func (l *Lab) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owner >= 0 {
		unix.Close(l.owner)
		l.owner = -1
	}
}

// RESTConfig gives a client of the Kubernetes API an administrator's access. It dials inside the network
// namespace of the control plane host, from this process.
func (l *Lab) RESTConfig() (*rest.Config, error) {
	return restConfig(l.place, l.Dialer(CP))
}

// Dialer returns a function like net.Dialer.DialContext whose connections come from a host of the lab. It takes
// addresses, not names.
func (l *Lab) Dialer(host string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return dialer(func() (namespace.Handle, func(), error) {
		ns, err := l.netns(host)
		if err != nil {
			return namespace.Handle{}, nil, err
		}
		return ns, func() { ns.File.Close() }, nil
	})
}

// InNet calls f on a thread whose network namespace is the host's, and returns its error. Sockets that f opens
// belong to the host for as long as they live. f must not leave its goroutine, as testing.T.FailNow does, and
// goroutines that it starts are not in the namespace.
func (l *Lab) InNet(host string, f func() error) error {
	ns, err := l.netns(host)
	if err != nil {
		return err
	}
	defer ns.File.Close()
	return namespace.Run([]namespace.Handle{ns}, f)
}

// netns opens the network namespace of a host, which a switched off node has too.
func (l *Lab) netns(host string) (namespace.Handle, error) {
	rec, ok := l.rec.Hosts[host]
	if !ok {
		_, err := findHost(l.hosts, host)
		return namespace.Handle{}, fmt.Errorf("lab %s: %w", l.place.name, err)
	}
	ns, err := namespace.Open(namespace.Net, fmt.Sprintf("/proc/%d/fd/%d", l.rec.Supervisor.PID, rec.NetFD))
	if err != nil {
		return namespace.Handle{}, fmt.Errorf("lab %s: host %s: %w; the lab is down", l.place.name, host, err)
	}
	if inode, err := ns.Inode(); err != nil || inode != rec.NetInode {
		ns.File.Close()
		return namespace.Handle{}, fmt.Errorf("lab %s: host %s: its network is gone; the lab is down", l.place.name, host)
	}
	return ns, nil
}

// Command prepares a command to be run in the namespaces of a host. When ctx ends the command is killed. Any
// error in entering the host comes from running it.
func (l *Lab) Command(ctx context.Context, host, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, self)
	cmd.Args = append([]string{"lab-exec", name}, args...)
	rec, err := l.place.read() // the first process of a node changes with every start
	if err == nil {
		_, err = findHost(l.hosts, host)
	}
	if err == nil {
		err = checkMain()
	}
	if err != nil {
		cmd.Err = fmt.Errorf("lab %s: %w", l.place.name, err)
		return cmd
	}
	spec, err := json.Marshal(execSpec{Host: host, Init: rec.Hosts[host].Init})
	if err != nil {
		cmd.Err = err
		return cmd
	}
	cmd.Env = append(os.Environ(), roleEnv+"="+roleExec, specEnv+"="+string(spec))
	return cmd
}

// Kubeconfig is the file with an administrator's access, for programs that run on a host of the lab.
func (l *Lab) Kubeconfig() (path string) { return l.place.path("pki", "admin.kubeconfig") }

// KubectlCommand prepares kubectl with an administrator's access, on the control plane host.
func (l *Lab) KubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	return l.Command(ctx, CP, l.rec.Programs.Kubernetes+"/kubectl", append([]string{"--kubeconfig=" + l.Kubeconfig()}, args...)...)
}

// Kubectl runs kubectl and returns its standard output; what it wrote to standard error is part of the error.
func (l *Lab) Kubectl(ctx context.Context, args ...string) (stdout []byte, err error) {
	return run(l.KubectlCommand(ctx, args...), "kubectl "+strings.Join(args, " "))
}

// Apply creates or changes the objects of a manifest.
func (l *Lab) Apply(ctx context.Context, manifest []byte) error {
	cmd := l.KubectlCommand(ctx, "apply", "--server-side", "--force-conflicts", "-f", "-")
	cmd.Stdin = bytes.NewReader(manifest)
	_, err := run(cmd, "kubectl apply")
	return err
}

func run(cmd *exec.Cmd, what string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", what, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// Status asks the lab what it is doing.
func (l *Lab) Status(ctx context.Context) (*Status, error) {
	resp, err := l.place.call(ctx, request{Op: opStatus})
	return resp.Status, err
}

func (l *Lab) call(ctx context.Context, req request) error {
	_, err := l.place.call(ctx, req)
	return err
}

// Cut pulls a host's cable out of the switch: its eth0 loses the carrier.
func (l *Lab) Cut(ctx context.Context, host string) error {
	return l.call(ctx, request{Op: opCut, Target: host})
}

// Heal plugs the cable of a host that was cut back in.
func (l *Lab) Heal(ctx context.Context, host string) error {
	return l.call(ctx, request{Op: opHeal, Target: host})
}

// Kill is a power cut at a node: its cable goes dead and all its processes end.
func (l *Lab) Kill(ctx context.Context, node string) error {
	return l.call(ctx, request{Op: opKill, Target: node})
}

// Start switches a killed node on again, plugs it in, and returns when it is Ready. It has its disk, so its
// images and its kubelet's state, and nothing else of its earlier life.
func (l *Lab) Start(ctx context.Context, node string) error {
	return l.call(ctx, request{Op: opStart, Target: node})
}

// Partition keeps hosts of different groups from reaching each other over the LAN, whatever the protocol. Hosts
// in no group reach all. It replaces an earlier partition.
func (l *Lab) Partition(ctx context.Context, groups ...[]string) error {
	return l.call(ctx, request{Op: opPartition, Groups: groups})
}

// HealPartition lets all hosts reach each other again.
func (l *Lab) HealPartition(ctx context.Context) error {
	return l.call(ctx, request{Op: opHealPartition})
}

// Freeze stops a process, as SIGSTOP does: one of those that Status lists, such as apiserver or n1/kubelet, or
// the containers of a name on a node, such as n1/speaker.
func (l *Lab) Freeze(ctx context.Context, process string) error {
	return l.call(ctx, request{Op: opFreeze, Target: process})
}

// Thaw lets a frozen process go on.
func (l *Lab) Thaw(ctx context.Context, process string) error {
	return l.call(ctx, request{Op: opThaw, Target: process})
}

// StopAPIServer kills the API server.
func (l *Lab) StopAPIServer(ctx context.Context) error {
	return l.call(ctx, request{Op: opStopAPI})
}

// StartAPIServer starts the API server again and returns when it answers.
func (l *Lab) StartAPIServer(ctx context.Context) error {
	return l.call(ctx, request{Op: opStartAPI})
}

// LoadImages gives the images in the archives to every node, now, or when it is started.
func (l *Lab) LoadImages(ctx context.Context, paths ...string) error {
	abs, err := absolute(paths)
	if err != nil {
		return err
	}
	return l.call(ctx, request{Op: opLoadImages, Paths: abs})
}

// Logs is the file with the output of a process of Status, or of the supervisor.
func (l *Lab) Logs(process string) (path string) { return l.place.log(process) }

// AuditLog is the file in which the API server writes down what Herald's service accounts ask of it: one event of
// audit.k8s.io/v1 a line, with the verb and the object and without contents.
func (l *Lab) AuditLog() (path string) { return l.place.path("audit.log") }
