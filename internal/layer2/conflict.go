package layer2

import (
	"net"
	"net/netip"
	"time"
)

// conflictOver is how long a host that claimed an address of ours must be silent until the conflict is over: the address
// is asked for every defendInterval meanwhile, and one of three questions would have reached it.
const conflictOver = 3*defendInterval + defendInterval/2

// Conflict tells that a host which is none of the cluster's has, or claims, an address that this node has.
type Conflict struct {
	Addr      netip.Addr
	MAC       net.HardwareAddr // of the other
	Interface string           // on which it was heard

	// Held: the other had the address first, so this node leaves it alone until the other is gone. Else this node goes on
	// to answer for it and defends it.
	Held bool
}

// conflict is what a port knows of one.
type conflict struct {
	mac   hwAddr
	heard time.Time
	held  bool
}

func (c *conflict) over(now time.Time) bool {
	// Silence during the probes is what ends a hold.
	return c.held || now.Sub(c.heard) > conflictOver
}

func (c *conflict) report(addr netip.Addr, ifname string) Conflict {
	return Conflict{Addr: addr, MAC: c.mac.net(), Interface: ifname, Held: c.held}
}

// claimed takes in that somebody says to be reached at mac for an address. Only a stranger makes a conflict of it: what
// other nodes of the cluster say is settled between the speakers, and another interface of this node may answer too.
func (p *port) claimed(addr netip.Addr, mac hwAddr) {
	if st, ok := p.lookup(addr); !ok || st.standIn || mac == p.mac || p.hooks.familiar(mac) {
		return
	}
	now := time.Now()
	p.mu.Lock()
	st, ok := p.addrs[addr]
	if !ok || st.standIn {
		p.mu.Unlock()
		return
	}
	c, known := p.conflicts[addr]
	if !known {
		c = &conflict{held: st.probing}
		p.conflicts[addr] = c
	}
	c.mac, c.heard = mac, now
	if st.probing {
		p.queue.hold(addr, now)
	} else {
		p.queue.contest(addr, now)
		p.awake()
	}
	var told Conflict
	if !known {
		told = c.report(addr, p.link.name)
	}
	p.mu.Unlock()
	if !known {
		p.hooks.conflict(told, true)
	}
}

// listConflicts appends the conflicts that go on to out.
func (p *port) listConflicts(out []Conflict) []Conflict {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for addr, c := range p.conflicts {
		out = append(out, c.report(addr, p.link.name))
	}
	return out
}
