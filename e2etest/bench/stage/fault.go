package stage

import (
	"context"
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
)

// Fault is a way to lose a node, and how to get it back.
type Fault struct {
	Name       string
	Take, Give func(l *lab.Lab, ctx context.Context, node string) error
	Kills      bool // the node's processes too
}

// Faults are the ways.
var Faults = []Fault{
	{Name: "link-cut", Take: (*lab.Lab).Cut, Give: (*lab.Lab).Heal},
	{Name: "node-killed", Take: (*lab.Lab).Kill, Give: (*lab.Lab).Start, Kills: true},
}

// Ready waits until all nodes are Ready, and all speakers.
func (s *Stage) Ready(b *testing.B) {
	b.Helper()
	Until(b, func(ctx context.Context) error {
		list, err := s.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
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
	Until(b, func(ctx context.Context) error { return install.Ready(ctx, s.Kube, len(s.Nodes())) })
}

// Renew deletes a node's speaker pod, and returns when it is gone; the next one may not be ready yet. The kubelet waits longer and longer
// before it starts a container again that was killed, and not for one of a new pod.
func (s *Stage) Renew(b *testing.B, node string) {
	b.Helper()
	pods := s.Kube.CoreV1().Pods(install.Namespace)
	list, err := pods.List(b.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=speaker", FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range list.Items {
		if err := pods.Delete(b.Context(), p.Name, metav1.DeleteOptions{}); err != nil {
			b.Fatal(err)
		}
		Until(b, func(ctx context.Context) error {
			_, err := pods.Get(ctx, p.Name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return errors.Join(fmt.Errorf("pod %s is still there", p.Name), err)
		})
	}
}
