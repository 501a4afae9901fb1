package e2etest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/install"
)

func TestEveryProtocolReachesAServiceFromOutsideOverBothFamilies(t *testing.T) {
	svc := service(t, app.Service{Name: "protocols", Selects: "testapp"})
	addrs := addresses(svc)
	if len(addrs) != 2 || !addrs[0].Is4() || !addrs[1].Is6() {
		t.Fatalf("a dual-stack Service has %v, want an address of each family", addrs)
	}
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if in.IPMode == nil || *in.IPMode != corev1.LoadBalancerIPModeVIP {
			t.Errorf("ingress %s has ipMode %v, want VIP", in.IP, in.IPMode)
		}
	}
	if c := condition(svc); c.Status != metav1.ConditionTrue {
		t.Errorf("condition heraldlb.io/Allocated is %+v, want True", c)
	}
	for _, client := range []string{"client", "remote"} {
		for _, a := range addrs {
			reachable(t, client, a)
			for name, ask := range protocols {
				t.Run(fmt.Sprintf("%s from %s to %s", name, client, a), func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					defer cancel()
					if err := ask(ctx, client, a); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}

// protocols are ways to ask the application something and check that it was the application that answered.
var protocols = map[string]func(ctx context.Context, from string, a netip.Addr) error{
	"HTTP": func(ctx context.Context, from string, a netip.Addr) error {
		answer, err := get(ctx, from, target(a, 80))
		if err == nil && (answer.Node == "" || !strings.HasPrefix(answer.Protocol, "HTTP/")) {
			err = fmt.Errorf("answer %+v", answer)
		}
		return err
	},
	"TCP": func(ctx context.Context, from string, a netip.Addr) error { return echo(ctx, from, "tcp", a) },
	"UDP": func(ctx context.Context, from string, a netip.Addr) error { return echo(ctx, from, "udp", a) },
	"WebSocket": func(ctx context.Context, from string, a netip.Addr) error {
		conn, _, err := websocket.Dial(ctx, "ws://"+target(a, 80)+"/ws", &websocket.DialOptions{
			HTTPClient: &http.Client{Transport: &http.Transport{DialContext: cluster.Dialer(from)}}})
		if err != nil {
			return err
		}
		defer conn.CloseNow()
		if err := conn.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
			return err
		}
		if _, got, err := conn.Read(ctx); err != nil || string(got) != "hello" {
			return fmt.Errorf("echoed %q, %v", got, err)
		}
		return conn.Close(websocket.StatusNormalClosure, "")
	},
	"gRPC": func(ctx context.Context, from string, a netip.Addr) error {
		dial := cluster.Dialer(from)
		conn, err := grpc.NewClient("passthrough:///"+target(a, app.GRPCPort),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, "tcp", addr) }))
		if err != nil {
			return err
		}
		defer conn.Close()
		resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		if err == nil && resp.Status != grpc_health_v1.HealthCheckResponse_SERVING {
			err = fmt.Errorf("health is %v", resp.Status)
		}
		return err
	},
}

func TestExactlyOneNodeAnswersForEachAddress(t *testing.T) {
	svc := service(t, app.Service{Name: "one-owner", Selects: "testapp"})
	for _, a := range addresses(svc) {
		who := owner(t, a)
		got, err := answering(t.Context(), a, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 || got[who] != 100 {
			t.Errorf("100 requests for %s were answered by %v, want 100 answers from %s", a, got, who)
		}
	}
}

func TestOnlyANodeWithAReadyPodAnswersUnderPolicyLocal(t *testing.T) {
	apply(t, app.Deployment{Name: "local", Replicas: 1}.Manifest())
	within(t, 30*time.Second, func(ctx context.Context) error {
		return install.DeploymentReady(ctx, kube, "default", "local")
	})
	svc := service(t, app.Service{Name: "local", Selects: "local", ExternalTrafficPolicy: "Local"})
	pods, err := kube.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=local"})
	if err != nil || len(pods.Items) != 1 {
		t.Fatalf("pods %v, %v", pods, err)
	}
	for _, a := range addresses(svc) {
		if who, want := owner(t, a), pods.Items[0].Spec.NodeName; who != want {
			t.Errorf("%s is answered for by %s, want %s, where the pod is", a, who, want)
		}
		client := cluster.Host("client")
		want := client.IPv4
		if a.Is6() {
			want = client.IPv6
		}
		saw, err := netip.ParseAddrPort(reachable(t, "client", a).ClientAddress)
		if err != nil || saw.Addr().Unmap() != want {
			t.Errorf("through %s the pod saw the client as %v, %v; want %s", a, saw, err, want)
		}
	}
}

func TestAServiceWithoutAReadyPodIsNotAnnounced(t *testing.T) {
	apply(t, app.Deployment{Name: "scaled", Replicas: 1}.Manifest())
	svc := service(t, app.Service{Name: "scaled", Selects: "scaled"})
	scale := func(to string) {
		t.Helper()
		if _, err := kube.AppsV1().Deployments("default").Patch(t.Context(), "scaled", types.MergePatchType,
			[]byte(`{"spec":{"replicas":`+to+`}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	before := addresses(svc)
	for _, a := range before {
		reachable(t, "client", a)
	}
	scale("0")
	for _, a := range before {
		silent(t, a)
	}
	scale("1")
	for _, a := range before {
		reachable(t, "client", a)
		owner(t, a)
	}
	if after := addresses(addressed(t, "scaled")); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("addresses were %v and are %v", before, after)
	}
}

// echo sends a line and expects it back behind the application's answer.
func echo(ctx context.Context, from, network string, a netip.Addr) error {
	conn, err := cluster.Dialer(from)(ctx, network, target(a, app.EchoPort))
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := conn.Write([]byte("hello\n")); err != nil {
		return err
	}
	var got []byte
	for buf := make([]byte, 2048); !bytes.HasSuffix(got, []byte("\nhello\n")); {
		n, err := conn.Read(buf)
		if err != nil {
			return fmt.Errorf("after %q: %w", got, err)
		}
		got = append(got, buf[:n]...)
	}
	_, _, err = app.ParseAnswer(got)
	return err
}
