package reference

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// both marks the table of the metrics that both programs have.
const both = "both"

var block = regexp.MustCompile(`(?s)<!-- metrics: (\w+) -->\n.*?<!-- end -->`)

// Fill replaces what stands between the marks "metrics: controller", "metrics: speaker" or "metrics: both" and "end".
func Fill(page string) (string, error) {
	controller, err := Of(Controller)
	if err != nil {
		return "", err
	}
	speaker, err := Of(Speaker)
	if err != nil {
		return "", err
	}
	tables := map[string][]Metric{both: nil, Controller: nil, Speaker: nil}
	in := func(all []Metric, m Metric) bool {
		return slices.ContainsFunc(all, func(o Metric) bool { return o.Name == m.Name })
	}
	for _, m := range controller {
		of := Controller
		if in(speaker, m) {
			of = both
		}
		tables[of] = append(tables[of], m)
	}
	for _, m := range speaker {
		if !in(controller, m) {
			tables[Speaker] = append(tables[Speaker], m)
		}
	}
	for name := range tables {
		if strings.Count(page, "<!-- metrics: "+name+" -->") != 1 {
			return "", fmt.Errorf("want one place for the metrics of %s: <!-- metrics: %s --> and <!-- end -->", name, name)
		}
	}
	return block.ReplaceAllStringFunc(page, func(old string) string {
		name := block.FindStringSubmatch(old)[1]
		return fmt.Sprintf("<!-- metrics: %s -->\n%s<!-- end -->", name, table(tables[name]))
	}), nil
}

func table(all []Metric) string {
	var b strings.Builder
	b.WriteString("\n| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, m := range all {
		labels := ""
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, labels, strings.ReplaceAll(m.Help, "|", "\\|"))
	}
	b.WriteString("\n")
	return b.String()
}
