package e2etest

import (
	"flag"
	"runtime"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/bench/stage"
	"heraldlb.io/herald/e2etest/lab"
)

var busy = flag.Duration("busy", 0, "how long every core is kept busy twice over, in the test of that; 0 leaves it out")

func TestBusyNodesKeepTheirRoutes(t *testing.T) {
	if *busy == 0 {
		t.Skip("too long for every day: give it a time with -busy, as make test-long does")
	}
	apply(t, append([]byte(bgpObjects), bgpPeer(lab.RouterBFDPort, "default")...))
	svc := service(t, app.Service{Name: "busy", Selects: "testapp", Annotations: map[string]string{"heraldlb.io/address-pool": "routed"}})
	address := addresses(svc)[0]
	routed(t, address, cluster.Nodes()...)
	for _, n := range cluster.Nodes() {
		shows(t, n, `herald_bfd_detection_time_seconds\{peer="192\.0\.2\.1"\} 0\.9`)
	}
	w := nextHopsOf(t, address)
	idle := stage.Busy(t, 2*runtime.NumCPU())
	<-time.After(*busy) // which is what is tested
	idle()
	changes, err := w.Stop()
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range changes[1:] {
		t.Errorf("%s into it the router's next hops were %v, before that %v", c.At.Sub(changes[0].At), c.NextHops, changes[i].NextHops)
	}
	if want := len(cluster.Nodes()); len(changes[0].NextHops) != want {
		t.Errorf("there were %d next hops at first, want %d", len(changes[0].NextHops), want)
	}
}
