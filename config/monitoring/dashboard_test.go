package monitoring

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// dashboard is what of Grafana's format the dashboard uses. A member that is not here is a mistake, or new.
type dashboard struct {
	UID, Title, Description, Refresh string
	Tags                             []string
	SchemaVersion, Version           int
	Editable                         bool
	Time                             struct{ From, To string }
	Templating                       struct{ List []variable }
	Panels                           []panel
}

type variable struct {
	Name, Label, Type, Query string
	Datasource               *source
	Refresh                  int
}

type source struct{ Type, UID string }

type panel struct {
	ID                       int
	Type, Title, Description string
	Collapsed                bool
	Panels                   []panel
	Datasource               *source
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct {
		Defaults struct {
			Unit     string
			Min, Max *float64
		}
		Overrides []struct{}
	}
	Options struct {
		ReduceOptions *struct{ Calcs []string }
	}
	Targets []target
}

type target struct {
	RefID, Expr, LegendFormat string
	Instant                   bool
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	text, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var out dashboard
	if err := d.Decode(&out); err != nil {
		t.Fatalf("dashboard.json: %v", err)
	}
	return out
}

// units are those of Grafana's that the dashboard uses.
var units = []string{"short", "percentunit", "s", "ops", "pps", "bytes"}

func TestTheDashboardIsWellFormed(t *testing.T) {
	d := readDashboard(t)
	if d.UID == "" || d.Title == "" || d.SchemaVersion < 30 || len(d.Templating.List) != 2 {
		t.Errorf("the dashboard itself: %+v", d)
	}
	ids, cells := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if p.ID == 0 || ids[p.ID] || p.Title == "" {
			t.Errorf("panel %q has id %d, which is taken or none", p.Title, p.ID)
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("panel %q lies at %+v, outside of 24 columns", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" {
					t.Fatalf("panel %q lies on %q", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if !slices.Contains([]string{"stat", "bargauge", "timeseries"}, p.Type) || !slices.Contains(units, p.FieldConfig.Defaults.Unit) {
			t.Errorf("panel %q is of type %q in %q", p.Title, p.Type, p.FieldConfig.Defaults.Unit)
		}
		if p.Datasource == nil || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("panel %q has no query of the chosen data source", p.Title)
		}
		refs := map[string]bool{}
		for _, q := range p.Targets {
			if q.RefID == "" || refs[q.RefID] || q.Expr == "" {
				t.Errorf("panel %q: query %q has no name of its own, or says nothing", p.Title, q.RefID)
			}
			refs[q.RefID] = true
		}
	}
}
