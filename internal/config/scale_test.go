package config_test

import (
	"fmt"
	"strings"
	"testing"

	"heraldlb.io/herald/internal/config"
)

// many are 10,000 pools, and 2,000 peers and advertisements that have to be compared with each other because they
// differ in what two must not differ in.
func many(t testing.TB) config.Resources {
	t.Helper()
	var pools strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&pools, "---\napiVersion: heraldlb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: p%d}\nspec: {addresses: [10.%d.%d.0/28]}\n", i, i>>8, i&255)
	}
	var lines []string
	for i := range 2_000 {
		lines = append(lines,
			fmt.Sprintf("BGPAdvertisement a%d o {localPref: %d, ipAddressPools: [p%d]}", i, i, i),
			fmt.Sprintf("BGPPeer a%d o {peerAddress: 10.0.%d.%d, routerID: 10.0.%d.%d, peerASN: 1, myASN: 2, nodeSelectors: [{matchLabels: {n: a%d}}]}", i, i>>8, i&255, i>>8, i&255, i))
	}
	return parsed(t, map[string]string{"pools": pools.String(), "bgp": documents(lines...)})
}

func TestThousandsOfObjectsOfEachKind(t *testing.T) {
	cfg, problems := config.New(many(t))
	if len(problems) > 0 || len(cfg.Pools) != 10_000 || len(cfg.BGPPeers) != 2_000 || len(cfg.BGPAdvertisements) != 2_000 {
		t.Errorf("%d pools, %d peers, %d advertisements and %d problems", len(cfg.Pools), len(cfg.BGPPeers), len(cfg.BGPAdvertisements), len(problems))
	}
}

func BenchmarkNewOfAllKinds(b *testing.B) {
	r := many(b)
	for b.Loop() {
		config.New(r)
	}
}

func BenchmarkParse(b *testing.B) {
	data := map[string]string{"a": strings.Repeat("\n", 10)}
	for i := range 1000 {
		data["a"] += documents(fmt.Sprintf("IPAddressPool p%d o {addresses: [10.0.%d.0/28]}", i, i&255))
	}
	b.SetBytes(int64(len(data["a"])))
	for b.Loop() {
		config.Parse("cm", data)
	}
}
