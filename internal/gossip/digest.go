package gossip

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// Gossip makes it likely that news reaches everybody, not certain: in a ring of seven each tells some of the others, by
// packets that may be lost, and who missed it would know with the next exchange of whole states, seconds later. So each
// answer to a probe carries a digest of what its sender knows: who is alive, what they say of themselves, and the claims. A
// member whose own differs for a while without news exchanges states with who told it.
//
// A digest is the exclusive or of a hash of each fact, so that it costs nothing to keep up to date.

// settleProbes is for how many probe intervals a difference must last: news on its way takes less.
const settleProbes = 4

func hashMember(node string, said []byte) uint64 {
	h := fnv.New64a()
	h.Write([]byte{byte(len(node))})
	h.Write([]byte(node))
	h.Write(said)
	return h.Sum64()
}

func hashClaim(addr netip.Addr, node string, epoch uint64) uint64 {
	h := fnv.New64a()
	a := addr.As16()
	h.Write(a[:])
	h.Write(binary.BigEndian.AppendUint64(nil, epoch))
	h.Write([]byte(node))
	return h.Sum64()
}

// comparison follows how this member's digest compares to those of others.
type comparison struct {
	settle   time.Duration // for which a difference must last
	maxPause time.Duration // between two exchanges
	own      uint64        // when it differed last
	since    time.Time     // it has differed with that value; zero when it did not
	next     time.Time     // no exchange before
	pause    time.Duration // after the next
}

// exchange tells whether to exchange states with who has another digest. While that does not help it is asked for less
// and less often: members differ for long when some of them forgot claims that others still hold.
func (c *comparison) exchange(now time.Time, own, theirs uint64) bool {
	if own == theirs {
		*c = comparison{settle: c.settle, maxPause: c.maxPause, next: c.next}
		return false
	}
	if own != c.own || c.since.IsZero() {
		c.own, c.since = own, now
		return false
	}
	if now.Sub(c.since) < c.settle || now.Before(c.next) {
		return false
	}
	c.pause = min(max(2*c.pause, c.settle), c.maxPause)
	c.next = now.Add(c.pause)
	return true
}

func (r *Ring) digest() uint64 { return r.memberDigest.Load() ^ r.claims.digest.Load() }

// AckPayload is what memberlist sends with each answer to a probe.
func (d delegate) AckPayload() []byte { return binary.BigEndian.AppendUint64(nil, d.r.digest()) }

// NotifyPingComplete hears what came with the answer to a probe of this member's.
func (d delegate) NotifyPingComplete(n *memberlist.Node, _ time.Duration, payload []byte) {
	if len(payload) != 8 {
		return // an indirect answer, or another version's
	}
	r := d.r
	r.mu.Lock()
	differs := r.compared.exchange(time.Now(), r.digest(), binary.BigEndian.Uint64(payload))
	r.mu.Unlock()
	if differs {
		select {
		case r.differs <- n.FullAddress():
		default:
		}
	}
}

// repair exchanges states with peers that know something else.
func (r *Ring) repair(ctx context.Context, ml *memberlist.Memberlist) {
	for {
		select {
		case <-ctx.Done():
			return
		case peer := <-r.differs:
			r.metrics.repairs.Inc()
			_, _ = ml.Join([]string{peer.Name + "/" + peer.Addr}) // else with the next that differs
		}
	}
}
