package election

import "cmp"

// Candidate is what is known of one node in its relation to one address. The zero value is a node that may own
// nothing, so that a fact nobody has gathered counts against the node.
type Candidate struct {
	Node string

	// Alive: the node's speaker is a member of the gossip ring.
	Alive bool
	// Selected: an advertisement selects this node, the pool of the address and a Service that holds it.
	Selected bool
	// Reachable: the node has an interface, up and able to answer, on which that advertisement announces the address.
	Reachable bool
	// Endpoint: traffic that arrives at this node can be served under the Service's external traffic policy.
	Endpoint bool

	// Excluded: the node carries the label that keeps external load balancers away.
	Excluded bool
	// NetworkUnavailable: the node's network is reported as not set up.
	NetworkUnavailable bool

	// Weight is how much the advertisements prefer the node.
	Weight int

	// ServicePathDown: what forwards the node's traffic to the endpoints, such as kube-proxy, does not work.
	ServicePathDown bool
	// Draining: the node is being emptied, or its speaker asked to be relieved of its addresses.
	Draining bool
	// NotReady: the node's kubelet is not reporting it Ready.
	NotReady bool
	// Cordoned: the node keeps what it has and is given nothing new while another can serve.
	Cordoned bool

	// Away: the node's speaker is being restarted and may not answer. It keeps its addresses, since its service path goes
	// on and knows the connections, and claims no others; who answers in its place is told by [StandIn].
	Away bool
}

// Reason names why a candidate does not own an address. It is part of what users see and stays the same between
// versions.
type Reason string

const (
	// Fit is the reason of nobody: the candidate may own the address.
	Fit Reason = ""

	// Reasons that keep a node from owning the address at all.

	NotAlive           Reason = "NotAlive"           // its speaker is not a member of the gossip ring
	NotSelected        Reason = "NotSelected"        // no advertisement selects the node for the address
	ExcludedByLabel    Reason = "ExcludedByLabel"    // node.kubernetes.io/exclude-from-external-load-balancers
	NetworkUnavailable Reason = "NetworkUnavailable" // the node's condition of that name is true
	NoInterface        Reason = "NoInterface"        // no usable interface in the address's subnet, or none of those named
	NoEndpoint         Reason = "NoEndpoint"         // nothing that could serve the traffic is reachable from the node

	// Reasons why a node that could own the address does not.

	ServicePathDown Reason = "ServicePathDown" // the node's service path does not work and a better node is there
	Draining        Reason = "Draining"        // the node is being emptied and a better one is there
	NotReady        Reason = "NotReady"        // the node is not Ready and a better one is there
	LessPreferred   Reason = "LessPreferred"   // advertisements prefer the owner
	Claimed         Reason = "Claimed"         // the owner has claimed the address and is no worse
	Unclaimed       Reason = "Unclaimed"       // nobody has claimed the address yet

	// Requested is why an address leaves an owner against whom nothing is known: a person wants it at another node.
	Requested Reason = "Requested"
)

// Unfit returns the first reason that keeps the candidate from owning the address, or Fit. Nodes whose service path is
// down, that are draining or not Ready are fit: nothing may be left that serves better.
func (c *Candidate) Unfit() Reason {
	switch {
	case !c.Alive:
		return NotAlive
	case !c.Selected:
		return NotSelected
	case c.Excluded:
		return ExcludedByLabel
	case c.NetworkUnavailable:
		return NetworkUnavailable
	case !c.Reachable:
		return NoInterface
	case !c.Endpoint:
		return NoEndpoint
	}
	return Fit
}

// mayInherit tells whether the candidate could claim an address that it does not have. Who is away claims nothing.
func (c *Candidate) mayInherit() bool { return !c.Away && c.Unfit() == Fit }

// The standing of a fit candidate is the sum of its faults, of which the lowest serves best. A service path that is down
// forwards nothing now; a draining node is about to go; one that is not Ready may only have lost its kubelet; a cordoned
// one is as good as any for what it has.
const (
	standingCordoned = 1 << iota
	standingNotReady
	standingDraining
	standingServicePathDown
)

// keeping is the candidate's standing as the owner.
func (c *Candidate) keeping() int {
	s := 0
	if c.ServicePathDown {
		s += standingServicePathDown
	}
	if c.Draining {
		s += standingDraining
	}
	if c.NotReady {
		s += standingNotReady
	}
	return s
}

// inheriting is the candidate's standing as somebody who could be given the address.
func (c *Candidate) inheriting() int {
	s := c.keeping()
	if c.Cordoned {
		s += standingCordoned
	}
	return s
}

// fault names the worst of what costs the candidate its standing.
func (c *Candidate) fault() Reason {
	switch {
	case c.ServicePathDown:
		return ServicePathDown
	case c.Draining:
		return Draining
	default:
		return NotReady
	}
}

// compare orders candidates that could be given the address: the better standing first, then the greater weight.
func (c *Candidate) compare(o *Candidate) int {
	return cmp.Or(cmp.Compare(c.inheriting(), o.inheriting()), cmp.Compare(o.Weight, c.Weight))
}
