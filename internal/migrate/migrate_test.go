package migrate

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"heraldlb.io/herald/internal/config"
)

var update = flag.Bool("update", false, "write down what comes out now, to be read before it is committed")

// inputs are what testdata has to convert: a directory for each product, with one for each case.
func inputs(t *testing.T) map[string]Product {
	t.Helper()
	out := map[string]Product{}
	for _, p := range Products() {
		files, err := filepath.Glob("testdata/" + p.Name + "/*/in.yaml")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no cases: %v", p.Name, err)
		}
		for _, f := range files {
			out[filepath.Dir(f)] = p
		}
	}
	return out
}

func convert(t *testing.T, p Product, dir string) Result {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "in.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return p.Convert([]Input{{Name: "in.yaml", Text: string(text)}})
}

// told writes down all that a Result says beside the objects.
func told(r Result) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s: %s: %s: %s\n", f.Place(), f.Level, f.About(), f.Message)
	}
	return b.String() + r.Script()
}

func TestWhatBecomesOfTheCases(t *testing.T) {
	for dir, p := range inputs(t) {
		t.Run(strings.TrimPrefix(dir, "testdata/"), func(t *testing.T) {
			r := convert(t, p, dir)
			for name, got := range map[string]string{"herald.yaml": Documents(r.Objects), "told.txt": told(r)} {
				file := filepath.Join(dir, name)
				if *update {
					if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if got != string(want) {
					t.Errorf("%s is not what comes out:\n%s", file, got)
				}
			}
		})
	}
}

func TestHeraldAcceptsAllThatIsMade(t *testing.T) {
	for dir, p := range inputs(t) {
		resources, problems := config.Parse(dir, map[string]string{"out": Documents(convert(t, p, dir).Objects)})
		_, more := config.New(resources)
		for _, problem := range append(problems, more...) {
			if problem.Condition == config.ConditionAccepted {
				t.Errorf("%s: %v", dir, problem)
			}
		}
	}
}

func TestNoPasswordIsRepeated(t *testing.T) {
	for dir, p := range inputs(t) {
		r := convert(t, p, dir)
		if strings.Contains(Documents(r.Objects)+told(r), "not-to-be-repeated") {
			t.Errorf("%s: the password is in what comes out", dir)
		}
	}
}
