package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"heraldlb.io/herald/api/v1beta1"
)

// Communities are the communities of a route, each kind sorted and without doubles.
type Communities struct {
	Standard []uint32
	Large    []LargeCommunity
	Extended []ExtendedCommunity
}

// LargeCommunity is a BGP large community (RFC 8092): the global administrator and two local data parts.
type LargeCommunity [3]uint32

// ExtendedCommunity is a route target or a route origin (RFC 4360, RFC 5668): a number within the space of an AS or of an
// IPv4 address. Or it is a link bandwidth (draft-ietf-idr-link-bandwidth): an AS, and the number is bytes a second.
type ExtendedCommunity struct {
	Type    string     // RouteTarget, RouteOrigin or LinkBandwidth
	Address netip.Addr // invalid when it is ASN that gives the space
	ASN     uint32     // of 16 bits for a LinkBandwidth
	Number  uint32     // of 16 bits, and of 32 where ASN has 16
}

// The types of extended communities, as they are written.
const (
	RouteTarget   = "rt"
	RouteOrigin   = "soo"
	LinkBandwidth = "lb"
)

// Add adds all of another.
func (c *Communities) Add(more Communities) {
	c.Standard = union(c.Standard, more.Standard, cmp.Compare)
	c.Large = union(c.Large, more.Large, func(x, y LargeCommunity) int { return slices.Compare(x[:], y[:]) })
	c.Extended = union(c.Extended, more.Extended, func(x, y ExtendedCommunity) int {
		return cmp.Or(cmp.Compare(x.Type, y.Type), x.Address.Compare(y.Address), cmp.Compare(x.ASN, y.ASN), cmp.Compare(x.Number, y.Number))
	})
}

// Equal tells whether both have the same.
func (c Communities) Equal(o Communities) bool {
	return slices.Equal(c.Standard, o.Standard) && slices.Equal(c.Large, o.Large) && slices.Equal(c.Extended, o.Extended)
}

// union returns what is in x or in y, in order, in a slice of its own.
func union[T comparable](x, y []T, order func(T, T) int) []T {
	all := slices.Concat(x, y)
	slices.SortFunc(all, order)
	return slices.Compact(all)
}

// wellKnown are the communities of IANA's registry that routers act on (RFC 1997, 3765, 7611, 7999, 8326, 9494).
var wellKnown = map[string]uint32{
	"graceful-shutdown":   0xffff0000,
	"accept-own":          0xffff0001,
	"llgr-stale":          0xffff0006,
	"no-llgr":             0xffff0007,
	"blackhole":           0xffff029a,
	"no-export":           0xffffff01,
	"no-advertise":        0xffffff02,
	"no-export-subconfed": 0xffffff03,
	"no-peer":             0xffffff04,
}

// WellKnownCommunity returns the value of a community that has its name without any Community, as 65535:65281.
func WellKnownCommunity(name string) (value string, ok bool) {
	n, ok := wellKnown[name]
	return fmt.Sprintf("%d:%d", n>>16, n&0xffff), ok
}

var communityName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]{0,63}$`)

// parseCommunity reads one value: 64512:100, large:64512:1:2, rt:64512:100, soo:192.0.2.1:100 or lb:64512:125000000.
func parseCommunity(value string) (Communities, error) {
	kind, rest, _ := strings.Cut(value, ":")
	switch kind {
	case "large":
		n, ok := parts(rest, 3, 32)
		if !ok {
			return Communities{}, fmt.Errorf("%q is no large community: write three numbers, each 4294967295 at most, as large:64512:1:2", value)
		}
		return Communities{Large: []LargeCommunity{LargeCommunity(n)}}, nil
	case RouteTarget, RouteOrigin:
		e, ok := parseExtended(kind, rest)
		if !ok {
			return Communities{}, fmt.Errorf("%q is no extended community: write an AS number or an IPv4 address and a number as %s:64512:100; "+
				"the number is 65535 at most, and 4294967295 after an AS number up to 65535", value, kind)
		}
		return Communities{Extended: []ExtendedCommunity{e}}, nil
	case LinkBandwidth:
		n, ok := parts(rest, 2, 32)
		if !ok || n[0] > 0xffff || n[1] == 0 {
			return Communities{}, fmt.Errorf("%q is no link bandwidth: write an AS number, 65535 at most, and bytes a second, 1 to 4294967295, as lb:64512:125000000", value)
		}
		return Communities{Extended: []ExtendedCommunity{{Type: kind, ASN: n[0], Number: n[1]}}}, nil
	}
	n, ok := parts(value, 2, 16)
	if !ok {
		return Communities{}, fmt.Errorf("%q is no community: write two numbers, each 65535 at most, as 64512:100, a large one as large:64512:1:2, "+
			"or an extended one as rt:64512:100, soo:64512:100 or lb:64512:125000000", value)
	}
	return Communities{Standard: []uint32{n[0]<<16 | n[1]}}, nil
}

// parseExtended reads what follows the type of an extended community.
func parseExtended(kind, value string) (ExtendedCommunity, bool) {
	out := ExtendedCommunity{Type: kind}
	if n, ok := parts(value, 2, 32); ok {
		out.ASN, out.Number = n[0], n[1]
		return out, out.ASN < 1<<16 || out.Number < 1<<16
	}
	space, number, _ := strings.Cut(value, ":")
	a, err := netip.ParseAddr(space)
	n, ok := parts(number, 1, 16)
	if err != nil || !a.Is4() || !ok {
		return out, false
	}
	out.Address, out.Number = a, n[0]
	return out, true
}

// parts reads numbers between colons.
func parts(s string, want, bits int) ([]uint32, bool) {
	fields := strings.Split(s, ":")
	if len(fields) != want {
		return nil, false
	}
	out := make([]uint32, want)
	for i, f := range fields {
		n, err := strconv.ParseUint(f, 10, bits)
		if err != nil || len(f) > 10 {
			return nil, false
		}
		out[i] = uint32(n)
	}
	return out, true
}

// alias is what a name stands for, and the Community that says so.
type alias struct {
	value Communities
	owner string
}

// community judges a Community and puts its names in force.
func (b *builder) community(c *v1beta1.Community) {
	v := b.judge(KindCommunity, c)
	if len(c.Spec.Communities) == 0 {
		v.refuse("spec.communities", ReasonInvalidValue, "the list is empty: give a name to a community, or delete the object")
	}
	names := map[string]Communities{}
	for i, one := range c.Spec.Communities {
		field := fmt.Sprintf("spec.communities[%d]", i)
		if !communityName.MatchString(one.Name) {
			v.refuse(field+".name", ReasonInvalidValue,
				"%q: a name begins with a letter, and letters, digits, dots, underscores and hyphens may follow, 64 in all", one.Name)
		}
		if _, taken := wellKnown[one.Name]; taken {
			v.refuse(field+".name", ReasonConflict, "%s is a well-known community, which BGPAdvertisements can use without this: choose another name", one.Name)
		}
		if _, twice := names[one.Name]; twice {
			v.refuse(field+".name", ReasonDuplicateName, "%s is there twice: remove one", one.Name)
		}
		if older, taken := b.aliases[one.Name]; taken {
			v.refuse(field+".name", ReasonConflict, "%s is a name that the older Community %s gives: remove it from one of the two", one.Name, older.owner)
		}
		value, err := parseCommunity(one.Value)
		if err != nil {
			v.refuse(field+".value", ReasonInvalidValue, "%v", err)
		}
		names[one.Name] = value
	}
	if v.refused {
		return
	}
	for name, value := range names {
		b.aliases[name] = alias{value, c.Name}
	}
}

// communities reads what an advertisement attaches. A name that no Community gives is left off.
func (b *builder) communities(v *verdict, in []string) Communities {
	v.notEmpty("spec.communities", in != nil && len(in) == 0, "to attach none")
	var out Communities
	for i, s := range in {
		field := fmt.Sprintf("spec.communities[%d]", i)
		if !communityName.MatchString(s) {
			value, err := parseCommunity(s)
			if err != nil {
				v.refuse(field, ReasonInvalidValue, "%v", err)
			}
			out.Add(value)
			continue
		}
		if value, ok := wellKnown[s]; ok {
			out.Add(Communities{Standard: []uint32{value}})
		} else if one, ok := b.aliases[s]; ok {
			out.Add(one.value)
		} else {
			v.unresolved(field, ReasonCommunityNotFound, "no Community in force gives the name %s: create one, or see its condition Accepted", s)
		}
	}
	bandwidths := 0
	for _, e := range out.Extended {
		if e.Type == LinkBandwidth {
			bandwidths++
		}
	}
	if bandwidths > 1 {
		v.refuse("spec.communities", ReasonConflictingFields, "a route has one link bandwidth: write one lb:AS:BYTES")
	}
	return out
}
