package bgp

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/bgp"
	"heraldlb.io/herald/internal/config"
)

// tellerEnv makes this test binary a speaker without Kubernetes, which has so many peers.
const tellerEnv = "HERALD_BENCH_TELLER"

// tell is the life of a speaker that tells many addresses at once, and then does what each line of standard input says: "change
// MED" gives the first address another one, "sent" counts the UPDATEs that have been sent in all. It answers each line with a
// number, 0 where there is none, and so it does when it has begun.
func tell(peers int) error {
	n, err := strconv.Atoi(os.Getenv(tellerEnv + "_ADDRESSES"))
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	speaker := bgp.New(tellerAddress, log.NewNopLogger(), registry)
	routes := map[netip.Prefix][]bgp.Route{}
	for i := range n {
		routes[prefix(i)] = []bgp.Route{{}}
	}
	speaker.Apply(tellerPeers(peers), routes)
	fmt.Println(0)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if med, ok := strings.CutPrefix(in.Text(), "change "); ok {
			m, err := strconv.ParseUint(med, 10, 32)
			if err != nil {
				return err
			}
			speaker.Apply(tellerPeers(peers), map[netip.Prefix][]bgp.Route{prefix(0): {{Attributes: config.Attributes{MED: new(uint32(m))}}}})
			fmt.Println(0)
			continue
		}
		if err := saySent(registry); err != nil {
			return err
		}
	}
	return nil
}

func saySent(registry *prometheus.Registry) error {
	families, err := registry.Gather()
	if err != nil {
		return err
	}
	sent := 0.0
	for _, f := range families {
		if f.GetName() == "herald_bgp_updates_sent_total" {
			for _, m := range f.Metric {
				sent += m.GetCounter().GetValue()
			}
		}
	}
	_, err = fmt.Printf("%.0f\n", sent)
	return err
}

// tellerAddress is the client's, where no other speaker runs.
var tellerAddress = netip.MustParseAddr("192.0.2.2")

func tellerPeers(n int) []bgp.Peer {
	var out []bgp.Peer
	for i := range n {
		out = append(out, bgp.Peer{BGPPeer: config.BGPPeer{
			Name: fmt.Sprintf("router-%d", i), Rank: i, Address: routerAddress(i), Port: 179, ASN: 64513, MyASN: 64512,
			HoldTime: 90 * time.Second, KeepaliveTime: 30 * time.Second, ConnectTime: 2 * time.Second, Families: []v1beta1.IPFamily{v1beta1.IPv4},
		}})
	}
	return out
}

// routerAddress is that of a router that is told many addresses.
func routerAddress(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(200 + i)}) }

func prefix(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 32)
}
