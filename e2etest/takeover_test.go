package e2etest

// The tests of this file take nodes away. They come last: connections that were on their way to a pod of a lost node
// leave entries in the other nodes' connection tracking, which for two minutes would catch the odd new connection
// of a later test.

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
)

func TestLosingTheAPIServerChangesNoAnnouncement(t *testing.T) {
	svc := service(t, app.Service{Name: "no-api", Selects: "testapp"})
	before := map[netip.Addr]string{}
	for _, a := range addresses(svc) {
		reachable(t, "client", a)
		before[a] = owner(t, a)
	}
	if err := cluster.StopAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := newConnections(t, addresses(svc)[0])
	err := p.Wait(t.Context(), 1000)
	for a, was := range before {
		if is := owner(t, a); is != was {
			t.Errorf("%s moved from %s to %s", a, was, is)
		}
	}
	if startErr := cluster.StartAPIServer(context.Background()); startErr != nil || err != nil {
		t.Fatal(startErr, err)
	}
	report := p.Stop()
	t.Log(report)
	if len(report.Failures) > 0 {
		t.Errorf("%d new connections failed, the first with %v", len(report.Failures), report.Failures[0].Err)
	}

	start := time.Now()
	later := app.Service{Name: "after-api", Selects: "testapp", Type: "LoadBalancer"}
	apply(t, later.Manifest())
	within(t, 30*time.Second, func(ctx context.Context) error {
		svc, err := kube.CoreV1().Services("default").Get(ctx, later.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(addresses(svc)) == 0 {
			return fmt.Errorf("service %s has no address", later.Name)
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err = get(ctx, "client", target(addresses(svc)[0], 80))
		return err
	})
	t.Logf("a Service made after the outage was reached %v later", time.Since(start))
}

// takeover bounds how long no new connection may succeed after the owner of an address has gone: it tells a working
// takeover from one that waits for the API server, on a machine that runs other things too.
const takeover = 3 * time.Second

func TestAKilledOwnersAddressesMove(t *testing.T) {
	lose(t, "killed", cluster.Kill, cluster.Start)
}

func TestACutOffOwnersAddressesMove(t *testing.T) {
	lose(t, "cut-off", cluster.Cut, cluster.Heal)
}

// lose takes the node away that owns a Service's addresses, sees another one take each of them over, and then gives
// the node back.
func lose(t *testing.T, name string, take, give func(ctx context.Context, node string) error) {
	svc := service(t, app.Service{Name: name, Selects: "testapp"})
	for _, a := range addresses(svc) {
		reachable(t, "client", a)
		old := owner(t, a)
		p := newConnections(t, a)
		if err := take(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		giveBack := sync.OnceFunc(func() { restore(t, old, give) })
		t.Cleanup(giveBack)
		if err := p.Wait(t.Context(), 50); err != nil {
			t.Fatal(err)
		}
		who := owner(t, a)
		report := p.Stop()
		t.Logf("%s: %s, then %s; %v", a, old, who, report)
		if who == old {
			t.Errorf("%s is still answered for by %s", a, old)
		}
		if gap := report.StartGap.Length(); gap > takeover {
			t.Errorf("no new connection to %s could be opened for %v, want %v at most", a, gap, takeover)
		}
		giveBack()
		owner(t, a)
	}
}

// restore gives a node back and waits until its speaker and pods are ready again.
func restore(t *testing.T, node string, give func(ctx context.Context, node string) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := give(ctx, node); err != nil {
		t.Error(err)
	}
	err := install.Until(ctx, func() error {
		n, err := kube.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range n.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" {
				return install.DeploymentReady(ctx, kube, "default", "testapp")
			}
		}
		return fmt.Errorf("node %s is not Ready", node)
	})
	if err == nil {
		err = install.Ready(ctx, kube, nodes)
	}
	if err != nil {
		t.Error(err)
	}
}
