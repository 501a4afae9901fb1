// Package gossip is the ring that the speakers form: who is a member now, and what each member says of its own
// health. It is hashicorp/memberlist with parameters of ours, encrypted, and with what that library leaves to its
// user: finding the members, joining again those that are wanted and absent so that a partition heals, and knowing
// when it has looked around enough to be believed.
//
// It owns the gossip port and the format of the health that members spread. It must never decide who owns an
// address, and never ask the API server for anything: who is wanted is told to it.
package gossip
