// Package layer2 speaks ARP (RFC 826, RFC 5227) and Neighbor Discovery (RFC 4861) for addresses that no kernel of
// this node holds: it answers who asks for them and tells the link when they arrive here.
//
// It owns the packet sockets, the multicast group memberships and the paced queue of announcements of each
// interface, and follows the node's interfaces by netlink events. It does what it is told: which addresses, and on
// which interfaces, is decided elsewhere. It must never change an interface, an address or a route, and needs no
// capability but NET_RAW.
package layer2
