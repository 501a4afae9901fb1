// Package bgp tells routers which prefixes this node takes traffic for.
//
// It owns the BGP sessions of the node: GoBGP runs inside it, without its gRPC server, and no other package knows that
// library. It takes peers and routes as they should be, and makes the sessions follow by difference: what did not change
// is not touched, and a route whose attributes changed is replaced and never withdrawn first.
//
// It must never take a route from a peer, never say anything before the first Apply, and never let one peer hold up
// another. Which routes there are, and what a stop of the process means for them, is for its caller to know.
package bgp
