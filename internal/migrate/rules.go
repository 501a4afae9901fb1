package migrate

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// rule says what becomes of one field of another product's object.
type rule struct {
	from string // its path
	to   string // the path of the field that takes its place; empty when none does
	// how gives the new value; nil as a function means that it stays the same, as a value that the field is left out.
	how func(*field) any
	// level and say are the finding for everyone who uses the field. Without a level, say is for the documentation
	// alone, and how tells what there is to tell.
	level Level
	say   string
}

// same are fields that keep name and meaning.
func same(paths ...string) []rule {
	out := make([]rule, len(paths))
	for i, path := range paths {
		out[i] = rule{from: path, to: path}
	}
	return out
}

// table is what becomes of an object of one kind.
type table struct {
	title string // for the documentation
	to    string // the kind of Herald's that it becomes
	rules []rule
}

// field is a field that a rule is applied to.
type field struct {
	c     *conversion
	s     *source
	d     *draft
	path  string
	node  *yaml.Node
	value any
}

// tell adds a finding about the field.
func (f *field) tell(level Level, format string, args ...any) {
	f.c.tell(f.s, f.node.Line, f.path, level, format, args...)
}

// apply makes fields of d from the fields of node by the rules. What no rule knows is told, so nothing is lost in
// silence; empty values are as good as none everywhere in Kubernetes, and are left out.
func (c *conversion) apply(s *source, d *draft, node *yaml.Node, prefix string, rules []rule) {
	for i := 0; i+1 < len(node.Content); i += 2 {
		path := prefix + node.Content[i].Value
		f := &field{c: c, s: s, d: d, path: path, node: resolve(node.Content[i+1])}
		if err := f.node.Decode(&f.value); err != nil {
			f.tell(Refused, "the value cannot be read: %v", err)
			continue
		}
		if empty(f.value) {
			continue
		}
		at := slices.IndexFunc(rules, func(r rule) bool { return r.from == path })
		switch {
		case at >= 0:
			f.obey(rules[at])
		case f.node.Kind == yaml.MappingNode && slices.ContainsFunc(rules, func(r rule) bool { return strings.HasPrefix(r.from, path+".") }):
			c.apply(s, d, f.node, path+".", rules)
		default:
			f.tell(NoEqual, "this field is not known, so nothing became of it: see what it does, and whether Herald has something like it")
		}
	}
}

// obey applies a rule that is the field's.
func (f *field) obey(r rule) {
	if r.to == "" && zero(f.value) {
		return // switched off
	}
	if r.level != "" {
		f.tell(r.level, "%s", r.say)
	}
	value := f.value
	if r.how != nil {
		value = r.how(f)
	}
	if r.to == "" || value == nil {
		return
	}
	f.d.set(r.to, distinct(value), f.node.Line)
}

func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

func zero(v any) bool { return empty(v) || v == false || v == 0 }

// unlessZero leaves a number or a switch out that is as good as not there.
func unlessZero(f *field) any {
	if zero(f.value) {
		return nil
	}
	return f.value
}

// distinct drops what is in a list of texts twice: Herald's lists are sets.
func distinct(v any) any {
	list, ok := v.([]any)
	if !ok {
		return v
	}
	var out []any
	for _, x := range list {
		if _, isText := x.(string); !isText || !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

// Tables returns what becomes of each field of the product's objects, in Markdown.
func (p Product) Tables() string {
	var b strings.Builder
	for _, t := range append(slices.Clone(p.tables), table{"Annotations of Services", "", p.notes}) {
		fmt.Fprintf(&b, "\n%s", t.title)
		if t.to != "" && t.to != t.title {
			fmt.Fprintf(&b, ", which becomes %s", t.to)
		}
		b.WriteString(":\n\n| field | becomes | remarks |\n|---|---|---|\n")
		for _, r := range t.rules {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.from, r.becomes(), strings.ReplaceAll(r.say, "|", `\|`))
		}
	}
	return b.String()
}

// becomes is the table's word for what becomes of a field.
func (r rule) becomes() string {
	switch {
	case r.to == r.from:
		return "the same"
	case r.to != "":
		return "`" + r.to + "`"
	default:
		return string(r.level) // none where the remark says it all
	}
}
