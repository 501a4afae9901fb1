package config_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"heraldlb.io/herald/internal/config"
)

// samples are the example documents, by file.
func samples(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../config/samples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples found: %v", err)
	}
	out := map[string]string{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(f)] = string(text)
	}
	return out
}

func TestTheSamplesAreValid(t *testing.T) {
	r, problems := config.Parse("samples", samples(t))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if _, problems := config.New(r); len(problems) > 0 {
		t.Error(problems)
	}
}

func parsed(t testing.TB, data map[string]string) config.Resources {
	t.Helper()
	r, problems := config.Parse("cm", data)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return r
}

func TestTheOrderOfAllKindsDoesNotMatter(t *testing.T) {
	r := parsed(t, samples(t))
	more := parsed(t, map[string]string{"more": documents(
		"IPAddressPool clash o {addresses: [198.51.100.128/25]}", "IPAddressPool other oo {addresses: [203.0.113.0/24]}",
		"BGPPeer clash o {peerAddressFrom: {nodeAnnotation: example.com/rack-router}, peerASN: 1, myASN: 2}",
		"BGPAdvertisement clash o {ipAddressPools: [web, other], localPref: 7, aggregationLength: 24}", "BGPAdvertisement clash2 ooo {ipAddressPools: [web], localPref: 8, communities: [customer, nobody]}",
		"Community clash o {communities: [{name: customer, value: '1:1'}]}", "BFDProfile wrong o {detectMultiplier: 1}", "L2Advertisement wrong o {ipAddressPools: [nowhere]}",
	)})
	r.Pools = append(r.Pools, more.Pools...)
	r.L2Advertisements = append(r.L2Advertisements, more.L2Advertisements...)
	r.BGPAdvertisements = append(r.BGPAdvertisements, more.BGPAdvertisements...)
	r.BGPPeers = append(r.BGPPeers, more.BGPPeers...)
	r.BFDProfiles = append(r.BFDProfiles, more.BFDProfiles...)
	r.Communities = append(r.Communities, more.Communities...)
	want, wantProblems := config.New(r)
	if len(wantProblems) < 6 {
		t.Fatalf("the objects do not clash as they should: %v", wantProblems)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		shuffle(rng, &r)
		got, problems := config.New(r)
		if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(problems, wantProblems) {
			t.Fatalf("another order gave another answer:\n%+v %v\n%+v %v", got, problems, want, wantProblems)
		}
	}
}

func shuffle(rng *rand.Rand, r *config.Resources) {
	mix(rng, r.Pools)
	mix(rng, r.L2Advertisements)
	mix(rng, r.BGPAdvertisements)
	mix(rng, r.BGPPeers)
	mix(rng, r.BFDProfiles)
	mix(rng, r.Communities)
}

func mix[T any](rng *rand.Rand, list []T) {
	rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
}
