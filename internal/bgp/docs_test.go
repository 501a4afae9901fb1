package bgp

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"heraldlb.io/herald/e2etest/docs/page"
	"heraldlb.io/herald/internal/bfd"
	"heraldlb.io/herald/internal/config"
)

// Each configuration of a router in docs/bgp.md is run by its make, as it stands there, and talks to the BGPPeer that the page
// shows above it.
func TestTheRoutersOfTheDocumentation(t *testing.T) {
	const name = "../../docs/bgp.md"
	text, err := os.ReadFile(name)
	check(t, err)
	p, err := page.Parse(name, string(text))
	check(t, err)
	peer, run := "", map[string]int{}
	for _, b := range p.Blocks {
		switch {
		case b.Language == "yaml" && strings.Contains(b.Text, "kind: BGPPeer"):
			peer = b.Text
		case b.Language == "bird" || b.Language == "frr":
			run[b.Language]++
			link := linkName()
			t.Run(fmt.Sprintf("%s in line %d", b.Language, b.Line), func(t *testing.T) {
				documented(t, b.Language, link, strings.ReplaceAll(b.Text, "eth0", link), strings.ReplaceAll(peer, "eth0", link))
			})
		}
	}
	if run["bird"] < 3 || run["frr"] < 3 {
		t.Errorf("run: %v", run)
	}
}

// documented sets up a session between a router's configuration and a BGPPeer.
func documented(t *testing.T, language, link, conf, manifest string) {
	h, nextHop := (*host)(nil), "192.0.2.11"
	if strings.Contains(manifest, "peerAddress") {
		h = newHost(t, link, nodeAddresses, routerAddresses)
	} else {
		h, nextHop = newLink(t, link, "fe80::1/64"), "fe80::11"
	}
	var route func(prefix string) string
	if language == "bird" {
		route = newBIRD(h, conf).route
	} else {
		route = newFRRWithKernel(h, "\n"+conf).route
	}
	r, problems := config.Parse("", map[string]string{"page": manifest})
	c, more := config.New(r)
	on, evenMore := c.PeersOn(config.Node{Name: "n1"})
	if problems = append(append(problems, more...), evenMore...); len(problems) > 0 || len(on) != 1 {
		t.Fatalf("want one peer: %v, %v", on, problems)
	}
	s := newSpeaker(t)
	watchPaths(t, s)
	run(t, s)
	s.Apply([]Peer{{BGPPeer: on[0]}}, toAll("203.0.113.1/32"))
	has(t, route, "203.0.113.1/32", "64512", nextHop)
	if on[0].BFD != nil {
		eventually(t, "BFD is up", func() bool {
			got := sessionOf(s, on[0].Name)
			return got.BFD != nil && got.BFD.State == bfd.Up
		})
	}
}
