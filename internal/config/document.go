package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document is one YAML document and the line where its text begins.
type document struct {
	text string
	line int
}

// split cuts a text at the lines that begin documents. Documents without any content are left out.
func split(text string) []document {
	var out []document
	begin, beginLine, line := 0, 1, 1
	for at := 0; at < len(text); line++ {
		end := len(text)
		if i := strings.IndexByte(text[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		if rest, ok := strings.CutPrefix(text[at:end], "---"); ok && at > begin && (rest == "" || strings.ContainsAny(rest[:1], " \t\r\n")) {
			out = appendDocument(out, text[begin:at], beginLine)
			begin, beginLine = at, line
		}
		at = end
	}
	return appendDocument(out, text[begin:], beginLine)
}

func appendDocument(to []document, text string, line int) []document {
	if rest := strings.TrimSpace(strings.TrimPrefix(text, "---")); rest == "" {
		return to
	}
	return append(to, document{text, line})
}

// fault is what is wrong with the YAML of a document, before anybody asks what it means.
type fault struct {
	line    int
	message string
}

// read parses the document, for the lines of its fields only. The tree is nil when there is nothing in it.
func (d document) read() (tree *yaml.Node, faults []fault) {
	decoder := yaml.NewDecoder(bytes.NewReader([]byte(d.text)))
	var doc, more yaml.Node
	if err := decoder.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, []fault{d.syntax(err)}
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, []fault{{d.line, "there is more text after the end of the document: put a line --- before it"}}
	}
	if len(doc.Content) != 1 || doc.Content[0].Tag == "!!null" {
		return nil, nil
	}
	tree = doc.Content[0]
	if tree.Kind != yaml.MappingNode {
		return nil, []fault{{d.line + tree.Line - 1, "the document is no object: write apiVersion, kind, metadata and spec"}}
	}
	return tree, d.check(tree, nil)
}

var syntaxLine = regexp.MustCompile(`line ([0-9]+): `)

// syntax places an error of the YAML parser.
func (d document) syntax(err error) fault {
	line, message := 1, strings.TrimPrefix(err.Error(), "yaml: ")
	if m := syntaxLine.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1]) // it is digits
		message = strings.Replace(message, m[0], "", 1)
	}
	return fault{d.line + line - 1, "the document is no YAML: " + message}
}

// check looks for what no configuration needs and what decoders disagree about: anchors, by which a small text can
// stand for a huge one, and keys that are there twice.
func (d document) check(n *yaml.Node, faults []fault) []fault {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return append(faults, fault{d.line + n.Line - 1, "anchors and aliases are not read: write the value out"})
	}
	seen := map[string]bool{}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && child.Kind == yaml.ScalarNode {
			if seen[child.Value] {
				faults = append(faults, fault{d.line + child.Line - 1, fmt.Sprintf("the key %q is there twice: remove one", child.Value)})
			}
			seen[child.Value] = true
		}
		faults = d.check(child, faults)
	}
	return faults
}

// lineOf returns the line, within its document, of a path such as spec.nodeSelectors[0].matchLabels, or of as much of
// it as there is.
func lineOf(n *yaml.Node, path string) int {
	line := n.Line
	for _, step := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		var next *yaml.Node
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == step {
					line, next = n.Content[i].Line, n.Content[i+1]
				}
			}
		case yaml.SequenceNode:
			if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
				line, next = n.Content[i].Line, n.Content[i]
			}
		}
		if next == nil {
			break
		}
		n = next
	}
	return line
}
