package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	serializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/validation"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
)

// What Parse reads at most of all keys together, so that no input takes it more than a few seconds: a ConfigMap holds
// 1 MiB, and 10,000 pools are no more than that. What is more is not configuration.
const (
	maxBytes     = 4 << 20
	maxDocuments = 20_000
)

// Parse reads configuration objects from the documents of a ConfigMap, whose name it is told, or of files. A key
// holds one or more YAML documents, each one object as it would be given to the API server. Unknown fields, fields
// that are there twice, and two objects with one name are problems. A document with a problem is left out; the
// others are returned. Problems are of KindConfigMap and name the key and the line.
func Parse(name string, data map[string]string) (Resources, []Problem) {
	p := parser{name: name, seen: map[string]string{}}
	total := 0
	for _, text := range data {
		total += len(text)
	}
	if total > maxBytes {
		p.refuse("data", ReasonInvalidDocument, "%d bytes are more than the %d that are read: remove what is not configuration", total, maxBytes)
		return p.out, p.problems
	}
	scheme := runtime.NewScheme()
	if err := v1beta1.AddToScheme(scheme); err != nil {
		p.refuse("data", ReasonInvalidDocument, "%v", err)
		return p.out, p.problems
	}
	p.decoder = serializer.NewSerializerWithOptions(serializer.DefaultMetaFactory, scheme, scheme, serializer.SerializerOptions{Yaml: true, Strict: true})
	read := 0
	for _, key := range slices.Sorted(maps.Keys(data)) {
		for _, d := range split(data[key]) {
			if read++; read > maxDocuments {
				p.refuse(place(key, d.line), ReasonInvalidDocument, "this is document %d, and no more than %d are read: the rest is left out", read, maxDocuments)
				return p.out, p.problems
			}
			p.document(key, d)
		}
	}
	return p.out, p.problems
}

// parser collects the objects and problems of the documents.
type parser struct {
	name     string // of the ConfigMap
	decoder  runtime.Decoder
	out      Resources
	seen     map[string]string // where an object is, by kind and name
	problems []Problem
}

func (p *parser) refuse(field, reason, format string, args ...any) {
	p.problems = append(p.problems, Problem{KindConfigMap, p.name, field, ConditionAccepted, reason, fmt.Sprintf(format, args...)})
}

// document reads one document of a key.
func (p *parser) document(key string, d document) {
	tree, faults := d.read()
	if len(faults) > 0 {
		for _, f := range faults {
			p.refuse(place(key, f.line), ReasonInvalidDocument, "%s", f.message)
		}
		return
	}
	if tree == nil {
		return // nothing but comments
	}
	line := d.line + tree.Line - 1
	obj, gvk, err := p.decoder.Decode([]byte(d.text), nil, nil)
	if strict, ok := runtime.AsStrictDecodingError(err); ok {
		for _, e := range strict.Errors() {
			path, isField := unknownField(e)
			if !isField {
				p.refuse(place(key, line), ReasonInvalidDocument, "%v", e)
				continue
			}
			p.refuse(place(key, d.line+lineOf(tree, path)-1), ReasonInvalidDocument, "%s has no field %s: remove it, or correct its name", gvk.Kind, path)
		}
		return
	}
	if err != nil {
		path := ""
		if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
			path = wrong.Field
		}
		p.refuse(place(key, d.line+lineOf(tree, path)-1), ReasonInvalidDocument, "%s", explain(err))
		return
	}
	p.object(place(key, line), obj)
}

// object files an object under its kind.
func (p *parser) object(place string, obj runtime.Object) {
	m, ok := obj.(metav1.Object)
	if !ok {
		p.refuse(place, ReasonInvalidDocument, "a list of objects is not read: write each object as a document of its own, with a line --- in between")
		return
	}
	kind := obj.GetObjectKind().GroupVersionKind().Kind
	if faults := validation.IsDNS1123Subdomain(m.GetName()); len(faults) > 0 {
		p.refuse(place, ReasonInvalidDocument, "metadata.name of %s is %q: %s", kind, m.GetName(), faults[0])
		return
	}
	id := kind + " " + m.GetName()
	if first, twice := p.seen[id]; twice {
		p.refuse(place, ReasonDuplicateName, "%s is there already, at %s: remove one, or give it another name", id, first)
		return
	}
	p.seen[id] = place
	switch o := obj.(type) {
	case *v1beta1.IPAddressPool:
		p.out.Pools = append(p.out.Pools, o)
	case *v1beta1.L2Advertisement:
		p.out.L2Advertisements = append(p.out.L2Advertisements, o)
	case *v1beta1.BGPAdvertisement:
		p.out.BGPAdvertisements = append(p.out.BGPAdvertisements, o)
	case *v1beta1.BGPPeer:
		p.out.BGPPeers = append(p.out.BGPPeers, o)
	case *v1beta1.BFDProfile:
		p.out.BFDProfiles = append(p.out.BFDProfiles, o)
	case *v1beta1.Community:
		p.out.Communities = append(p.out.Communities, o)
	default:
		p.refuse(place, ReasonInvalidDocument, "%s is no kind of Herald's configuration: remove the document", kind)
	}
}

// unknownField returns the path of the field that a strict decoder complains about.
func unknownField(err error) (path string, ok bool) {
	quoted, ok := strings.CutPrefix(err.Error(), `unknown field "`)
	return strings.TrimSuffix(quoted, `"`), ok
}

// explain says in the words of a person what is wrong with a document that could not be decoded.
func explain(err error) string {
	kinds := fmt.Sprintf("write apiVersion: %s and one of the kinds %s", v1beta1.GroupVersion, strings.Join(
		[]string{KindIPAddressPool, KindL2Advertisement, KindBGPAdvertisement, KindBGPPeer, KindBFDProfile, KindCommunity}, ", "))
	wrong := (*json.UnmarshalTypeError)(nil)
	switch {
	case runtime.IsMissingKind(err):
		return "the document has no kind: " + kinds
	case runtime.IsMissingVersion(err):
		return "the document has no apiVersion: " + kinds
	case runtime.IsNotRegisteredError(err):
		return "the document is no configuration of Herald's: " + kinds
	case errors.As(err, &wrong):
		return fmt.Sprintf("%s is a %s and should be a %s", wrong.Field, wrong.Value, jsonType(wrong.Type.Kind().String()))
	}
	return fmt.Sprintf("the document cannot be read: %v", err)
}

// jsonType names one of Go's types as YAML's users know it.
func jsonType(kind string) string {
	switch {
	case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"):
		return "whole number"
	case kind == "slice":
		return "list"
	case kind == "struct", kind == "map", kind == "ptr":
		return "mapping"
	}
	return kind
}
