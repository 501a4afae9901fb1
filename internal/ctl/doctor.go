package ctl

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/internal/report"
)

// all is everything of a cluster that Herald has to do with.
var all = []part{configuration, services, speakers, announcementSlices, nodes, pods, daemonSet, lease}

func (a *app) doctor() *cobra.Command {
	return a.printable(&cobra.Command{
		Use:     "doctor",
		Short:   "Look for what commonly goes wrong, and say what helps",
		Long:    "Look for what commonly goes wrong, and say what helps. Exits with 3 when something is found. What your user may not see is told as unknown.",
		Example: "heraldctl doctor",
		Args:    takes("", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks, _, err := a.diagnose(cmd.Context())
			if err != nil {
				return err
			}
			err = a.print(checks, func(w io.Writer) { a.checks(w, checks) })
			return cmp.Or(err, attention(slices.ContainsFunc(checks, func(c report.Check) bool { return len(c.Findings) > 0 })))
		},
	})
}

func (a *app) diagnose(ctx context.Context) ([]report.Check, *report.Snapshot, error) {
	var facts report.Facts
	extra := []part{
		{"the API server's version", func(ctx context.Context, r *reader) error { return readVersion(r.apiClient, &facts) }},
		{"the rights of Herald's programs", func(ctx context.Context, r *reader) error { return review(ctx, r, &facts) }},
		{"workloads of other load balancers", func(ctx context.Context, r *reader) error { return workloads(ctx, r.apiClient, &facts) }},
	}
	s, _, err := a.snapshot(ctx, want{useful: slices.Concat(all, extra)})
	if err != nil {
		return nil, nil, err
	}
	return report.Diagnose(s, facts), s, nil
}

func readVersion(c *apiClient, facts *report.Facts) error {
	v, err := c.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	facts.ServerVersion = v.GitVersion
	if v.Major == "1" {
		facts.ServerMinor, _ = strconv.Atoi(strings.TrimRight(v.Minor, "+")) // 0 is not known
	}
	return nil
}

// review asks what Herald's service accounts may do.
func review(ctx context.Context, r *reader, facts *report.Facts) error {
	rights := report.Rights()
	var asking errgroup.Group
	asking.SetLimit(8)
	for i := range rights {
		right := &rights[i]
		if r.out.FromConfigMap && right.Group == "heraldlb.io" {
			continue
		}
		asking.Go(func() error {
			resource, sub, _ := strings.Cut(right.Resource, "/")
			attributes := authorizationv1.ResourceAttributes{Verb: right.Verb, Group: right.Group, Resource: resource, Subresource: sub, Name: right.Name}
			if right.Own {
				attributes.Namespace = r.herald
			}
			answer, err := r.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
				User: "system:serviceaccount:" + r.herald + ":" + right.Account, ResourceAttributes: &attributes,
				Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + r.herald, "system:authenticated"},
			}}, metav1.CreateOptions{})
			if err == nil {
				right.Reviewed, right.Allowed = true, answer.Status.Allowed
			}
			return err
		})
	}
	err := asking.Wait()
	facts.Rights = rights
	return err
}

// workloads reads the Deployments and DaemonSets of all namespaces.
func workloads(ctx context.Context, c *apiClient, facts *report.Facts) error {
	add := func(kind string, m metav1.ObjectMeta, p corev1.PodSpec) {
		w := report.Workload{Kind: kind, Namespace: m.Namespace, Name: m.Name}
		for _, container := range p.Containers {
			w.Images = append(w.Images, container.Image)
		}
		facts.Workloads = append(facts.Workloads, w)
	}
	err := pages(ctx, c.AppsV1().Deployments(everywhere).List, metav1.ListOptions{}, func(l *appsv1.DeploymentList) {
		for _, d := range l.Items {
			add("Deployment", d.ObjectMeta, d.Spec.Template.Spec)
		}
	})
	if err != nil {
		return err
	}
	return pages(ctx, c.AppsV1().DaemonSets(everywhere).List, metav1.ListOptions{}, func(l *appsv1.DaemonSetList) {
		for _, d := range l.Items {
			add("DaemonSet", d.ObjectMeta, d.Spec.Template.Spec)
		}
	})
}

// checks prints a line for each check, and what was found below it.
func (a *app) checks(w io.Writer, checks []report.Check) {
	tones := map[string]report.Tone{report.VerdictOK: report.Good, report.VerdictWarning: report.Warn, report.VerdictFailed: report.Bad, report.VerdictUnknown: report.Warn}
	for _, c := range checks {
		fmt.Fprintf(w, "%s%s  %s\n", a.paint(c.Verdict, tones[c.Verdict]), strings.Repeat(" ", len(report.VerdictWarning)-len(c.Verdict)), c.Name)
		if c.Why != "" {
			fmt.Fprintf(w, "           %s\n", c.Why)
		}
		for _, f := range c.Findings {
			fmt.Fprintf(w, "           %s: %s (%s)\n", f.Object, f.Message, f.Reason)
			if f.Remedy != "" {
				fmt.Fprintf(w, "           -> %s\n", f.Remedy)
			}
		}
	}
}
