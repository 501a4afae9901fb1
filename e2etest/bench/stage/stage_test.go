package stage

import (
	"maps"
	"strings"
	"testing"
	"time"
)

func TestQuantilesAreByNearestRank(t *testing.T) {
	twenty := make([]time.Duration, 20)
	for i := range twenty {
		twenty[i] = time.Duration(20 - i)
	}
	for q, want := range map[float64]time.Duration{0: 1, .5: 10, .95: 19, .99: 20, 1: 20} {
		if got := Quantile(twenty, q); got != want {
			t.Errorf("%v of 1 to 20 is %d, want %d", q, got, want)
		}
	}
	if got := Quantile(nil, .5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

func TestMetricsAreNamesWithLabelsAndNumbers(t *testing.T) {
	got := parseMetrics("# HELP a b\n# TYPE a counter\na 1\nb{peer=\"x y\"} 2.5\nc +Inf\n\nnothing\n")
	delete(got, "c")
	if want := map[string]float64{"a": 1, `b{peer="x y"}`: 2.5}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	m := parseMetrics("# HELP a what a is 1\n# TYPE a counter\na 3\nb{reason=\"Not Ready\"} 4.5e+01\nc NaN-ish\n")
	if len(m) != 2 || m["a"] != 3 || m[`b{reason="Not Ready"}`] != 45 {
		t.Errorf("read %v", m)
	}
}

func TestTheTableTellsWhatWasMeasuredAndWhatWasCounted(t *testing.T) {
	var out strings.Builder
	var table Table
	table.Write(&out)
	if out.Len() > 0 {
		t.Errorf("an empty table is %q", out.String())
	}
	table.Add("death", []time.Duration{20 * time.Millisecond, 10 * time.Millisecond}, "2 failed")
	table.Add("restart", nil, "none failed")
	table.Write(&out)
	for _, want := range []string{"10 ms", "20 ms", "2 failed", "restart", "none failed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
