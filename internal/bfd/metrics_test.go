package bfd

import (
	"net/netip"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestAPeersSeriesGoWithIt(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := newMetrics(reg)
	without, err := testutil.GatherAndCount(reg)
	if err != nil {
		t.Fatal(err)
	}
	peer := netip.MustParseAddr("fe80::1%eth0")
	m.of(peer)
	if with, err := testutil.GatherAndCount(reg); err != nil || with != without+6 {
		t.Errorf("%d series with a peer, %d without; %v", with, without, err)
	}
	m.forget(peer)
	if left, err := testutil.GatherAndCount(reg); err != nil || left != without {
		t.Errorf("%d series are left of a peer's, %v", left-without, err)
	}
}
