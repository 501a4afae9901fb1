// Package report turns what the API server shows of a cluster into what a person wants to know: who announces what, why
// something is not announced, what would happen if a node went away, and what to do about it.
//
// It owns the words and the order of importance. All its functions are pure: the caller hands in a Snapshot and the
// time. It must never decide by itself which address belongs where: it asks the code that the controller and the speakers
// ask.
package report

// Tone says how good a piece of text is, for whoever prints it in colours.
type Tone int

// The tones.
const (
	Plain Tone = iota
	Good
	Warn
	Bad
)

// Cell is a piece of a table.
type Cell struct {
	Text string
	Tone Tone
}
