// Package charts holds the checks that the chart and the kustomize installs are one: what `helm template` renders is what
// `kustomize build` does, for each install that both can make, and every value is described and checked. helm is built when
// it is first needed.
package charts

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"heraldlb.io/herald/e2etest/parts"
)

// render runs helm template on the chart.
func render(t *testing.T, namespace, values string) ([]byte, error) {
	t.Helper()
	if testing.Short() {
		t.Skip("helm takes minutes to build the first time")
	}
	cache, err := parts.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	programs, err := parts.Cache{Dir: cache, Progress: func(line string) { t.Log(line) }}.Build(context.Background(), parts.Helm())
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir() // nothing of the user's
	cmd := exec.Command(filepath.Join(programs, "helm"), "template", "herald", "herald", "--namespace", namespace, "--values", "-")
	cmd.Env = append(os.Environ(), "HELM_CONFIG_HOME="+home, "HELM_CACHE_HOME="+home, "HELM_DATA_HOME="+home)
	cmd.Stdin = strings.NewReader(values)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, &stderr)
	}
	return out, err
}

// rendered is what the chart gives in Herald's own namespace.
func rendered(t *testing.T, values string) map[string]object {
	t.Helper()
	out, err := render(t, "herald-system", values)
	if err != nil {
		t.Fatal(err)
	}
	return objects(t, out)
}

func kustomized(t *testing.T, dir string) map[string]object {
	t.Helper()
	cmd := exec.Command("go", "tool", "kustomize", "build", filepath.Join("..", "config", dir))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return objects(t, out)
}

type object = map[string]any

// objects returns those of a stream, by kind, namespace and name, without what only the chart adds.
func objects(t *testing.T, stream []byte) map[string]object {
	t.Helper()
	out := map[string]object{}
	for text := range strings.SplitSeq(string(stream), "\n---\n") {
		var o object
		if err := yaml.UnmarshalStrict([]byte(text), &o); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if len(o) == 0 {
			continue
		}
		meta := o["metadata"].(object)
		if strings.HasPrefix(o["kind"].(string), "ValidatingAdmission") {
			delete(meta, "namespace") // kustomize gives one to kinds of which it does not know that they have none
		}
		id := fmt.Sprintf("%v %v/%v", o["kind"], meta["namespace"], meta["name"])
		if out[id] != nil {
			t.Errorf("%s is there twice", id)
		}
		without(meta, "labels", "helm.sh/chart", "app.kubernetes.io/managed-by")
		without(meta, "annotations", "helm.sh/resource-policy")
		sortEnv(o)
		out[id] = o
	}
	return out
}

func without(meta object, field string, keys ...string) {
	m, _ := meta[field].(object)
	for _, key := range keys {
		delete(m, key)
	}
	if len(m) == 0 {
		delete(meta, field)
	}
}

// sortEnv puts the variables of containers, of which none is made from another, in the order of their names.
func sortEnv(v any) {
	switch v := v.(type) {
	case object:
		for key, inner := range v {
			if list, ok := inner.([]any); ok && key == "env" {
				slices.SortFunc(list, func(x, y any) int {
					return strings.Compare(fmt.Sprint(x.(object)["name"]), fmt.Sprint(y.(object)["name"]))
				})
			}
			sortEnv(inner)
		}
	case []any:
		for _, inner := range v {
			sortEnv(inner)
		}
	}
}

func text(o object) string {
	out, err := yaml.Marshal(o)
	if err != nil {
		return err.Error()
	}
	return string(out)
}

func TestTheChartRendersWhatKustomizeDoes(t *testing.T) {
	for _, c := range []struct{ name, values, dirs string }{
		{"as it comes", "", "."},
		{"its configuration in a ConfigMap", "configSource: configmap", "configmap"},
		{"without BGP", "bgp: {enabled: false}", "layer2"},
		{"that only observes", "observe: true", "observe"},
		{"with passive peers", "bgp: {passive: true}", "bgp"},
		{"with guarded metrics", "metrics: {auth: token}", "metrics-auth"},
		{"high security", "{metrics: {auth: token}, networkPolicy: {enabled: true}}", "secure"},
		{"with monitoring", "monitoring: {podMonitor: true, prometheusRule: true, dashboard: true}", ". monitoring"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, want := rendered(t, c.values), map[string]object{}
			for _, dir := range strings.Fields(c.dirs) {
				maps.Copy(want, kustomized(t, dir))
			}
			const namespace = "Namespace <nil>/herald-system" // a chart cannot make the namespace that it is installed in
			if want[namespace] == nil || got[namespace] != nil {
				t.Errorf("kustomize makes the namespace: %t, the chart does: %t", want[namespace] != nil, got[namespace] != nil)
			}
			delete(want, namespace)
			for _, id := range slices.Sorted(maps.Keys(want)) {
				if got[id] == nil {
					t.Errorf("the chart lacks %s", id)
				} else if !reflect.DeepEqual(got[id], want[id]) {
					t.Errorf("%s differs; the chart:\n%s\nkustomize:\n%s", id, text(got[id]), text(want[id]))
				}
			}
			for id := range got {
				if want[id] == nil {
					t.Errorf("only the chart has %s", id)
				}
			}
		})
	}
}

// everything sets what no kustomize install has.
const everything = `
image: {registry: registry.example.com/herald, tag: v9, pullPolicy: Always, pullSecrets: [{name: login}]}
lbClass: example.com/lan
failureDetection: wan
log: {level: debug, format: json}
crds: {keep: false}
controller: {replicas: 3, podLabels: {team: net}, podAnnotations: {a: b}, env: {HERALD_LEADER_ELECT: true}}
speaker:
  image: registry.example.com/other@sha256:0123
  maxUnavailable: 10%
  podLabels: {team: net}
  podAnnotations: {a: b}
  env: {HERALD_CLUSTER_LABEL: one, HERALD_LOG_LEVEL: warn}
metrics: {auth: token, tlsSecret: certificate, perService: true}
monitoring: {podMonitor: true, prometheusRule: true, labels: {release: prometheus}, tokenSecret: {name: reader, key: token}}
networkPolicy: {enabled: true, metricsFrom: [{namespaceSelector: {}}], apiServerPorts: [8443]}
`

func TestEveryValueIsMinded(t *testing.T) {
	all := rendered(t, everything)
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for id, o := range all {
		if version := o["apiVersion"].(string); strings.HasPrefix(version, "monitoring.coreos.com/") || strings.HasPrefix(version, "apiextensions.k8s.io/") {
			continue
		}
		if _, _, err := strict.Decode([]byte(text(o)), nil, nil); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	holds := func(id string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if got := text(all[id]); !strings.Contains(got, part) {
				t.Errorf("%s lacks %q:\n%s", id, part, got)
			}
		}
	}
	both := []string{"- name: HERALD_LOG_FORMAT\n          value: json\n", "value: /etc/herald/metrics-tls/tls.key\n", "secretName: certificate\n",
		"HERALD_METRICS_PER_SERVICE\n          value: \"true\"\n", "imagePullSecrets:\n      - name: login\n", "imagePullPolicy: Always\n",
		"        team: net\n", "      annotations:\n        a: b\n", "scheme: HTTPS\n"}
	holds("Deployment herald-system/herald-controller", append(both, "image: registry.example.com/herald/herald-controller:v9\n", "replicas: 3\n",
		"HERALD_LB_CLASS\n          value: example.com/lan\n", "HERALD_LOG_LEVEL\n          value: debug\n", "HERALD_LEADER_ELECT\n          value: \"true\"\n")...)
	holds("DaemonSet herald-system/herald-speaker", append(both, "image: registry.example.com/other@sha256:0123\n", "maxUnavailable: 10%\n",
		"HERALD_FAILURE_DETECTION\n          value: wan\n", "HERALD_LOG_LEVEL\n          value: warn\n", "HERALD_CLUSTER_LABEL\n          value: one\n")...)
	holds("PodMonitor herald-system/herald-speaker", "release: prometheus\n", "scheme: https\n", "authorization:\n      credentials:\n        key: token\n        name: reader\n")
	holds("PrometheusRule herald-system/herald", "release: prometheus\n")
	holds("NetworkPolicy herald-system/herald-controller", "port: 8443\n", "- from:\n    - namespaceSelector: {}\n")
	if got := text(all["NetworkPolicy herald-system/herald-controller"]); strings.Contains(got, "443\n") != strings.Contains(got, "8443\n") || strings.Contains(got, "6443") {
		t.Errorf("other ports of the API server are open too:\n%s", got)
	}
}

func TestTheCRDsStayUnlessToldOtherwise(t *testing.T) {
	for values, want := range map[string]int{"": 8, "crds: {keep: false}": 0, "crds: {install: false}": 0} {
		out, err := render(t, "herald-system", values)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(out, []byte("helm.sh/resource-policy: keep")); n != want {
			t.Errorf("%q: %d objects are kept, want %d", values, n, want)
		}
		if n := bytes.Count(out, []byte("\nkind: CustomResourceDefinition\n")); (n == 0) != strings.Contains(values, "install") {
			t.Errorf("%q: there are %d CRDs", values, n)
		}
	}
}

func TestTheNamespaceIsTheReleases(t *testing.T) {
	out, err := render(t, "lb", everything)
	if err != nil {
		t.Fatal(err)
	}
	if i := bytes.Index(out, []byte("herald-system")); i >= 0 {
		t.Errorf("installed in lb it still speaks of herald-system: ...%s", out[max(0, i-200):min(len(out), i+50)])
	}
}

func TestAWrongValueIsRefusedByName(t *testing.T) {
	for values, name := range map[string]string{
		"failureDetection: quick":                          "failureDetection",
		"speakers: {}":                                     "speakers",
		"speaker: {maxUnavailable: 0}":                     "maxUnavailable",
		"controller: {replicas: two}":                      "replicas",
		"controller: {env: {LOG_LEVEL: debug}}":            "env",
		"networkPolicy: {apiServerPorts: [0]}":             "apiServerPorts",
		"monitoring: {tokenSecret: {name: x, field: key}}": "tokenSecret",
	} {
		if _, err := render(t, "herald-system", values); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "schema") {
			t.Errorf("%s: error %v, want one of the schema that names %s", values, err, name)
		}
	}
}

// The schema and the values have the same fields, but for those of objects that are Kubernetes' own.
func TestTheSchemaKnowsEveryValueAndNoOther(t *testing.T) {
	type schema struct {
		Properties map[string]*schema `json:"properties"`
	}
	var s schema
	var values object
	for file, into := range map[string]any{"herald/values.schema.json": &s, "herald/values.yaml": &values} {
		text, err := os.ReadFile(file)
		if err == nil && strings.HasSuffix(file, ".json") {
			err = json.Unmarshal(text, into)
		} else if err == nil {
			err = yaml.UnmarshalStrict(text, into)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	var compare func(path string, values object, s *schema)
	compare = func(path string, values object, s *schema) {
		for name, v := range values {
			inner := s.Properties[name]
			if inner == nil {
				t.Errorf("the schema does not know %s%s", path, name)
				continue
			}
			if group, ok := v.(object); ok && len(group) > 0 && name != "resources" && inner.Properties != nil {
				compare(path+name+".", group, inner)
			}
		}
		for name := range s.Properties {
			if _, ok := values[name]; !ok && path+name != "global" { // which helm adds
				t.Errorf("the values lack %s%s, which the schema knows", path, name)
			}
		}
	}
	compare("", values, &s)
}
