package e2etest

// The tests of this file take nodes away. They come last: connections that were on their way to a pod of a lost node
// leave entries in the other nodes' connection tracking, which for two minutes would catch the odd new connection
// of a later test.

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/probe"
)

// takeover bounds how long no new connection may succeed after the owner of an address has gone: it tells a working
// takeover from one that waits for the API server, on a machine that runs other things too.
const takeover = 3 * time.Second

func TestAKilledOwnersAddressesMoveAndDoNotReturn(t *testing.T) {
	addrs, others := placed(t, "killed", 69, "n1"), crowded(t, "bystander", 3)
	lose(t, addrs, others, "n1", cluster.Kill)
	returns(t, addrs, others, "n1", func() {
		mend(t, cluster.Start, "n1")
		ready(t, "n1")
	})
}

func TestLosingTheAPIServerChangesNoAnnouncementAndKeepsNobodyFromTakingOver(t *testing.T) {
	addrs, others := placed(t, "no-api", 70, "n2"), crowded(t, "apart", 3)
	before := owners(t, others)
	u := use(t, addrs, 10)
	startAgain := stopAPIServer(t)
	u.goesOn(t, 100)
	stays(t, u.end(t), "n2")
	if after := owners(t, others); !slices.Equal(before, after) {
		t.Errorf("%v were at %v and are at %v", others, before, after)
	}
	lose(t, addrs, others, "n2", cluster.Cut)
	startAgain()
	start := time.Now()
	returns(t, addrs, others, "n2", func() {
		mend(t, cluster.Heal, "n2")
		ready(t, "n2")
	})

	later := addresses(service(t, app.Service{Name: "after-api", Selects: "testapp"}))[0]
	within(t, time.Minute, func(ctx context.Context) error { // who watched the API server has waited longer and longer for it
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := get(ctx, "client", target(later, 80))
		return err
	})
	t.Logf("a new Service was reached %v after the outage", time.Since(start))
}

// crowded makes Services whose addresses go wherever they go, and returns these.
func crowded(t *testing.T, name string, n int) (addrs []netip.Addr) {
	t.Helper()
	for i := range n {
		addrs = append(addrs, addresses(service(t, app.Service{Name: fmt.Sprintf("%s-%d", name, i), Selects: "testapp"}))...)
	}
	return addrs
}

// lose takes the node away that owns addresses, and sees others take over what it had, and nothing else.
func lose(t *testing.T, addrs, others []netip.Addr, node string, take func(ctx context.Context, node string) error) {
	t.Helper()
	before := owners(t, others)
	u := use(t, addrs, 0)
	if err := take(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	u.goesOn(t, 50)
	for _, s := range u.stop(t) {
		t.Logf("%s: no success for %v, from %v on", s.addr, s.news.StartGap.Length(), s.news.StartGap.From.Sub(s.watch.Started))
		if len(s.nodes) != 2 || s.nodes[0] != node {
			t.Errorf("%s was answered for by %v, want %s and then one other", s.addr, s.nodes, node)
		}
		if gap := s.news.StartGap.Length(); gap > takeover {
			t.Errorf("no new connection to %s could be opened for %v, want %v at most", s.addr, gap, takeover)
		}
	}
	for i, now := range owners(t, others) {
		if was := before[i]; now == node || was != node && was != now {
			t.Errorf("%s was at %s and is at %s after %s was lost", others[i], was, now, node)
		}
	}
}

// returns gives a node back, and sees that no address follows it.
func returns(t *testing.T, addrs, others []netip.Addr, node string, give func()) {
	t.Helper()
	all := slices.Concat(addrs, others)
	before := owners(t, all)
	var watchers []*probe.Watcher
	for _, a := range addrs {
		watchers = append(watchers, watched(t, a))
	}
	give()
	ringed(t)
	for i, now := range owners(t, all) {
		if now != before[i] {
			t.Errorf("%s moved from %s to %s when %s returned", all[i], before[i], now, node)
		}
	}
	for i, w := range watchers {
		if r, who := history(t, w); len(who) != 1 {
			t.Errorf("%s was answered for by %v when %s returned: %v", addrs[i], who, node, r)
		}
	}
}

// mend undoes what was done to a node.
func mend(t *testing.T, give func(ctx context.Context, node string) error, node string) {
	t.Helper()
	if err := give(context.Background(), node); err != nil {
		t.Error(err)
	}
}

// ready waits until a node, its speaker and its pod of the application are.
func ready(t *testing.T, node string) {
	t.Helper()
	within(t, 2*time.Minute, func(ctx context.Context) error {
		n, err := kube.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range n.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" {
				return errors.Join(install.DeploymentReady(ctx, kube, "default", "testapp"), install.Ready(ctx, kube, nodes))
			}
		}
		return fmt.Errorf("node %s is not Ready", node)
	})
}
