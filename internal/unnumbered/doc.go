// Package unnumbered finds the router at the other end of an interface, for BGP sessions that name no address.
//
// It owns what such a link needs besides BGP: it listens to IPv6 Router Advertisements (RFC 4861), asks for them, and sends
// its own, because the router finds the node in the same way. What it sends says that the node is no default router.
//
// It must never let a message decide more than who the router is, and never forget a router for silence alone: whether it
// is still there is for BGP and BFD to find out.
package unnumbered
