// Package crd_test judges objects by the CRDs as an API server does.
package crd_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"heraldlb.io/herald/internal/config"
)

// schema is the schema of one kind, judged as the API server does.
type schema struct {
	props      *apiextensions.JSONSchemaProps
	structural *structuralschema.Structural
	fields     schemavalidation.SchemaValidator
	rules      *cel.Validator
}

// schemas reads the CRDs, by kind, and fails when an API server would not take one: a schema that is not structural, a
// rule that does not compile or may cost too much.
func schemas(t testing.TB) map[string]schema {
	t.Helper()
	files, err := filepath.Glob("heraldlb.io_*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no CRDs found: %v", err)
	}
	all := map[string]schema{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var external apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(text, &external); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		apiextensionsv1.SetDefaults_CustomResourceDefinition(&external)
		apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&external.Spec)
		external.Status.StoredVersions = []string{external.Spec.Versions[0].Name}
		var crd apiextensions.CustomResourceDefinition
		if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&external, &crd, nil); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, err := range crdvalidation.ValidateCustomResourceDefinition(t.Context(), &crd) {
			t.Errorf("%s: %v", file, err)
		}
		version, err := apiextensions.GetSchemaForVersion(&crd, crd.Spec.Versions[0].Name)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		s := schema{props: version.OpenAPIV3Schema}
		if s.structural, err = structuralschema.NewStructural(s.props); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if s.fields, _, err = schemavalidation.NewSchemaValidator(s.props); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		s.rules = cel.NewValidator(s.structural, true, celconfig.PerCallLimit)
		all[crd.Spec.Names.Kind] = s
	}
	return all
}

// judge returns what the API server finds wrong with an object, after it has put in the defaults.
func (s schema) judge(t testing.TB, object map[string]any) field.ErrorList {
	t.Helper()
	defaulting.Default(object, s.structural)
	errs := schemavalidation.ValidateCustomResource(nil, object, s.fields)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, s.structural, object)...)
	if len(errs) > 0 {
		return errs // as there, the rules are not asked then
	}
	errs, _ = s.rules.Validate(t.Context(), nil, s.structural, object, nil, celconfig.RuntimeCELCostBudget)
	return errs
}

// ruleMessages lists the messages of all rules of a schema.
func (s schema) ruleMessages() []string {
	var messages []string
	var walk func(p *apiextensions.JSONSchemaProps)
	walk = func(p *apiextensions.JSONSchemaProps) {
		for _, r := range p.XValidations {
			messages = append(messages, r.Message)
		}
		for _, name := range slices.Sorted(maps.Keys(p.Properties)) {
			child := p.Properties[name]
			walk(&child)
		}
		if p.Items != nil && p.Items.Schema != nil {
			walk(p.Items.Schema)
		}
	}
	walk(s.props)
	slices.Sort(messages)
	return slices.Compact(messages)
}

// refusal is one entry of testdata/refused.yaml.
type refusal struct {
	Name, Kind     string
	Spec           map[string]any
	Schema, Config string
}

// document is the object that is refused.
func (r refusal) document(t testing.TB) string {
	t.Helper()
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "heraldlb.io/v1beta1", "kind": r.Kind, "metadata": map[string]any{"name": "x"}, "spec": r.Spec,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// untyped reads a document as the API server does, which tells whole numbers from others.
func untyped(t testing.TB, document string) map[string]any {
	t.Helper()
	text, err := yaml.YAMLToJSON([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := utiljson.Unmarshal(text, &object); err != nil {
		t.Fatal(err)
	}
	return object
}

func accepted(c *config.Config) int {
	return len(c.Pools) + len(c.L2Advertisements) + len(c.BGPAdvertisements) + len(c.BGPPeers) + len(c.BFDProfiles)
}

func TestWhatTheSchemaRefusesNewRefusesToo(t *testing.T) {
	all := schemas(t)
	text, err := os.ReadFile("testdata/refused.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var refused []refusal
	if err := yaml.UnmarshalStrict(text, &refused); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range refused {
		t.Run(c.Kind+": "+c.Name, func(t *testing.T) {
			errs := all[c.Kind].judge(t, untyped(t, c.document(t)))
			for _, err := range errs {
				seen[c.Kind+": "+err.Detail] = true
			}
			if text := errs.ToAggregate(); text == nil || !strings.Contains(text.Error(), c.Schema) {
				t.Errorf("the schema says %v, want %q", text, c.Schema)
			}
			r, problems := config.Parse("cm", map[string]string{"a": c.document(t)})
			if len(problems) > 0 {
				t.Fatalf("Parse: %v", problems)
			}
			cfg, problems := config.New(r)
			if accepted(cfg) > 0 || !slices.ContainsFunc(problems, func(p config.Problem) bool {
				return p.Condition == config.ConditionAccepted && strings.Contains(p.Message, c.Config)
			}) {
				t.Errorf("New accepted %d objects and says %v, want %q", accepted(cfg), problems, c.Config)
			}
		})
	}
	for kind, s := range all {
		for _, message := range s.ruleMessages() {
			if !seen[kind+": "+message] {
				t.Errorf("no case shows the rule of %s: %s", kind, message)
			}
		}
	}
}
