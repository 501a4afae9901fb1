package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Sample is one attempt that completed.
type Sample struct {
	Start, End time.Time
	Node, Pod  string // who answered; empty on failure
	Err        error  // nil: success
}

// TimedOut tells whether the attempt failed because its time was over. Package net has two errors for that, and on a busy machine
// gives the one where otherwise it gives the other.
func (s Sample) TimedOut() bool {
	return errors.Is(s.Err, os.ErrDeadlineExceeded) || errors.Is(s.Err, context.DeadlineExceeded)
}

// Gap is a time without success.
type Gap struct{ From, To time.Time }

// Length is how long the gap lasted.
func (g Gap) Length() time.Duration { return g.To.Sub(g.From) }

func (g Gap) String() string {
	return fmt.Sprintf("%s (%s to %s)", g.Length().Round(time.Millisecond), g.From.Format("15:04:05.000"), g.To.Format("15:04:05.000"))
}

// NodeAnswers is one node's part in the successes.
type NodeAnswers struct {
	Node        string
	Count       int
	First, Last time.Time // completions
}

// Report is what a Connector saw between Started and Ended.
type Report struct {
	Started, Ended time.Time
	Attempts       int // that completed
	Successes      int
	Failures       []Sample // by start
	Skipped        int      // attempts not made, because too many were under way

	// CompletionGap is the longest time in which no attempt completed with success: what a user who tries and tries
	// again waits. It includes the time that the first success after the outage took.
	CompletionGap Gap
	// StartGap is the longest time in which no attempt was started that succeeded: the outage itself. Both count from
	// Started to the first success and from the last success to Ended, so that an outage without end is not hidden.
	StartGap Gap
	// Pause is the longest time between the starts of two attempts. Near the interval when the machine kept up; a gap
	// that is no longer than the pause says nothing about the cluster.
	Pause time.Duration

	Nodes   []NodeAnswers // by first answer
	Samples []Sample      // all, by completion
}

func newReport(started, ended time.Time, samples []Sample) Report {
	r := Report{Started: started, Ended: ended, Attempts: len(samples), Samples: slices.Clone(samples)}
	var starts, ends []time.Time
	nodes := map[string]*NodeAnswers{}
	for _, s := range samples {
		if s.Err != nil {
			r.Failures = append(r.Failures, s)
			continue
		}
		r.Successes++
		starts, ends = append(starts, s.Start), append(ends, s.End)
		n := nodes[s.Node]
		if n == nil {
			n = &NodeAnswers{Node: s.Node, First: s.End}
			nodes[s.Node] = n
		}
		n.Count, n.Last = n.Count+1, s.End
	}
	slices.SortStableFunc(r.Failures, func(a, b Sample) int { return a.Start.Compare(b.Start) })
	for _, n := range nodes {
		r.Nodes = append(r.Nodes, *n)
	}
	slices.SortFunc(r.Nodes, func(a, b NodeAnswers) int {
		return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.Node, b.Node))
	})
	r.CompletionGap = longestGap(started, ended, ends)
	r.StartGap = longestGap(started, ended, starts)
	return r
}

// longestGap looks between started, each point and ended.
func longestGap(started, ended time.Time, points []time.Time) Gap {
	slices.SortFunc(points, time.Time.Compare)
	var longest Gap
	last := started
	for _, p := range append(points, ended) {
		if p.Sub(last) > longest.Length() {
			longest = Gap{From: last, To: p}
		}
		last = p
	}
	return longest
}

// FailureWindow is the time from the start of the first failed attempt to that of the last one; zero without failure. How long
// an attempt hangs before it fails is the prober's own timeout and no part of it. Where only some connections fail, as behind
// several next hops, it tells more than a gap.
func (r Report) FailureWindow() Gap {
	if len(r.Failures) == 0 {
		return Gap{}
	}
	return Gap{From: r.Failures[0].Start, To: r.Failures[len(r.Failures)-1].Start}
}

// String is a summary of a few words for people.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d new connections in %s, %d failed, longest gap %s", r.Attempts, r.Ended.Sub(r.Started).Round(time.Millisecond), len(r.Failures), r.CompletionGap)
	if r.Skipped > 0 {
		fmt.Fprintf(&b, ", %d skipped", r.Skipped)
	}
	for _, n := range r.Nodes {
		fmt.Fprintf(&b, ", %s answered %d", n.Node, n.Count)
	}
	return b.String()
}
