package gossip

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// Detection is how soon a member is held for dead, and what the network must be like for that.
type Detection int

const (
	// DetectFast is for nodes on one link or a few switches apart, and for users who notice half a second: a death is
	// known after about a quarter of one.
	DetectFast Detection = iota
	// DetectDefault is for networks that lose packets for a moment now and then: a death is known after about 2 s.
	DetectDefault
	// DetectWAN is for nodes that are tens of milliseconds apart: a death is known after about 10 s.
	DetectWAN
)

var detections = map[string]Detection{"fast": DetectFast, "default": DetectDefault, "wan": DetectWAN}

// ParseDetection reads the name of a Detection.
func ParseDetection(name string) (Detection, error) {
	d, ok := detections[name]
	if !ok {
		return 0, fmt.Errorf("%q: want one of %s", name, strings.Join(slices.Sorted(maps.Keys(detections)), ", "))
	}
	return d, nil
}

// tuning are the parameters of a Detection.
type tuning struct {
	// probeInterval is how often each member checks one other. A death is first suspected within about two of them.
	probeInterval time.Duration

	// probeTimeout is how long a probed member may take to answer before it is called by TCP and others are asked to try,
	// for which the rest of the interval is left. It is several round trips.
	probeTimeout time.Duration

	// suspicionMult times the probe interval, and times log10(N) in a ring of more than 10, is how long a suspect has to
	// object. 3 asks for one confirmation. 4, the library's default, asks for two, which the survivors of a small ring
	// cannot give when two members die together: it then takes twice as long.
	suspicionMult int

	// gossipInterval is how often news is passed on: a death, a drain, new health. Everybody knows within a few of these.
	gossipInterval time.Duration

	// look is how long a node's kernel may take to answer that it is there. A death is told this much later, unless the
	// node was suspected that much earlier, as it is with few exceptions.
	look time.Duration

	// gossipToTheDead is how long a dead member is kept and told that it is held for dead, so that it can object. The
	// dead inflate the N above; a ring that heals later does so by joining again.
	gossipToTheDead time.Duration

	// deadNodeReclaim is how long after its death a member's name may come back with another address: at once in
	// practice. The library refuses it for as long as it remembers the dead otherwise, so that a node whose address
	// changed stays out.
	deadNodeReclaim time.Duration

	// pushPullInterval is how often the whole state is exchanged with one member, for what else does not reach it.
	pushPullInterval time.Duration

	// streamTimeout bounds every TCP exchange: one that needs longer is tried again soon.
	streamTimeout time.Duration
}

var profiles = map[Detection]tuning{
	DetectFast: {
		// Measured: a ring of 3 to 30 knows of a death in 0.22 to 0.37 s, and 16 busy loops on 2 cores raised no false
		// alarm among 5 members.
		probeInterval:    50 * time.Millisecond,
		probeTimeout:     40 * time.Millisecond, // 10 ms are a hundred round trips on one link
		suspicionMult:    3,
		gossipInterval:   10 * time.Millisecond,
		look:             60 * time.Millisecond,
		gossipToTheDead:  10 * time.Second,
		deadNodeReclaim:  500 * time.Millisecond,
		pushPullInterval: 10 * time.Second,
		streamTimeout:    time.Second,
	},
	DetectDefault: {
		probeInterval:    500 * time.Millisecond,
		probeTimeout:     200 * time.Millisecond, // a switch that learns anew, a retransmission by TCP
		suspicionMult:    3,
		gossipInterval:   50 * time.Millisecond,
		look:             300 * time.Millisecond,
		gossipToTheDead:  20 * time.Second,
		deadNodeReclaim:  time.Second,
		pushPullInterval: 15 * time.Second,
		streamTimeout:    3 * time.Second,
	},
	DetectWAN: {
		probeInterval:    2 * time.Second,
		probeTimeout:     time.Second, // well above the longest round trip
		suspicionMult:    4,           // two confirmations, since one path may be bad for a while
		gossipInterval:   200 * time.Millisecond,
		look:             1500 * time.Millisecond,
		gossipToTheDead:  60 * time.Second,
		deadNodeReclaim:  5 * time.Second,
		pushPullInterval: 30 * time.Second,
		streamTimeout:    10 * time.Second,
	},
}

const (
	// suspicionMaxTimeoutMult bounds the wait for a confirmation that does not come, at twice the time above. The
	// library's 6 makes a ring of few survivors wait for seconds.
	suspicionMaxTimeoutMult = 2

	// retransmitMult times the decimal digits of N is how often a member passes on a piece of news.
	retransmitMult = 4

	// packetSize keeps a gossip packet, with encryption and headers, below IPv6's minimum MTU of 1280: fragments are
	// lost by many networks, and silently.
	packetSize = 1150

	// MaxLabel is the length of the longest label, which each packet carries: as long as a label of DNS (RFC 1123).
	MaxLabel = 63

	// queueDepth is how many packets' messages may wait to be read: more than a takeover of 10,000 addresses makes.
	queueDepth = 4096
)

func (t tuning) config() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.ProbeInterval = t.probeInterval
	c.ProbeTimeout = t.probeTimeout
	c.SuspicionMult = t.suspicionMult
	c.SuspicionMaxTimeoutMult = suspicionMaxTimeoutMult
	c.GossipInterval = t.gossipInterval
	c.RetransmitMult = retransmitMult
	c.GossipToTheDeadTime = t.gossipToTheDead
	c.DeadNodeReclaimTime = t.deadNodeReclaim
	c.PushPullInterval = t.pushPullInterval
	c.TCPTimeout = t.streamTimeout
	c.UDPBufferSize = packetSize
	c.HandoffQueueDepth = queueDepth
	// A lost UDP packet must not look like a death: a probe that fails is tried by TCP too.
	c.DisableTcpPings = false
	// Packets of this size do not get shorter by it, and an idle member's CPU time by a third.
	c.EnableCompression = false
	return c
}
