package migrate

import (
	"os"
	"path/filepath"
	"testing"

	"heraldlb.io/herald/internal/config"
)

func FuzzConvert(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*/in.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, p := range Products() {
			r := p.Convert([]Input{{Name: "fuzz", Text: text}})
			again := p.Convert([]Input{{Name: "fuzz", Text: text}})
			if Documents(r.Objects) != Documents(again.Objects) || told(r) != told(again) {
				t.Errorf("%s: the same input gave two results", p.Name)
			}
			resources, problems := config.Parse("out", map[string]string{"out": Documents(r.Objects)})
			_, more := config.New(resources)
			for _, problem := range append(problems, more...) {
				if problem.Condition == config.ConditionAccepted {
					t.Errorf("%s: %v", p.Name, problem)
				}
			}
		}
	})
}
