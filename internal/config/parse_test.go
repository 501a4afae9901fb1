package config_test

import (
	"reflect"
	"strings"
	"testing"

	"heraldlb.io/herald/internal/config"
)

func TestWhatParseRefuses(t *testing.T) {
	const pool = "apiVersion: heraldlb.io/v1beta1\nkind: IPAddressPool\nmetadata:\n  name: lan\nspec:\n  addresses: [192.0.2.0/24]\n"
	for _, c := range []struct {
		name string
		data map[string]string
		want []string // places and parts of the messages
	}{
		{"nothing at all", nil, nil},
		{"an empty key", map[string]string{"a": ""}, nil},
		{"comments only", map[string]string{"a": "# nothing\n---\n# here\n---\n"}, nil},
		{"a good object, begun by a line", map[string]string{"a": "--- # the first\n" + pool}, nil},
		{"an unknown field", map[string]string{"a": "# a comment\n" + pool + "  adresses: []\n"}, []string{`data["a"] line 8: IPAddressPool has no field spec.adresses`}},
		{"an unknown field deep down", map[string]string{"a": pool + "  serviceAllocation:\n    namespaceSelectors:\n    - matchLabels: {}\n    - matchLabel: {}\n"},
			[]string{`data["a"] line 10: IPAddressPool has no field spec.serviceAllocation.namespaceSelectors[1].matchLabel`}},
		{"two unknown fields of the second document", map[string]string{"a": pool + "---\n" + strings.Replace(pool, "lan", "wan", 1) + "x: 1\nz: 2\n"},
			[]string{`data["a"] line 14: IPAddressPool has no field x`, `data["a"] line 15: IPAddressPool has no field z`}},
		{"a field twice", map[string]string{"a": pool + "spec: {}\n"}, []string{`data["a"] line 7: the key "spec" is there twice`}},
		{"a name twice", map[string]string{"a": pool, "b": "\n\n" + pool}, []string{`data["b"] line 3: IPAddressPool lan is there already, at data["a"] line 1`}},
		{"no name", map[string]string{"a": "apiVersion: heraldlb.io/v1beta1\nkind: L2Advertisement\n"}, []string{`data["a"] line 1: metadata.name of L2Advertisement is ""`}},
		{"a name that is no name", map[string]string{"a": strings.Replace(pool, "lan", "Lan!", 1)}, []string{`line 1: metadata.name of IPAddressPool is "Lan!"`}},
		{"an object of MetalLB", map[string]string{"a": strings.Replace(pool, "heraldlb.io", "metallb.io", 1)}, []string{"write apiVersion: heraldlb.io/v1beta1"}},
		{"an object of somebody else", map[string]string{"a": strings.Replace(pool, "IPAddressPool", "Service", 1)}, []string{"one of the kinds IPAddressPool"}},
		{"no kind", map[string]string{"a": strings.Replace(pool, "kind: IPAddressPool\n", "", 1)}, []string{"the document has no kind"}},
		{"no apiVersion", map[string]string{"a": "kind: IPAddressPool\n"}, []string{"the document has no apiVersion"}},
		{"a list", map[string]string{"a": "apiVersion: heraldlb.io/v1beta1\nkind: IPAddressPoolList\nitems: []\n"}, []string{"a list of objects is not read"}},
		{"a number for a list", map[string]string{"a": strings.Replace(pool, "[192.0.2.0/24]", "7", 1)}, []string{`data["a"] line 6: spec.addresses is a number and should be a list`}},
		{"a text for a number", map[string]string{"a": pool + "  namespaceQuota: many\n"}, []string{`data["a"] line 7: spec.namespaceQuota is a string and should be a whole number`}},
		{"a time that is none", map[string]string{"a": "apiVersion: heraldlb.io/v1beta1\nkind: BGPPeer\nmetadata: {name: p}\nspec: {holdTime: soon}\n"}, []string{`invalid duration "soon"`}},
		{"broken YAML", map[string]string{"a": pool + "---\nkind: [\n"}, []string{`data["a"] line 8: the document is no YAML`}},
		{"a tab", map[string]string{"a": "kind:\n\tx\n"}, []string{"no YAML"}},
		{"a scalar", map[string]string{"a": "hello"}, []string{"the document is no object"}},
		{"a second document without its line", map[string]string{"a": pool + "...\n" + pool}, []string{"put a line --- before it"}},
		{"an anchor", map[string]string{"a": strings.Replace(pool, "[192", "&x [192", 1)}, []string{`data["a"] line 6: anchors and aliases`}},
		{"a YAML bomb", map[string]string{"a": "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"}, []string{"line 1: anchors", "line 2: anchors", "line 3: anchors"}},
		{"far too much", map[string]string{"a": strings.Repeat("#", 3<<20), "b": strings.Repeat("#", 2<<20)}, []string{"data: 5242880 bytes are more than"}},
		{"half a million empty documents", map[string]string{"a": strings.Repeat("---\n", 1<<19) + "x: 1\n"}, []string{"line 524289: the document has no kind"}},
		{"mappings without end", map[string]string{"a": "kind: x\n" + strings.Repeat("? ", 1<<20)}, []string{"no YAML"}},
		{"brackets without end", map[string]string{"a": strings.Repeat("[", 1<<20)}, []string{"no YAML"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, problems := config.Parse("herald", c.data)
			ok := len(c.want) <= len(problems) && (len(c.want) > 0 || len(problems) == 0)
			for i, want := range c.want {
				ok = ok && strings.Contains(problems[i].Field+": "+problems[i].Message, want) && problems[i].Kind == config.KindConfigMap && problems[i].Name == "herald"
			}
			if !ok {
				t.Errorf("problems %v\nwant %q", problems, c.want)
			}
		})
	}
}

func TestABadDocumentHarmsNoOther(t *testing.T) {
	data := samples(t)
	good := parsed(t, data)
	data["a-bad"], data["z-bad"] = "kind: [", "apiVersion: v1\nkind: ConfigMap\n"
	got, problems := config.Parse("cm", data)
	if len(problems) != 2 || !reflect.DeepEqual(got, good) {
		t.Errorf("problems %v; all good documents read: %v", problems, reflect.DeepEqual(got, good))
	}
}

func TestTooManyDocuments(t *testing.T) {
	_, problems := config.Parse("herald", map[string]string{"a": strings.Repeat("--- x\n", 500_000)})
	if n := len(problems); n != 20_001 || !strings.Contains(problems[n-1].Message, "no more than 20000 are read") {
		t.Errorf("%d problems, the last: %v", n, problems[n-1])
	}
}
