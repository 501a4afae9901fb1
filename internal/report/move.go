package report

import (
	"fmt"
	"net/netip"
	"slices"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/announce"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/election"
	"heraldlb.io/herald/internal/service"
)

// Relocation is the way of an address to the node at which a person wants it.
type Relocation struct {
	Address  netip.Addr
	Services []string // that have it
	From     string   // the node that announces it by ARP and NDP now; empty when none does
	To       string
	Against  string // why it would not stay there, in words; empty when it would
}

// Done tells whether the address is where it is wanted.
func (r Relocation) Done() bool { return r.From == r.To }

// Relocations tells of addresses what their way to a node looks like. It asks the speakers' own code.
func Relocations(s *Snapshot, addrs []netip.Addr, to string) []Relocation {
	cfg, _ := config.New(s.Resources)
	scene := s.scene(cfg)
	out := make([]Relocation, len(addrs))
	for i, addr := range addrs {
		r := Relocation{Address: addr, Services: holders(s, addr), From: scene.Claims[addr], To: to}
		if reason := scene.Stays(addr, to); reason != election.Fit {
			r.Against = fmt.Sprintf("%s (%s)", announce.Because(reason), reason)
		}
		out[i] = r
	}
	return out
}

// holders are the Services that have an address.
func holders(s *Snapshot, addr netip.Addr) (names []string) {
	for i := range s.Services {
		svc := &s.Services[i]
		if slices.ContainsFunc(service.HeldBy(svc), func(h service.Held) bool { return h.Addr == addr }) {
			names = append(names, svc.Namespace+"/"+svc.Name)
		}
	}
	return names
}

// At returns the node that announces an address by ARP and NDP, as the speakers say; empty for none.
func At(s *Snapshot, addr netip.Addr) string {
	for _, a := range Announcements(s, Filter{IP: addr}) {
		if a.Role == v1beta1.RoleOwner && a.Protocol == v1beta1.ProtocolL2 {
			return a.Node
		}
	}
	return ""
}
