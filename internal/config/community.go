package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"heraldlb.io/herald/api/v1beta1"
)

// LargeCommunity is a BGP large community (RFC 8092): the global administrator and two local data parts.
type LargeCommunity [3]uint32

// communities are values of both kinds.
type communities struct {
	standard []uint32
	large    []LargeCommunity
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

// parse adds one value: 64512:100, or large:64512:1:2.
func (c *communities) parse(value string) error {
	if rest, isLarge := strings.CutPrefix(value, "large:"); isLarge {
		n, ok := parts(rest, 3, 32)
		if !ok {
			return fmt.Errorf("%q is no large community: write three numbers, each 4294967295 at most, as large:64512:1:2", value)
		}
		c.large = append(c.large, LargeCommunity(n))
		return nil
	}
	n, ok := parts(value, 2, 16)
	if !ok {
		return fmt.Errorf("%q is no community: write two numbers, each 65535 at most, as 64512:100, or a large one as large:64512:1:2", value)
	}
	c.standard = append(c.standard, n[0]<<16|n[1])
	return nil
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

func (c *communities) add(more communities) {
	c.standard = append(c.standard, more.standard...)
	c.large = append(c.large, more.large...)
}

// sort puts the values in order and drops those that are there twice.
func (c *communities) sort() {
	slices.Sort(c.standard)
	c.standard = slices.Compact(c.standard)
	slices.SortFunc(c.large, func(x, y LargeCommunity) int { return slices.Compare(x[:], y[:]) })
	c.large = slices.Compact(c.large)
}

// alias is what a name stands for, and the Community that says so.
type alias struct {
	value communities
	owner string
}

// community judges a Community and puts its names in force.
func (b *builder) community(c *v1beta1.Community) {
	v := b.judge(KindCommunity, c)
	if len(c.Spec.Communities) == 0 {
		v.refuse("spec.communities", ReasonInvalidValue, "the list is empty: give a name to a community, or delete the object")
	}
	names := map[string]communities{}
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
		var value communities
		if err := value.parse(one.Value); err != nil {
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
func (b *builder) communities(v *verdict, in []string) communities {
	v.notEmpty("spec.communities", in != nil && len(in) == 0, "to attach none")
	var out communities
	for i, s := range in {
		field := fmt.Sprintf("spec.communities[%d]", i)
		if !communityName.MatchString(s) {
			if err := out.parse(s); err != nil {
				v.refuse(field, ReasonInvalidValue, "%v", err)
			}
			continue
		}
		if value, ok := wellKnown[s]; ok {
			out.standard = append(out.standard, value)
		} else if one, ok := b.aliases[s]; ok {
			out.add(one.value)
		} else {
			v.unresolved(field, ReasonCommunityNotFound, "no Community in force gives the name %s: create one, or see its condition Accepted", s)
		}
	}
	out.sort()
	return out
}
