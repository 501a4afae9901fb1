// Values keeps the chart's README in step with its values: it fills in the table from values.yaml, where the comment above each
// value says what it is for. It is part of `make generate` and of nothing that runs in a cluster.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

func main() {
	values := flag.String("values", "charts/herald/values.yaml", "the values")
	write := flag.Bool("w", false, "write the page in place of printing it")
	flag.Parse()
	if err := run(*values, flag.Arg(0), *write); err != nil {
		fmt.Fprintln(os.Stderr, "values:", err)
		os.Exit(1)
	}
}

func run(values, page string, write bool) error {
	text, err := os.ReadFile(values)
	if err != nil {
		return err
	}
	all, err := read(text)
	if err != nil {
		return fmt.Errorf("%s: %w", values, err)
	}
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	filled, err := fill(string(old), all)
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	if !write {
		fmt.Print(filled)
		return nil
	}
	return os.WriteFile(page, []byte(filled), 0o644)
}

// value is one that a user may set.
type value struct {
	path, def, about string
}

// read returns the values in their order. One that has a comment is described as a whole; a map without one is a group, whose
// members are described each.
func read(text []byte) ([]value, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) != 1 {
		return nil, errors.New("want one document")
	}
	return collect("", doc.Content[0])
}

func collect(prefix string, group *yaml.Node) (out []value, err error) {
	for i := 0; i < len(group.Content); i += 2 {
		key, val := group.Content[i], group.Content[i+1]
		path := prefix + key.Value
		about := comment(key.HeadComment)
		if about == "" && val.Kind == yaml.MappingNode && len(val.Content) > 0 {
			inner, err := collect(path+".", val)
			if err != nil {
				return nil, err
			}
			out = append(out, inner...)
			continue
		}
		if about == "" {
			return nil, fmt.Errorf("line %d: %s has no comment that says what it is for", key.Line, path)
		}
		def, err := oneLine(val)
		if err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", key.Line, path, err)
		}
		out = append(out, value{path, def, about})
	}
	return out, nil
}

// comment is the last paragraph of what stands above a key, which is the key's own.
func comment(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	var lines []string
	for line := range strings.Lines(paragraphs[len(paragraphs)-1]) {
		lines = append(lines, strings.TrimSpace(strings.TrimPrefix(line, "#")))
	}
	return strings.Join(lines, " ")
}

// oneLine is a value as JSON, which is YAML too.
func oneLine(n *yaml.Node) (string, error) {
	var v any
	if err := n.Decode(&v); err != nil {
		return "", err
	}
	text, err := json.Marshal(v)
	return string(text), err
}

var block = regexp.MustCompile(`(?s)<!-- values -->\n.*?<!-- end -->`)

// fill replaces what stands between the marks "values" and "end".
func fill(page string, all []value) (string, error) {
	if n := len(block.FindAllString(page, -1)); n != 1 {
		return "", fmt.Errorf("there are %d places for the values: want one, <!-- values --> and <!-- end -->", n)
	}
	var b strings.Builder
	b.WriteString("<!-- values -->\n\n| value | default | what |\n|---|---|---|\n")
	for _, v := range all {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", v.path, v.def, strings.ReplaceAll(v.about, "|", `\|`))
	}
	b.WriteString("\n<!-- end -->")
	return block.ReplaceAllLiteralString(page, b.String()), nil
}
