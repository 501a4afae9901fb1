package e2etest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/lab"
)

var update = flag.Bool("update", false, "write what heraldctl prints into testdata/heraldctl")

// What each command of heraldctl prints of a live cluster is what testdata/heraldctl holds. The cluster has a Service that one
// node announces on the LAN, one that all announce to a router, and one that cannot have an address.
func TestWhatHeraldctlPrints(t *testing.T) {
	ctl := heraldctl(t)
	lan := placed(t, "asked", 90, "n1")
	apply(t, append([]byte(bgpObjects), bgpPeer(lab.RouterPort, "")...))
	heard := addresses(service(t, app.Service{Name: "heard", Selects: "testapp", Annotations: map[string]string{"heraldlb.io/address-pool": "routed"}}))
	for _, a := range heard {
		routed(t, a, cluster.Nodes()...)
	}
	create(t, balanced("lacking", annotated("heraldlb.io/address-pool", "nowhere")))

	t.Cleanup(func() { nodeWith(t, "n2", `{"metadata":{"annotations":{"heraldlb.io/drain":null}}}`) })
	running, err := speaker(t.Context(), client(t, ""), "n1")
	if err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(t.TempDir(), "bundle.tar.gz")
	seen := map[string]bool{}
	for _, c := range []struct {
		name, args string
		acts       bool // so that it says something else when it is run again
	}{
		{name: "status", args: "status"},
		{name: "status-yaml", args: "status -o yaml"},
		{name: "explain-announced", args: "explain service asked"},
		{name: "explain-routers", args: "explain service default/heard"},
		{name: "explain-pending", args: "explain service lacking"},
		{name: "announcements", args: "announcements"},
		{name: "announcements-json", args: "announcements --node n1 --ip " + lan[0].String() + " -o json"},
		{name: "speakers", args: "speakers"},
		{name: "peers", args: "peers"},
		{name: "peers-json", args: "peers -o json"},
		{name: "pools", args: "pools"},
		{name: "events", args: "events --for service/default/lacking"},
		{name: "observe", args: "observe"},
		{name: "doctor", args: "doctor"},
		{name: "simulate-without", args: "simulate --without n1"},
		{name: "simulate-drain", args: "simulate --drain n1,n2"},
		{name: "simulate-file", args: "simulate -f testdata/heraldctl/change.yaml"},
		{name: "validate", args: "validate -f testdata/heraldctl/change.yaml"},
		{name: "migrate", args: "migrate metallb"},
		{name: "support-bundle", args: "support-bundle -f " + bundle},
		{name: "move", args: fmt.Sprintf("move %s %s --to n2", lan[0], lan[1]), acts: true},
		{name: "drain", args: "drain n2 --wait", acts: true},
		{name: "drain-undo", args: "drain n2 --undo", acts: true},
		{name: "cleanup", args: "cleanup --dry-run"},
	} {
		seen[strings.Fields(c.args)[0]] = true
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join("testdata", "heraldctl", c.name+".txt")
			get := func() string {
				return strings.NewReplacer(bundle, "BUNDLE", running.Status.Version, "VERSION").Replace(printed(t, ctl, c.args))
			}
			if *update {
				if err := os.WriteFile(path, []byte(steady(get, c.acts)), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			try := func(context.Context) error {
				if got := get(); got != string(want) {
					return fmt.Errorf("got\n%s\nwant\n%s\n(-update, when it is meant)", got, want)
				}
				return nil
			}
			if !c.acts {
				within(t, 15*time.Second, try)
			} else if err := try(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
	help, _ := ctl(t, "--help")
	all := regexp.MustCompile(`(?m)^  ([a-z-]+) {2,}[A-Z]`).FindAllStringSubmatch(help, -1)
	if len(all) < len(seen) {
		t.Errorf("heraldctl lists %d commands, and %d were run:\n%s", len(all), len(seen), help)
	}
	for _, m := range all {
		if name := m[1]; !seen[name] && name != "help" && name != "completion" {
			t.Errorf("of heraldctl %s no output is kept", name)
		}
	}
}

// changing is what is another in every run, and what stands for it.
var changing = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[0-9.]*Z`), "TIME"},
	{regexp.MustCompile(`\b([0-9.]+(ms|s|m|h|d))+\b`), "AGE"},
	{regexp.MustCompile(`herald-(controller|speaker)-[0-9a-z]+(-[0-9a-z]{5})?\b`), "herald-$1-POD"},
	{regexp.MustCompile(`\b\d+ Events`), "N Events"}, // which are kept for an hour, of all that was there
	{regexp.MustCompile(`\d+ files, [0-9.]+ [KM]iB`), "N files, SIZE"},
	{regexp.MustCompile(`(\S) {2,}`), "$1  "}, // columns are as wide as what is in them
}

// printed is what a command prints and its exit code, with names in place of what is changing.
func printed(t *testing.T, ctl commands, args string) string {
	t.Helper()
	out, code := ctl(t, strings.Fields(args)...)
	text := fmt.Sprintf("$ heraldctl %s\n%s(exit %d)\n", args, out, code)
	for _, r := range changing {
		text = r.pattern.ReplaceAllString(text, r.name)
	}
	return text
}

// steady is what get returns when it has returned the same for three seconds, since what commands read is up to a second old.
func steady(get func() string, once bool) string {
	last, since := get(), time.Now()
	for !once && time.Since(since) < 3*time.Second {
		if now := get(); now != last {
			last, since = now, time.Now()
		}
	}
	return last
}
