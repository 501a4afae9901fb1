package config_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"heraldlb.io/herald/internal/config"
)

// seeds are inputs of both fuzz targets.
func seeds(t testing.TB) []string {
	t.Helper()
	var out []string
	for _, text := range samples(t) {
		out = append(out, text)
	}
	refused, err := os.ReadFile("../../config/crd/testdata/refused.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var bad []struct {
		Kind string
		Spec json.RawMessage
	}
	if err := yaml.Unmarshal(refused, &bad); err != nil {
		t.Fatal(err)
	}
	for _, c := range bad {
		out = append(out, fmt.Sprintf("apiVersion: heraldlb.io/v1beta1\nkind: %s\nmetadata: {name: x}\nspec: %s\n", c.Kind, c.Spec))
	}
	slices.Sort(out)
	return append(out, "a: &a [*a]", "--- \n...\n", "\xff\xfe", "? {", "<<: {kind: x}", "kind: IPAddressPool\napiVersion: heraldlb.io/v1beta1\nmetadata: {name: 1e3}")
}

func FuzzParse(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, problems := config.Parse("cm", map[string]string{"a": text})
		again, problemsAgain := config.Parse("cm", map[string]string{"a": text})
		if !reflect.DeepEqual(r, again) || !reflect.DeepEqual(problems, problemsAgain) {
			t.Error("the same text was read in two ways")
		}
		for _, p := range problems {
			if p.Message == "" || p.Field == "" {
				t.Errorf("a problem without words: %+v", p)
			}
		}
	})
}

func FuzzNew(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s, uint64(1))
	}
	base := parsed(f, samples(f))
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		r, _ := config.Parse("cm", map[string]string{"a": text})
		add(&r, base)
		cfg, problems := config.New(r)
		for _, p := range cfg.Pools {
			for _, a := range p.Addresses.Ranges() {
				if of, ok := cfg.PoolOf(a.From()); !ok || of.Name != p.Name {
					t.Errorf("%v of pool %s is found in %q", a.From(), p.Name, of.Name)
				}
			}
		}
		cfg.PeersOn(config.Node{Name: "n", Annotations: map[string]string{"example.com/rack-router": text}})
		shuffle(rand.New(rand.NewPCG(seed, 0)), &r)
		again, problemsAgain := config.New(r)
		if !reflect.DeepEqual(cfg, again) || !reflect.DeepEqual(problems, problemsAgain) {
			t.Errorf("another order gave another answer: %v, %v", problems, problemsAgain)
		}
	})
}

// add gives r the objects of base whose names it does not have.
func add(r *config.Resources, base config.Resources) {
	r.Pools = union(r.Pools, base.Pools)
	r.L2Advertisements = union(r.L2Advertisements, base.L2Advertisements)
	r.BGPAdvertisements = union(r.BGPAdvertisements, base.BGPAdvertisements)
	r.BGPPeers = union(r.BGPPeers, base.BGPPeers)
	r.BFDProfiles = union(r.BFDProfiles, base.BFDProfiles)
	r.Communities = union(r.Communities, base.Communities)
}

func union[T metav1.Object](list, more []T) []T {
	for _, o := range more {
		if !slices.ContainsFunc(list, func(x T) bool { return x.GetName() == o.GetName() }) {
			list = append(list, o)
		}
	}
	return list
}
