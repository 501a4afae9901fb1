//go:build race

package announce

// With the race detector a history takes ten times as long, and each is of one goroutine anyway.
const simHistories = 500
