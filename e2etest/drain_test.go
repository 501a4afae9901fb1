package e2etest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/app"
)

// A node that is emptied gives its addresses away before it stops to answer for them. Being cordoned is not being emptied,
// and what has moved does not come back by itself.
func TestANodeIsDrained(t *testing.T) {
	addrs := placed(t, "drained", 63, "n1")
	// A second Service has the same address, so it goes wherever the first one does.
	companion := balanced("drained-too", annotated("heraldlb.io/address-pool", "drained"), annotated("heraldlb.io/allow-shared-ip", "drain"))
	companion.Spec.Ports[0].Port = 8080
	share(t, "drained", "drain")
	create(t, companion)
	has(t, companion, assigned, addrs[0].String())
	newcomers := 0
	// newcomer is a Service whose addresses prefer n1. Where they are shows that all speakers know what was done before.
	newcomer := func(t *testing.T) string {
		t.Helper()
		newcomers++
		name, number := fmt.Sprintf("newcomer-%d", newcomers), 63+newcomers
		apply(t, append(couple(name, number), announced(name, prefers("n1"))...))
		svc := service(t, app.Service{Name: name, Selects: "testapp", Annotations: map[string]string{"heraldlb.io/address-pool": name}})
		who := owners(t, addresses(svc))
		if who[0] == "n1" != (who[1] == "n1") {
			t.Errorf("%v are at %v, want both at n1 or none", addresses(svc), who)
		}
		return who[0]
	}
	t.Cleanup(func() { nodeWith(t, "n1", `{"spec":{"unschedulable":null}}`) })

	var at []string
	t.Run("it is cordoned: it keeps what it has and is given nothing new", func(t *testing.T) {
		u := use(t, addrs, 5)
		nodeWith(t, "n1", `{"spec":{"unschedulable":true}}`)
		if who := newcomer(t); who == "n1" {
			t.Errorf("an address was given to n1, which is cordoned")
		}
		stays(t, u.end(t), "n1")
	})
	t.Run("its speaker is told to stop: the addresses move first", func(t *testing.T) {
		u := use(t, addrs, 0)
		restartSpeaker(t, "n1")
		ringed(t)
		nodeWith(t, "n1", `{"spec":{"unschedulable":null}}`)
		if who := newcomer(t); who != "n1" {
			t.Errorf("an address was given to %s, want n1, which is preferred and cordoned no more", who)
		}
		u.goesOn(t, 50)
		at = moved(t, u.end(t), "n1")
		both(t, addrs[0], at[0])
		moves(t, "drained", addrs, "n1", at, "Draining")
		moves(t, "drained-too", addrs[:1], "n1", at, "Draining")
	})
	t.Run("it is marked for drain: they move on and stay there", func(t *testing.T) {
		if len(at) == 0 {
			t.Skip("they have not moved before")
		}
		back := placed(t, "marked", 67, "n1")
		u := use(t, back, 0)
		nodeWith(t, "n1", `{"metadata":{"annotations":{"heraldlb.io/drain":"true"}}}`)
		t.Cleanup(func() { nodeWith(t, "n1", `{"metadata":{"annotations":{"heraldlb.io/drain":null}}}`) })
		u.movesFrom(t, "n1")
		u.goesOn(t, 20)
		nodeWith(t, "n1", `{"metadata":{"annotations":{"heraldlb.io/drain":null}}}`)
		if who := newcomer(t); who != "n1" {
			t.Errorf("an address was given to %s, want n1, which is preferred and drained no more", who)
		}
		to := moved(t, u.end(t), "n1")
		moves(t, "marked", back, "n1", to, "Draining")
	})
}

// share lets a Service of the test share its address.
func share(t *testing.T, name, key string) {
	t.Helper()
	svc := addressed(t, name)
	annotate(t, svc, "heraldlb.io/allow-shared-ip", key)
}

// both fails the test unless the two Services of an address answer, over the one node that it is at.
func both(t *testing.T, a netip.Addr, node string) {
	t.Helper()
	for _, port := range []uint16{80, 8080} {
		within(t, 10*time.Second, func(ctx context.Context) error {
			_, err := get(ctx, "client", target(a, port))
			return err
		})
	}
	got, err := answering(t.Context(), a, 100)
	if err != nil || len(got) != 1 || got[node] != 100 {
		t.Errorf("100 requests for %s, which two Services have, were answered by %v, %v, want 100 answers from %s", a, got, err, node)
	}
}

// moves fails the test unless each address of a Service has exactly one event that tells of its move, with the node that it
// left, the one that it came to, and why.
func moves(t *testing.T, service string, addrs []netip.Addr, from string, to []string, reason string) {
	t.Helper()
	notes := told(t, service, "AddressMoved", len(addrs))
	for i, a := range addrs {
		at := slices.IndexFunc(notes, func(n string) bool { return strings.HasPrefix(n, a.String()+" ") })
		if at < 0 {
			t.Errorf("no event of %s tells of the move of %s: %q", service, a, notes)
			continue
		}
		for _, part := range []string{"from node " + to[i] + ",", "from " + from + " no more", "(" + reason + ")"} {
			if !strings.Contains(notes[at], part) {
				t.Errorf("event %q of %s lacks %q", notes[at], service, part)
			}
		}
	}
}
