package e2etest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// witness sees every version of the Services with a label that the API server shows, and holds against Herald an
// address that a Service loses and one that a second Service gets, be it only for a moment. None of them may be deleted
// or share while it looks.
type witness struct {
	selector string
	changed  chan struct{} // holds something after every version

	mu     sync.Mutex
	shown  map[string][]netip.Addr // by Service, what it had when it was seen last
	holder map[netip.Addr]string   // whoever was seen with an address
	faults []string
}

// watch begins to look, until the test is over.
func watch(t *testing.T, selector string) *witness {
	t.Helper()
	w := &witness{selector: selector, changed: make(chan struct{}, 1), shown: map[string][]netip.Addr{}, holder: map[netip.Addr]string{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return w
}

// run lists and watches, again whenever the watch ends, as it does with the API server: while that is away nothing can
// change.
func (w *witness) run(ctx context.Context) {
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for ctx.Err() == nil {
		w.follow(ctx)
		select {
		case <-ctx.Done():
		case <-again.C:
		}
	}
}

// follow returns when there is nothing more to be seen on one watch.
func (w *witness) follow(ctx context.Context) {
	services := kube.CoreV1().Services(metav1.NamespaceAll)
	list, err := services.List(ctx, metav1.ListOptions{LabelSelector: w.selector})
	if err != nil {
		return
	}
	for i := range list.Items {
		w.see(&list.Items[i])
	}
	events, err := services.Watch(ctx, metav1.ListOptions{LabelSelector: w.selector, ResourceVersion: list.ResourceVersion})
	if err != nil {
		return
	}
	defer events.Stop()
	for e := range events.ResultChan() {
		if svc, ok := e.Object.(*corev1.Service); ok {
			w.see(svc)
		}
	}
}

// see takes in one version of a Service.
func (w *witness) see(svc *corev1.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := addresses(svc)
	for _, a := range w.shown[svc.Name] {
		if !slices.Contains(now, a) {
			w.faults = append(w.faults, fmt.Sprintf("%s had %v and has %v", svc.Name, a, now))
		}
	}
	for _, a := range now {
		if other, held := w.holder[a]; held && other != svc.Name {
			w.faults = append(w.faults, fmt.Sprintf("%s was given %v, which %s was given", svc.Name, a, other))
		}
		w.holder[a] = svc.Name
	}
	w.shown[svc.Name] = now
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// served waits until n Services have been seen with an address of each family, and returns how many have.
func (w *witness) served(t *testing.T, n int, patience time.Duration) int {
	t.Helper()
	deadline := time.After(patience)
	for {
		if have := w.count(); have >= n {
			return have
		}
		select {
		case <-w.changed:
		case <-deadline:
			t.Fatalf("%d Services have both addresses after %v, want %d", w.count(), patience, n)
		}
	}
}

func (w *witness) count() (served int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.shown {
		if len(a) == 2 {
			served++
		}
	}
	return served
}

// verdict fails the test with what was held against Herald.
func (w *witness) verdict(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, fault := range w.faults {
		if i == 10 {
			t.Errorf("and %d more", len(w.faults)-i)
			return
		}
		t.Error(fault)
	}
}
