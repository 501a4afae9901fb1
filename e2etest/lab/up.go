package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"heraldlb.io/herald/e2etest/lab/namespace"
)

// poll is how often the lab looks whether something is ready. Less often is time lost, more often is processor
// time that the cluster wants itself.
const poll = 75 * time.Millisecond

// upTimeout is when a lab that is not up yet is never going to be. A machine that builds something else at the
// same time takes several times the usual 10 s.
const upTimeout = 3 * time.Minute

// up brings the whole lab up and returns when the cluster is ready for use.
func (s *supervisor) up(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	if err := s.prepare(); err != nil {
		return err
	}
	go s.breakSilence(ctx)
	var first errgroup.Group
	first.Go(func() error { return credentials(s.place, s.hosts) })
	first.Go(func() error { return s.bootAll(ctx) })
	first.Go(func() error { return s.keepImages(s.Images) })
	if err := first.Wait(); err != nil {
		return err
	}
	s.progress("%d hosts and their network", len(s.hosts)-1)

	apiReady := make(chan struct{})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.startRouter() })
	group.Go(func() error { return s.startControlPlane(ctx, apiReady) })
	for _, h := range s.hosts {
		if h.isNode() {
			group.Go(func() error { return s.startNode(ctx, h, apiReady) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rec.Ready = true
	return s.place.write(s.rec)
}

// bootAll starts all hosts and connects them.
func (s *supervisor) bootAll(ctx context.Context) error {
	var group errgroup.Group
	for _, h := range s.hosts {
		group.Go(func() error { return s.boot(h) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := s.net.build(s.hosts); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.place.write(s.rec)
}

func (s *supervisor) startRouter() error {
	h, err := s.host(Router)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(s.place.hostDir(Router), "bird.conf"), []byte(birdConfig(h))); err != nil {
		return err
	}
	_, err = s.run(router(s.place, s.Programs))
	return err
}

// startControlPlane closes ready as soon as the API server answers.
func (s *supervisor) startControlPlane(ctx context.Context, ready chan<- struct{}) error {
	if err := writeFile(s.place.path("audit-policy.yaml"), auditPolicy()); err != nil {
		return err
	}
	for _, spec := range []daemonSpec{etcd(s.place, s.Programs), apiServer(s.place, s.Programs)} {
		if _, err := s.run(spec); err != nil {
			return err
		}
	}
	if err := s.waitForAPI(ctx); err != nil {
		return err
	}
	close(ready)
	s.progress("API server")
	for _, spec := range []daemonSpec{controllerManager(s.place, s.Programs), scheduler(s.place, s.Programs)} {
		if _, err := s.run(spec); err != nil {
			return err
		}
	}
	client, err := s.client()
	if err != nil {
		return err
	}
	// Pods are refused until their namespace's service account is there.
	return s.wait(ctx, "service account default/default", []string{procAPIServer, procManager, procScheduler}, func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

func (s *supervisor) waitForAPI(ctx context.Context) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	return s.wait(ctx, "API server", []string{procEtcd, procAPIServer}, func(ctx context.Context) error {
		_, err := client.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

// client talks to the API server from the control plane host.
func (s *supervisor) client() (*kubernetes.Clientset, error) {
	s.mu.Lock()
	cp := s.net.ns[CP]
	s.mu.Unlock()
	config, err := restConfig(s.place, dialer(func() (namespace.Handle, func(), error) { return cp, func() {}, nil }))
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// startNode starts a node's programs, on a host that has booted, and returns when the node is Ready and its
// service proxy works.
func (s *supervisor) startNode(ctx context.Context, h Host, apiReady <-chan struct{}) error {
	group := s.place.cgroup() + "/" + h.Name
	// Groups left from the node's earlier life cost the kubelet seconds for each container.
	if err := s.groups.Remove(group, 5*time.Second); err != nil {
		return fmt.Errorf("node %s: %w", h.Name, err)
	}
	if err := s.groups.Make(group); err != nil {
		return fmt.Errorf("node %s: %w", h.Name, err)
	}
	files, err := nodeFiles(s.place, h, s.Programs, s.snapshotter)
	if err != nil {
		return fmt.Errorf("node %s: %w", h.Name, err)
	}
	for name, data := range files {
		if err := writeFile(filepath.Join(s.place.hostDir(h.Name), name), data); err != nil {
			return fmt.Errorf("node %s: %w", h.Name, err)
		}
	}
	if _, err := s.run(containerd(s.place, h, s.Programs)); err != nil {
		return err
	}
	if err := s.waitForContainerd(ctx, h); err != nil {
		return err
	}
	if err := s.importAll(ctx, h); err != nil {
		return err
	}
	select {
	case <-apiReady:
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, spec := range []daemonSpec{kubelet(s.place, h, s.Programs), kubeProxy(s.place, h, s.Programs)} {
		if _, err := s.run(spec); err != nil {
			return err
		}
	}
	if err := s.waitForNode(ctx, h); err != nil {
		return err
	}
	s.progress("node %s Ready", h.Name)
	return nil
}

func (s *supervisor) waitForContainerd(ctx context.Context, h Host) error {
	s.mu.Lock()
	init := s.rec.Hosts[h.Name].Init
	s.mu.Unlock()
	socket := fmt.Sprintf("/proc/%d/root%s", init.PID, containerdSocket)
	name := onNode(h.Name, procContainerd)
	return s.wait(ctx, name, []string{name}, func(ctx context.Context) error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", socket)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

// waitForNode waits until the control plane calls the node Ready and its kube-proxy has programmed the rules.
func (s *supervisor) waitForNode(ctx context.Context, h Host) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	kubelet, proxy := onNode(h.Name, procKubelet), onNode(h.Name, procProxy)
	started := s.daemon(kubelet).started
	err = s.wait(ctx, "node "+h.Name, []string{procAPIServer, procManager, kubelet}, func(ctx context.Context) error {
		node, err := client.CoreV1().Nodes().Get(ctx, h.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return nodeReady(node, started)
	})
	if err != nil {
		return err
	}
	web := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       dialer(func() (namespace.Handle, func(), error) { return s.net.ns[CP], func() {}, nil }),
	}}
	url := fmt.Sprintf("http://%s:10256/healthz", h.IPv4)
	return s.wait(ctx, proxy, []string{proxy}, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := web.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, resp.Status)
		}
		return nil
	})
}

// nodeReady returns nil when the node has been Ready on a report that its kubelet made after it was started: the
// API server still has the word of the earlier one when a node comes back soon.
func nodeReady(node *corev1.Node, started time.Time) error {
	for _, c := range node.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if c.Status != corev1.ConditionTrue {
			return fmt.Errorf("condition Ready=%s: %s", c.Status, c.Message)
		}
		if c.LastHeartbeatTime.Time.Before(started.Truncate(time.Second)) {
			return errors.New("its kubelet has not reported since it was started")
		}
		return nil
	}
	return errors.New("has no Ready condition yet")
}

// wait polls until check returns nil. It gives up when ctx ends or one of the daemons that it depends on does.
func (s *supervisor) wait(ctx context.Context, what string, needs []string, check func(context.Context) error) error {
	s.setWaiting(what, true)
	defer s.setWaiting(what, false)
	last := errors.New("not asked yet")
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := check(attempt)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		for _, name := range needs {
			if d := s.daemon(name); d != nil && d.ended() {
				return fmt.Errorf("%s: process %s has ended (%v); see %s", what, name, d.err, s.place.log(name))
			}
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return fmt.Errorf("%s: %w", what, ctx.Err())
			}
			return fmt.Errorf("%s: not ready in time: %w; see the logs in %s", what, last, filepath.Dir(s.place.log("")))
		case <-time.After(poll):
		}
	}
}

func (s *supervisor) setWaiting(what string, waits bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if waits {
		s.waiting[what] = true
	} else {
		delete(s.waiting, what)
	}
}

// keepImages copies image files into the lab, for nodes that start later.
func (s *supervisor) keepImages(paths []string) error {
	for _, path := range paths {
		s.mu.Lock()
		kept := s.place.path("images", fmt.Sprintf("%02d-%s", len(s.images), filepath.Base(path)))
		s.mu.Unlock()
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("image: %w", err)
		}
		if err := writeFile(kept, data); err != nil {
			return fmt.Errorf("image %s: %w", path, err)
		}
		s.mu.Lock()
		s.images = append(s.images, kept)
		s.mu.Unlock()
	}
	return nil
}

// importAll loads into a node the images that it has not got yet.
func (s *supervisor) importAll(ctx context.Context, h Host) error {
	s.mu.Lock()
	images := slices.Clone(s.images)
	done := s.imported[h.Name]
	if done == nil {
		done = map[string]bool{}
		s.imported[h.Name] = done
	}
	s.mu.Unlock()
	ns, err := s.inHost(h.Name)
	if err != nil {
		return err
	}
	defer namespace.Close(ns)
	for _, file := range images {
		if done[file] {
			continue
		}
		if _, err := runIn(ctx, ns, "", importCommand(s.Programs, file)...); err != nil {
			return fmt.Errorf("node %s: import image %s: %w", h.Name, strings.TrimLeft(filepath.Base(file), "0123456789-"), err)
		}
		done[file] = true
	}
	return nil
}
