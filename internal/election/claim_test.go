package election

import (
	"testing"

	"pgregory.net/rapid"
)

func TestTheLifeOfARegister(t *testing.T) {
	var none Claim
	n1 := none.Next("n1", true)
	n2 := none.Next("n2", true)
	first, second := n1, n2
	if Prefer(vip, "n2", "n1") {
		first, second = n2, n1
	}
	minority := n1.Next("n2", false)
	for _, tc := range []struct {
		name          string
		better, worse Claim
	}{
		{"a claim counts against none", n1, none},
		{"of two that were made at once the higher rank counts", first, second},
		{"a later claim counts against the earlier", second.Next(first.Node, true), first},
		{"also one made by a minority", minority, n1},
		{"of two later ones that of the greater side counts", n1.Next("n1", true), minority},
		{"whoever made it", n1.Next("n2", true), n1.Next("n1", false)},
		{"and that of the smaller one counts if it was made later", minority.Next("n3", false), n1.Next("n1", true)},
	} {
		if !tc.better.Beats(vip, tc.worse) || tc.worse.Beats(vip, tc.better) || tc.better.Beats(vip, tc.better) {
			t.Errorf("%s: %+v against %+v", tc.name, tc.better, tc.worse)
		}
	}
	if n1.Weak() || !minority.Weak() {
		t.Errorf("weak: %t of %+v, %t of %+v", n1.Weak(), n1, minority.Weak(), minority)
	}
}

func TestAnEpochHasABound(t *testing.T) {
	absurd, last := Claim{"n1", 1<<64 - 1}, Claim{"n1", MaxEpoch}
	if absurd.Beats(vip, Claim{"n2", 3}) {
		t.Error("an absurd epoch counts")
	}
	if next := last.Next("n2", true); next.Epoch != MaxEpoch {
		t.Errorf("after the last epoch comes %d", next.Epoch)
	}
}

// Whatever the claims are and in whatever order they come, all come to hold the same one.
func TestAllRegistersComeToTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		addr := genAddr().Draw(t, "addr")
		claims := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Claim {
			return Claim{rapid.SampledFrom([]string{"n1", "n2", "n3"}).Draw(t, "node"), rapid.Uint64Range(1, 4).Draw(t, "epoch")}
		}), 1, 8).Draw(t, "claims")
		merge := func(claims []Claim) (held Claim) {
			for _, c := range claims {
				if c.Beats(addr, held) {
					held = c
				}
			}
			return held
		}
		if x, y := merge(claims), merge(rapid.Permutation(claims).Draw(t, "other order")); x != y {
			t.Fatalf("one holds %+v, another %+v", x, y)
		}
	})
}
