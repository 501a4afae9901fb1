package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"heraldlb.io/herald/e2etest/lab/namespace"
)

func findHost(hosts []Host, name string) (Host, error) {
	i := slices.IndexFunc(hosts, func(h Host) bool { return h.Name == name })
	if i < 0 {
		var names []string
		for _, h := range hosts {
			names = append(names, h.Name)
		}
		return Host{}, fmt.Errorf("host %q: not in this lab; it has %s", name, strings.Join(names, ", "))
	}
	return hosts[i], nil
}

func findNode(hosts []Host, name string) (Host, error) {
	h, err := findHost(hosts, name)
	if err == nil && !h.isNode() {
		return Host{}, fmt.Errorf("host %s: is no node of the cluster; name one of n1 to n%d", name, MaxNodes)
	}
	return h, err
}

// setCut pulls or plugs a host's cable at the switch.
func (s *supervisor) setCut(name string, cut bool) error {
	h, err := s.host(name)
	if err != nil {
		return err
	}
	if !h.onSwitch() {
		return fmt.Errorf("host %s: has no cable at the LAN's switch; those that have are %s", name, strings.Join(switchPorts(s.hosts), ", "))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !cut && !s.rec.Hosts[name].Init.alive() {
		return fmt.Errorf("node %s: is switched off; start it instead", name)
	}
	if err := s.net.setPort(name, !cut); err != nil {
		return err
	}
	s.cut[name] = cut
	return nil
}

// killNode is a power cut: all processes of the node end at once and nothing that they would still send gets out.
func (s *supervisor) killNode(name string) error {
	h, err := findNode(s.hosts, name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.rec.Hosts[name]
	if !rec.Init.alive() {
		return fmt.Errorf("node %s: is switched off already; start it first", name)
	}
	// The cable goes first: a dying process closes its connections, and a node without power says no goodbye.
	if err := s.net.setPort(name, false); err != nil {
		return err
	}
	if err := s.inits[name].kill(); err != nil {
		return err
	}
	for _, proc := range []string{procContainerd, procKubelet, procProxy} {
		if d := s.daemons[onNode(h.Name, proc)]; d != nil {
			if err := d.kill(); err != nil {
				return err
			}
		}
	}
	rec.Init = process{}
	s.rec.Hosts[name] = rec
	return s.place.write(s.rec)
}

// restartNode switches a killed node on again and plugs it in. It returns when the node is Ready.
func (s *supervisor) restartNode(ctx context.Context, name string) error {
	h, err := findNode(s.hosts, name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	alive := s.rec.Hosts[name].Init.alive()
	s.mu.Unlock()
	if alive {
		return fmt.Errorf("node %s: is running already; kill it first", name)
	}
	if err := s.boot(h); err != nil {
		return err
	}
	if err := s.forget(ctx, h); err != nil {
		return err
	}
	s.mu.Lock()
	err = errors.Join(s.place.write(s.rec), s.net.setPort(name, true))
	s.cut[name] = false
	s.mu.Unlock()
	if err != nil {
		return err
	}
	ready := make(chan struct{})
	close(ready)
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	return s.startNode(ctx, h, ready)
}

// forget clears what the kernel still knows of a node's earlier life in its network namespace: the pods'
// interfaces and the service proxy's rules.
func (s *supervisor) forget(ctx context.Context, h Host) error {
	if err := s.net.forgetPods(h.Name); err != nil {
		return err
	}
	ns, err := s.inHost(h.Name)
	if err != nil {
		return err
	}
	defer namespace.Close(ns)
	if _, err := runIn(ctx, ns, "", "nft", "flush", "ruleset"); err != nil {
		return fmt.Errorf("node %s: %w", h.Name, err)
	}
	return nil
}

// setPartition separates the groups; none lifts the partition.
func (s *supervisor) setPartition(ctx context.Context, groups [][]string) error {
	ns, err := s.inHost(Switch)
	if err != nil {
		return err
	}
	defer namespace.Close(ns)
	if _, err := runIn(ctx, ns, partitionRules(groups), "nft", "-f", "-"); err != nil {
		return fmt.Errorf("partition: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.partition = groups
	return nil
}

// setFrozen stops or continues a process: one of the lab's own by its name in the process table, or all
// processes of the running containers of that name on a node.
func (s *supervisor) setFrozen(ctx context.Context, name string, frozen bool) error {
	if d := s.daemon(name); d != nil {
		return d.freeze(frozen)
	}
	host, container := splitProcess(name)
	if _, err := findNode(s.hosts, host); err != nil {
		return fmt.Errorf("process %q: not known; name a process of lab status, or a container as in n1/speaker", name)
	}
	ns, err := s.inHost(host)
	if err != nil {
		return err
	}
	defer namespace.Close(ns)
	pids, err := s.containerProcesses(ctx, ns, container)
	if err != nil {
		return fmt.Errorf("process %s: %w", name, err)
	}
	if len(pids) == 0 {
		return fmt.Errorf("process %s: node %s runs no container %q; see lab kubectl get pods -A -o wide", name, host, container)
	}
	sig := "-CONT"
	if frozen {
		sig = "-STOP"
	}
	if _, err := runIn(ctx, ns, "", append([]string{"/bin/kill", sig}, pids...)...); err != nil {
		return fmt.Errorf("process %s: %w", name, err)
	}
	return nil
}

// containerProcesses lists the processes, as the node numbers them, of the containers with that name.
func (s *supervisor) containerProcesses(ctx context.Context, ns []namespace.Handle, container string) ([]string, error) {
	ctr := func(args ...string) ([]string, error) {
		out, err := runIn(ctx, ns, "", append([]string{filepath.Join(s.Programs.Containerd, "ctr"),
			"--address=" + containerdSocket, "--namespace=k8s.io"}, args...)...)
		return strings.Split(strings.TrimSpace(string(out)), "\n"), err
	}
	ids, err := ctr("containers", "list", "--quiet", fmt.Sprintf(`labels."io.kubernetes.container.name"==%q`, container))
	if err != nil {
		return nil, err
	}
	tasks, err := ctr("tasks", "list")
	if err != nil {
		return nil, err
	}
	var pids []string
	for _, line := range tasks {
		f := strings.Fields(line) // TASK PID STATUS
		if len(f) < 3 || f[2] != "RUNNING" || !slices.Contains(ids, f[0]) {
			continue
		}
		lines, err := ctr("tasks", "ps", f[0])
		if err != nil {
			return nil, err
		}
		for _, l := range lines[1:] { // PID INFO
			if f := strings.Fields(l); len(f) > 0 {
				pids = append(pids, f[0])
			}
		}
	}
	return pids, nil
}

func (s *supervisor) stopAPIServer() error {
	d := s.daemon(procAPIServer)
	if d.ended() {
		return fmt.Errorf("process %s: is stopped already; start it first", procAPIServer)
	}
	return d.kill()
}

func (s *supervisor) startAPIServer(ctx context.Context) error {
	if d := s.daemon(procAPIServer); !d.ended() {
		return fmt.Errorf("process %s: is running already; stop it first", procAPIServer)
	}
	if _, err := s.run(apiServer(s.place, s.Programs)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	return s.waitForAPI(ctx)
}

// loadImages imports image files into all nodes that are on, and keeps them for the others.
func (s *supervisor) loadImages(ctx context.Context, paths []string) error {
	if err := s.keepImages(paths); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, h := range s.hosts {
		s.mu.Lock()
		on := h.isNode() && s.rec.Hosts[h.Name].Init.alive()
		s.mu.Unlock()
		if on {
			group.Go(func() error { return s.importAll(ctx, h) })
		}
	}
	return group.Wait()
}
