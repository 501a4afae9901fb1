package lead_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-kit/log"
	"k8s.io/client-go/rest"

	"heraldlb.io/herald/internal/kube/kubetest"
	"heraldlb.io/herald/internal/lead"
)

func lease(identity string) lead.Lease {
	return lead.Lease{Namespace: "herald-system", Name: "herald-controller", Identity: identity}.Fast()
}

// candidate wants to lead. It leads until its context ends and then takes as long as finish says.
type candidate struct {
	leads atomic.Bool
	terms atomic.Int32
	stop  context.CancelFunc
	done  chan error
}

// start starts a candidate; leaders counts those that lead, and more than one at a time is an error.
func start(t *testing.T, api *kubetest.API, identity string, leaders *atomic.Int32, finish <-chan struct{}) *candidate {
	ctx, stop := context.WithCancel(t.Context())
	c := &candidate{stop: stop, done: make(chan error, 1)}
	go func() {
		c.done <- lead.Run(ctx, &rest.Config{Host: api.URL()}, lease(identity), log.NewNopLogger(), func(ctx context.Context) error {
			if leaders.Add(1) > 1 {
				t.Errorf("%s leads beside another", identity)
			}
			c.leads.Store(true)
			c.terms.Add(1)
			<-ctx.Done()
			<-finish
			c.leads.Store(false)
			leaders.Add(-1)
			return nil
		})
	}()
	return c
}

func TestTheNextLeaderWaitsUntilTheLastHasFinished(t *testing.T) {
	api := kubetest.New(t)
	var leaders atomic.Int32
	finishA, finishB := make(chan struct{}), make(chan struct{})
	close(finishB)
	a := start(t, api, "a", &leaders, finishA)
	kubetest.Eventually(t, "a leads", a.leads.Load)
	b := start(t, api, "b", &leaders, finishB)

	a.stop()
	// a has work to finish for longer than its Lease would last unrenewed: b may not lead meanwhile.
	const longer = 1500 * time.Millisecond
	select {
	case err := <-a.done:
		t.Fatalf("a has returned before its work: %v", err)
	case <-time.After(longer):
	}
	close(finishA)
	if err := <-a.done; err != nil {
		t.Errorf("a: %v", err)
	}
	released := time.Now()
	kubetest.Eventually(t, "b leads", b.leads.Load)
	if waited := time.Since(released); waited > time.Second {
		t.Errorf("b took over %v after a released the Lease: it waited for the Lease to expire", waited)
	}
	b.stop()
	if err := <-b.done; err != nil {
		t.Errorf("b: %v", err)
	}
}

func TestALeaderThatCannotRenewStopsAndLeadsAgainWhenItCan(t *testing.T) {
	api := kubetest.New(t)
	var leaders atomic.Int32
	finish := make(chan struct{})
	close(finish)
	a := start(t, api, "a", &leaders, finish)
	kubetest.Eventually(t, "a leads", a.leads.Load)
	api.Fault(func(r *http.Request) int {
		if strings.Contains(r.URL.Path, "/leases") {
			return http.StatusServiceUnavailable
		}
		return 0
	})
	kubetest.Eventually(t, "a stops", func() bool { return !a.leads.Load() })
	api.Fault(nil)
	kubetest.Eventually(t, "a leads again", func() bool { return a.leads.Load() && a.terms.Load() == 2 })
	a.stop()
	if err := <-a.done; err != nil {
		t.Errorf("a: %v", err)
	}
}

func TestAnErrorOfTheLeadersWorkEndsIt(t *testing.T) {
	api := kubetest.New(t)
	broken := errors.New("broken")
	err := lead.Run(t.Context(), &rest.Config{Host: api.URL()}, lease("a"), log.NewNopLogger(), func(context.Context) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}
