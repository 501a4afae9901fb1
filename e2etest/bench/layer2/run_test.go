package layer2

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// bench is this run: the lab that is up, and the figures so far.
var bench run

type run struct {
	stage *stage
	rows  []row
	// asked and doubled are the questions of all rounds in which no network is split, and how many of them two nodes
	// answered. Planned moves are counted by themselves: they may.
	asked, doubled               int
	askedPlanned, doubledPlanned int
	took                         time.Duration // of the doubled ones, outside planned moves
}

// row is one line of the table.
type row struct {
	what   string
	times  []time.Duration // of the rounds, where a time is measured
	counts string          // what is counted in all rounds together
	load   string          // of the machine, when the rounds were over
}

// on returns a lab with so many nodes: the one that is up, or a new one in its place. One in which a benchmark has failed, and
// left who knows what, serves no other.
func (r *run) on(b *testing.B, nodes int) *stage {
	b.Helper()
	b.Cleanup(func() {
		if !b.Failed() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := r.down(ctx); err != nil {
			b.Error(err)
		}
	})
	if r.stage != nil && len(r.stage.Nodes()) == nodes {
		return r.stage
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := r.down(ctx); err != nil {
		b.Fatal(err)
	}
	s, err := newStage(ctx, nodes)
	r.stage = s // also one that is not complete is to be taken down
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func (r *run) down(ctx context.Context) error {
	if r.stage == nil {
		return nil
	}
	s := r.stage
	r.stage = nil
	return s.down(ctx)
}

// report makes a row of what was measured, and the benchmark's metrics: quantiles of times, in ms.
func (r *run) report(b *testing.B, times []time.Duration, counts string) {
	b.Helper()
	b.ReportMetric(0, "ns/op") // of all rounds and what lies between them: it says nothing
	if len(times) > 0 {
		b.ReportMetric(ms(quantile(times, .5)), "p50-ms")
		b.ReportMetric(ms(quantile(times, .99)), "p99-ms")
		b.ReportMetric(ms(quantile(times, 1)), "max-ms")
	}
	r.add(strings.TrimPrefix(b.Name(), "Benchmark"), times, counts)
}

// add makes a row.
func (r *run) add(what string, times []time.Duration, counts string) {
	load := "?"
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		load, _, _ = strings.Cut(string(data), " ")
	}
	r.rows = append(r.rows, row{what: what, times: times, counts: counts, load: load})
}

// count adds a round's questions to those of all.
func (r *run) count(f findings, planned bool) {
	if planned {
		r.askedPlanned += f.questions
		r.doubledPlanned += f.doubled
		return
	}
	r.asked += f.questions
	r.doubled += f.doubled
	r.took += f.doubledFor
}

// write prints the table.
func (r *run) write(out io.Writer) {
	if len(r.rows) == 0 {
		return
	}
	fmt.Fprintln(out)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tn\tp50\tp99\tmax\tcounted in all rounds\tload")
	for _, l := range r.rows {
		cells := "\t\t\t\t"
		if len(l.times) > 0 {
			cells = fmt.Sprintf("\t%d\t%.0f ms\t%.0f ms\t%.0f ms", len(l.times), ms(quantile(l.times, .5)), ms(quantile(l.times, .99)), ms(quantile(l.times, 1)))
		}
		fmt.Fprintf(t, "%s%s\t%s\t%s\n", l.what, cells, l.counts, l.load)
	}
	fmt.Fprintf(t, "two MACs for one address\t\t\t\t\t%.2f s, %d of %d questions; in planned moves %d of %d\t\n",
		r.took.Seconds(), r.doubled, r.asked, r.doubledPlanned, r.askedPlanned)
	t.Flush()
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
