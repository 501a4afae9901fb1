package announce

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
)

func TestASpeakerThatObservesTellsAndAnnouncesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &shownReport{}
		w := newWorldWith(t, func(l *Loop) {
			l.observe()
			l.ReportTo(r, "v9")
		})
		asn, yes := int64(64512), true
		w.bgpPeers.Add(&v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "tor"}, Spec: v1beta1.BGPPeerSpec{PeerAddress: "198.51.100.1", MyASN: &asn, PeerASN: &asn}})
		w.bgpAdv.Add(&v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "all"}})
		w.ring.become(nil)
		shop := lbService("shop", corev1.ServiceExternalTrafficPolicyCluster, "192.0.2.100")
		shop.Annotations = nil // another load balancer gave the address
		w.services.Add(shop)
		w.slices.Add(slice("shop-1", "shop", endpoint("n1", &yes, &yes)))
		const told = "Ready=True ServicePathHealthy=True members=1 [] [n2] web/shop Observed L2 eth0, web/shop Observed BGP tor"
		time.Sleep(5 * time.Second)
		w.shows(r, "elected", told)
		if !r.status.Observing || r.status.Conditions[0].Reason != reasonObserves {
			t.Errorf("the speaker says %+v", r.status)
		}
		if got := fmt.Sprint(r.status.Sessions[0].Peer, " ", r.status.Sessions[0].State); got != "tor Disabled" {
			t.Errorf("the session is %q", got)
		}
		w.announces("elected", "")
		w.tells("elected")
		if claims := w.ring.claims; len(claims) != 1 {
			t.Errorf("claims %v, want that of the address", claims)
		}
		w.stop()
		time.Sleep(5 * time.Second)
		w.announces("gone", "")
		w.tells("gone")
	})
}
