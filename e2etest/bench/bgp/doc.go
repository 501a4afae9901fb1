// Package bgp measures what users behind a router notice when nodes die and speakers are restarted or drained, how often
// routers are bothered for nothing, and what many addresses cost. FRR's bgpd and bfdd do the same on the same nodes in the
// same run, because machines differ and are noisy. The router is the lab's BIRD.
//
// It owns the faults, the rounds and FRR's part; the table that `make bench-bgp` prints is package stage's, probers and labs are
// those of the suites. Each benchmark is one run of all its rounds, so it is to be run with -benchtime 1x. It must never decide
// whether a figure is good enough: it prints, and people read.
package bgp
