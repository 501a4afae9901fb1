// Package migrate converts the configuration of other load balancers (MetalLB, PureLB, kube-vip's cloud provider) into
// Herald's objects, and tells of each setting that it does not carry over, so that whoever switches knows beforehand
// what will be different.
//
// It is pure: texts and objects in; objects, annotations for Services, and findings out, always in the same order. It
// owns what it knows of the other formats, in tables of rules from which the tables of docs/migration.md are made too.
// It returns no object that config.New refuses, never passes a setting over without a word, and never repeats a
// password.
package migrate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Product is a load balancer whose configuration can be converted.
type Product struct {
	Name      string // as on the command line
	Title     string // as its makers write it
	Resources []Resource
	tables    []table
	object    func(*conversion, *source) // reads one object that is no Service
	finish    func(*conversion)          // makes what follows from all objects together
	notes     []rule                     // annotations of Services
}

// Resource is what to read of a cluster, all objects of it where Name is empty. Of several versions of one resource the
// first that the cluster has is enough.
type Resource struct {
	schema.GroupVersionResource
	Namespace, Name string
}

// Products are those that can be converted.
func Products() []Product { return []Product{metalLB, pureLB, kubeVIP} }

// Input is what to convert: a text of YAML or JSON documents, or one object that was read from a cluster.
type Input struct {
	Name   string // of the file, or of the cluster
	Text   string
	Object map[string]any
}

// Level is how much a Finding matters.
type Level string

// The levels, the gravest first.
const (
	Refused   Level = "refused"    // nothing was made of it
	NoEqual   Level = "no equal"   // Herald has no such setting
	Check     Level = "check"      // converted, and something is left for the user to do or to look at
	NotNeeded Level = "not needed" // Herald does the same, or what it is for, without a setting
)

// Finding is what the user should know of one object or field.
type Finding struct {
	File    string
	Line    int    // in File, 0 when it has none
	Object  string // kind and name
	Field   string // its path, empty when it is about the whole object
	Level   Level
	Message string
}

// Place is the file and the line.
func (f Finding) Place() string {
	if f.Line == 0 {
		return f.File
	}
	return fmt.Sprintf("%s:%d", f.File, f.Line)
}

// About is the object and the field.
func (f Finding) About() string { return strings.TrimSpace(f.Object + " " + f.Field) }

// Annotations are to be added to a Service.
type Annotations struct {
	Namespace, Name string
	Set             map[string]string
}

// Result is what became of the inputs.
type Result struct {
	Objects  []Object      // by kind, then by name
	Services []Annotations // by namespace, then by name
	Findings []Finding     // by place
}

// Complete tells whether something was made of every input.
func (r Result) Complete() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Level == Refused })
}

// Convert reads the inputs as configuration of the product.
func (p Product) Convert(inputs []Input) Result {
	c := &conversion{product: p, pools: map[string]string{}}
	for _, in := range inputs {
		for _, s := range c.read(in) {
			if s.kind == "Service" {
				c.services = append(c.services, s)
				continue
			}
			p.object(c, s)
		}
	}
	if p.finish != nil {
		p.finish(c)
	}
	var out Result
	out.Services = c.annotations()
	out.Objects = c.judge()
	slices.SortStableFunc(c.findings, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(x.File, y.File), cmp.Compare(x.Line, y.Line), cmp.Compare(x.Object, y.Object))
	})
	out.Findings = c.findings
	return out
}

// conversion collects what one call of Convert makes.
type conversion struct {
	product  Product
	drafts   []*draft
	services []*source
	pools    map[string]string // the names that pools had, and have now, where these differ
	aliases  [][2]string       // names for communities that could not be kept, and their values
	local    []*draft          // pools to be announced with ARP and NDP
	remote   []*draft          // pools to be announced with BGP
	findings []Finding
}

func (c *conversion) tell(s *source, line int, field string, level Level, format string, args ...any) {
	c.findings = append(c.findings, Finding{s.file, s.at(line), s.id, field, level, fmt.Sprintf(format, args...)})
}

// draft is an object of Herald's in the making.
type draft struct {
	kind, name string
	labels     any
	spec       map[string]any
	from       *source
	lines      map[string]int // where its fields come from
	text       string         // the object, once written
}

// draft begins an object that comes from s.
func (c *conversion) draft(s *source, kind, name string) *draft {
	d := &draft{kind: kind, name: name, spec: map[string]any{}, from: s, lines: map[string]int{}}
	c.drafts = append(c.drafts, d)
	return d
}

// get returns a field by its path below spec, nil when it is not set.
func (d *draft) get(path string) any {
	var at any = d.spec
	for step := range strings.SplitSeq(strings.TrimPrefix(path, "spec."), ".") {
		m, _ := at.(map[string]any)
		at = m[step]
	}
	return at
}

// set sets a field by its path below spec.
func (d *draft) set(path string, value any, line int) {
	d.lines[path] = line
	steps := strings.Split(strings.TrimPrefix(path, "spec."), ".")
	at := d.spec
	for _, step := range steps[:len(steps)-1] {
		next, ok := at[step].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[step] = next
		}
		at = next
	}
	at[steps[len(steps)-1]] = value
}

// line is where a field of the draft comes from: the field itself or the nearest one above it that is known.
func (d *draft) line(path string) int {
	for ; path != ""; path = path[:max(strings.LastIndexAny(path, ".["), 0)] {
		if n, ok := d.lines[path]; ok {
			return n
		}
	}
	return d.from.node.Line
}
