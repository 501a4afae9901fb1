package config

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Place is where in the documents that Parse read a Problem is. Its Line is 0 when that is not known.
type Place struct {
	Key  string
	Line int
}

// Locate returns the place of each problem that Parse and New found in the documents, in the order of the problems.
func Locate(data map[string]string, problems []Problem) []Place {
	at := map[named]origin{}
	for key, text := range data {
		for _, d := range split(text) {
			tree, _ := d.read()
			if tree == nil {
				continue
			}
			n := named{scalar(tree, "kind"), scalar(child(tree, "metadata"), "name")}
			if _, twice := at[n]; !twice {
				at[n] = origin{key, d.line, tree}
			}
		}
	}
	places := make([]Place, len(problems))
	for i, p := range problems {
		if key, line, ok := placed(p.Field); ok {
			places[i] = Place{key, line}
		} else if o, ok := at[named{p.Kind, p.Name}]; ok {
			places[i] = Place{o.key, o.line + lineOf(o.tree, p.Field) - 1}
		}
	}
	return places
}

// origin is a document that was read.
type origin struct {
	key  string
	line int // of the document
	tree *yaml.Node
}

// placeFormat is how a Field says where a problem of a document is.
const placeFormat = "data[%q] line %d"

// place is where a problem is, for its Field.
func place(key string, line int) string { return fmt.Sprintf(placeFormat, key, line) }

// placed reads what place wrote.
func placed(field string) (key string, line int, ok bool) {
	n, _ := fmt.Sscanf(field, placeFormat, &key, &line) // what is left out counts as no place
	return key, line, n == 2
}

// child returns the value of a key of a mapping, nil when there is none.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func scalar(n *yaml.Node, key string) string {
	if v := child(n, key); v != nil && v.Kind == yaml.ScalarNode {
		return v.Value
	}
	return ""
}
