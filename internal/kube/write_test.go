package kube_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/kube/kubetest"
	"heraldlb.io/herald/internal/service"
)

func TestTheGossipSecretIsMadeOnceAndNeverChanged(t *testing.T) {
	api := kubetest.New(t)
	c := api.Client()
	created, err := c.EnsureGossipSecret(t.Context(), "herald-system")
	if err != nil || !created {
		t.Fatalf("created %v, %v", created, err)
	}
	first := string(api.Secret("herald-system", kube.GossipSecret).Data[kube.GossipSecretKey])
	if raw, err := base64.StdEncoding.DecodeString(first); err != nil || len(raw) != 32 {
		t.Errorf("the key %q is not 32 bytes in base64: %v", first, err)
	}
	created, err = c.EnsureGossipSecret(t.Context(), "herald-system")
	if err != nil || created {
		t.Errorf("the second time: created %v, %v", created, err)
	}
	if second := string(api.Secret("herald-system", kube.GossipSecret).Data[kube.GossipSecretKey]); second != first {
		t.Error("the key has changed")
	}
}

func TestTheGossipSecretIsTriedForUntilItExists(t *testing.T) {
	api := kubetest.New(t)
	var tries atomic.Int32
	api.Fault(func(r *http.Request) int {
		if r.Method == http.MethodPost && tries.Add(1) == 1 {
			return http.StatusForbidden
		}
		return 0
	})
	api.Client().ProvideGossipSecret(t.Context(), "herald-system", log.NewNopLogger())
	if api.Secret("herald-system", kube.GossipSecret) == nil {
		t.Error("there is no Secret")
	}
}

func TestEventsAreWrittenAlsoWhenTheProcessEnds(t *testing.T) {
	api := kubetest.New(t)
	events := kube.NewEvents(api.Client(), "controller", log.NewNopLogger(), prometheus.NewRegistry())
	about := func(name string) kube.Event {
		return kube.Event{
			Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: "web", Name: name},
			Type:      corev1.EventTypeNormal, Reason: "AddressAssigned", Action: "Assign", Note: strings.Repeat("x", 2000),
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); events.Run(ctx) }()
	events.Record(about("first"))
	kubetest.Eventually(t, "the first event is written", func() bool { return len(api.Events("first")) == 1 })
	if e := api.Events("first")[0]; e.Namespace != "web" || len(e.Note) != 1024 || e.ReportingController != "heraldlb.io/controller" || e.EventTime.IsZero() {
		t.Errorf("event %+v", e)
	}
	cancel()
	<-done

	// Recorded when nobody writes any more, it is written by the next Run, even one that is told to end.
	events.Record(about("last"))
	events.Run(ctx)
	if len(api.Events("last")) != 1 {
		t.Error("the event that waited at the end is lost")
	}
}

func TestAnEventOfAClusterScopedObjectIsInNamespaceDefault(t *testing.T) {
	api := kubetest.New(t)
	events := kube.NewEvents(api.Client(), "controller", log.NewNopLogger(), prometheus.NewRegistry())
	events.Record(kube.Event{Regarding: corev1.ObjectReference{Kind: "IPAddressPool", Name: "lan"}, Reason: "ConfigurationRejected"})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	events.Run(ended)
	if got := api.Events("lan"); len(got) != 1 || got[0].Namespace != "default" {
		t.Errorf("events %v", got)
	}
}

func TestACacheThatLagsIsWaitedFor(t *testing.T) {
	api := kubetest.New(t)
	balanced := func(name string) *corev1.Service {
		svc := &corev1.Service{}
		svc.Namespace, svc.Name = "web", name
		svc.Spec.Type = corev1.ServiceTypeLoadBalancer
		return svc
	}
	api.Create("services", balanced("a"))
	api.Create("services", balanced("deleted"))
	stray := balanced("stray")
	stray.Spec.Type = corev1.ServiceTypeClusterIP
	stray.Annotations = map[string]string{service.AnnotationPool: "lan"}
	api.Create("services", stray)

	c := api.Client()
	informer := c.Services()
	done := make(chan error, 1)
	var strays []*corev1.Service
	go func() {
		var err error
		strays, err = c.FreshServices(t.Context(), informer, service.Marked)
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("did not wait for a cache that shows nothing: %v", err)
	case <-listed(api, t):
	}
	// What is gone by now will never be shown; it must not be waited for.
	api.Delete("services", "web", "deleted")
	if err := kube.Run(t.Context(), informer); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(strays) != 1 || strays[0].Name != "stray" {
		t.Errorf("strays %v", strays)
	}
}

// listed is closed after the server has answered the list of all Services.
func listed(api *kubetest.API, t *testing.T) <-chan struct{} {
	ch := make(chan struct{})
	go func() {
		defer close(ch)
		kubetest.Eventually(t, "all Services are listed", func() bool { return api.Lists("services") > 0 })
	}()
	return ch
}
