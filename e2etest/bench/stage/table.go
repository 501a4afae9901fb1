package stage

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// Table is the figures of a run.
type Table struct{ rows []row }

type row struct {
	what   string
	times  []time.Duration // of the rounds, where a time is measured
	counts string          // what is counted in all rounds together
	load   string          // of the machine, when the rounds were over
}

// Add makes a row: times of rounds, if a time is measured, and what was counted in all of them.
func (t *Table) Add(what string, times []time.Duration, counts string) {
	load := "?"
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		load, _, _ = strings.Cut(string(data), " ")
	}
	t.rows = append(t.rows, row{what: what, times: times, counts: counts, load: load})
}

// Report makes a row named like the benchmark, and the benchmark's metrics of the times: quantiles, in ms.
func (t *Table) Report(b *testing.B, times []time.Duration, counts string) {
	b.Helper()
	b.ReportMetric(0, "ns/op") // of all rounds and what lies between them: it says nothing
	if len(times) > 0 {
		b.ReportMetric(Milliseconds(Quantile(times, .5)), "p50-ms")
		b.ReportMetric(Milliseconds(Quantile(times, .99)), "p99-ms")
		b.ReportMetric(Milliseconds(Quantile(times, 1)), "max-ms")
	}
	t.Add(strings.TrimPrefix(b.Name(), "Benchmark"), times, counts)
}

// Write prints the table, unless it is empty.
func (t *Table) Write(out io.Writer) {
	if len(t.rows) == 0 {
		return
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tn\tp50\tp99\tmax\tcounted in all rounds\tload")
	for _, r := range t.rows {
		cells := "\t\t\t\t"
		if len(r.times) > 0 {
			cells = fmt.Sprintf("\t%d", len(r.times))
			for _, q := range []float64{.5, .99, 1} {
				cells += fmt.Sprintf("\t%.0f ms", Milliseconds(Quantile(r.times, q)))
			}
		}
		fmt.Fprintf(w, "%s%s\t%s\t%s\n", r.what, cells, r.counts, r.load)
	}
	w.Flush()
}

// Milliseconds is a duration as people and benchstat read it.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Quantile is the value that a part q of all do not exceed, by nearest rank: of 20 values p99 is the largest.
func Quantile(values []time.Duration, q float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}
