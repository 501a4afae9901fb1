package ctl

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/report"
)

// part is something of a cluster that can be read by itself.
type part struct {
	name string
	read func(ctx context.Context, r *reader) error
}

// reader fills in a Snapshot. Parts write fields of their own, so that they can be read at once.
type reader struct {
	*apiClient
	connection
	out *report.Snapshot
}

// want is what a command reads: it fails without the parts that it needs, and does with what can be had of the others.
type want struct {
	needed, useful []part
}

// snapshot reads what is wanted.
func (a *app) snapshot(ctx context.Context, w want) (*report.Snapshot, *apiClient, error) {
	client, _, err := a.client()
	if err != nil {
		return nil, nil, err
	}
	r := &reader{apiClient: client, connection: a.connection, out: &report.Snapshot{Now: a.Now(), Namespace: a.herald}}
	if err := r.installation(ctx); err != nil {
		return nil, nil, err
	}
	all := slices.Concat(w.needed, w.useful)
	errs := make([]error, len(all))
	var reading errgroup.Group
	for i, p := range all {
		reading.Go(func() error {
			errs[i] = p.read(ctx, r)
			return nil
		})
	}
	_ = reading.Wait() // the errors are each part's
	for i, err := range errs {
		if err == nil {
			continue
		}
		clear := clarify("read "+all[i].name, err)
		if i < len(w.needed) {
			return nil, nil, clear
		}
		r.out.Unread = append(r.out.Unread, report.Unread{What: all[i].name, Why: clear.Error(), NoKind: ofHerald(err)})
	}
	return r.out, client, nil
}

// installation reads Herald's own workloads, which tell how it is set up. Who may not see them, or has none, goes on with
// the defaults. An API server that does not answer is an error.
func (r *reader) installation(ctx context.Context) error {
	d, err := r.AppsV1().Deployments(r.herald).Get(ctx, controllerName, metav1.GetOptions{})
	switch {
	case err == nil:
		r.out.Deployment = d
		r.out.Class = report.Setting(d.Spec.Template.Spec, "lb-class", "")
		if r.source == "" {
			r.source = report.Setting(d.Spec.Template.Spec, "config-source", kube.ConfigFromCRD)
			r.configMap = report.Setting(d.Spec.Template.Spec, "config-map", r.configMap)
		}
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		r.out.Unread = append(r.out.Unread, report.Unread{What: "the controller's Deployment", Why: clarify("read it", err).Error()})
	default:
		return clarify("read Deployment "+r.herald+"/"+controllerName, err)
	}
	r.out.FromConfigMap = r.source == kube.ConfigFromConfigMap
	switch r.source {
	case "", kube.ConfigFromCRD, kube.ConfigFromConfigMap:
		return nil
	}
	return usageError{fmt.Errorf("--config-source=%s: write %s or %s", r.source, kube.ConfigFromCRD, kube.ConfigFromConfigMap)}
}

// The names of what the manifests install, and the labels of its pods.
const (
	controllerName = "herald-controller"
	speakerName    = "herald-speaker"
	heraldPods     = "app.kubernetes.io/name=herald"
)

var everywhere = metav1.NamespaceAll

// pageSize bounds one answer of the API server.
const pageSize = 500

// objects reads all objects of a resource of Herald's group.
func objects[L runtime.Object](ctx context.Context, r *reader, resource string, into L) error {
	err := r.Herald.Get().Resource(resource).Do(ctx).Into(into)
	if apierrors.IsNotFound(err) {
		return unknownKind(resource)
	}
	return err
}

// pages reads a list of Kubernetes' own objects in pages.
func pages[L interface{ GetContinue() string }](ctx context.Context, list func(context.Context, metav1.ListOptions) (L, error), o metav1.ListOptions, take func(L)) error {
	o.Limit = pageSize
	for {
		page, err := list(ctx, o)
		if apierrors.IsResourceExpired(err) && o.Continue != "" {
			return errors.New("the list changed too fast to be read: try again")
		}
		if err != nil {
			return err
		}
		take(page)
		if o.Continue = page.GetContinue(); o.Continue == "" {
			return nil
		}
	}
}

// ofHerald tells whether an error is that of unknownKind.
func ofHerald(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsNotFound(err) {
		return false
	}
	d := status.Status().Details
	return d != nil && d.Group == v1beta1.GroupVersion.Group && d.Name == ""
}

// unknownKind is the error of an API server without a kind of Herald's. What it answers itself names no group.
func unknownKind(resource string) error {
	return apierrors.NewNotFound(groupResource(resource), "")
}
