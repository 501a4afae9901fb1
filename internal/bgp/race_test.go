//go:build race

package bgp

// underRace: the race detector watches.
const underRace = true
