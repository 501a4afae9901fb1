// Package monitoring holds the check that what watches Herald fits Herald: every metric that an alert or a panel names
// exists, alerts fire when they should and not otherwise, and every panel shows something of a real cluster. promtool
// is the judge; it is built when it is first needed.
package monitoring

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"heraldlb.io/herald/e2etest/parts"
	"heraldlb.io/herald/internal/metrics/reference"
)

// ruleFile is what Prometheus loads: the spec of a PrometheusRule.
type ruleFile struct {
	Groups []struct {
		Name  string `json:"name"`
		Rules []struct {
			Alert       string            `json:"alert"`
			Expr        string            `json:"expr"`
			For         string            `json:"for,omitempty"`
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"rules"`
	} `json:"groups"`
}

// series is one series of a record, as promtool reads it.
type series struct {
	Series string `json:"series"`
	Values string `json:"values"`
}

// record is what e2etest/record wrote.
type record struct {
	Interval string            `json:"interval"`
	Types    map[string]string `json:"types"`
	Series   []series          `json:"series"`
}

type alertTest struct {
	Alertname string          `json:"alertname"`
	EvalTime  string          `json:"eval_time"`
	ExpAlerts []expectedAlert `json:"exp_alerts,omitempty"`
}

type expectedAlert struct {
	ExpLabels      map[string]string `json:"exp_labels"`
	ExpAnnotations map[string]string `json:"exp_annotations"`
}

type queryTest struct {
	Expr       string           `json:"expr"`
	EvalTime   string           `json:"eval_time"`
	ExpSamples []expectedSample `json:"exp_samples"`
}

type expectedSample struct {
	Labels string  `json:"labels"`
	Value  float64 `json:"value"`
}

type story struct {
	Name        string      `json:"name,omitempty"`
	Interval    string      `json:"interval"`
	InputSeries []series    `json:"input_series"`
	Alerts      []alertTest `json:"alert_rule_test,omitempty"`
	Queries     []queryTest `json:"promql_expr_test,omitempty"`
}

type stories struct {
	RuleFiles          []string `json:"rule_files"`
	EvaluationInterval string   `json:"evaluation_interval"`
	Tests              []story  `json:"tests"`
}

func read[T any](t *testing.T, file string) (out T) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.UnmarshalStrict(text, &out)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return out
}

func rules(t *testing.T) ruleFile {
	t.Helper()
	return read[struct {
		APIVersion string            `json:"apiVersion"`
		Kind       string            `json:"kind"`
		Metadata   map[string]string `json:"metadata"`
		Spec       ruleFile          `json:"spec"`
	}](t, "alerts.yaml").Spec
}

// promtool judges stories.
func promtool(t *testing.T, s stories) {
	t.Helper()
	if testing.Short() {
		t.Skip("promtool takes minutes to build the first time")
	}
	cache, err := parts.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	programs, err := parts.Cache{Dir: cache, Progress: func(line string) { t.Log(line) }}.Build(context.Background(), parts.Promtool())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s.RuleFiles = []string{"rules.yaml"}
	for name, content := range map[string]any{"rules.yaml": rules(t), "stories.yaml": s} {
		text, err := yaml.Marshal(content)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"}, {"test", "rules", "stories.yaml"}} {
		cmd := exec.Command(filepath.Join(programs, "promtool"), args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, bytes.TrimSpace(out))
		}
	}
}

// known are the metrics of both programs.
func known(t *testing.T) map[string]reference.Metric {
	t.Helper()
	out := map[string]reference.Metric{}
	for _, program := range []string{reference.Controller, reference.Speaker} {
		all, err := reference.Of(program)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			out[m.Name] = m
		}
	}
	return out
}

// metric returns the metric that a series is of; a histogram has series of three other names.
func metric(known map[string]reference.Metric, name string) (reference.Metric, bool) {
	if m, ok := known[name]; ok {
		return m, m.Type != "histogram"
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if m, ok := known[strings.TrimSuffix(name, suffix)]; ok && m.Type == "histogram" {
			return m, true
		}
	}
	return reference.Metric{}, false
}

var metricName = regexp.MustCompile(`\bherald_[a-z0-9_]+`)

func TestEveryMetricThatIsNamedExists(t *testing.T) {
	all := known(t)
	check := func(where, text string) {
		for _, name := range metricName.FindAllString(text, -1) {
			_, page := all[name]
			if _, ok := metric(all, name); !ok && !(page && strings.HasSuffix(where, ".md")) {
				t.Errorf("%s names %s, which no program of Herald's has", where, name)
			}
		}
	}
	for _, g := range rules(t).Groups {
		for _, r := range g.Rules {
			check(r.Alert, r.Expr)
		}
	}
	for _, p := range readDashboard(t).Panels {
		for _, q := range p.Targets {
			check(p.Title, q.Expr)
		}
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("docs: %v, %v", pages, err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		check(page, string(text))
	}
}

// targetLabels are those that config/monitoring's PodMonitors give to every series.
var targetLabels = []string{"instance", "job", "namespace"}

var labelName = regexp.MustCompile(`([a-z_]+)="`)

// fits tells in what a series differs from what the program has; empty when in nothing.
func fits(all map[string]reference.Metric, s series) string {
	name, labels, _ := strings.Cut(s.Series, "{")
	if !strings.HasPrefix(name, "herald_") {
		return ""
	}
	m, ok := metric(all, name)
	if !ok {
		return "there is no such metric"
	}
	want := append(slices.Clone(targetLabels), m.Labels...)
	if strings.HasSuffix(name, "_bucket") {
		want = append(want, "le")
	}
	for i, l := range m.Labels {
		if slices.Contains(targetLabels, l) {
			want[len(targetLabels)+i] = "exported_" + l
		}
	}
	var got []string
	for _, l := range labelName.FindAllStringSubmatch(labels, -1) {
		got = append(got, l[1])
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return fmt.Sprintf("it has labels %v, the metric has %v", got, want)
	}
	return ""
}

func TestTheRecordIsOfTheMetricsThatThereAre(t *testing.T) {
	all, lab := known(t), read[record](t, "testdata/lab.yaml")
	for name, kind := range lab.Types {
		if all[name].Type != kind {
			t.Errorf("%s is a %s in the lab and a %q in docs/metrics.md", name, kind, all[name].Type)
		}
	}
	for _, s := range lab.Series {
		if why := fits(all, s); why != "" {
			t.Errorf("%s: %s: record anew with go run ./e2etest/record", s.Series, why)
		}
	}
	for name := range all {
		if _, recorded := lab.Types[name]; !recorded && !strings.Contains(all[name].Help, "--config-source=configmap") {
			t.Errorf("%s is not in the record: record anew with go run ./e2etest/record", name)
		}
	}
}

func TestAlertsFireWhenTheyShould(t *testing.T) {
	s := read[stories](t, "alerts_test.yaml")
	all, fired, quiet := known(t), map[string]bool{}, map[string]bool{}
	for _, one := range s.Tests {
		for _, in := range one.InputSeries {
			if why := fits(all, in); why != "" {
				t.Errorf("%s: %s: %s", one.Name, in.Series, why)
			}
		}
		for _, a := range one.Alerts {
			fired[a.Alertname] = fired[a.Alertname] || len(a.ExpAlerts) > 0
			quiet[a.Alertname] = true
		}
	}
	page, err := os.ReadFile("../../docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	explained := regexp.MustCompile(`(?m)^## (\w+)\n\n\*(\w+)\.\* `).FindAllStringSubmatch(string(page), -1)
	var names []string
	for _, g := range rules(t).Groups {
		for _, r := range g.Rules {
			names = append(names, r.Alert)
			if !fired[r.Alert] {
				t.Errorf("%s is in no story of alerts_test.yaml in which it fires", r.Alert)
			}
			if !slices.ContainsFunc(explained, func(m []string) bool { return m[1] == r.Alert && m[2] == r.Labels["severity"] }) {
				t.Errorf("docs/alerts.md does not say what to do about %s, *%s*", r.Alert, r.Labels["severity"])
			}
		}
	}
	if len(explained) != len(names) {
		t.Errorf("docs/alerts.md explains %d alerts, there are %d", len(explained), len(names))
	}
	promtool(t, s)
}

// The places of Grafana's in a query.
var places = strings.NewReplacer("$__rate_interval", "5m", "$namespace", "herald-system")

// The one query that is right to have no answer there: no speaker was away while its node lived.
var empty = []string{`herald_layer2_stand_in_addresses{namespace="$namespace"} > 0`}

func TestEveryPanelShowsSomethingOfARealCluster(t *testing.T) {
	lab := read[record](t, "testdata/lab.yaml")
	all := story{Interval: lab.Interval, InputSeries: lab.Series}
	for _, p := range readDashboard(t).Panels {
		for _, q := range p.Targets {
			if slices.Contains(empty, q.Expr) {
				continue
			}
			all.Queries = append(all.Queries, queryTest{
				// More than nothing, and not only what is no number, which a histogram without observations gives.
				Expr:       fmt.Sprintf("clamp_max(count((%s) > -Inf), 1)", places.Replace(q.Expr)),
				EvalTime:   "155s",
				ExpSamples: []expectedSample{{Labels: "{}", Value: 1}},
			})
		}
	}
	promtool(t, stories{EvaluationInterval: lab.Interval, Tests: []story{all}})
}

func TestANodesDeathIsNoAlert(t *testing.T) {
	lab := read[record](t, "testdata/lab.yaml")
	one := story{Interval: lab.Interval, InputSeries: lab.Series}
	for _, g := range rules(t).Groups {
		for _, r := range g.Rules {
			for _, at := range []string{"30s", "90s", "115s"} {
				one.Alerts = append(one.Alerts, alertTest{Alertname: r.Alert, EvalTime: at})
			}
		}
	}
	// The lab's router speaks no BFD, which is found two minutes after the start.
	bfd := alertTest{Alertname: "HeraldBFDSessionDown", EvalTime: "150s"}
	for _, node := range []string{"n1", "n2"} {
		bfd.ExpAlerts = append(bfd.ExpAlerts, expectedAlert{
			ExpLabels: map[string]string{
				"severity": "warning", "job": "herald-speaker", "namespace": "herald-system", "instance": node, "peer": "192.0.2.1",
			},
			ExpAnnotations: map[string]string{
				"summary":     "A BFD session is down",
				"description": "Node " + node + " has not heard BFD from 192.0.2.1 for two minutes; a broken path is noticed by BGP's hold timer alone.",
			},
		})
	}
	one.Alerts = append(one.Alerts, bfd)
	promtool(t, stories{EvaluationInterval: lab.Interval, Tests: []story{one}})
}
