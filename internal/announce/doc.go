// Package announce is the speaker's mind: from the configuration, the Services with their endpoints, the nodes and
// the members of the gossip ring it works out which addresses this node announces, and where, and hands each change
// of that to the drivers.
//
// It owns the facts that an election is held on, the claims that this node makes, and the order of a hand-over. All of
// that is decided by a state machine without a clock and without a wire, the planner, which the loop drives. It must
// never write anything but events to the API server, and never take silence for news: while the API server is out of
// reach the last state that was read stands.
package announce
