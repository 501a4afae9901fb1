package gossip

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestWhenStatesAreExchanged(t *testing.T) {
	const settle, most = 200 * time.Millisecond, time.Second
	c := comparison{settle: settle, maxPause: most}
	now := time.Now()
	for _, step := range []struct {
		name        string
		after       time.Duration
		own, theirs uint64
		want        bool
	}{
		{"alike", 0, 1, 1, false},
		{"one differs", time.Hour, 1, 2, false},
		{"not for long", settle - 1, 1, 2, false},
		{"news came", 1, 3, 2, false},
		{"and it differs still", settle, 3, 2, true},
		{"the exchange takes a while", settle - 1, 3, 2, false},
		{"and did not help", 1, 3, 4, true},
		{"then it takes twice as long", 2*settle - 1, 3, 4, false},
		{"as said", 1, 3, 4, true},
		{"and at most so long", 4 * settle, 3, 4, true},
		{"as said again", most - 1, 3, 4, false},
		{"and never ends", 1, 3, 4, true},
		{"it helped", most, 4, 4, false},
		{"something else differs", 0, 4, 5, false},
		{"for as long as at first", settle, 4, 5, true},
	} {
		now = now.Add(step.after)
		if got := c.exchange(now, step.own, step.theirs); got != step.want {
			t.Fatalf("%s: exchange is %t", step.name, got)
		}
	}
}

// A claim that one member knows of and told nobody, as when all packets with it were lost.
func TestWhatAMemberMissedItLearnsSoon(t *testing.T) {
	ms := newNetwork(t).three()
	ms[0].claims.merge(Claim{vip, "n1", 7}, 0)
	start := time.Now()
	for _, m := range ms[1:] {
		deadline := time.After(5 * time.Second)
		for held(m.claims) != vip.String()+":n1@7 " {
			select {
			case <-m.Changed():
			case <-deadline:
				t.Fatalf("%s holds %q", m.peer.Node, held(m.claims))
			}
		}
		if got := m.TakeClaims(); len(got) != 1 || got[0] != (Claim{vip, "n1", 7}) {
			t.Errorf("%s is told of %v", m.peer.Node, got)
		}
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %v; about 0.3 s is what it is tuned for", took)
	}
}

func TestClaimsOfBothSidesOfAPartitionMeet(t *testing.T) {
	n := newNetwork(t)
	ms := n.three()
	n.partition(ms[:1], ms[1:])
	sees(t, ms[0], "n1", 5*time.Second)
	sees(t, ms[1], "n2 n3", 5*time.Second)
	other := netip.MustParseAddr("2001:db8::80")
	ms[0].Claim([]Claim{{vip, "n1", 2}, {other, "n1", 5}})
	ms[1].Claim([]Claim{{vip, "n2", 3}, {other, "n2", 5}})
	n.heal()
	for _, m := range ms {
		deadline := time.After(10 * time.Second)
		for held(m.claims) != other.String()+":n1@5 "+vip.String()+":n2@3 " {
			select {
			case <-m.Changed():
			case <-deadline:
				t.Fatalf("%s holds %q", m.peer.Node, held(m.claims))
			}
		}
	}
}

func TestAnotherClustersPacketsAreCounted(t *testing.T) {
	m := newNetwork(t).start("n1", nil)
	conn, err := net.Dial("udp", m.peer.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, b := range []string{"\xf4\x05other and more", "\xf4\xffx", "no label", "\xf4\x04test"} {
		if _, err := conn.Write([]byte(b)); err != nil {
			t.Fatal(err)
		}
	}
	counted := func() float64 { return testutil.ToFloat64(m.metrics.rejected.WithLabelValues("label")) }
	for deadline := time.Now().Add(5 * time.Second); counted() < 4; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%v of 4 were counted", counted())
		}
	}
}
