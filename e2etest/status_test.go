package e2etest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/lab"
	herald "heraldlb.io/herald/internal/kube"
)

// testsAgent is what tests call themselves, also when they work with a token of Herald's.
const testsAgent = "e2etest"

// client returns a client of Herald's own kinds, with a token in place of the administrator's certificate when there is one.
func client(t *testing.T, token string) *herald.Client {
	t.Helper()
	c, err := herald.NewClient(access(t, token), testsAgent)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// access is how to reach the API server, with a token in place of the administrator's certificate when there is one.
func access(t *testing.T, token string) *rest.Config {
	t.Helper()
	cfg, err := cluster.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		cfg = rest.AnonymousClientConfig(cfg)
		cfg.BearerToken = token
	}
	cfg.UserAgent = testsAgent
	return cfg
}

func speaker(ctx context.Context, c *herald.Client, node string) (*v1beta1.Speaker, error) {
	s := &v1beta1.Speaker{}
	return s, c.Herald.Get().Resource(herald.ResourceSpeakers).Name(node).Do(ctx).Into(s)
}

// slicesOf returns the AnnouncementSlices of a node.
func slicesOf(ctx context.Context, c *herald.Client, node string) ([]v1beta1.AnnouncementSlice, error) {
	list := &v1beta1.AnnouncementSliceList{}
	err := c.Herald.Get().Resource(herald.ResourceAnnouncementSlices).Param("fieldSelector", "nodeName="+node).Do(ctx).Into(list)
	return list.Items, err
}

// explains waits until a Service's condition heraldlb.io/Announced has this status and reason, and its message this part.
func explains(t *testing.T, name string, status metav1.ConditionStatus, reason, part string) {
	t.Helper()
	within(t, 40*time.Second, func(ctx context.Context) error {
		svc, err := kube.CoreV1().Services("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		c := meta.FindStatusCondition(svc.Status.Conditions, "heraldlb.io/Announced")
		if c == nil || c.Status != status || c.Reason != reason || !strings.Contains(c.Message, part) {
			return fmt.Errorf("service %s is %+v, want %s %s with %q", name, c, status, reason, part)
		}
		return nil
	})
}

func TestWhatSpeakersAnnounceIsShown(t *testing.T) {
	admin := client(t, "")
	addrs := placed(t, "shown", 79, "n1")
	if out, err := cluster.Kubectl(t.Context(), "wait", "--for=condition=heraldlb.io/Announced", "--timeout=20s", "service/shown"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, a := range addrs {
		explains(t, "shown", metav1.ConditionTrue, "Announced", a.String()+" is announced by L2 from node n1")
	}
	t.Run("by the Speakers and their slices", func(t *testing.T) {
		for _, node := range cluster.Nodes() {
			within(t, 15*time.Second, func(ctx context.Context) error {
				s, err := speaker(ctx, admin, node)
				if err != nil {
					return err
				}
				st := s.Status
				if !meta.IsStatusConditionTrue(st.Conditions, v1beta1.SpeakerReady) || !meta.IsStatusConditionTrue(st.Conditions, v1beta1.SpeakerServicePathHealthy) ||
					st.Gossip.Members != nodes || st.Version == "" || !slices.ContainsFunc(st.Interfaces, func(i v1beta1.SpeakerInterface) bool {
					return i.Name == "eth0" && i.ARP && i.NDP && slices.Contains(i.Subnets, "192.0.2.0/24")
				}) {
					return fmt.Errorf("speaker %s says %+v", node, st)
				}
				own, err := slicesOf(ctx, admin, node)
				if err != nil {
					return err
				}
				found := 0
				for _, one := range own {
					for _, a := range one.Announcements {
						if a.Name == "shown" && a.Role == v1beta1.RoleOwner && slices.Equal(a.Interfaces, []string{"eth0"}) {
							found++
						}
					}
				}
				if want := map[bool]int{true: 2}[node == "n1"]; found != want {
					return fmt.Errorf("the slices of %s have %d announcements of the Service, want %d", node, found, want)
				}
				return nil
			})
		}
	})
	t.Run("and whose kernel answers too", func(t *testing.T) {
		bind := func(verb string) error {
			out, err := cluster.Command(context.Background(), "n2", "ip", "address", verb, addrs[0].String()+"/32", "dev", "eth0").CombinedOutput()
			if err != nil {
				err = fmt.Errorf("ip address %s: %w: %s", verb, err, out)
			}
			return err
		}
		if err := bind("add"); err != nil {
			t.Fatal(err)
		}
		unbind := sync.OnceValue(func() error { return bind("del") })
		t.Cleanup(func() { _ = unbind() }) // what it says is told below
		if text := event(t, "Node", "n2", "KernelAnswers"); !strings.Contains(text, addrs[0].String()) {
			t.Errorf("the event says %q", text)
		}
		lists := func(n int) func(context.Context) error {
			return func(ctx context.Context) error {
				s, err := speaker(ctx, admin, "n2")
				if err == nil && len(s.Status.KernelAddresses) != n {
					err = fmt.Errorf("speaker n2 lists %v, want %d", s.Status.KernelAddresses, n)
				}
				return err
			}
		}
		within(t, 15*time.Second, lists(1))
		if err := unbind(); err != nil {
			t.Fatal(err)
		}
		within(t, 15*time.Second, lists(0))
	})
	t.Run("and why nobody announces an address", func(t *testing.T) {
		service(t, app.Service{Name: "unserved", Selects: "nothing"})
		explains(t, "unserved", metav1.ConditionFalse, "NoEndpoints", "Service default/unserved has no ready endpoint")
		apply(t, append(couple("unseen", 80), announced("unseen", `interfaces: [eth9]`)...))
		service(t, app.Service{Name: "unseen", Selects: "testapp", Annotations: map[string]string{"heraldlb.io/address-pool": "unseen"}})
		explains(t, "unseen", metav1.ConditionFalse, "NoEligibleNode", "n1, n2, n3: it has no usable interface for the address (NoInterface)")
	})
	t.Run("and which routers listen", func(t *testing.T) {
		apply(t, append([]byte(bgpObjects), bgpPeer(lab.RouterPort, "")...))
		svc := service(t, app.Service{Name: "heard", Selects: "testapp", Annotations: map[string]string{"heraldlb.io/address-pool": "routed"}})
		routed(t, addresses(svc)[0], cluster.Nodes()...)
		explains(t, "heard", metav1.ConditionTrue, "Announced", "is announced by BGP from nodes n1, n2, n3")
		event(t, "BGPPeer", "router", "SessionEstablished")
		s, err := speaker(t.Context(), admin, "n2")
		if err != nil || len(s.Status.Sessions) != 1 || s.Status.Sessions[0].State != "Established" || s.Status.Sessions[0].Address != "192.0.2.1" {
			t.Errorf("sessions %+v, %v", s.Status.Sessions, err)
		}
	})
}

// What a speaker said goes with its Node, and comes back with it.
func TestWhatASpeakerSaysGoesWithItsNode(t *testing.T) {
	const node = "n3"
	placed(t, "gone", 82, node)
	admin := client(t, "")
	if err := cluster.Kill(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	killed := true
	t.Cleanup(func() {
		if killed {
			mend(t, cluster.Start, node)
		}
		ready(t, node)
	})
	if err := kube.CoreV1().Nodes().Delete(t.Context(), node, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	within(t, 20*time.Second, func(ctx context.Context) error {
		_, err := speaker(ctx, admin, node)
		left, listing := slicesOf(ctx, admin, node)
		if listing == nil && !apierrors.IsNotFound(err) || len(left) > 0 {
			err = fmt.Errorf("of %s are left: its Speaker (%v), %d slices", node, err, len(left))
			return err
		}
		return listing
	})
	mend(t, cluster.Start, node)
	killed = false
	within(t, time.Minute, func(ctx context.Context) error {
		s, err := speaker(ctx, admin, node)
		if err != nil {
			return err
		}
		n, err := kube.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err == nil && (s.OwnerReferences[0].UID != n.UID || !meta.IsStatusConditionTrue(s.Status.Conditions, v1beta1.SpeakerReady)) {
			err = fmt.Errorf("speaker %s of Node %v says %+v", s.OwnerReferences[0].UID, n.UID, s.Status.Conditions)
		}
		return err
	})
}
