package gossip

import (
	"time"

	"github.com/hashicorp/memberlist"
)

// The parameters of failure detection. With these a ring of 3 to 30 members knows of a death after 0.45 to 0.75 s,
// and 16 busy loops on 2 cores raised no false alarm among 5 members.
const (
	// probeInterval is how often each member checks one other. A death is first suspected within about two of them.
	probeInterval = 100 * time.Millisecond

	// probeTimeout is how long a probed member may take to answer before others are asked to try: well above a round
	// trip on one link, and half of the interval, so that the indirect probes still fit into it.
	probeTimeout = 50 * time.Millisecond

	// suspicionMult times log10(N) times the probe interval, at least 300 ms, is how long a suspect has to object. It
	// asks for one confirmation; 4, the library's default, asks for two, which the survivors of a small ring cannot give
	// when two members die together: it then takes twice as long.
	suspicionMult = 3

	// suspicionMaxTimeoutMult bounds the wait for a confirmation that does not come, at twice the time above. The
	// library's 6 makes a ring of few survivors wait for seconds.
	suspicionMaxTimeoutMult = 2

	// gossipInterval is how often news is passed on. It spreads a member's death, drain or new health to all in a few
	// times this.
	gossipInterval = 20 * time.Millisecond

	// retransmitMult times the decimal digits of N is how often a member passes on a piece of news.
	retransmitMult = 4

	// gossipToTheDead is how long a dead member is kept and told that it is held for dead, so that it can object. The
	// dead inflate the N above; a ring that heals later does so by joining again.
	gossipToTheDead = 10 * time.Second

	// deadNodeReclaim is how long after its death a member's name may come back with another address. The library
	// refuses it for as long as it remembers the dead otherwise, so that a node whose address changed stays out.
	deadNodeReclaim = time.Second

	// pushPullInterval is how often the whole state is exchanged with one member, which repairs what packet loss left
	// out.
	pushPullInterval = 10 * time.Second

	// streamTimeout bounds every TCP exchange. Members are one link or a few routers apart: one that needs longer is
	// tried again soon.
	streamTimeout = time.Second

	// packetSize keeps a gossip packet, with encryption and headers, below IPv6's minimum MTU of 1280: fragments are
	// lost by many networks, and silently.
	packetSize = 1150
)

func profile() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.ProbeInterval = probeInterval
	c.ProbeTimeout = probeTimeout
	c.SuspicionMult = suspicionMult
	c.SuspicionMaxTimeoutMult = suspicionMaxTimeoutMult
	c.GossipInterval = gossipInterval
	c.RetransmitMult = retransmitMult
	c.GossipToTheDeadTime = gossipToTheDead
	c.DeadNodeReclaimTime = deadNodeReclaim
	c.PushPullInterval = pushPullInterval
	c.TCPTimeout = streamTimeout
	c.UDPBufferSize = packetSize
	c.EnableCompression = false
	// A lost UDP packet must not look like a death: a probe that fails is tried by TCP too.
	c.DisableTcpPings = false
	return c
}
