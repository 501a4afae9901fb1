// Fields keeps the reference of Herald's objects in step with their schemas: it fills in the tables of docs/configuration.md,
// and of docs/status.md for what speakers write, from the CRDs, which are generated from the types and their comments. It is
// part of `make generate` and of nothing that runs in a cluster.
package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

type schema = apiextensionsv1.JSONSchemaProps

func main() {
	crds := flag.String("crd", "config/crd", "the directory of the CRDs")
	reported := flag.Bool("reported", false, "the page is about the kinds that have no spec: nobody configures them")
	write := flag.Bool("w", false, "write the page in place of printing it")
	flag.Parse()
	if err := run(*crds, flag.Arg(0), *reported, *write); err != nil {
		fmt.Fprintln(os.Stderr, "fields:", err)
		os.Exit(1)
	}
}

func run(dir, page string, reported, write bool) error {
	schemas, err := read(dir, reported)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	filled, err := fill(string(text), schemas)
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	if !write {
		fmt.Print(filled)
		return nil
	}
	return os.WriteFile(page, []byte(filled), 0o644)
}

// read returns the schemas of the CRDs in a directory, by kind: those that somebody configures, and so have a spec, or the
// others, which are reported.
func read(dir string, reported bool) (map[string]schema, error) {
	files, err := filepath.Glob(filepath.Join(dir, "heraldlb.io_*.yaml"))
	if err != nil {
		return nil, err
	}
	out := map[string]schema{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(text, &crd); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		s := *crd.Spec.Versions[0].Schema.OpenAPIV3Schema
		if _, configured := s.Properties["spec"]; configured != reported {
			out[crd.Spec.Names.Kind] = s
		}
	}
	return out, nil
}

var block = regexp.MustCompile(`(?s)<!-- fields: (\w+)\.(\w+) -->\n.*?<!-- end -->`)

// fill replaces what stands between the marks "fields: Kind.part" and "end".
func fill(page string, schemas map[string]schema) (string, error) {
	var errs []error
	for kind := range schemas {
		place := kind + ".spec -->"
		if _, configured := schemas[kind].Properties["spec"]; !configured {
			place = kind + "." // a part, whatever its name
		}
		if !strings.Contains(page, "<!-- fields: "+place) {
			errs = append(errs, fmt.Errorf("there is no place for the fields of %[1]s: add <!-- fields: %[1]s.spec --> or another part of it, and <!-- end -->", kind))
		}
	}
	out := block.ReplaceAllStringFunc(page, func(old string) string {
		m := block.FindStringSubmatch(old)
		part, ok := schemas[m[1]].Properties[m[2]]
		if !ok {
			errs = append(errs, fmt.Errorf("no CRD has %s.%s", m[1], m[2]))
			return old
		}
		return fmt.Sprintf("<!-- fields: %s.%s -->\n%s<!-- end -->", m[1], m[2], render(m[2], part))
	})
	return out, errors.Join(errs...)
}

// render makes a table of the fields of a schema, and a list of what its rules refuse.
func render(path string, s schema) string {
	var rows, rules strings.Builder
	var walk func(path string, s schema, required bool)
	walk = func(path string, s schema, required bool) {
		for _, r := range s.XValidations {
			fmt.Fprintf(&rules, "- `%s`: %s\n", path, r.Message)
		}
		if path != "spec" && path != "status" && !strings.HasSuffix(path, "[]") {
			fmt.Fprintf(&rows, "| `%s` | %s | %s | %s | %s |\n", path, typeOf(s), preset(s, required), limits(s), cell(s.Description))
		}
		if opaque(s) {
			return
		}
		if s.Items != nil && s.Items.Schema != nil && !opaque(*s.Items.Schema) {
			walk(path+"[]", *s.Items.Schema, false)
		}
		for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
			walk(path+"."+name, s.Properties[name], strings.HasPrefix(path, "spec") && slices.Contains(s.Required, name))
		}
	}
	walk(path, s, false)
	out := "\n| field | type | default | limits | meaning |\n|---|---|---|---|---|\n" + rows.String() + "\n"
	if rules.Len() > 0 {
		out += "The API server refuses, with these words:\n\n" + rules.String() + "\n"
	}
	return out
}

// opaque tells whether a schema is one that Kubernetes' users know, so that its own fields need no telling.
func opaque(s schema) bool { return typeOf(s) == "label selector" || typeOf(s) == "condition" }

func typeOf(s schema) string {
	_, isSelector := s.Properties["matchLabels"]
	_, isCondition := s.Properties["lastTransitionTime"]
	switch {
	case isSelector:
		return "label selector"
	case isCondition:
		return "condition"
	case s.Type == "array" && s.Items != nil && s.Items.Schema != nil:
		return "list of " + plural(typeOf(*s.Items.Schema))
	case s.Type == "string" && strings.Contains(s.Pattern, "{1,8}s"):
		return "time, such as 90s"
	}
	return s.Type
}

func plural(s string) string { return s + "s" }

// preset is the default, or that the field is required.
func preset(s schema, required bool) string {
	switch {
	case s.Default != nil:
		return "`" + strings.Trim(string(s.Default.Raw), `"`) + "`"
	case required:
		return "required"
	}
	return ""
}

// limits are the bounds of a field in words.
func limits(s schema) string {
	var out []string
	enum := s.Enum
	if s.Items != nil && s.Items.Schema != nil && enum == nil {
		enum = s.Items.Schema.Enum
	}
	var values []string
	for _, v := range enum {
		values = append(values, "`"+strings.Trim(string(v.Raw), `"`)+"`")
	}
	if len(values) > 0 {
		out = append(out, strings.Join(values, " or "))
	}
	switch {
	case s.Minimum != nil && s.Maximum != nil:
		out = append(out, fmt.Sprintf("%.0f to %.0f", *s.Minimum, *s.Maximum))
	case s.Minimum != nil:
		out = append(out, fmt.Sprintf("%.0f or more", *s.Minimum))
	}
	if s.MaxItems != nil {
		least := int64(0)
		if s.MinItems != nil {
			least = *s.MinItems
		}
		out = append(out, fmt.Sprintf("%d to %d entries", least, *s.MaxItems))
	}
	return strings.Join(out, ", ")
}

// cell makes a description one cell of a table.
func cell(description string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(description), " "), "|", `\|`)
}
