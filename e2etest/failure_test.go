package e2etest

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/probe"
)

// newConnections opens a new connection from the client every 5 ms until it is stopped; the first few have
// succeeded when it returns.
func newConnections(t *testing.T, a netip.Addr) *probe.Connector {
	t.Helper()
	return newConnectionsFrom(t, "client", a)
}

func newConnectionsFrom(t *testing.T, host string, a netip.Addr) *probe.Connector {
	t.Helper()
	p := probe.Connect(t.Context(), probe.ConnectConfig{Dial: cluster.Dialer(host), Address: target(a, 80)})
	t.Cleanup(func() { p.Stop() })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.Wait(ctx, 50); err != nil {
		t.Fatal(err)
	}
	return p
}

// A restart moves no address: new connections and established ones go on through the same node, and whoever asks in the
// meantime is told that node's MAC, by another one that stands in.
func TestRestartingTheOwnersSpeakerMovesNothing(t *testing.T) {
	svc := service(t, app.Service{Name: "restarted", Selects: "testapp"})
	for _, a := range addresses(svc) {
		reachable(t, "client", a)
		node := owner(t, a)
		old, err := speakerPod(t.Context(), node)
		if err != nil {
			t.Fatal(err)
		}
		p := newConnections(t, a)
		h := established(t, a, 20)
		answers := asking(t, a)
		if err := kube.CoreV1().Pods(install.Namespace).Delete(t.Context(), old.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		within(t, time.Minute, func(ctx context.Context) error {
			pod, err := speakerPod(ctx, node)
			if err == nil && pod.UID == old.UID {
				err = fmt.Errorf("speaker %s is still there", old.Name)
			}
			return err
		})
		// What the return does is looked at too.
		who := owner(t, a)
		if err := p.Wait(t.Context(), 200); err != nil {
			t.Fatal(err)
		}
		told, unanswered := answers()
		report := p.Stop()
		held := h.Stop()
		t.Logf("%s: %s, then %s; asked meanwhile: %v; %v; %v", a, node, who, told, report, held)
		if who != node {
			t.Errorf("%s moved from %s to %s", a, node, who)
		}
		if len(told) != 1 || told[node] == 0 {
			t.Errorf("%s is said to be at %v, want %s only", a, told, node)
		}
		if unanswered > 0 {
			t.Errorf("%d times nobody answered for %s, in %d questions each", unanswered, a, questions)
		}
		for i, f := range report.Failures {
			if i == 5 {
				t.Errorf("and %d more", len(report.Failures)-i)
				break
			}
			t.Errorf("a new connection failed %v after the start: %v", f.Start.Sub(report.Started), f.Err)
		}
		unbroken(t, held)
	}
}

// established holds connections from the client on which the application sends a line every 20 ms.
func established(t *testing.T, a netip.Addr, n int) *probe.Holder {
	t.Helper()
	h, err := probe.Hold(t.Context(), probe.HoldConfig{Dial: cluster.Dialer("client"), Address: target(a, app.StreamPort), Count: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Stop() })
	return h
}

// unbroken fails the test when a connection broke or fell silent for good.
func unbroken(t *testing.T, r probe.HoldReport) {
	t.Helper()
	if len(r.Breaks) > 0 {
		t.Errorf("%d of %d established connections broke, the first with %v", len(r.Breaks), len(r.Connections), r.Breaks[0].Err)
	}
	for _, s := range r.Stalls {
		if s.To.IsZero() {
			t.Errorf("an established connection to %s is silent since %v", s.Node, s.From)
		}
	}
}

// questions is how many make a round of asking: all of them within 0.2 s, and a round every 0.7 s, so that some are within
// any time in which nobody answers that is longer than a second.
const questions = 20

// asking asks who has an address again and again. Its end tells which nodes' MACs were told how often, and how many rounds
// had no answer.
func asking(t *testing.T, a netip.Addr) (end func() (told map[string]int, unanswered int)) {
	t.Helper()
	told := map[string]int{}
	unanswered := 0
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			got, err := answering(t.Context(), a, questions)
			if err != nil {
				if t.Context().Err() == nil {
					t.Error(err)
				}
				return
			}
			if len(got) == 0 {
				unanswered++
			}
			for node, n := range got {
				told[node] += n
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	halt := sync.OnceFunc(func() { close(stop); running.Wait() })
	t.Cleanup(halt)
	return func() (map[string]int, int) { halt(); return told, unanswered }
}
