package migrate

import (
	"fmt"
	"os"
	"regexp"
	"testing"
)

const page = "../../docs/migration.md"

var tablesOf = regexp.MustCompile(`(?s)<!-- fields of ([a-z-]+) -->\n.*?<!-- end -->`)

func TestTheDocumentationTellsOfEveryField(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]Product{}
	for _, p := range Products() {
		left[p.Name] = p
	}
	filled := tablesOf.ReplaceAllFunc(text, func(old []byte) []byte {
		name := string(tablesOf.FindSubmatch(old)[1])
		p, ok := left[name]
		if !ok {
			t.Errorf("%s has a place for the fields of %s, which is no product or was there before", page, name)
			return old
		}
		delete(left, name)
		return fmt.Appendf(nil, "<!-- fields of %s -->\n%s\n<!-- end -->", name, p.Tables())
	})
	for name := range left {
		t.Errorf("%s has no place for the fields of %s: add <!-- fields of %[2]s --> and <!-- end -->", page, name)
	}
	if *update {
		if err := os.WriteFile(page, filled, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(filled) != string(text) {
		t.Errorf("%s does not tell what the rules say: go test ./internal/migrate -update", page)
	}
}
