// Package install puts Herald and what the suites and the demo need into a lab, in the way a user does: images,
// then one manifest. It waits for what it started and decides nothing about tests.
package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"heraldlb.io/herald/e2etest/lab"
)

// Namespace is where the manifest installs Herald.
const Namespace = "herald-system"

// The names of the workloads that the manifest installs.
const (
	Controller = "herald-controller"
	Speaker    = "herald-speaker"
)

// Root returns the directory of the checkout: the nearest one, from the working directory upwards, that holds the
// rendered manifest.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "manifests", "herald.yaml")); err == nil {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("%s is not inside a checkout of Herald: no manifests/herald.yaml in it or above", dir)
		}
	}
}

// Images returns the archives of this machine's architecture that `make images-host` left below root.
func Images(root string) ([]string, error) {
	pattern := filepath.Join(root, "dist", "images", "herald-*-"+runtime.GOARCH+".tar")
	paths, err := filepath.Glob(pattern)
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("no images %s: run make images-host", pattern)
	}
	return paths, err
}

// Herald applies the rendered manifest and waits until the controller and a speaker on every node are ready.
func Herald(ctx context.Context, l *lab.Lab, kube kubernetes.Interface, root string) error {
	manifest, err := os.ReadFile(filepath.Join(root, "manifests", "herald.yaml"))
	if err != nil {
		return err
	}
	if err := l.Apply(ctx, manifest); err != nil {
		return err
	}
	return Ready(ctx, kube, len(l.Nodes()))
}

// Ready waits until the controller and as many speakers as there are nodes are ready, all of them of the newest
// generation.
func Ready(ctx context.Context, kube kubernetes.Interface, nodes int) error {
	return Until(ctx, func() error {
		return errors.Join(DeploymentReady(ctx, kube, Namespace, Controller), speakersReady(ctx, kube, nodes))
	})
}

func speakersReady(ctx context.Context, kube kubernetes.Interface, nodes int) error {
	ds, err := kube.AppsV1().DaemonSets(Namespace).Get(ctx, Speaker, metav1.GetOptions{})
	if err != nil {
		return err
	}
	s := ds.Status
	if s.ObservedGeneration < ds.Generation || int(s.DesiredNumberScheduled) != nodes || int(s.UpdatedNumberScheduled) != nodes || int(s.NumberReady) != nodes {
		return fmt.Errorf("daemonset %s/%s: %d of %d ready", Namespace, Speaker, s.NumberReady, nodes)
	}
	return nil
}

// DeploymentReady tells in its error what a Deployment still lacks.
func DeploymentReady(ctx context.Context, kube kubernetes.Interface, namespace, name string) error {
	d, err := kube.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	return deploymentReady(d)
}

func deploymentReady(d *appsv1.Deployment) error {
	want := *d.Spec.Replicas
	s := d.Status
	if s.ObservedGeneration < d.Generation || s.UpdatedReplicas != want || s.ReadyReplicas != want || s.Replicas != want {
		return fmt.Errorf("deployment %s/%s: %d of %d ready, %d in all", d.Namespace, d.Name, s.ReadyReplicas, want, s.Replicas)
	}
	return nil
}

// Until is UntilEvery 50 ms.
func Until(ctx context.Context, f func() error) error {
	return UntilEvery(ctx, 50*time.Millisecond, f)
}

// UntilEvery calls f again and again until it returns nil or ctx ends; the error then says what f lacked last.
func UntilEvery(ctx context.Context, every time.Duration, f func() error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	lacked := errors.New("not tried")
	for {
		err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil { // else f may only say that its time is over
			lacked = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), lacked)
		case <-tick.C:
		}
	}
}
