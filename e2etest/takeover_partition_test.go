package e2etest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/probe"
)

// healing bounds how long two nodes may answer for an address after the network between them is whole again.
const healing = 5 * time.Second

// The client reaches both sides of a partition, and both serve it: each for itself, for neither can know of the other. When
// it heals one of them gives way, and that is all that happens.
func TestAPartitionHealsToOneOwner(t *testing.T) {
	addrs := slices.Concat(placed(t, "minority", 71, "n1"), placed(t, "majority", 72, "n2"))
	var watchers []*probe.Watcher
	for _, a := range addrs {
		watchers = append(watchers, watched(t, a))
	}
	t.Cleanup(func() {
		if err := cluster.HealPartition(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := cluster.Partition(t.Context(), []string{"n1"}, []string{"n2", "n3"}); err != nil {
		t.Fatal(err)
	}
	within(t, 20*time.Second, func(ctx context.Context) error { return double(ctx, addrs) })
	// The client believes the one that is to give way, as if it had asked that one last.
	for _, a := range addrs {
		believes(t, a, "n1")
	}
	if err := cluster.HealPartition(t.Context()); err != nil {
		t.Fatal(err)
	}
	healed := time.Now()
	ringed(t)
	at := owners(t, addrs)
	settled := time.Now()
	within(t, 10*time.Second, func(ctx context.Context) error {
		for i, a := range addrs {
			if who, err := believed(ctx, a); err != nil || who != at[i] {
				return fmt.Errorf("the client believes %s to be at %q, %v; want %s", a, who, err, at[i])
			}
		}
		return nil
	})
	for i, now := range owners(t, addrs) { // also time in which the owner before could come back
		if now != at[i] {
			t.Errorf("%s was at %s and is at %s", addrs[i], at[i], now)
		}
	}
	for i, a := range addrs {
		r, who := history(t, watchers[i])
		t.Logf("%s: %v; healed at %v; %v", a, who, healed.Sub(r.Started), r)
		var last time.Time
		for j, tenure := range r.Tenures {
			if tenure.From.After(healed) {
				t.Errorf("%s: %s began to answer %v after the healing", a, who[j], tenure.From.Sub(healed))
			}
			if who[j] == at[i] {
				last = tenure.To
			} else if late := tenure.To.Sub(healed); late > healing {
				t.Errorf("%s: %s went on to answer for %v after the healing, beside %s", a, who[j], late, at[i])
			}
		}
		if last.Before(settled) {
			t.Errorf("%s: %s was the owner and does not answer any more", a, at[i])
		}
	}
}

// double returns nil when two nodes answer for each of the addresses.
func double(ctx context.Context, addrs []netip.Addr) error {
	for _, a := range addrs {
		if got, err := answering(ctx, a, 5); err != nil || len(got) != 2 {
			return fmt.Errorf("%s is answered for by %v, %v; want two nodes", a, got, err)
		}
	}
	return nil
}

// believes has the client hold a node for the place of an address.
func believes(t *testing.T, a netip.Addr, node string) {
	t.Helper()
	out, err := cluster.Command(t.Context(), "client", "ip", "neighbor", "replace", a.String(), "lladdr", cluster.Host(node).MAC.String(), "dev", "eth0", "nud", "stale").CombinedOutput()
	if err != nil {
		t.Fatalf("ip neighbor replace: %v: %s", err, out)
	}
}

// believed returns which host the client holds for the place of an address.
func believed(ctx context.Context, a netip.Addr) (string, error) {
	out, err := cluster.Command(ctx, "client", "ip", "neighbor", "show", "to", a.String(), "dev", "eth0").CombinedOutput()
	words := strings.Fields(string(out))
	at := slices.Index(words, "lladdr")
	if err != nil || at < 0 || at+1 == len(words) {
		return "", fmt.Errorf("ip neighbor show: %v: %q", err, out)
	}
	return hostOf(words[at+1]), nil
}
