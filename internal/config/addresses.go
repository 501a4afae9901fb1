package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"go4.org/netipx"
)

// ParseRange reads one entry of a pool: a prefix such as 192.0.2.0/24, or an inclusive range such as
// 192.0.2.10-192.0.2.20. Every address in it can be a Service's: unspecified, loopback, link-local and multicast
// addresses are refused.
func ParseRange(entry string) (netipx.IPRange, error) {
	r, err := parseRange(strings.TrimSpace(entry))
	if err != nil {
		return netipx.IPRange{}, fmt.Errorf("%q: %w", entry, err)
	}
	for _, no := range unusable {
		if r.Overlaps(netipx.RangeOfPrefix(no.prefix)) {
			return netipx.IPRange{}, fmt.Errorf("%q: holds %s addresses (%s), which no Service can have: leave them out", entry, no.what, no.prefix)
		}
	}
	return r, nil
}

// parseExclude reads one entry of what a pool excludes: as in a pool, or a single address.
func parseExclude(entry string) (netipx.IPRange, error) {
	entry = strings.TrimSpace(entry)
	if a, err := parseAddr(entry); err == nil {
		return netipx.IPRangeFrom(a, a), nil
	}
	r, err := parseRange(entry)
	if err != nil {
		return netipx.IPRange{}, fmt.Errorf("%q: %w", entry, err)
	}
	return r, nil
}

func parseRange(entry string) (netipx.IPRange, error) {
	from, to, isRange := strings.Cut(entry, "-")
	if !isRange {
		prefix, err := netip.ParsePrefix(entry)
		if err != nil {
			return netipx.IPRange{}, errors.New("want a prefix such as 192.0.2.0/24 or a range such as 192.0.2.10-192.0.2.20")
		}
		if prefix.Addr().Is4In6() {
			return netipx.IPRange{}, errors.New("is an IPv4-mapped IPv6 prefix: write the IPv4 prefix")
		}
		if prefix != prefix.Masked() {
			return netipx.IPRange{}, fmt.Errorf("has bits set beyond its length: write %s, or a range", prefix.Masked())
		}
		return netipx.RangeOfPrefix(prefix), nil
	}
	first, err := parseAddr(from)
	if err != nil {
		return netipx.IPRange{}, err
	}
	last, err := parseAddr(to)
	if err != nil {
		return netipx.IPRange{}, err
	}
	if first.Is4() != last.Is4() {
		return netipx.IPRange{}, errors.New("mixes IPv4 and IPv6: write one range for each")
	}
	if last.Less(first) {
		return netipx.IPRange{}, fmt.Errorf("ends before it starts: write %s-%s", last, first)
	}
	return netipx.IPRangeFrom(first, last), nil
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	switch {
	case err != nil:
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", s)
	case a.Zone() != "":
		return netip.Addr{}, fmt.Errorf("%s has a zone: write the address without it", s)
	case a.Is4In6():
		return netip.Addr{}, fmt.Errorf("%s is an IPv4-mapped IPv6 address: write %s", s, a.Unmap())
	}
	return a, nil
}

// unusable are the addresses that are never a host's own on a network (RFC 6890).
var unusable = []struct {
	what   string
	prefix netip.Prefix
}{
	{"this-network", netip.MustParsePrefix("0.0.0.0/8")},
	{"loopback", netip.MustParsePrefix("127.0.0.0/8")},
	{"link-local", netip.MustParsePrefix("169.254.0.0/16")},
	{"multicast", netip.MustParsePrefix("224.0.0.0/4")},
	{"broadcast", netip.MustParsePrefix("255.255.255.255/32")},
	{"unspecified", netip.MustParsePrefix("::/128")},
	{"loopback", netip.MustParsePrefix("::1/128")},
	{"link-local", netip.MustParsePrefix("fe80::/10")},
	{"multicast", netip.MustParsePrefix("ff00::/8")},
}
