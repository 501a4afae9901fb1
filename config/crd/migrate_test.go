package crd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheAPIServerTakesWhatMigrationsMake(t *testing.T) {
	files, err := filepath.Glob("../../internal/migrate/testdata/*/*/herald.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no migrations found: %v", err)
	}
	all := schemas(t)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, document := range strings.Split(string(text), "\n---\n") {
			object := untyped(t, document)
			if errs := all[fmt.Sprint(object["kind"])].judge(t, object); len(errs) > 0 {
				t.Errorf("%s: %v", file, errs)
			}
		}
	}
}
