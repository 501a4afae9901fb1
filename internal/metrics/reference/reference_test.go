package reference

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// text prints metrics as a scrape does, with one series each.
func text(all []Metric) string {
	var b strings.Builder
	for _, m := range all {
		var labels []string
		for _, l := range m.Labels {
			labels = append(labels, l+`="x"`)
		}
		set := strings.Join(labels, ",")
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", m.Name, m.Help, m.Name, m.Type)
		if m.Type != "histogram" {
			fmt.Fprintf(&b, "%s{%s} 1\n", m.Name, set)
			continue
		}
		fmt.Fprintf(&b, "%s_bucket{%s} 1\n", m.Name, strings.Join(append(labels, `le="+Inf"`), ","))
		fmt.Fprintf(&b, "%s_sum{%s} 1\n%s_count{%s} 1\n", m.Name, set, m.Name, set)
	}
	return b.String()
}

// Labels whose values are as many as the objects of a cluster; only metrics about single Services have them.
var unbounded = []string{"namespace", "service", "address", "prefix", "pod"}

func TestEveryMetricKeepsTheConventions(t *testing.T) {
	types := map[string]string{}
	for _, program := range []string{Controller, Speaker} {
		all, err := Of(program)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) < 15 {
			t.Errorf("the %s has %d metrics: are they all found?", program, len(all))
		}
		problems, err := promlint.New(strings.NewReader(text(all))).Lint()
		if err != nil {
			t.Fatalf("%s: %v", program, err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", program, p.Metric, p.Text)
		}
		for _, m := range all {
			if !strings.HasPrefix(m.Name, "herald_") || !strings.HasSuffix(m.Help, ".") {
				t.Errorf("%s: its name begins with herald_ and its help is a sentence, not %q", m.Name, m.Help)
			}
			if said := fmt.Sprint(m.Type, m.Labels, m.Help); types[m.Name] == "" {
				types[m.Name] = said
			} else if types[m.Name] != said {
				t.Errorf("%s is not the same in both programs: %s and %s", m.Name, types[m.Name], said)
			}
			many := slices.ContainsFunc(m.Labels, func(l string) bool { return slices.Contains(unbounded, l) })
			if asked := strings.Contains(m.Help, "--metrics-per-service"); many && !asked {
				t.Errorf("%s{%s} grows with the cluster: only --metrics-per-service asks for that", m.Name, strings.Join(m.Labels, ","))
			}
		}
	}
}

func TestThePageHasAPlaceForEveryProgram(t *testing.T) {
	if _, err := Fill("no place"); err == nil {
		t.Error("a page without tables is accepted")
	}
	page := "<!-- metrics: controller -->\n<!-- end -->\nbetween\n<!-- metrics: speaker -->\nwhat was here\n<!-- end -->\n<!-- metrics: both -->\n<!-- end -->\n"
	out, err := Fill(page)
	if err != nil {
		t.Fatal(err)
	}
	controller, rest, _ := strings.Cut(out, "between")
	speaker, both, _ := strings.Cut(rest, "both")
	for _, c := range []struct{ in, name string }{
		{controller, "`herald_controller_leading`"}, {speaker, "`herald_bfd_session_up`"}, {both, "`herald_build_info`"},
	} {
		if strings.Count(out, c.name) != 1 || !strings.Contains(c.in, c.name) {
			t.Errorf("%s is not where it belongs in:\n%s", c.name, out)
		}
	}
	if strings.Contains(out, "what was here") {
		t.Error("what was there before is still there")
	}
	if again, err := Fill(out); err != nil || again != out {
		t.Errorf("filling it again changes it: %v", err)
	}
}
