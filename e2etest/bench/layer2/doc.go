// Package layer2 measures what users of layer 2 notice when nodes die, speakers stop and networks split: how long no new
// connection succeeds, how many fail, which established ones break, and who answers for an address meanwhile. The same
// faults are done to keepalived on the same nodes in the same run, because machines differ and are noisy.
//
// It owns the faults, the rounds and the table that `make bench-l2` prints; probers, labs and the application are those of
// the suites. Each benchmark is one run of all its rounds, so it is to be run with -benchtime 1x. It must never decide
// whether a figure is good enough: it prints, and people read.
package layer2
