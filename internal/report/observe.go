package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/assign"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/service"
)

// The verdicts of an Observation.
const (
	ObservedSame    = "same"    // the Service keeps what it has
	ObservedNew     = "new"     // it has nothing, and would get something
	ObservedChanged = "changed" // it would get something else
	ObservedNone    = "none"    // it would get nothing
)

// Observation is what Herald would make of a Service, beside what the Service has from whoever gave it.
type Observation struct {
	Service string   `json:"service"`
	Has     []string `json:"has"`
	Herald  []string `json:"herald"` // what Herald would have it hold
	Pools   []string `json:"pools"`  // of these addresses
	Verdict string   `json:"verdict"`
	Why     string   `json:"why,omitempty"` // it would not get all it asks for
	// Announced says how speakers announce what it has, or would.
	Announced []string `json:"announced"`
}

// Observations compares what Services have with what Herald would give them, by Service. It asks the code of the controller,
// and it makes no difference whether one runs.
func Observations(s *Snapshot) []Observation {
	cfg, _ := config.New(s.Resources)
	survey := assign.NewSurvey(s.Class, cfg, s.Resources, s.Namespaces, s.Services)
	said := map[string][]Announcement{}
	for _, a := range announcements(s) {
		said[a.Service] = append(said[a.Service], a)
	}
	out := []Observation{}
	for i := range s.Services {
		svc := &s.Services[i]
		if !service.OfClass(svc, s.Class) || svc.DeletionTimestamp != nil {
			continue
		}
		key := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
		leases, refusal := survey.Holding(key)
		o := Observation{Service: key.String(), Has: []string{}, Herald: []string{}, Pools: []string{}, Announced: ways(said[key.String()])}
		for _, h := range service.HeldBy(svc) {
			o.Has = append(o.Has, h.Addr.String())
		}
		for _, l := range leases {
			o.Herald, o.Pools = append(o.Herald, l.Addr.String()), append(o.Pools, l.Pool)
		}
		o.Pools = slices.Compact(o.Pools)
		if refusal != nil {
			o.Why = refusal.Message
		}
		switch {
		case len(o.Herald) == 0:
			o.Verdict = ObservedNone
		case len(o.Has) == 0:
			o.Verdict = ObservedNew
		case len(difference(o.Has, o.Herald))+len(difference(o.Herald, o.Has)) > 0:
			o.Verdict = ObservedChanged
		default:
			o.Verdict = ObservedSame
		}
		out = append(out, o)
	}
	slices.SortFunc(out, func(x, y Observation) int { return cmp.Compare(x.Service, y.Service) })
	return out
}

// ways says in short how the addresses of a Service are announced, each way once.
func ways(said []Announcement) []string {
	out := []string{}
	for _, protocol := range []v1beta1.AnnouncementProtocol{v1beta1.ProtocolL2, v1beta1.ProtocolBGP} {
		var nodes []string
		for _, a := range said {
			if a.Protocol == protocol && a.Role != v1beta1.RoleNone {
				nodes = append(nodes, a.Node)
			}
		}
		slices.Sort(nodes)
		if nodes = slices.Compact(nodes); len(nodes) > 0 {
			out = append(out, string(protocol)+" "+list(nodes))
		}
	}
	for _, a := range said {
		if a.Role == v1beta1.RoleNone {
			out = append(out, fmt.Sprintf("%s nowhere: %s", a.Address, a.Reason))
		}
	}
	return out
}

// Keeps tells whether Herald leaves the Service what it has, and gives it all it asks for.
func (o Observation) Keeps() bool {
	return (o.Verdict == ObservedSame || o.Verdict == ObservedNew) && o.Why == ""
}

// ObservationHead is the head of ObservationRows.
var ObservationHead = []string{"SERVICE", "HAS", "HERALD", "POOL", "VERDICT", "ANNOUNCED BY"}

// ObservationRows are observations as a table.
func ObservationRows(all []Observation) [][]Cell {
	var rows [][]Cell
	for _, o := range all {
		verdict := Cell{o.Verdict, Good}
		if !o.Keeps() {
			verdict.Tone = Bad
		}
		rows = append(rows, []Cell{{Text: o.Service}, {Text: strings.Join(o.Has, ",")}, {Text: strings.Join(o.Herald, ",")}, {Text: strings.Join(o.Pools, ",")},
			verdict, {Text: strings.Join(o.Announced, "; ")}})
	}
	return rows
}
