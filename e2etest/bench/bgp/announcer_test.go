package bgp

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"testing"

	"heraldlb.io/herald/e2etest/bench/stage"
	"heraldlb.io/herald/e2etest/lab"
)

// way is how the router notices that a node is gone.
type way struct {
	name   string
	port   int
	herald string // of a BGPPeer's spec
	frr    string // of a neighbor
	bfd    int    // interval, ms; 0 is none
}

var (
	byHoldTimer = way{name: "hold-timer-3s", port: lab.RouterPort, herald: "holdTime: 3s", frr: "timers 1 3"}
	byBFD       = fast(50)
	// While a graceful restart lasts the router keeps routes, with BFD or without.
	gracefulWithout = way{name: "without-bfd", port: lab.RouterPort, herald: "gracefulRestart: {restartTime: 30s}"}
	gracefulWith    = way{name: "with-bfd", port: lab.RouterBFDGracefulPort, herald: "gracefulRestart: {restartTime: 30s}, bfdProfile: bench", bfd: 50}
)

// fast is BFD at an interval, with a multiplier of 3.
func fast(ms int) way {
	return way{name: fmt.Sprintf("bfd-%dms-x3", ms), port: lab.RouterBFDPort, herald: "bfdProfile: bench", frr: "bfd profile bench", bfd: ms}
}

// announcer announces an address from all nodes.
type announcer interface {
	// begin returns when the router has all nodes as next hops, and watches them if it is to.
	begin(b *testing.B, w way) (address netip.Addr)
	// again gives a node its announcer back after it was switched off.
	again(b *testing.B, node string)
	// watched waits until BFD watches the paths of all nodes.
	watched(b *testing.B)
	end(b *testing.B)
}

// herald is Herald.
type herald struct {
	scene *scene
	peer  []byte
}

func (h *herald) begin(b *testing.B, w way) netip.Addr {
	b.Helper()
	h.peer = fmt.Appendf(nil, `apiVersion: heraldlb.io/v1beta1
kind: BFDProfile
metadata: {name: bench}
spec: {transmitInterval: %d, receiveInterval: %[1]d, detectMultiplier: 3}
---
apiVersion: heraldlb.io/v1beta1
kind: BGPPeer
metadata: {name: router}
spec: {peerAddress: %s, peerPort: %d, peerASN: 64513, myASN: 64512, connectTime: 2s, %s}
`, max(w.bfd, 50), h.scene.Host(lab.Router).IPv4, w.port, w.herald)
	if err := h.scene.Apply(b.Context(), h.peer); err != nil {
		b.Fatal(err)
	}
	h.scene.routed(b, h.scene.address, h.scene.Nodes()...)
	if w.bfd > 0 {
		h.watched(b)
	}
	return h.scene.address
}

func (h *herald) watched(b *testing.B) {
	b.Helper()
	stage.Until(b, func(ctx context.Context) error {
		up, err := h.scene.Sum(ctx, "herald_bfd_session_up")
		if err == nil && int(up) != len(h.scene.Nodes()) {
			err = fmt.Errorf("%v BFD sessions are up", up)
		}
		return err
	})
}

// again has nothing to do: the kubelet starts the speaker.
func (h *herald) again(*testing.B, string) {}

func (h *herald) end(b *testing.B) {
	b.Helper()
	cmd := h.scene.KubectlCommand(context.Background(), "delete", "--wait", "-f", "-")
	cmd.Stdin = bytes.NewReader(h.peer)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Errorf("%v: %v: %s", cmd, err, out)
	}
	h.scene.routed(b, h.scene.address) // a router may keep the routes for as long as a restart may take
}
