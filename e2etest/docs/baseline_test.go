package docs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"heraldlb.io/herald/e2etest/install"
)

// kinds are what pages make, those first that keep others from going.
var kinds = []schema.GroupVersionResource{
	{Version: "v1", Resource: "services"},
	{Group: "apps", Version: "v1", Resource: "deployments"},
	{Version: "v1", Resource: "namespaces"},
	{Version: "v1", Resource: "secrets"},
	{Version: "v1", Resource: "configmaps"},
	{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterrolebindings"},
	{Group: "heraldlb.io", Version: "v1beta1", Resource: "l2advertisements"},
	{Group: "heraldlb.io", Version: "v1beta1", Resource: "bgpadvertisements"},
	{Group: "heraldlb.io", Version: "v1beta1", Resource: "bgppeers"},
	{Group: "heraldlb.io", Version: "v1beta1", Resource: "bfdprofiles"},
	{Group: "heraldlb.io", Version: "v1beta1", Resource: "communities"},
	{Group: "heraldlb.io", Version: "v1beta1", Resource: "ipaddresspools"},
}

// baseline is the cluster with Herald and nothing else.
type baseline struct {
	kube    kubernetes.Interface
	objects dynamic.Interface
	had     map[string]bool
	nodes   map[string]metav1.ObjectMeta
	speaker appsv1.DaemonSetSpec
	control appsv1.DeploymentSpec
}

// tidy has the cluster be as it was before the first page but for Herald, which it installs where it is not there.
func (d *desk) tidy(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if d.clean != nil {
		if err := d.clean.restore(ctx); err != nil {
			t.Fatalf("tidy up after the page before: %v", err)
		}
		return
	}
	cfg, err := d.lab.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	b := &baseline{had: map[string]bool{}, nodes: map[string]metav1.ObjectMeta{}}
	if b.kube, err = kubernetes.NewForConfig(cfg); err != nil {
		t.Fatal(err)
	}
	if b.objects, err = dynamic.NewForConfig(cfg); err != nil {
		t.Fatal(err)
	}
	if err := install.Herald(ctx, d.lab, b.kube, d.root); err != nil {
		t.Fatal(err)
	}
	if err := b.remember(ctx); err != nil {
		t.Fatal(err)
	}
	d.clean = b
}

// remember takes note of what is there. What the page before made is not among it: only the namespaces and the Service that
// every cluster has, and Herald's.
func (b *baseline) remember(ctx context.Context) error {
	err := b.each(ctx, func(_ schema.GroupVersionResource, key string, _ metav1.Object) error {
		ours := strings.HasPrefix(key, "services default/kubernetes") || !strings.Contains(key, " default/") && !strings.Contains(key, ".heraldlb.io ")
		b.had[key] = ours
		return nil
	})
	if err != nil {
		return err
	}
	nodes, err := b.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range nodes.Items {
		maps.DeleteFunc(n.Annotations, func(name, _ string) bool { return strings.HasPrefix(name, "heraldlb.io/") }) // a drain
		b.nodes[n.Name] = n.ObjectMeta
	}
	ds, err := b.kube.AppsV1().DaemonSets(install.Namespace).Get(ctx, install.Speaker, metav1.GetOptions{})
	if err != nil {
		return err
	}
	deployment, err := b.kube.AppsV1().Deployments(install.Namespace).Get(ctx, install.Controller, metav1.GetOptions{})
	if err != nil {
		return err
	}
	b.speaker, b.control = ds.Spec, deployment.Spec
	return b.restore(ctx)
}

// each calls f for every object of the kinds that pages make. A key reads "services default/web".
func (b *baseline) each(ctx context.Context, f func(schema.GroupVersionResource, string, metav1.Object) error) error {
	for _, kind := range kinds {
		list, err := b.objects.Resource(kind).List(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("list %s: %w", kind.Resource, err)
		}
		for i := range list.Items {
			o := &list.Items[i]
			if err := f(kind, fmt.Sprintf("%s %s/%s", kind.GroupResource(), o.GetNamespace(), o.GetName()), o); err != nil {
				return err
			}
		}
	}
	return nil
}

// restore deletes what pages made, and gives nodes and Herald's workloads back what they had.
func (b *baseline) restore(ctx context.Context) error {
	err := install.Until(ctx, func() error {
		var left []error
		err := b.each(ctx, func(kind schema.GroupVersionResource, key string, o metav1.Object) error {
			if b.had[key] || kept(key) {
				return nil
			}
			left = append(left, fmt.Errorf("%s is still there", key))
			if err := b.objects.Resource(kind).Namespace(o.GetNamespace()).Delete(ctx, o.GetName(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				left = append(left, err) // a pool, until its status says that nobody has its addresses
			}
			return nil
		})
		return errors.Join(append(left, err)...)
	})
	if err != nil {
		return err
	}
	if err := b.restoreNodes(ctx); err != nil {
		return err
	}
	return b.restoreWorkloads(ctx)
}

// kept tells of what others make by themselves at any time.
func kept(key string) bool { return strings.HasSuffix(key, "/kube-root-ca.crt") }

func (b *baseline) restoreNodes(ctx context.Context) error {
	return install.Until(ctx, func() error {
		nodes, err := b.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		var failed []error
		for i := range nodes.Items {
			n := &nodes.Items[i]
			before := b.nodes[n.Name]
			if !n.Spec.Unschedulable && equality.Semantic.DeepEqual(n.Labels, before.Labels) && equality.Semantic.DeepEqual(n.Annotations, before.Annotations) {
				continue
			}
			n.Spec.Unschedulable, n.Labels, n.Annotations = false, before.Labels, before.Annotations
			_, err := b.kube.CoreV1().Nodes().Update(ctx, n, metav1.UpdateOptions{})
			failed = append(failed, err)
		}
		return errors.Join(failed...)
	})
}

func (b *baseline) restoreWorkloads(ctx context.Context) error {
	return install.Until(ctx, func() error {
		ds, err := b.kube.AppsV1().DaemonSets(install.Namespace).Get(ctx, install.Speaker, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !equality.Semantic.DeepEqual(ds.Spec, b.speaker) {
			ds.Spec = b.speaker
			if _, err := b.kube.AppsV1().DaemonSets(install.Namespace).Update(ctx, ds, metav1.UpdateOptions{}); err != nil {
				return err
			}
		}
		d, err := b.kube.AppsV1().Deployments(install.Namespace).Get(ctx, install.Controller, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !equality.Semantic.DeepEqual(d.Spec, b.control) {
			d.Spec = b.control
			if _, err := b.kube.AppsV1().Deployments(install.Namespace).Update(ctx, d, metav1.UpdateOptions{}); err != nil {
				return err
			}
		}
		return install.Ready(ctx, b.kube, len(b.nodes))
	})
}
