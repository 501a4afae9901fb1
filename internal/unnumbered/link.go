package unnumbered

import (
	"net/netip"
	"time"
)

// The pace of messages on a link. The kernel's own router discovery is left alone: it is off on nodes that forward.
const (
	// advertise is how often the node says that it is there, as FRR does on such links. A router that has just started
	// would otherwise wait for the next one.
	advertise = 10 * time.Second
	// eager is the interval of the first few (MIN_DELAY_BETWEEN_RAS of RFC 4861), of which some are lost while a link
	// comes up, and of one that a newly heard router is owed.
	eager      = 3 * time.Second
	eagerTimes = 3
	// solicit is how often a router is asked for (RTR_SOLICITATION_INTERVAL).
	solicit = 4 * time.Second
	// quiet is after how long without a word a router is asked.
	quiet = 15 * time.Second
	// patience is how long a router has to answer once another one was heard: it is asked three times, and answers each
	// within 3.5 seconds (MIN_DELAY_BETWEEN_RAS and MAX_RA_DELAY_TIME).
	patience = 12 * time.Second
)

// link is what is known of an interface and its other end.
type link struct {
	index int        // 0 while the interface is not there
	own   netip.Addr // the node's link-local address, with its zone; invalid while there is none
	up    bool

	router     netip.Addr // with its zone; invalid until one was heard
	heard      time.Time
	challenged time.Time // when another router was heard first; zero when none was since the router itself
	doubted    bool      // the link was down since: who is heard next is the router

	advertised time.Time // the last of those that were sent
	times      int       // since the link came up
	owed       bool      // the router that was heard has not heard us
	solicited  time.Time
}

// see takes in how the interface is now.
func (l *link) see(index int, own netip.Addr, up bool) {
	if index != l.index || up != l.up || own != l.own {
		l.doubt()
	}
	l.index, l.own, l.up = index, own, up
}

// doubt notes that there may be another router at the other end now.
func (l *link) doubt() { l.doubted, l.times = true, 0 }

// hear takes in a Router Advertisement, and tells whether there is another router now.
func (l *link) hear(from netip.Addr, now time.Time) bool {
	if from == l.own {
		return false
	}
	another := from != l.router
	if another && l.router.IsValid() && !l.doubted {
		if l.challenged.IsZero() {
			l.challenged = now
		}
		if now.Sub(l.challenged) < patience {
			return false // two routers on one link, unless the first is gone
		}
	}
	l.owed = l.owed || another || l.doubted
	l.router, l.heard, l.challenged, l.doubted = from, now, time.Time{}, false
	return another
}

// due tells what has to be sent now, and takes it for sent.
func (l *link) due(now time.Time) (advertisement, solicitation bool) {
	if !l.up || !l.own.IsValid() {
		return false, false
	}
	interval := advertise
	if l.times < eagerTimes || l.owed {
		interval = eager
	}
	if advertisement = now.Sub(l.advertised) >= interval; advertisement {
		l.advertised, l.owed = now, false
		l.times++
	}
	needed := !l.router.IsValid() || l.doubted || !l.challenged.IsZero() || now.Sub(l.heard) >= quiet
	if solicitation = needed && now.Sub(l.solicited) >= solicit; solicitation {
		l.solicited = now
	}
	return advertisement, solicitation
}
