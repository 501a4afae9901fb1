package layer2

import (
	"context"
	"fmt"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/bench/stage"
	"heraldlb.io/herald/e2etest/lab"
)

// patience bounds every wait for the cluster.
const patience = 3 * time.Minute

// The pools of a stage: addresses of the LAN's own subnets, such as two nodes are preferred for, and of one that the client reaches on the link all the same,
// which has room for thousands.
const (
	lanPool  = "lan"
	dualPool = "dual"
	widePool = "wide"
	wide     = "198.18.0.0/16"
	pools    = `apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec: {addresses: [192.0.2.100-192.0.2.199]}
---
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: dual}
spec: {addresses: [192.0.2.200-192.0.2.209, "2001:db8:1::200-2001:db8:1::209"], autoAssign: false}
---
apiVersion: heraldlb.io/v1beta1
kind: L2Advertisement
metadata: {name: dual}
spec:
  ipAddressPools: [dual]
  preferredNodeSelectors:
  - {weight: 2, preference: {matchLabels: {kubernetes.io/hostname: n1}}}
  - {weight: 1, preference: {matchLabels: {kubernetes.io/hostname: n2}}}
---
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: wide}
spec: {addresses: [` + wide + `], autoAssign: false}
---
apiVersion: heraldlb.io/v1beta1
kind: L2Advertisement
metadata: {name: lan}
spec: {ipAddressPools: [lan]}
---
apiVersion: heraldlb.io/v1beta1
kind: L2Advertisement
metadata: {name: wide}
spec: {ipAddressPools: [wide], interfaces: [eth0]}
`
)

// scene is a lab with the pools, and with keepalived beside Herald where that is asked for.
type scene struct {
	*stage.Stage
	vrrp *vrrp // nil until it is asked for
}

func (s *scene) prepare(ctx context.Context) error {
	if err := s.Apply(ctx, []byte(pools)); err != nil {
		return err
	}
	return stage.Run(s.Command(ctx, lab.Client, "ip", "route", "add", wide, "dev", "eth0"))
}

func (s *scene) down(ctx context.Context) error {
	if s.Stage == nil {
		return nil
	}
	if s.vrrp != nil {
		s.vrrp.stop()
	}
	return s.Down(ctx)
}

// until waits for something, with patience, and fails the benchmark with what it lacked last.
func until(b *testing.B, f func(ctx context.Context) error) {
	b.Helper()
	stage.UntilEvery(b, 200*time.Millisecond, f)
}

// settle waits until all nodes and their speakers are what they were before a fault: Ready, and members of one ring.
func (s *scene) settle(b *testing.B) {
	b.Helper()
	s.Ready(b)
	until(b, func(ctx context.Context) error {
		for _, n := range s.Nodes() {
			m, err := s.Metrics(ctx, n)
			if err != nil {
				return err
			}
			if m["herald_gossip_members"] != float64(len(s.Nodes())) || m["herald_gossip_absences"] != 0 {
				return fmt.Errorf("the speaker of %s knows %v members, %v away", n, m["herald_gossip_members"], m["herald_gossip_absences"])
			}
		}
		return nil
	})
}

// sum adds up a counter of all speakers, over all its labels.
func (s *scene) sum(b *testing.B, name string) (total float64) {
	b.Helper()
	until(b, func(ctx context.Context) (err error) {
		total, err = s.Sum(ctx, name)
		return err
	})
	return total
}
