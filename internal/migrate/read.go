package migrate

import (
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// source is one object of another product, or a part of one, as it was read.
type source struct {
	file        string
	id          string // for findings: kind and name
	group, kind string
	namespace   string
	name        string
	node        *yaml.Node
	offset      int // of the lines of a text within a text; -1 when its lines are nowhere
}

// at is the line of the file that a line of the node is on; 0 for an object of a cluster.
func (s *source) at(line int) int {
	if line == 0 || s.offset < 0 {
		return 0
	}
	return s.offset + line
}

// part is something within an object that has a name of its own.
func (s *source) part(what string, node *yaml.Node) *source {
	p := *s
	p.id, p.node = what, node
	return &p
}

// read returns the objects of an input, those of lists one by one.
func (c *conversion) read(in Input) []*source {
	if in.Object != nil {
		var node yaml.Node
		if err := node.Encode(in.Object); err != nil {
			c.refuse(in.Name, 0, "the object cannot be read: %v", err)
			return nil
		}
		return c.objects(in.Name, &node)
	}
	var out []*source
	for decoder := yaml.NewDecoder(strings.NewReader(in.Text)); ; {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			line, message := syntax(err)
			c.refuse(in.Name, line, "this is no YAML, so nothing from here to the end of the file was read: %s", message)
			return out
		}
		if len(doc.Content) == 1 && doc.Content[0].Tag != "!!null" {
			out = append(out, c.objects(in.Name, doc.Content[0])...)
		}
	}
}

func (c *conversion) refuse(file string, line int, format string, args ...any) {
	c.tell(&source{file: file}, line, "", Refused, format, args...)
}

// objects returns the object that a node is, or those that it lists.
func (c *conversion) objects(file string, node *yaml.Node) []*source {
	node = resolve(node)
	if node.Kind != yaml.MappingNode {
		c.refuse(file, node.Line, "this is no object: write apiVersion, kind, metadata and spec")
		return nil
	}
	version, kind := text(node, "apiVersion"), text(node, "kind")
	if kind == "" {
		c.refuse(file, node.Line, "the object has no kind, so nobody can say what it is: write apiVersion and kind as kubectl get -o yaml shows them")
		return nil
	}
	if items := child(node, "items"); strings.HasSuffix(kind, "List") && items != nil {
		var out []*source
		for _, item := range items.Content {
			out = append(out, c.objects(file, item)...)
		}
		return out
	}
	s := &source{file: file, kind: kind, node: node, namespace: text(node, "metadata", "namespace"), name: text(node, "metadata", "name")}
	if group, _, ok := strings.Cut(version, "/"); ok {
		s.group = group
	}
	s.id = kind + " " + s.name
	if s.namespace != "" {
		s.id = kind + " " + s.namespace + "/" + s.name
	}
	return []*source{s}
}

// within reads the text of a field as a document of its own: MetalLB kept one in a ConfigMap.
func (s *source) within(field *yaml.Node) (*source, error) {
	var doc yaml.Node
	inner := *s
	switch {
	case field.Line == 0:
		inner.offset = -1
	case field.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		inner.offset += field.Line
	default: // the text begins on the line of its key
		inner.offset += field.Line - 1
	}
	if err := yaml.Unmarshal([]byte(field.Value), &doc); err != nil {
		return &inner, err
	}
	inner.node = &yaml.Node{Kind: yaml.MappingNode}
	if len(doc.Content) == 1 {
		inner.node = doc.Content[0]
	}
	return &inner, nil
}

var syntaxLine = regexp.MustCompile(`line ([0-9]+): `)

// syntax takes the line out of an error of the YAML parser.
func syntax(err error) (line int, message string) {
	message = strings.TrimPrefix(err.Error(), "yaml: ")
	if m := syntaxLine.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1]) // it is digits
		message = strings.Replace(message, m[0], "", 1)
	}
	return line, message
}

// resolve follows an alias.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// child returns what a path of keys leads to, nil when there is nothing.
func child(n *yaml.Node, path ...string) *yaml.Node {
	for _, key := range path {
		var next *yaml.Node
		if n.Kind == yaml.MappingNode {
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == key {
					next = resolve(n.Content[i+1])
				}
			}
		}
		if next == nil {
			return nil
		}
		n = next
	}
	return n
}

// text returns the text that a path of keys leads to, empty when there is none.
func text(n *yaml.Node, path ...string) string {
	if found := child(n, path...); found != nil && found.Kind == yaml.ScalarNode && found.Tag != "!!null" {
		return found.Value
	}
	return ""
}
