package main

import (
	"strings"
	"testing"
)

func TestThePageHasAPlaceForEachKind(t *testing.T) {
	schemas, err := read("..", false)
	if err != nil || len(schemas) != 6 {
		t.Fatalf("%d kinds, %v; want 6", len(schemas), err)
	}
	if _, err := fill("no place here", schemas); err == nil || !strings.Contains(err.Error(), "<!-- fields: BGPPeer.spec -->") {
		t.Errorf("a page without places: %v", err)
	}
	var page strings.Builder
	for kind := range schemas {
		page.WriteString("<!-- fields: " + kind + ".spec -->\nSTALE\n<!-- end -->\n")
	}
	filled, err := fill(page.String(), schemas)
	if err != nil || strings.Contains(filled, "STALE") {
		t.Fatalf("the page was not filled: %v", err)
	}
	for _, want := range []string{
		"| `spec.addresses` | list of strings | required | 1 to 1024 entries |",
		"| `spec.autoAssign` | boolean | `true` |",
		"| `spec.serviceAllocation.namespaceSelectors` | list of label selectors |",
		"| `spec.preferredNodeSelectors[].weight` | integer | required | 1 to 100 |",
		"| `spec.holdTime` | time, such as 90s | `90s` |",
		"| `spec.dynamicASN` | string |  | `internal` or `external` |",
		"- `spec`: write one of peerASN and dynamicASN\n",
		"- `spec.addresses[]`: the prefix has bits set beyond its length",
	} {
		if !strings.Contains(filled, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	again, err := fill(filled, schemas)
	if err != nil || again != filled {
		t.Errorf("filling a filled page changes it: %v", err)
	}
}

func TestAPageMayBeAboutWhatIsReported(t *testing.T) {
	schemas, err := read("..", true)
	if err != nil || len(schemas) != 2 {
		t.Fatalf("%d kinds, %v; want 2", len(schemas), err)
	}
	if _, err := fill("<!-- fields: Speaker.status -->\n<!-- end -->\n", schemas); err == nil || !strings.Contains(err.Error(), "AnnouncementSlice") {
		t.Errorf("a page without a place: %v", err)
	}
	filled, err := fill("<!-- fields: Speaker.status -->\n<!-- end -->\n<!-- fields: AnnouncementSlice.announcements -->\n<!-- end -->\n", schemas)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| `status.sessions[].state` | string |", "| `announcements[].role` | string |"} {
		if !strings.Contains(filled, want) {
			t.Errorf("the page has no %q", want)
		}
	}
}
