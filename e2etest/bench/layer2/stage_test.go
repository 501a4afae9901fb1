package layer2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
)

// patience bounds every wait for the cluster.
const patience = 3 * time.Minute

// The pools of a stage: addresses of the LAN's own subnets, such as two nodes are preferred for, and of one that the client reaches on the link all the same,
// which has room for thousands.
const (
	lanPool  = "lan"
	dualPool = "dual"
	widePool = "wide"
	wide     = "198.18.0.0/16"
	pools    = `apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec: {addresses: [192.0.2.100-192.0.2.199]}
---
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: dual}
spec: {addresses: [192.0.2.200-192.0.2.209, "2001:db8:1::200-2001:db8:1::209"], autoAssign: false}
---
apiVersion: heraldlb.io/v1beta1
kind: L2Advertisement
metadata: {name: dual}
spec:
  ipAddressPools: [dual]
  preferredNodeSelectors:
  - {weight: 2, preference: {matchLabels: {kubernetes.io/hostname: n1}}}
  - {weight: 1, preference: {matchLabels: {kubernetes.io/hostname: n2}}}
---
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: wide}
spec: {addresses: [` + wide + `], autoAssign: false}
---
apiVersion: heraldlb.io/v1beta1
kind: L2Advertisement
metadata: {name: lan}
spec: {ipAddressPools: [lan]}
---
apiVersion: heraldlb.io/v1beta1
kind: L2Advertisement
metadata: {name: wide}
spec: {ipAddressPools: [wide], interfaces: [eth0]}
`
)

// stage is a lab with Herald in it. The application runs once, on a machine that is no node: what breaks when a node
// dies is then the way to it and not its endpoints, and no other node's connection tracking goes on sending to a pod
// that is gone.
type stage struct {
	*lab.Lab
	kube    kubernetes.Interface
	dir     string
	backend *exec.Cmd
	vrrp    *vrrp // nil until it is asked for
}

// newStage brings a lab up. What it returns is to be taken down also when there is an error.
func newStage(ctx context.Context, nodes int) (*stage, error) {
	root, err := install.Root()
	if err != nil {
		return nil, err
	}
	images, err := install.Images(root)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "herald-bench-")
	if err != nil {
		return nil, err
	}
	s := &stage{dir: dir}
	name := os.Getenv("HERALD_LAB")
	if name == "" {
		name = fmt.Sprintf("bench-%06x", rand.Uint32N(1<<24))
	}
	s.Lab, err = lab.Up(ctx, lab.Options{Name: name, Nodes: nodes, Owned: true, Images: images, Out: os.Stderr})
	if err != nil {
		return s, err
	}
	cfg, err := s.RESTConfig()
	if err != nil {
		return s, err
	}
	cfg.WarningHandler = rest.NoWarnings{} // external addresses are deprecated, and what keepalived is given
	if s.kube, err = kubernetes.NewForConfig(cfg); err != nil {
		return s, err
	}
	if err := install.Herald(ctx, s.Lab, s.kube, root); err != nil {
		return s, err
	}
	if err := s.current(ctx, root); err != nil {
		return s, err
	}
	if err := s.Apply(ctx, []byte(pools)); err != nil {
		return s, err
	}
	if err := run1(s.Command(ctx, lab.Client, "ip", "route", "add", wide, "dev", "eth0")); err != nil {
		return s, err
	}
	return s, s.startBackend(ctx, root)
}

// current fails when the images are not of the commit that is checked out: what they do would be held for what this one does.
func (s *stage) current(ctx context.Context, root string) error {
	git := exec.CommandContext(ctx, "git", "rev-parse", "HEAD")
	git.Dir = root
	head, err := git.Output()
	if err != nil {
		return fmt.Errorf("which commit is checked out in %s: %w", root, err)
	}
	m, err := s.metrics(ctx, s.Nodes()[0])
	if err != nil {
		return err
	}
	want := fmt.Sprintf("commit=%q", strings.TrimSpace(string(head)))
	for line := range m {
		if strings.HasPrefix(line, "herald_build_info{") && !strings.Contains(line, want) {
			return fmt.Errorf("the images in dist/images are of another commit than %s (%s): run make images-host", want, line)
		}
	}
	return nil
}

// startBackend runs the test application on the control plane host.
func (s *stage) startBackend(ctx context.Context, root string) error {
	program := filepath.Join(s.dir, "testapp")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./e2etest/app/testapp")
	build.Dir = root
	if err := run1(build); err != nil {
		return err
	}
	s.backend = s.Command(context.Background(), lab.CP, program)
	s.backend.Env = append(s.backend.Env, "NODE_NAME="+lab.CP, "POD_NAME="+lab.CP)
	if err := s.backend.Start(); err != nil {
		return fmt.Errorf("test application: %w", err)
	}
	return nil
}

// run1 runs a command to its end.
func run1(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

func (s *stage) down(ctx context.Context) error {
	var errs []error
	if s.vrrp != nil {
		s.vrrp.stop()
	}
	if s.backend != nil && s.backend.Process != nil {
		errs = append(errs, s.backend.Process.Kill())
		_ = s.backend.Wait() // it was killed
	}
	if s.Lab != nil {
		errs = append(errs, s.Lab.Down(ctx))
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// until waits for something, with patience, and fails the benchmark with what it lacked last.
func until(b *testing.B, f func(ctx context.Context) error) {
	b.Helper()
	untilEvery(b, 200*time.Millisecond, f)
}

func untilEvery(b *testing.B, every time.Duration, f func(ctx context.Context) error) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for lacked := f(ctx); lacked != nil; {
		select {
		case <-ctx.Done():
			b.Fatalf("after %s: %v", patience, lacked)
		case <-tick.C:
		}
		if err := f(ctx); err == nil || ctx.Err() == nil { // else it may only say that its time is over
			lacked = err
		}
	}
}

// settle waits until all nodes and their speakers are what they were before a fault: Ready, and members of one ring.
func (s *stage) settle(b *testing.B) {
	b.Helper()
	until(b, func(ctx context.Context) error {
		list, err := s.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, n := range list.Items {
			for _, c := range n.Status.Conditions {
				if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
					return fmt.Errorf("node %s is not Ready", n.Name)
				}
			}
		}
		return nil
	})
	until(b, func(ctx context.Context) error { return install.Ready(ctx, s.kube, len(s.Nodes())) })
	until(b, func(ctx context.Context) error {
		for _, n := range s.Nodes() {
			m, err := s.metrics(ctx, n)
			if err != nil {
				return err
			}
			if m["herald_gossip_members"] != float64(len(s.Nodes())) || m["herald_gossip_absences"] != 0 {
				return fmt.Errorf("the speaker of %s knows %v members, %v away", n, m["herald_gossip_members"], m["herald_gossip_absences"])
			}
		}
		return nil
	})
}

// metrics reads what a node's speaker counts, by name with its labels.
func (s *stage) metrics(ctx context.Context, node string) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	url := "http://" + netip.AddrPortFrom(s.Host(node).IPv4, 7481).String() + "/metrics"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DialContext: s.Dialer(lab.Client), DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("speaker of %s: %w", node, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("speaker of %s: %w", node, err)
	}
	return parseMetrics(string(body)), nil
}

// parseMetrics reads Prometheus' text format as far as it is needed: lines of a name and a number.
func parseMetrics(text string) map[string]float64 {
	m := map[string]float64{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		if i := strings.LastIndexByte(strings.TrimSpace(line), ' '); i > 0 {
			if v, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64); err == nil {
				m[line[:i]] = v
			}
		}
	}
	return m
}

// sum adds up a counter of all speakers, over all its labels.
func (s *stage) sum(b *testing.B, name string) (total float64) {
	b.Helper()
	until(b, func(ctx context.Context) error {
		total = 0
		for _, n := range s.Nodes() {
			m, err := s.metrics(ctx, n)
			if err != nil {
				return err
			}
			for line, v := range m {
				if line == name || strings.HasPrefix(line, name+"{") {
					total += v
				}
			}
		}
		return nil
	})
	return total
}
