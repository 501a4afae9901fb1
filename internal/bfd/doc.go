// Package bfd watches the paths to BGP peers with Bidirectional Forwarding Detection, so that a dead path is known in
// tenths of a second instead of by BGP's hold timer: asynchronous mode (RFC 5880) over a single hop (RFC 5881) or
// several (RFC 5883).
//
// It owns the sessions, their UDP sockets and the one thread that serves them. The rules of the protocol are in machine,
// which is told packets and times and answers with packets and changes; all else is the shell around it. It reports what
// happens to a session and never decides what follows from it for BGP. Echo is not offered, authentication is refused,
// and demand mode is honoured when a peer asks for it and never asked for.
package bfd
