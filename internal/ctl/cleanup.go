package ctl

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/announce"
	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/report"
)

// cleanupPoll is how often cleanup looks whether Herald's pods are gone.
const cleanupPoll = 500 * time.Millisecond

func (a *app) cleanup() *cobra.Command {
	var dryRun bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Take away what an uninstalled Herald left on Services and Nodes",
		Long: `Take away what Herald wrote on objects that are not its own, once it is uninstalled: the addresses of Services, its conditions
and its annotation on them, what drain and move wrote on Nodes, and its events. What kubectl delete takes away is gone already, or may go
later: cleanup needs nothing of Herald in the cluster, and may be repeated. It waits until Herald's last pod is gone, which would write it all
again. Annotations with which Services ask something of Herald are their owners' and stay.`,
		Example: "heraldctl cleanup --dry-run",
		Args:    takes("", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, _, err := a.client()
			if err != nil {
				return err
			}
			c := cleaner{apiClient: client, now: a.Now(), dryRun: dryRun}
			if !dryRun {
				if err := c.alone(cmd.Context(), timeout); err != nil {
					return err
				}
			}
			for _, clean := range []func(context.Context) error{c.services, c.nodes, c.events} {
				if err := clean(cmd.Context()); err != nil {
					return err
				}
			}
			for _, line := range c.done {
				fmt.Fprintln(a.Out, line)
			}
			verb := "cleaned"
			if dryRun {
				verb = "would clean"
			}
			_, err = fmt.Fprintf(a.Out, "%s %s, %s, %s\n", verb, report.Count(c.counts[0], "Service"), report.Count(c.counts[1], "Node"), report.Count(c.counts[2], "Event"))
			return err
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only tell what would be taken away, whether Herald runs or not")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait for the end of Herald's pods")
	return cmd
}

// cleaner takes away what Herald left.
type cleaner struct {
	*apiClient
	now    time.Time
	dryRun bool
	done   []string
	counts [3]int // of Services, Nodes, Events
}

// alone waits until none of Herald's pods is left, in whichever namespace.
func (c *cleaner) alone(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		list, err := c.CoreV1().Pods(everywhere).List(context.WithoutCancel(ctx), metav1.ListOptions{LabelSelector: heraldPods})
		if err != nil {
			return clarify("read Herald's pods", err)
		}
		if len(list.Items) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			p := list.Items[0]
			return fmt.Errorf("after %s pod %s/%s is still there, one of %d of Herald's, and would write again what is taken away: uninstall Herald first (kubectl delete --ignore-not-found -f manifests/herald.yaml, or helm uninstall)",
				timeout, p.Namespace, p.Name, len(list.Items))
		case <-time.After(cleanupPoll):
		}
	}
}

// cleanTries bounds how often the cleaning of a Service is tried that somebody else changes meanwhile.
const cleanTries = 5

func (c *cleaner) services(ctx context.Context) error {
	var all []corev1.Service
	// Of every type: Herald may have been gone when a Service changed it.
	err := pages(ctx, c.CoreV1().Services(everywhere).List, metav1.ListOptions{}, func(l *corev1.ServiceList) { all = append(all, l.Items...) })
	if err != nil {
		return clarify("read Services", err)
	}
	for i := range all {
		if err := c.service(ctx, &all[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *cleaner) service(ctx context.Context, svc *corev1.Service) error {
	key := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
	for try := 1; ; try++ {
		patch, err := kube.ServicePatch(svc, kube.ServiceStatus{OthersIngress: !kube.WroteIngress(svc)}, c.now)
		if err != nil || patch == nil {
			return err
		}
		line := "Service " + key.String()
		if kube.WroteIngress(svc) {
			var had []string
			for _, in := range svc.Status.LoadBalancer.Ingress {
				had = append(had, in.IP)
			}
			line += ", which had " + strings.Join(had, " and ")
		}
		if !c.dryRun {
			_, err = c.PatchService(ctx, key, patch)
		}
		switch {
		case err == nil:
			c.done = append(c.done, line)
			c.counts[0]++
			return nil
		case apierrors.IsNotFound(err):
			return nil
		case !apierrors.IsConflict(err) || try == cleanTries:
			return clarify("clean Service "+key.String(), err)
		}
		if svc, err = c.CoreV1().Services(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			return nil
		} else if err != nil {
			return clarify("read Service "+key.String(), err)
		}
	}
}

func (c *cleaner) nodes(ctx context.Context) error {
	marks := map[string][]string{} // by node
	err := pages(ctx, c.CoreV1().Nodes().List, metav1.ListOptions{}, func(l *corev1.NodeList) {
		for _, n := range l.Items {
			for _, mark := range []string{announce.AnnotationDrain, announce.AnnotationMove} {
				if _, ok := n.Annotations[mark]; ok {
					marks[n.Name] = append(marks[n.Name], mark)
				}
			}
		}
	})
	if err != nil {
		return clarify("read Nodes", err)
	}
	for _, name := range slices.Sorted(maps.Keys(marks)) {
		for _, mark := range marks[name] {
			if c.dryRun {
				continue
			}
			if err := annotate(ctx, c.apiClient, name, mark, nil); err != nil {
				return err
			}
		}
		c.done = append(c.done, "Node "+name+", which had "+strings.Join(marks[name], " and "))
		c.counts[1]++
	}
	return nil
}

func (c *cleaner) events(ctx context.Context) error {
	var told []eventsv1.Event
	err := pages(ctx, c.EventsV1().Events(everywhere).List, metav1.ListOptions{}, func(l *eventsv1.EventList) {
		told = append(told, slices.DeleteFunc(l.Items, func(e eventsv1.Event) bool { return !report.Tells(&e) })...)
	})
	if err != nil {
		return clarify("read Events", err)
	}
	for _, e := range told {
		if !c.dryRun {
			err := c.EventsV1().Events(e.Namespace).Delete(ctx, e.Name, metav1.DeleteOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				return clarify("delete Event "+e.Namespace+"/"+e.Name, err)
			}
		}
		c.counts[2]++
	}
	return nil
}
