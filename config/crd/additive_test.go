package crd_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"heraldlb.io/herald/e2etest/parts"
)

type props = apiextensionsv1.JSONSchemaProps

// What the previous build's CRDs took, these take too, and they keep all of it: docs/decisions/0007-stored-versions.md.
func TestCRDsGrowByAdditionOnly(t *testing.T) {
	files, err := filepath.Glob("heraldlb.io_*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no CRDs found: %v", err)
	}
	for _, file := range files {
		earlier, err := parts.FileAt(t.Context(), "../..", parts.PreviousBuild, "config/crd/"+file)
		switch {
		case errors.Is(err, parts.ErrNoCommit) && os.Getenv("CI") == "":
			t.Skip(err)
		case err != nil:
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var old, now apiextensionsv1.CustomResourceDefinition
		if err := errors.Join(yaml.Unmarshal(earlier, &old), yaml.Unmarshal(text, &now)); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if old.Spec.Scope != now.Spec.Scope || !reflect.DeepEqual(old.Spec.Names, now.Spec.Names) {
			t.Errorf("%s: scope or names have changed", file)
		}
		for _, v := range old.Spec.Versions {
			at := slices.IndexFunc(now.Spec.Versions, func(n apiextensionsv1.CustomResourceDefinitionVersion) bool { return n.Name == v.Name })
			if at < 0 || v.Served && !now.Spec.Versions[at].Served {
				t.Errorf("%s: %s is served no more", file, v.Name)
				continue
			}
			for _, what := range narrower("", *v.Schema.OpenAPIV3Schema, *now.Spec.Versions[at].Schema.OpenAPIV3Schema) {
				t.Errorf("%s, %s: %s", file, v.Name, what)
			}
		}
	}
}

// wider are parts of rules that are new by their text only: such a rule refuses nothing that the earlier ones took.
var wider = []string{
	"lb:[0-9]{1,5}:[0-9]{1,10}", // communities: link bandwidths are taken besides, and a rule is about them alone
}

// narrower says what an old schema took, or kept, and a new one does not.
func narrower(path string, old, now props) (out []string) {
	say := func(format string, args ...any) {
		out = append(out, cmp.Or(path, "the object")+": "+fmt.Sprintf(format, args...))
	}
	if old.Type != now.Type || old.Format != now.Format || old.Pattern != now.Pattern {
		say("was %s %s %s, is %s %s %s", old.Type, old.Format, old.Pattern, now.Type, now.Format, now.Pattern)
	}
	if !reflect.DeepEqual(old.Default, now.Default) {
		say("has another default")
	}
	for _, name := range now.Required {
		if !slices.Contains(old.Required, name) {
			say("requires %s", name)
		}
	}
	for _, value := range old.Enum {
		if len(now.Enum) > 0 && !slices.ContainsFunc(now.Enum, func(n apiextensionsv1.JSON) bool { return string(n.Raw) == string(value.Raw) }) {
			say("may be %s no more", value.Raw)
		}
	}
	if len(old.Enum) == 0 && len(now.Enum) > 0 {
		say("may only be one of some values")
	}
	for _, b := range []struct {
		what     string
		old, now *int64
		most     bool
	}{
		{"maxLength", old.MaxLength, now.MaxLength, true}, {"maxItems", old.MaxItems, now.MaxItems, true},
		{"maxProperties", old.MaxProperties, now.MaxProperties, true}, {"maximum", whole(old.Maximum), whole(now.Maximum), true},
		{"minLength", old.MinLength, now.MinLength, false}, {"minItems", old.MinItems, now.MinItems, false},
		{"minProperties", old.MinProperties, now.MinProperties, false}, {"minimum", whole(old.Minimum), whole(now.Minimum), false},
	} {
		if b.now != nil && (b.old == nil || b.most && *b.now < *b.old || !b.most && *b.now > *b.old) {
			say("has a tighter %s", b.what)
		}
	}
	fresh := func(name string) bool { _, known := old.Properties[name]; return !known }
	for _, rule := range now.XValidations {
		known := slices.ContainsFunc(old.XValidations, func(o apiextensionsv1.ValidationRule) bool { return o.Rule == rule.Rule })
		ofNew := slices.ContainsFunc(slices.Collect(maps.Keys(now.Properties)), func(name string) bool {
			return fresh(name) && strings.Contains(rule.Rule, "self."+name)
		})
		isWider := slices.ContainsFunc(wider, func(part string) bool { return strings.Contains(rule.Rule, part) })
		if !known && !ofNew && !isWider {
			say("has the new rule %s", rule.Rule)
		}
	}
	for name, p := range old.Properties {
		if n, ok := now.Properties[name]; ok {
			out = append(out, narrower(path+"."+name, p, n)...)
		} else {
			say("has no %s any more", name)
		}
	}
	if old.Items != nil && now.Items != nil && old.Items.Schema != nil && now.Items.Schema != nil {
		out = append(out, narrower(path+"[]", *old.Items.Schema, *now.Items.Schema)...)
	}
	if old.AdditionalProperties != nil && old.AdditionalProperties.Schema != nil {
		if now.AdditionalProperties == nil || now.AdditionalProperties.Schema == nil {
			say("takes no other properties any more")
		} else {
			out = append(out, narrower(path+"{}", *old.AdditionalProperties.Schema, *now.AdditionalProperties.Schema)...)
		}
	}
	return out
}

func whole(f *float64) *int64 {
	if f == nil {
		return nil
	}
	return new(int64(*f))
}

func TestWhatIsNarrowerIsFound(t *testing.T) {
	const base = `
type: object
required: [a]
properties:
  a: {type: string, maxLength: 5}
  b: {type: integer, minimum: 1, enum: [1, 2], default: 1}
  c: {type: array, items: {type: string}}
  d: {type: object, additionalProperties: {type: string}}
x-kubernetes-validations: [{rule: self.a != 'x'}]
`
	parse := func(text string) (p props) {
		if err := yaml.UnmarshalStrict([]byte(text), &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, c := range []struct{ from, to, want string }{
		{"", "", ""},
		{"maxLength: 5", "maxLength: 6", ""},
		{"  a: {", "  e: {type: string}\n  a: {", ""},
		{"  a: {", "  e: {type: string, enum: [x]}\n  a: {", ""},
		{"[{rule: self.a != 'x'}]", "[{rule: self.a != 'x'}, {rule: self.a != 'y'}]", "the object: has the new rule self.a != 'y'"},
		{"x-kubernetes-validations: [", "  e: {type: string}\nx-kubernetes-validations: [{rule: self.e != 'x'}, ", ""},
		{"[a]", "[a, b]", "the object: requires b"},
		{"maxLength: 5", "maxLength: 4", ".a: has a tighter maxLength"},
		{"minimum: 1", "minimum: 2", ".b: has a tighter minimum"},
		{"enum: [1, 2]", "enum: [1]", ".b: may be 2 no more"},
		{"default: 1", "default: 2", ".b: has another default"},
		{"items: {type: string}", "items: {type: integer}", ".c[]: was string"},
		{"additionalProperties: {type: string}", "additionalProperties: {type: string, pattern: x}", ".d{}: was string"},
		{"  d: {type: object, additionalProperties: {type: string}}\n", "", "the object: has no d any more"},
	} {
		got := narrower("", parse(base), parse(strings.Replace(base, c.from, c.to, 1)))
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], c.want)) {
			t.Errorf("%q for %q: %q, want %q", c.to, c.from, got, c.want)
		}
	}
}
