package report

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"
)

// What doctor asks for is what the manifests grant, no more and no less.
func TestTheRightsAreThoseOfTheManifests(t *testing.T) {
	granted := map[Right]bool{}
	files, err := filepath.Glob("../../config/rbac/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no manifests", err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
			var role struct {
				Kind     string
				Metadata struct{ Name string }
				Rules    []struct {
					APIGroups     []string `yaml:"apiGroups"`
					Resources     []string
					ResourceNames []string `yaml:"resourceNames"`
					Verbs         []string
				}
			}
			if err := decoder.Decode(&role); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", f, err)
			}
			if role.Metadata.Name != "herald-controller" && role.Metadata.Name != "herald-speaker" {
				continue
			}
			for _, rule := range role.Rules {
				names := rule.ResourceNames
				if names == nil {
					names = []string{""}
				}
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						for _, name := range names {
							granted[Right{Account: role.Metadata.Name, Verb: verb, Group: rule.APIGroups[0], Resource: resource, Name: name, Own: role.Kind == "Role"}] = true
						}
					}
				}
			}
		}
	}
	for _, r := range Rights() {
		if !granted[r] {
			t.Errorf("config/rbac does not grant %+v", r)
		}
		delete(granted, r)
	}
	for r := range granted {
		t.Errorf("doctor does not ask for %+v, which config/rbac grants", r)
	}
}
