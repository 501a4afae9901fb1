package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/e2etest/probe"
)

// show holds what its parts hand on to each other.
type show struct {
	lab  *lab.Lab
	root string
	kube kubernetes.Interface

	external []netip.Addr // of the LoadBalancer Service, IPv4 first
	dead     string       // the node that failover killed
}

// install puts Herald, a pool and the example's pods into the cluster.
func (s *show) install(ctx context.Context) error {
	title("Herald, from manifests/herald.yaml, and a pool of addresses")
	cfg, err := s.lab.RESTConfig()
	if err != nil {
		return err
	}
	if s.kube, err = kubernetes.NewForConfig(cfg); err != nil {
		return err
	}
	start := time.Now()
	manifest, err := os.ReadFile(filepath.Join(s.root, "manifests", "herald.yaml"))
	if err != nil {
		return err
	}
	sample, err := os.ReadFile(filepath.Join(s.root, "config", "samples", "pool.yaml"))
	if err != nil {
		return err
	}
	if err := s.lab.Apply(ctx, manifest); err != nil {
		return err
	}
	example := slices.Concat(sample,
		app.Deployment{Name: "back-end", Replicas: 2}.Manifest(),
		app.Deployment{Name: "myapp", Replicas: nodes}.Manifest())
	if err := s.lab.Apply(ctx, example); err != nil {
		return err
	}
	if err := wait(ctx, "Herald's pods", func(ctx context.Context) error { return install.Ready(ctx, s.kube, nodes) }); err != nil {
		return err
	}
	if err := wait(ctx, "the example's pods", func(ctx context.Context) error {
		return errors.Join(install.DeploymentReady(ctx, s.kube, "default", "back-end"), install.DeploymentReady(ctx, s.kube, "default", "myapp"))
	}); err != nil {
		return err
	}
	say("a controller and %d speakers are ready, and the example's pods, after %.1f s", nodes, time.Since(start).Seconds())
	out, err := s.lab.Kubectl(ctx, "get", "ipaddresspools,l2advertisements")
	s.print(out)
	return err
}

// clusterIP reaches a Service from inside the cluster.
func (s *show) clusterIP(ctx context.Context) error {
	title("Service back-end, type ClusterIP: reached from a pod")
	svc, err := s.service(ctx, app.Service{Name: "back-end", Selects: "back-end"})
	if err != nil {
		return err
	}
	pod, err := s.pod(ctx, "myapp")
	if err != nil {
		return err
	}
	return s.fromPod(ctx, pod, svc)
}

// fromPod asks a Service's cluster addresses from within a pod.
func (s *show) fromPod(ctx context.Context, pod *corev1.Pod, svc *corev1.Service) error {
	for _, ip := range svc.Spec.ClusterIPs {
		url := "http://" + netip.AddrPortFrom(netip.MustParseAddr(ip), 80).String() + "/"
		var answer app.Answer
		err := wait(ctx, "an answer of "+url, func(ctx context.Context) error {
			out, err := s.lab.Kubectl(ctx, "exec", pod.Name, "--", "/testapp", "get", url)
			if err == nil {
				err = json.Unmarshal(out, &answer)
			}
			return err
		})
		if err != nil {
			return err
		}
		say("pod %s on %s  ->  %-32s answered by pod %s on %s", pod.Name, pod.Spec.NodeName, url, answer.Pod, answer.Node)
	}
	return nil
}

// nodePort reaches a Service on every node's own addresses.
func (s *show) nodePort(ctx context.Context) error {
	title("Service myapp-service, type NodePort 30008: reached from the client on each node's address")
	if _, err := s.service(ctx, app.Service{Name: "myapp-service", Selects: "myapp", Type: "NodePort", NodePort: 30008}); err != nil {
		return err
	}
	return s.onNodes(ctx, 30008)
}

// onNodes asks a port on both addresses of every node.
func (s *show) onNodes(ctx context.Context, port int32) error {
	for _, n := range s.lab.Nodes() {
		host := s.lab.Host(n)
		for _, a := range []netip.Addr{host.IPv4, host.IPv6} {
			if err := s.fromClient(ctx, netip.AddrPortFrom(a, uint16(port)), " "+n); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadBalancer reaches a Service on its external addresses, and on its other ones too.
func (s *show) loadBalancer(ctx context.Context) error {
	title("Service myapp-lb, type LoadBalancer: reached from outside on its external addresses")
	start := time.Now()
	svc, err := s.service(ctx, app.Service{Name: "myapp-lb", Selects: "myapp", Type: "LoadBalancer"})
	if err != nil {
		return err
	}
	if err := wait(ctx, "external addresses", func(ctx context.Context) error {
		if svc, err = s.kube.CoreV1().Services("default").Get(ctx, svc.Name, metav1.GetOptions{}); err != nil {
			return err
		}
		if len(svc.Status.LoadBalancer.Ingress) < 2 {
			return errors.New("none yet")
		}
		return nil
	}); err != nil {
		return err
	}
	for _, in := range svc.Status.LoadBalancer.Ingress {
		s.external = append(s.external, netip.MustParseAddr(in.IP))
	}
	slices.SortFunc(s.external, netip.Addr.Compare)
	say("got %v, %.0f ms after it was made", s.external, time.Since(start).Seconds()*1000)
	for _, a := range s.external {
		if err := s.fromClient(ctx, netip.AddrPortFrom(a, 80), ""); err != nil {
			return err
		}
		node, mac, err := s.owner(ctx, a)
		if err != nil {
			return err
		}
		say("  on the wire %s is at %s: node %s, and nobody else", a, mac, node)
	}
	say("its ClusterIP and NodePort exist and answer too:")
	pod, err := s.pod(ctx, "back-end")
	if err != nil {
		return err
	}
	if err := s.fromPod(ctx, pod, svc); err != nil {
		return err
	}
	if err := s.onNodes(ctx, svc.Spec.Ports[0].NodePort); err != nil {
		return err
	}
	out, err := s.lab.Kubectl(ctx, "get", "services", "-o", "wide")
	s.print(out)
	return err
}

// failover kills the node that owns the IPv4 address, and measures what a client notices.
func (s *show) failover(ctx context.Context) error {
	a := s.external[0]
	old, _, err := s.owner(ctx, a)
	if err != nil {
		return err
	}
	title("Node %s, which owns %s, is killed", old, a)
	say("the client opens a new connection every 5 ms")
	p := probe.Connect(ctx, probe.ConnectConfig{Dial: s.lab.Dialer("client"), Address: netip.AddrPortFrom(a, 80).String()})
	defer p.Stop()
	enough, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := p.Wait(enough, 100); err != nil {
		return err
	}
	if err := s.lab.Kill(ctx, old); err != nil {
		return err
	}
	s.dead = old
	if err := p.Wait(enough, 200); err != nil {
		return err
	}
	report := p.Stop()
	node, mac, err := s.owner(ctx, a)
	if err != nil {
		return err
	}
	if node == old {
		return fmt.Errorf("%s is still answered for by %s, which was killed", a, old)
	}
	say("%s is now at %s: node %s", a, mac, node)
	say("for %d ms no new connection could be opened", report.StartGap.Length().Milliseconds())
	say("(some others to pods of %s still fail until Kubernetes notices that the node is gone)", old)
	return s.fromClient(ctx, netip.AddrPortFrom(a, 80), "")
}

// next tells what to try.
func (s *show) next(name string) {
	a := s.external[0]
	title("The lab is still up. Try:")
	for _, line := range [][2]string{
		{"kubectl get services", "what Herald gave"},
		{"kubectl -n herald-system logs ds/herald-speaker", "what a speaker did"},
		{"exec client -- ip neigh show " + a.String(), "whose MAC address the client has learned"},
		{"exec router -- ip route", "whom the router sends traffic to"},
		{"start n3", "give the killed node back"},
		{"cut n2", "pull the cable of a node; heal n2 puts it back"},
		{"status", "what runs"},
	} {
		fmt.Printf("   bin/lab --name %s %-58s # %s\n", name, line[0], line[1])
	}
	fmt.Printf("Remove it with:\n   bin/lab --name %s down\n", name)
}

// service applies a Service and returns it.
func (s *show) service(ctx context.Context, m app.Service) (*corev1.Service, error) {
	if err := s.lab.Apply(ctx, m.Manifest()); err != nil {
		return nil, err
	}
	return s.kube.CoreV1().Services("default").Get(ctx, m.Name, metav1.GetOptions{})
}

// pod returns one of a Deployment's pods.
func (s *show) pod(ctx context.Context, deployment string) (*corev1.Pod, error) {
	pods, err := s.kube.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=" + deployment})
	if err != nil {
		return nil, err
	}
	if len(pods.Items) == 0 {
		return nil, fmt.Errorf("deployment default/%s has no pod", deployment)
	}
	return &pods.Items[0], nil
}

// metrics are those of a node's speaker, as text.
func (s *show) metrics(ctx context.Context, node string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+netip.AddrPortFrom(s.lab.Host(node).IPv4, 7481).String()+"/metrics", nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DialContext: s.lab.Dialer(lab.Client), DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// fromClient asks over a new connection from the client, and says who answered.
func (s *show) fromClient(ctx context.Context, to netip.AddrPort, note string) error {
	var answer app.Answer
	err := wait(ctx, "an answer of "+to.String(), func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		conn, err := s.lab.Dialer("client")(ctx, "tcp", to.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		deadline, _ := ctx.Deadline()
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
		answer, err = probe.HTTP(conn)
		return err
	})
	if err == nil {
		say("client%s  ->  %-32s answered by pod %s on %s", note, "http://"+to.String()+"/", answer.Pod, answer.Node)
	}
	return err
}

// owner asks on the client's network who has an address, and wants one answer only.
func (s *show) owner(ctx context.Context, a netip.Addr) (node, mac string, err error) {
	ask := probe.ARP
	if a.Is6() {
		ask = probe.NDP
	}
	err = wait(ctx, "one owner of "+a.String(), func(ctx context.Context) error {
		return s.lab.InNet("client", func() error {
			macs, err := ask(ctx, "eth0", a, 10)
			if err != nil {
				return err
			}
			if len(macs) != 1 {
				return fmt.Errorf("answers from %v", macs)
			}
			for mac = range macs {
			}
			return nil
		})
	})
	for _, n := range s.lab.Nodes() {
		if s.lab.Host(n).MAC.String() == mac {
			node = n
		}
	}
	return node, mac, err
}

// print shows a command's output.
func (s *show) print(out []byte) {
	for line := range strings.Lines(string(out)) {
		fmt.Print("   ", line)
	}
}
