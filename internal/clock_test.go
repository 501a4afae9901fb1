package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// timeless are the packages whose decisions must not depend on the time of day, which jumps when somebody sets it. What they time is
// timed by the monotonic reading that a time.Time of time.Now carries.
var timeless = []string{"gossip", "election", "announce", "layer2", "servicepath"}

// timeOfDay are the functions and methods that read the time of day off a time, or drop the monotonic reading from it; and the fields of
// objects that have been written by another clock.
var timeOfDay = []string{
	"Unix", "UnixMilli", "UnixMicro", "UnixNano", "Date", "Clock", "Weekday", "Hour", "Minute", "Second", "AddDate", "Format", "AppendFormat",
	"UTC", "Local", "In", "Round", "Truncate", "Now", "CreationTimestamp", "RenewTime", "AcquireTime", "LastTransitionTime",
}

// shown are the places where the time of day is for people to read, or what a person has said.
var shown = []string{
	"announce/move.go String: UTC", // until when a person wants an address moved
	"announce/move.go String: Format",
	"announce/status.go second: Truncate",               // in a status
	"announce/servicemetrics.go see: CreationTimestamp", // of a metric, when the Service is new
}

func TestNoDecisionDependsOnTheTimeOfDay(t *testing.T) {
	found := map[string]bool{}
	for _, pkg := range timeless {
		files, err := filepath.Glob(filepath.Join(pkg, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v: has it moved?", pkg, len(files), err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, use := range usesOf(t, file, src) {
				found[use] = true
				if !slices.Contains(shown, use) {
					t.Errorf("%s depends on the time of day", use)
				}
			}
		}
	}
	for _, use := range shown {
		if !found[use] {
			t.Errorf("%s is there no more: take it off the list", use)
		}
	}
	if got := usesOf(t, "x.go", []byte("package x\nfunc f(t time.Time) int64 { return t.Unix() }")); !slices.Equal(got, []string{"x.go f: Unix"}) {
		t.Errorf("of a use of the time of day is found %q", got)
	}
}

// usesOf returns where a file uses the time of day, as "announce/status.go second: Truncate".
func usesOf(t *testing.T, name string, src []byte) (out []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range f.Decls {
		in := "declares"
		if fn, ok := decl.(*ast.FuncDecl); ok {
			in = fn.Name.Name
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok || !slices.Contains(timeOfDay, s.Sel.Name) {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && (x.Name == "time" && (s.Sel.Name == "Now" || s.Sel.Name == "Second" || s.Sel.Name == "Minute" || s.Sel.Name == "Hour")) {
				return true // with a monotonic reading, and durations
			}
			out = append(out, name+" "+in+": "+s.Sel.Name)
			return true
		})
	}
	return out
}
