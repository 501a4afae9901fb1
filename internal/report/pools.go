package report

import (
	"cmp"
	"math/big"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
)

// Pool is a pool and how much of it is in use.
type Pool struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
	// State is Available, or the reason why the pool has nothing for a new Service.
	State    string   `json:"state"`
	Message  string   `json:"message,omitempty"`
	Families []Family `json:"families"`

	tone Tone
}

// Family counts the addresses of one IP family. Numbers that no JSON number can hold are texts, as in the pool's status.
type Family struct {
	Family    corev1.IPFamily `json:"family"`
	Total     string          `json:"total"`
	Assigned  int64           `json:"assigned"`
	Available string          `json:"available"`
	Outside   int64           `json:"outside"`
	// Percent is how much of the total is not available: 0 means nothing, 100 all, and what is in between is neither.
	Percent int `json:"percent"`
}

// StateAvailable is the State of a pool that has addresses for new Services.
const StateAvailable = "Available"

// stateUnknown is the State of a pool of which the controller has said nothing yet.
const stateUnknown = "Unknown"

// Pools tells of all pools, by name.
func Pools(s *Snapshot) []Pool {
	out := []Pool{}
	for _, p := range s.Resources.Pools {
		row := Pool{Name: p.Name, Addresses: p.Spec.Addresses, Families: []Family{}}
		row.State, row.Message, row.tone = stateOf(p.Status.Conditions)
		if c := p.Status.IPv4; c != nil {
			row.Families = append(row.Families, family(corev1.IPv4Protocol, c))
		}
		if c := p.Status.IPv6; c != nil {
			row.Families = append(row.Families, family(corev1.IPv6Protocol, c))
		}
		out = append(out, row)
	}
	slices.SortFunc(out, func(x, y Pool) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// stateOf reads a pool's conditions.
func stateOf(conditions []metav1.Condition) (state, message string, tone Tone) {
	accepted, available := condition(conditions, config.ConditionAccepted), condition(conditions, "Available")
	switch {
	case accepted.Status == metav1.ConditionFalse:
		return accepted.Reason, accepted.Message, Bad
	case available.Status == metav1.ConditionTrue:
		return StateAvailable, "", Good
	case available.Status == metav1.ConditionFalse:
		return available.Reason, available.Message, Warn
	}
	return stateUnknown, "the controller has not looked at the pool yet: does it run? (heraldctl status)", Warn
}

func family(name corev1.IPFamily, c *v1beta1.AddressCounts) Family {
	f := Family{Family: name, Total: c.Total, Assigned: c.Assigned, Available: c.Available, Outside: c.Outside}
	total, ok := new(big.Int).SetString(c.Total, 10)
	free, isFree := new(big.Int).SetString(c.Available, 10)
	if !ok || !isFree || total.Sign() <= 0 {
		return f
	}
	used := new(big.Int).Sub(total, free)
	used.Mul(used, big.NewInt(100)).Add(used, new(big.Int).Sub(total, big.NewInt(1))).Div(used, total)
	f.Percent = int(used.Int64()) // 0 to 100
	if free.Sign() > 0 {
		f.Percent = min(f.Percent, 99)
	}
	return f
}

// Bar draws a percentage.
func Bar(percent int) string {
	const length = 10
	full := min(max((percent*length+99)/100, 0), length)
	return strings.Repeat("#", full) + strings.Repeat(".", length-full)
}

// PoolHead is the head of PoolRows.
var PoolHead = []string{"POOL", "FAMILY", "USE", "ASSIGNED", "AVAILABLE", "TOTAL", "OUTSIDE", "STATE"}

// PoolRows are pools as a table, a row for each family.
func PoolRows(pools []Pool) [][]Cell {
	var rows [][]Cell
	for _, p := range pools {
		state := Cell{p.State, p.tone}
		if len(p.Families) == 0 {
			rows = append(rows, []Cell{{Text: p.Name}, {}, {}, {}, {}, {}, {}, state})
		}
		for _, f := range p.Families {
			rows = append(rows, []Cell{{Text: p.Name}, {Text: string(f.Family)}, {Text: Bar(f.Percent) + " " + percentage(f.Percent), Tone: fullness(f.Percent)},
				{Text: number(f.Assigned)}, {Text: f.Available}, {Text: f.Total}, {Text: number(f.Outside)}, state})
		}
	}
	return rows
}

func fullness(percent int) Tone {
	switch {
	case percent >= 100:
		return Bad
	case percent >= 80:
		return Warn
	}
	return Plain
}
