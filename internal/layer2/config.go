package layer2

import "time"

// What a Config has when it says nothing.
const (
	// DefaultPacketsPerSecond is how many announcements and probes one interface sends at most. Switches police bursts of
	// ARP, and what they drop of a burst are the addresses that stay wrong.
	DefaultPacketsPerSecond = 500

	// DefaultRefresh is how often an address is announced while nothing happens, so that switches which saw no frame of it
	// do not forget their entry and flood: they age entries out after 300 s and, where it was made short, 120 s.
	DefaultRefresh = 60 * time.Second
)

// Config is how an Announcer behaves towards its links. The zero Config is the default.
type Config struct {
	PacketsPerSecond int           // on each interface; 0 is DefaultPacketsPerSecond
	Refresh          time.Duration // 0 is DefaultRefresh

	// NoProbes keeps the Announcer from asking whether somebody has an address already. It is for links where something
	// answers for every address, such as a router with proxy ARP.
	NoProbes bool
}

func (c Config) withDefaults() Config {
	if c.PacketsPerSecond <= 0 {
		c.PacketsPerSecond = DefaultPacketsPerSecond
	}
	if c.Refresh <= 0 {
		c.Refresh = DefaultRefresh
	}
	return c
}
