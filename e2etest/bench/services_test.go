package bench

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/internal/kube"
)

const (
	pool      = "bench"
	namespace = "default"
	// writers is how many requests are under way at once, as in the controller.
	writers = 16
	// patience bounds every wait.
	patience = 5 * time.Minute
)

// services are the Services of a benchmark, and how many of them have an address.
type services struct {
	informer cache.SharedIndexInformer

	mu        sync.Mutex
	addressed map[string]bool
	changed   chan struct{} // holds something when addressed has changed
}

// populate makes the pool and n Services, and removes them when the benchmark is over.
func populate(b *testing.B, n int, shape func(i int) *corev1.Service) *services {
	b.Helper()
	manifest := fmt.Sprintf("apiVersion: heraldlb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: %s}\nspec: {addresses: [198.18.0.0/16]}\n", pool)
	if err := cluster.Apply(b.Context(), []byte(manifest)); err != nil {
		b.Fatal(err)
	}
	s := &services{informer: client.Services(), addressed: map[string]bool{}, changed: make(chan struct{}, 1)}
	_, err := s.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { s.see(obj.(*corev1.Service), true) },
		UpdateFunc: func(_, obj any) { s.see(obj.(*corev1.Service), true) },
		DeleteFunc: func(obj any) {
			if svc, ok := obj.(*corev1.Service); ok {
				s.see(svc, false)
			}
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	b.Cleanup(func() { s.remove(b); stop() })
	if err := kube.Run(ctx, s.informer); err != nil {
		b.Fatal(err)
	}
	var all []*corev1.Service
	for i := range n {
		all = append(all, shape(i))
	}
	s.each(b, all, func(ctx context.Context, _ int, svc *corev1.Service) error {
		_, err := kubernetes.CoreV1().Services(namespace).Create(ctx, svc, metav1.CreateOptions{})
		return err
	})
	s.until(b, func() bool { return len(s.informer.GetStore().ListKeys()) == n })
	return s
}

func (s *services) create(b *testing.B, svc *corev1.Service) {
	b.Helper()
	if _, err := kubernetes.CoreV1().Services(namespace).Create(b.Context(), svc, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
}

func (s *services) remove(b *testing.B) {
	s.each(b, s.list(), func(ctx context.Context, _ int, svc *corev1.Service) error {
		return kubernetes.CoreV1().Services(namespace).Delete(ctx, svc.Name, metav1.DeleteOptions{})
	})
	s.until(b, func() bool { return len(s.informer.GetStore().ListKeys()) == 0 })
}

// list returns the Services by name.
func (s *services) list() []*corev1.Service {
	var all []*corev1.Service
	for _, obj := range s.informer.GetStore().List() {
		all = append(all, obj.(*corev1.Service))
	}
	slices.SortFunc(all, func(x, y *corev1.Service) int { return cmp.Compare(x.Name, y.Name) })
	return all
}

// see takes in a Service as the API server shows it.
func (s *services) see(svc *corev1.Service, exists bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if exists && len(svc.Status.LoadBalancer.Ingress) > 0 {
		s.addressed[svc.Name] = true
	} else {
		delete(s.addressed, svc.Name)
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// await waits until n Services have an address.
func (s *services) await(b *testing.B, n int) {
	b.Helper()
	s.until(b, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.addressed) == n
	})
}

func (s *services) until(b *testing.B, done func() bool) {
	b.Helper()
	timeout := time.After(patience)
	for !done() {
		select {
		case <-s.changed:
		case <-timeout:
			b.Fatalf("%d Services have an address, which is not the number waited for", len(s.addressed))
		}
	}
}

// each calls f for Services, for as many at a time as the controller writes.
func (s *services) each(b *testing.B, all []*corev1.Service, f func(ctx context.Context, i int, svc *corev1.Service) error) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(writers)
	for i, svc := range all {
		g.Go(func() error { return f(ctx, i, svc) })
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}

// process is a running controller.
type process struct {
	cmd *exec.Cmd
	out *strings.Builder
}

// usage is what a process has cost.
type usage struct {
	cpu    time.Duration
	memory float64 // bytes, at most
}

// start runs a controller on the control plane host.
func start(b *testing.B) *process {
	b.Helper()
	p := &process{cmd: cluster.Command(context.Background(), lab.CP, controller, "--kubeconfig="+cluster.Kubeconfig(), "--namespace="+namespace, "--log-level=warn"), out: &strings.Builder{}}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
			fmt.Fprint(os.Stderr, p.out)
		}
	})
	return p
}

func (p *process) stop(b *testing.B) usage {
	b.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		b.Fatalf("controller: %v: %s", err, p.out)
	}
	u := usage{cpu: p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()}
	if r, ok := p.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.memory = float64(r.Maxrss) * 1024
	}
	return u
}
