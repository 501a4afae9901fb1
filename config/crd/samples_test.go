package crd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"heraldlb.io/herald/internal/config"
)

// samples are the example documents, by file.
func samples(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../samples/*.yaml")
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

func TestTheSamplesAreValidAndShowEveryField(t *testing.T) {
	all := schemas(t)
	shown := map[string]map[string]bool{}
	for file, text := range samples(t) {
		for _, document := range strings.Split(text, "\n---\n") {
			object := untyped(t, document)
			kind := fmt.Sprint(object["kind"])
			spec, _ := object["spec"].(map[string]any)
			if shown[kind] == nil {
				shown[kind] = map[string]bool{}
			}
			for field := range spec {
				shown[kind][field] = true
			}
			if errs := all[kind].judge(t, object); len(errs) > 0 {
				t.Errorf("%s: the API server would refuse it: %v", file, errs)
			}
		}
	}
	for kind, s := range all {
		spec := s.props.Properties["spec"]
		for field := range spec.Properties {
			if !shown[kind][field] {
				t.Errorf("no sample of %s shows spec.%s", kind, field)
			}
		}
	}
}

// The API server fills in the defaults of the schema; a ConfigMap has none.
func TestAConfigMapGivesTheSameConfigAsTheAPIServer(t *testing.T) {
	all := schemas(t)
	inputs := map[string]string{}
	for file, text := range samples(t) {
		inputs[file] = text
	}
	for kind, spec := range map[string]string{
		"BGPPeer": "{peerAddress: 192.0.2.1, peerASN: 1, myASN: 2, gracefulRestart: {}, ttlSecurity: {}}", "BFDProfile": "{}",
		"BGPAdvertisement": "{}", "L2Advertisement": "{}", "IPAddressPool": "{addresses: [10.0.0.0/24]}",
	} {
		inputs["least of "+kind] = "apiVersion: heraldlb.io/v1beta1\nkind: " + kind + "\nmetadata: {name: least}\nspec: " + spec + "\n"
	}
	served := map[string]string{}
	for file, text := range inputs {
		var out []string
		for _, document := range strings.Split(text, "\n---\n") {
			object := untyped(t, document)
			if errs := all[fmt.Sprint(object["kind"])].judge(t, object); len(errs) > 0 {
				t.Fatalf("%s: %v", file, errs)
			}
			filled, err := yaml.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, string(filled))
		}
		served[file] = strings.Join(out, "\n---\n")
	}
	got := parsed(t, inputs)
	want := parsed(t, served)
	gotConfig, gotProblems := config.New(got)
	wantConfig, wantProblems := config.New(want)
	if !reflect.DeepEqual(gotConfig, wantConfig) || !reflect.DeepEqual(gotProblems, wantProblems) {
		t.Errorf("from a ConfigMap\n%+v\nfrom the API server\n%+v", gotConfig, wantConfig)
	}
	if reflect.DeepEqual(got, want) {
		t.Error("the API server filled in nothing: the comparison shows nothing")
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
