package config

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"heraldlb.io/herald/api/v1beta1"
)

// BGPPeer is a router that the nodes talk BGP to. What differs from node to node is filled in by PeersOn.
type BGPPeer struct {
	Name string
	Rank int // by age, 0 is the oldest

	// Address is the router's. It is invalid for an unnumbered peer, which is found on Interface, and until PeersOn has
	// read it from the Node's annotation AddressFrom.
	Address     netip.Addr
	AddressFrom string
	// Interface is the node's interface to an unnumbered peer or to a link-local Address.
	Interface string
	Port      uint16

	// ASN is the router's; 0 means any that DynamicASN allows.
	ASN        uint32
	DynamicASN v1beta1.DynamicASN
	// MyASN is the node's; 0 until PeersOn has read it from MyASNFrom.
	MyASN     uint32
	MyASNFrom v1beta1.NodeValueSource
	// LocalASN is shown to the router in place of MyASN; 0 means MyASN.
	LocalASN uint32

	SourceAddress   netip.Addr // invalid means that the kernel chooses
	SourceInterface string
	RouterID        netip.Addr // invalid means one that the node derives

	HoldTime      time.Duration // 0 means for ever
	KeepaliveTime time.Duration
	ConnectTime   time.Duration

	PasswordSecret  string // the name of the Secret; empty means none
	EBGPMultiHop    bool
	MinimumTTL      int              // 0 means that GTSM is off
	GracefulRestart *GracefulRestart // nil means off
	BFD             *BFDProfile      // nil means off, or that the profile is not in force
	BFDStrictMode   bool             // no session while BFD is not up

	// Families are sorted. Nil stands for the family of the address until PeersOn has filled it in.
	Families []v1beta1.IPFamily
	Passive  bool
	Disabled bool

	nodes selectors // nil means every node
}

// GracefulRestart says how long the router keeps the routes of a speaker that restarts.
type GracefulRestart struct {
	RestartTime        time.Duration
	LongLivedStaleTime time.Duration // 0 means none
}

// The bounds and defaults of times, in seconds.
const (
	defaultHoldTime    = 90 * time.Second
	defaultConnectTime = 10 * time.Second
	defaultRestartTime = 120 * time.Second
	maxASN             = 1<<32 - 2
)

// SelectsNode tells whether a node with these labels talks to the peer.
func (p BGPPeer) SelectsNode(node labels.Set) bool { return p.nodes == nil || p.nodes.match(node) }

// bgpPeer judges a peer and puts it in force.
func (b *builder) bgpPeer(p *v1beta1.BGPPeer) {
	v := b.judge(KindBGPPeer, p)
	s := p.Spec
	out := BGPPeer{
		Name:            p.Name,
		Rank:            len(b.config.BGPPeers),
		Interface:       s.Interface,
		Port:            179,
		DynamicASN:      s.DynamicASN,
		SourceInterface: s.SourceInterface,
		EBGPMultiHop:    s.EBGPMultiHop,
		BFDStrictMode:   s.BFDStrictMode,
		Passive:         s.Passive,
		Disabled:        s.Disabled,
		nodes:           v.selectors("spec.nodeSelectors", s.NodeSelectors, everyNode),
	}
	if s.PeerPort != nil {
		v.within("spec.peerPort", int64(*s.PeerPort), 1, 65535)
		out.Port = uint16(*s.PeerPort)
	}
	v.peerAddress(s, &out)
	v.asns(s, &out)
	v.source(s, &out)
	v.times(s, &out)
	v.families(s.Families, &out)
	if s.PasswordSecret != nil {
		out.PasswordSecret = s.PasswordSecret.Name
		if out.PasswordSecret == "" {
			v.refuse("spec.passwordSecret.name", ReasonInvalidValue, "the name is empty: name the Secret in Herald's namespace")
		}
	}
	if s.TTLSecurity != nil {
		out.MinimumTTL = 255
		if n := s.TTLSecurity.MinimumTTL; n != nil {
			v.within("spec.ttlSecurity.minimumTtl", int64(*n), 1, 255)
			out.MinimumTTL = int(*n)
		}
		if s.EBGPMultiHop {
			v.refuse("spec.ttlSecurity", ReasonConflictingFields, "ttlSecurity and ebgpMultiHop exclude each other: for a distant peer write ttlSecurity alone with a lower minimumTtl")
		}
	}
	if s.BFDStrictMode && s.BFDProfile == "" {
		v.refuse("spec.bfdStrictMode", ReasonConflictingFields, "bfdStrictMode needs a bfdProfile: name one, or remove bfdStrictMode")
	}
	if s.Interface != "" && s.EBGPMultiHop {
		v.refuse("spec.ebgpMultiHop", ReasonConflictingFields, "a peer on an interface is one hop away: remove ebgpMultiHop")
	}
	if v.refused {
		return
	}
	for _, older := range b.config.BGPPeers {
		if !meet(older.nodes, out.nodes) {
			continue
		}
		if field, what := older.clash(out); what != "" {
			v.refuse(field, ReasonConflict, "%s, on the same nodes: remove one of the two, or let them select different nodes", what)
			return
		}
	}
	if s.BFDProfile != "" {
		i, found := find(b.config.BFDProfiles, s.BFDProfile, func(p BFDProfile) string { return p.Name })
		if found {
			profile := b.config.BFDProfiles[i]
			out.BFD = &profile
		} else {
			without := "BFD is off"
			if s.BFDStrictMode {
				without = "there is no session"
			}
			v.unresolved("spec.bfdProfile", ReasonBFDProfileNotFound, "no BFDProfile %s is in force, so %s: create it, or see its condition Accepted", s.BFDProfile, without)
		}
	}
	b.config.BGPPeers = append(b.config.BGPPeers, out)
}

// clash says what an older peer and a newer one cannot both have on one node, and by which field of the newer.
func (p BGPPeer) clash(newer BGPPeer) (field, what string) {
	switch {
	case p.Disabled || newer.Disabled:
	case p.Address.IsValid() && p.Address == newer.Address && p.Interface == newer.Interface:
		return "spec.peerAddress", fmt.Sprintf("the older BGPPeer %s has the address %v too", p.Name, p.Address)
	case p.AddressFrom != "" && p.AddressFrom == newer.AddressFrom && !p.Address.IsValid() && !newer.Address.IsValid():
		return "spec.peerAddressFrom", fmt.Sprintf("the older BGPPeer %s takes its address from the annotation %s too", p.Name, p.AddressFrom)
	case p.unnumbered() && newer.unnumbered() && p.Interface == newer.Interface:
		return "spec.interface", fmt.Sprintf("the older BGPPeer %s is the peer on interface %s too", p.Name, p.Interface)
	case p.RouterID.IsValid() && newer.RouterID.IsValid() && p.RouterID != newer.RouterID:
		return "spec.routerID", fmt.Sprintf("a node has one router ID, and the older BGPPeer %s gives it %v", p.Name, p.RouterID)
	}
	return "", ""
}

func (p BGPPeer) unnumbered() bool { return !p.Address.IsValid() && p.AddressFrom == "" }

// peerAddress reads where the router is found.
func (v *verdict) peerAddress(s v1beta1.BGPPeerSpec, out *BGPPeer) {
	ways := 0
	for _, way := range []bool{s.PeerAddress != "", s.PeerAddressFrom != nil, s.Interface != "" && s.PeerAddress == ""} {
		if way {
			ways++
		}
	}
	if ways != 1 {
		v.refuse("spec", ReasonConflictingFields, "name the peer by one of peerAddress, peerAddressFrom and interface (unnumbered)")
	}
	if s.Interface != "" {
		v.interfaceName("spec.interface", s.Interface)
	}
	if s.PeerAddressFrom != nil {
		out.AddressFrom = s.PeerAddressFrom.NodeAnnotation
		v.key("spec.peerAddressFrom.nodeAnnotation", out.AddressFrom)
	}
	if s.PeerAddress == "" {
		return
	}
	a, err := parsePeerAddress(s.PeerAddress)
	if err != nil {
		v.refuse("spec.peerAddress", ReasonInvalidValue, "%v", err)
		return
	}
	out.Address = a
	if linkLocal := a.Is6() && a.IsLinkLocalUnicast(); linkLocal != (s.Interface != "") {
		v.refuse("spec.interface", ReasonConflictingFields, "interface goes with a peerAddress exactly when that is an IPv6 link-local one: add or remove it")
	}
}

// parsePeerAddress reads the address of one router.
func parsePeerAddress(s string) (netip.Addr, error) {
	a, err := parseAddr(s)
	if err == nil && !(a.IsGlobalUnicast() || a.IsLinkLocalUnicast() || a.IsLoopback()) {
		err = fmt.Errorf("%v is multicast, broadcast or unspecified: write the address of one router", a)
	}
	return a, err
}

// asns reads the AS numbers of both sides.
func (v *verdict) asns(s v1beta1.BGPPeerSpec, out *BGPPeer) {
	number := func(field string, n *int64) uint32 {
		if n == nil {
			return 0
		}
		v.within(field, *n, 1, maxASN)
		return uint32(*n)
	}
	out.ASN, out.MyASN, out.LocalASN = number("spec.peerASN", s.PeerASN), number("spec.myASN", s.MyASN), number("spec.localASN", s.LocalASN)
	if (s.PeerASN != nil) == (s.DynamicASN != "") {
		v.refuse("spec", ReasonConflictingFields, "write one of peerASN and dynamicASN")
	}
	if d := s.DynamicASN; d != "" && d != v1beta1.DynamicASNInternal && d != v1beta1.DynamicASNExternal {
		v.refuse("spec.dynamicASN", ReasonInvalidValue, "%q: write internal or external", d)
	}
	if (s.MyASN != nil) == (s.MyASNFrom != nil) {
		v.refuse("spec", ReasonConflictingFields, "write one of myASN and myASNFrom")
	}
	if from := s.MyASNFrom; from != nil {
		out.MyASNFrom = *from
		if (from.NodeAnnotation != "") == (from.NodeLabel != "") {
			v.refuse("spec.myASNFrom", ReasonConflictingFields, "write one of nodeAnnotation and nodeLabel")
		}
		if from.NodeAnnotation != "" {
			v.key("spec.myASNFrom.nodeAnnotation", from.NodeAnnotation)
		}
		if from.NodeLabel != "" {
			v.key("spec.myASNFrom.nodeLabel", from.NodeLabel)
		}
	}
	if s.LocalASN != nil && s.MyASN != nil && *s.LocalASN == *s.MyASN {
		v.refuse("spec.localASN", ReasonConflictingFields, "localASN is myASN: leave it out")
	}
}

// source reads what the session comes from.
func (v *verdict) source(s v1beta1.BGPPeerSpec, out *BGPPeer) {
	if s.SourceAddress != "" && s.SourceInterface != "" {
		v.refuse("spec.sourceInterface", ReasonConflictingFields, "write one of sourceAddress and sourceInterface")
	}
	if s.SourceInterface != "" {
		v.interfaceName("spec.sourceInterface", s.SourceInterface)
	}
	if s.SourceAddress != "" {
		a, err := parsePeerAddress(s.SourceAddress)
		if err != nil {
			v.refuse("spec.sourceAddress", ReasonInvalidValue, "write an IP address of the node: %v", err)
		} else if out.Address.IsValid() && a.Is4() != out.Address.Is4() {
			v.refuse("spec.sourceAddress", ReasonConflictingFields, "sourceAddress and peerAddress must be of one family")
		}
		out.SourceAddress = a
	}
	if s.RouterID != "" {
		a, err := netip.ParseAddr(s.RouterID)
		if err != nil || !a.Is4() || a.IsUnspecified() {
			v.refuse("spec.routerID", ReasonInvalidValue, "%q: write the router ID as an IPv4 address other than 0.0.0.0", s.RouterID)
		}
		out.RouterID = a
	}
}

// families reads which routes the peer is told.
func (v *verdict) families(in []v1beta1.IPFamily, out *BGPPeer) {
	v.notEmpty("spec.families", in != nil && len(in) == 0, "to mean the family of the peer's address")
	for i, f := range in {
		if f != v1beta1.IPv4 && f != v1beta1.IPv6 {
			v.refuse(fmt.Sprintf("spec.families[%d]", i), ReasonInvalidValue, "%q: write IPv4 or IPv6", f)
		}
	}
	if len(in) > 0 {
		out.Families = slices.Compact(slices.Sorted(slices.Values(in)))
	}
}

func (v *verdict) interfaceName(field, name string) {
	if !interfaceName.MatchString(name) {
		v.refuse(field, ReasonInvalidValue, "%q: write the name of an interface, 15 bytes at most, without spaces and slashes", name)
	}
}

func (v *verdict) key(field, key string) {
	if faults := validation.IsQualifiedName(key); len(faults) > 0 {
		v.refuse(field, ReasonInvalidValue, "%q: write the key of a label or annotation, such as example.com/rack-router: %s", key, faults[0])
	}
}
