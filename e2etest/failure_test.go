package e2etest

import (
	"context"
	"fmt"
	"net/netip"
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
	p := probe.Connect(t.Context(), probe.ConnectConfig{Dial: cluster.Dialer("client"), Address: target(a, 80)})
	t.Cleanup(func() { p.Stop() })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.Wait(ctx, 50); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRestartingTheOwnersSpeakerLosesNoNewConnection(t *testing.T) {
	svc := service(t, app.Service{Name: "restarted", Selects: "testapp"})
	for _, a := range addresses(svc) {
		reachable(t, "client", a)
		node := owner(t, a)
		old, err := speakerPod(t.Context(), node)
		if err != nil {
			t.Fatal(err)
		}
		p := newConnections(t, a)
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
		// The returned speaker may take the address back, so look past that move too.
		who := owner(t, a)
		if err := p.Wait(t.Context(), 200); err != nil {
			t.Fatal(err)
		}
		report := p.Stop()
		t.Logf("%s: %s, then %s; %v", a, node, who, report)
		for i, f := range report.Failures {
			if i == 5 {
				t.Errorf("and %d more", len(report.Failures)-i)
				break
			}
			t.Errorf("a new connection failed %v after the start: %v", f.Start.Sub(report.Started), f.Err)
		}
	}
}
