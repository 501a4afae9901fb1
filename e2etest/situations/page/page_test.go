package page

import (
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write docs/troubleshooting.md, to be read before it is committed")

const (
	scripts = "../testdata"
	docs    = "../../../docs/troubleshooting.md"
	alerts  = "../../../config/monitoring/alerts.yaml"
)

func situations(t *testing.T) []Situation {
	t.Helper()
	all, err := Read(scripts)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestThePageSaysWhatTheScriptsAssert(t *testing.T) {
	fresh := Render(situations(t))
	if *update {
		if err := os.WriteFile(docs, fresh, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != string(fresh) {
		t.Errorf("%s says something else than the scripts (go test ./e2etest/situations/page -update, when it is meant)", docs)
	}
}

func TestEverySituationIsToldOf(t *testing.T) {
	for _, s := range situations(t) {
		if !slices.ContainsFunc(s.Told, func(x Telling) bool { return x.By == Says }) {
			t.Errorf("%s: no command of heraldctl says anything", s.Name)
		}
	}
}

// An alert that a script names exists, and is about a metric that the script asserts.
func TestTheAlertsAreThoseOfTheMetrics(t *testing.T) {
	text, err := os.ReadFile(alerts)
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Spec struct {
			Groups []struct {
				Rules []struct{ Alert, Expr string }
			}
		}
	}
	if err := yaml.Unmarshal(text, &rules); err != nil {
		t.Fatal(err)
	}
	exprs := map[string]string{}
	for _, g := range rules.Spec.Groups {
		for _, r := range g.Rules {
			exprs[r.Alert] = r.Expr
		}
	}
	seen := 0
	for _, s := range situations(t) {
		for _, told := range s.Told {
			if told.By != Alert {
				continue
			}
			seen++
			expr, ok := exprs[told.Args[0]]
			if !ok {
				t.Errorf("%s: there is no alert %s", s.Name, told.Args[0])
				continue
			}
			if !slices.ContainsFunc(s.Told, func(x Telling) bool {
				return x.By == Metric && regexp.MustCompile(`\b`+name(x.Args[1])+`\b`).MatchString(expr)
			}) {
				t.Errorf("%s: alert %s is about %q, of which the script asserts no metric", s.Name, told.Args[0], expr)
			}
		}
	}
	if seen == 0 {
		t.Error("no script names an alert")
	}
}

// name is a series' name without its labels.
func name(series string) string {
	name, _, _ := strings.Cut(series, "{")
	return name
}

func TestAScriptIsReadAsItIsRun(t *testing.T) {
	s, err := Parse(`# Pool full
# part: A Service gets no address
# see: it waits
#   for long
# why: all are in use
# do: add some

condition service/web heraldlb.io/Announced True Announced
# Broken:
apply web.yaml # says nothing
condition service/web heraldlb.io/Allocated False PoolExhausted 'all of ''lan''' more
# Mended:
condition service/web heraldlb.io/Allocated True
-- web.yaml --
event service/web Never
`)
	if err != nil {
		t.Fatal(err)
	}
	if s.Title != "Pool full" || s.See != "it waits for long" || len(s.Told) != 1 ||
		!slices.Equal(s.Told[0].Args, []string{"service/web", "heraldlb.io/Allocated", "False", "PoolExhausted", "all of 'lan'", "more"}) {
		t.Errorf("%+v", s)
	}
	for want, args := range map[string][]string{
		"`heraldctl peers` “no answer”":    {"-exit=0", "peers", "no answer"},
		"`heraldctl status` “broken”":      {"--herald-namespace=other status", "broken"},
		"`heraldctl drain n1 --wait` “no”": {"drain n1 --wait", "no"},
	} {
		if where, what := (Telling{Says, args}).row(); where+" "+what != want {
			t.Errorf("%q is shown as %s %s, want %s", args, where, what, want)
		}
	}
	for _, bad := range []string{"", "# Pool full\n", "# Pool full\n# part: Nowhere\n# see: a\n# why: b\n# do: c\n"} {
		if s, err := Parse(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, s)
		}
	}
}
