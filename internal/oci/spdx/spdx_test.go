package spdx

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"
)

func speaker() Program {
	return Program{
		Artifact: "herald-speaker", Version: "v1.2.3", Platform: "linux/amd64", Image: true,
		Created: time.Date(2026, 5, 4, 3, 2, 1, 0, time.FixedZone("", 3600)),
		Digest:  [32]byte{0xab, 31: 0xcd},
		Info: &debug.BuildInfo{
			GoVersion: "go1.26.1", Path: "heraldlb.io/herald/speaker", Main: debug.Module{Path: "heraldlb.io/herald", Version: "(devel)"},
			Deps: []*debug.Module{
				{Path: "example.com/a", Version: "v1.0.0", Sum: "h1:c3Vt="},
				{Path: "example.com/b", Version: "v2.0.0+incompatible"},
				{Path: "example.com/old", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.0.1"}},
			},
		},
	}
}

func decoded(t *testing.T, p Program) map[string]any {
	t.Helper()
	text, err := Document(p)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func list(v any) []map[string]any {
	var out []map[string]any
	for _, x := range v.([]any) {
		out = append(out, x.(map[string]any))
	}
	return out
}

// The library drops what its model of the format does not have: a field of another name would be gone, or changed.
func TestSPDXsOwnLibraryReadsItAllBack(t *testing.T) {
	text, err := Document(speaker())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := spdxjson.Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Error(err)
	}
	var back bytes.Buffer
	if err := spdxjson.Write(doc, &back); err != nil {
		t.Fatal(err)
	}
	var want, got any
	if err := errors.Join(json.Unmarshal(text, &want), json.Unmarshal(back.Bytes(), &got)); err != nil {
		t.Fatal(err)
	}
	for _, difference := range missing("", want, got) {
		t.Error(difference)
	}
}

// missing says what of want is not in got. A switch that is off need not be written.
func missing(path string, want, got any) []string {
	var out []string
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		for key, value := range w {
			if there, ok := g[key]; ok || value != false {
				out = append(out, missing(path+"."+key, value, there)...)
			}
		}
	case []any:
		g, _ := got.([]any)
		if len(g) != len(w) {
			return []string{fmt.Sprintf("%s had %d entries and has %d", path, len(w), len(g))}
		}
		for i := range w {
			out = append(out, missing(fmt.Sprintf("%s[%d]", path, i), w[i], g[i])...)
		}
	default:
		if want != got {
			out = append(out, fmt.Sprintf("%s was %v and is %v", path, want, got))
		}
	}
	return out
}

// What SPDX 2.3 demands of a document: chapters 6, 7 and 11 of the specification.
func TestTheDocumentIsSPDX(t *testing.T) {
	doc := decoded(t, speaker())
	for key, want := range map[string]string{"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": "herald-speaker-v1.2.3-linux-amd64"} {
		if doc[key] != want {
			t.Errorf("%s is %v, want %s", key, doc[key], want)
		}
	}
	if namespace := doc["documentNamespace"].(string); !regexp.MustCompile(`^https://[^#]+$`).MatchString(namespace) {
		t.Errorf("documentNamespace is %s, want a URI without a fragment", namespace)
	}
	creation := doc["creationInfo"].(map[string]any)
	if creation["created"] != "2026-05-04T02:02:01Z" {
		t.Errorf("created is %v, want the time in UTC", creation["created"])
	}
	for _, creator := range creation["creators"].([]any) {
		if !regexp.MustCompile(`^(Person|Organization|Tool): \S`).MatchString(creator.(string)) {
			t.Errorf("creator %v", creator)
		}
	}
	ids := []string{"SPDXRef-DOCUMENT"}
	for _, p := range list(doc["packages"]) {
		id := p["SPDXID"].(string)
		if !regexp.MustCompile(`^SPDXRef-[a-zA-Z0-9.-]+$`).MatchString(id) || slices.Contains(ids, id) {
			t.Errorf("id %s is no identifier, or there twice", id)
		}
		ids = append(ids, id)
		for _, key := range []string{"name", "downloadLocation", "versionInfo"} {
			if p[key] == "" || p[key] == nil {
				t.Errorf("package %s has no %s", id, key)
			}
		}
		if p["filesAnalyzed"] != false {
			t.Errorf("package %s has filesAnalyzed %v, and no files", id, p["filesAnalyzed"])
		}
		if !slices.Contains([]string{"CONTAINER", "APPLICATION", "LIBRARY", "ARCHIVE"}, p["primaryPackagePurpose"].(string)) {
			t.Errorf("package %s is for %v", id, p["primaryPackagePurpose"])
		}
	}
	described := false
	for _, r := range list(doc["relationships"]) {
		described = described || r["spdxElementId"] == "SPDXRef-DOCUMENT" && r["relationshipType"] == "DESCRIBES"
		if !slices.Contains(ids, r["spdxElementId"].(string)) || !slices.Contains(ids, r["relatedSpdxElement"].(string)) {
			t.Errorf("relationship %v is of nothing", r)
		}
	}
	if !described {
		t.Error("the document describes nothing")
	}
}

func TestEveryModuleOfTheBinaryIsInIt(t *testing.T) {
	found := map[string]string{}
	for _, p := range list(decoded(t, speaker())["packages"]) {
		if refs, ok := p["externalRefs"]; ok {
			found[p["name"].(string)] = list(refs)[0]["referenceLocator"].(string)
		}
	}
	want := map[string]string{
		"std":                        "pkg:golang/std@1.26.1",
		"heraldlb.io/herald/speaker": "pkg:golang/heraldlb.io/herald@v1.2.3",
		"example.com/a":              "pkg:golang/example.com/a@v1.0.0",
		"example.com/b":              "pkg:golang/example.com/b@v2.0.0%2Bincompatible",
		"example.com/fork":           "pkg:golang/example.com/fork@v1.0.1",
	}
	if len(found) != len(want) {
		t.Errorf("it has %v, want %v", found, want)
	}
	for name, locator := range want {
		if found[name] != locator {
			t.Errorf("%s is known as %q, want %q", name, found[name], locator)
		}
	}
}

func TestAnotherBinaryIsAnotherDocument(t *testing.T) {
	first, err := Document(speaker())
	if err != nil {
		t.Fatal(err)
	}
	again, _ := Document(speaker())
	if !bytes.Equal(first, again) {
		t.Error("the same binary gave two documents")
	}
	other := speaker()
	other.Digest[0]++
	changed, _ := Document(other)
	namespace := regexp.MustCompile(`"documentNamespace": "[^"]+"`)
	if namespace.FindString(string(first)) == namespace.FindString(string(changed)) {
		t.Error("two binaries have documents of one namespace")
	}
}

func TestABinaryWithoutBuildInformationHasNoDocument(t *testing.T) {
	for _, info := range []*debug.BuildInfo{nil, {}} {
		p := speaker()
		p.Info = info
		if _, err := Document(p); err == nil || !strings.Contains(err.Error(), "no build information") {
			t.Errorf("error %v", err)
		}
	}
}
