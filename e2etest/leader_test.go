package e2etest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/e2etest/install"
)

// crowdLabel is on the Services of a crowd.
const crowdLabel = "herald-e2e"

// crowd makes n dual-stack Services that ask for the pool of the crowd's name. They have no endpoints, no node ports and nobody to announce them: this is about their addresses alone.
func crowd(t *testing.T, name string, from, n int) {
	t.Helper()
	nodePorts := false
	making, ctx := errgroup.WithContext(t.Context())
	making.SetLimit(16)
	for i := range n {
		svc := balanced(fmt.Sprintf("%s-%03d", name, from+i), annotated("heraldlb.io/address-pool", name),
			families(corev1.IPFamilyPolicyRequireDualStack, corev1.IPv4Protocol, corev1.IPv6Protocol))
		svc.Labels = map[string]string{crowdLabel: name}
		svc.Spec.Selector, svc.Spec.AllocateLoadBalancerNodePorts = nil, &nodePorts
		making.Go(func() error {
			_, err := kube.CoreV1().Services(svc.Namespace).Create(ctx, svc, metav1.CreateOptions{})
			return err
		})
	}
	if err := making.Wait(); err != nil {
		t.Fatal(err)
	}
}

// disperse deletes a crowd, many at once: the API server deletes a collection one after the other.
func disperse(t *testing.T, name string) {
	t.Helper()
	services := kube.CoreV1().Services(metav1.NamespaceDefault)
	list, err := services.List(context.Background(), metav1.ListOptions{LabelSelector: crowdLabel + "=" + name})
	if err != nil {
		t.Error(err)
		return
	}
	var deleting errgroup.Group
	deleting.SetLimit(16)
	for _, svc := range list.Items {
		deleting.Go(func() error { return services.Delete(context.Background(), svc.Name, metav1.DeleteOptions{}) })
	}
	if err := deleting.Wait(); err != nil {
		t.Error(err)
	}
}

// leader returns the identity in the controllers' Lease and the pod that it is of.
func leader(ctx context.Context) (identity string, pod *corev1.Pod, err error) {
	lease, err := kube.CoordinationV1().Leases(install.Namespace).Get(ctx, install.Controller, metav1.GetOptions{})
	if err != nil {
		return "", nil, err
	}
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		return "", nil, errors.New("no controller leads")
	}
	identity = *lease.Spec.HolderIdentity
	name, _, _ := strings.Cut(identity, "_")
	pod, err = kube.CoreV1().Pods(install.Namespace).Get(ctx, name, metav1.GetOptions{})
	return identity, pod, err
}

// processOf returns the process of a pod's only container, as this machine numbers it.
func processOf(pod *corev1.Pod) (pid int, err error) {
	if len(pod.Status.ContainerStatuses) != 1 {
		return 0, fmt.Errorf("pod %s has %d containers, want one", pod.Name, len(pod.Status.ContainerStatuses))
	}
	_, id, _ := strings.Cut(pod.Status.ContainerStatuses[0].ContainerID, "://")
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, file := range files {
		group, err := os.ReadFile(file)
		if err == nil && id != "" && strings.Contains(string(group), id) {
			return strconv.Atoi(filepath.Base(filepath.Dir(file)))
		}
	}
	return 0, errors.Join(err, fmt.Errorf("no process is in the control group of container %s of pod %s", id, pod.Name))
}

// Whatever happens to the controllers and to the API server, an address that was shown once stays, and nobody else gets
// it.
func TestNoAddressChangesAndNoneIsGivenTwiceWhileLeadersAndServersComeAndGo(t *testing.T) {
	const name, waiting, more = "crowd", 500, 25
	within(t, time.Minute, func(ctx context.Context) error {
		return install.DeploymentReady(ctx, kube, install.Namespace, install.Controller)
	})
	pool := func(drain bool) []byte {
		return poolWith(name, fmt.Sprintf(`addresses: ["10.99.0.0/22", "2001:db8:99::/112"], drain: %v`, drain))
	}
	apply(t, pool(true))
	seen := watch(t, crowdLabel+"="+name)
	t.Cleanup(func() { disperse(t, name) })
	start := time.Now()
	crowd(t, name, 0, waiting)
	t.Logf("%d Services made in %v", waiting, time.Since(start))

	// They all wait for the pool to be opened. The leader dies when it has served some of them.
	var first string
	var pid int
	within(t, 20*time.Second, func(ctx context.Context) error {
		identity, pod, err := leader(ctx)
		if err == nil {
			first = identity
			pid, err = processOf(pod)
		}
		return err
	})
	change(t, pool(false))
	seen.served(t, waiting/10, 20*time.Second)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	// What the leader wrote last may still be on its way here; then nothing happens until another one leads.
	var before int
	within(t, 30*time.Second, func(ctx context.Context) error {
		before = seen.count()
		identity, _, err := leader(ctx)
		if err == nil && identity == first {
			err = fmt.Errorf("the Lease is still held by %s, which was killed", first)
		}
		return err
	})
	leads := time.Since(killed)
	if before >= waiting {
		t.Fatalf("the leader had served all %d when it died: this shows nothing", before)
	}
	seen.served(t, before+1, 20*time.Second)
	goesOn := time.Since(killed)
	seen.served(t, waiting, 20*time.Second)
	t.Logf("the leader was killed when it had served %d of %d; another one led after %v, served the next after %v and all after %v",
		before, waiting, leads, goesOn, time.Since(killed))

	restarted := time.Now()
	crowd(t, name, waiting, more)
	restartController(t)
	crowd(t, name, waiting+more, more)
	seen.served(t, waiting+2*more, 30*time.Second)
	t.Logf("both controllers were replaced, and %d more Services served, in %v", 2*more, time.Since(restarted))

	stopAPIServer(t)()
	back := time.Now()
	crowd(t, name, waiting+2*more, more)
	seen.served(t, waiting+3*more, 30*time.Second)
	t.Logf("%d Services made when the API server was back were served %v later", more, time.Since(back))
	seen.verdict(t)
}
