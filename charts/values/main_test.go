package main

import (
	"strings"
	"testing"
)

func TestValuesAreReadWithTheirComments(t *testing.T) {
	all, err := read([]byte("# About the file.\n\nimage:\n  # Host\n  # and path.\n  registry: localhost\n# What it asks for.\nresources:\n  requests: {cpu: 50m}\n"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := fill("before\n<!-- values -->\nold\n<!-- end -->\nafter\n", all)
	if err != nil {
		t.Fatal(err)
	}
	want := "before\n<!-- values -->\n\n| value | default | what |\n|---|---|---|\n" +
		"| `image.registry` | `\"localhost\"` | Host and path. |\n| `resources` | `{\"requests\":{\"cpu\":\"50m\"}}` | What it asks for. |\n\n<!-- end -->\nafter\n"
	if page != want {
		t.Errorf("page\n%s\nwant\n%s", page, want)
	}
}

func TestAValueWithoutACommentIsRefused(t *testing.T) {
	for _, text := range []string{"image:\n  # Host.\n  registry: localhost\n  tag: x\n", "pullSecrets: []\n"} {
		if _, err := read([]byte(text)); err == nil || !strings.Contains(err.Error(), "no comment") {
			t.Errorf("%q: error %v", text, err)
		}
	}
}

func TestAPageWithoutAPlaceIsRefused(t *testing.T) {
	if _, err := fill("nothing", nil); err == nil || !strings.Contains(err.Error(), "want one") {
		t.Errorf("error %v", err)
	}
}
