package e2etest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/probe"
)

// healing bounds how long two nodes may answer for an address after the network between them is whole again.
const healing = 5 * time.Second

// The client reaches both sides of a partition, and both serve it: each for itself, for neither can know of the other. When
// it heals one of them gives way, and that is all that happens.
func TestAPartitionHealsToOneOwner(t *testing.T) {
	minority, majority := placed(t, "minority", 71, "n1"), placed(t, "majority", 72, "n2")
	addrs := slices.Concat(minority, majority)
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
	if err := cluster.HealPartition(t.Context()); err != nil {
		t.Fatal(err)
	}
	healed := time.Now()
	ringed(t)
	at := owners(t, addrs)
	settled := time.Now()
	ringed(t)
	for i, a := range addrs {
		r, who := history(t, watchers[i])
		t.Logf("%s: %v; %v", a, who, r)
		if now := r.Tenures[len(r.Tenures)-1]; now.To.Before(settled) {
			t.Errorf("%s: nobody answers any more", a)
		}
		for j, tenure := range r.Tenures {
			switch {
			case who[j] == at[i]:
				if tenure.From.After(healed.Add(healing)) {
					t.Errorf("%s: %s began to answer %v after the healing", a, who[j], tenure.From.Sub(healed))
				}
			case tenure.To.After(healed.Add(healing)):
				t.Errorf("%s: %s went on to answer for %v after the healing, beside %s", a, who[j], tenure.To.Sub(healed), at[i])
			}
		}
		if len(who) > 2 {
			t.Errorf("%s was answered for by %v, want two nodes, and one of them from the healing on", a, who)
		}
	}
	for i, a := range majority {
		if now := at[len(minority)+i]; now != "n2" {
			t.Errorf("%s is at %s, want n2, which two of three nodes saw all the time", a, now)
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
