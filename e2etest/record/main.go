// Record shows what Prometheus would have of a cluster: it brings up a lab with Herald, lets something happen there, and
// writes down the series of every scrape meanwhile, as promtool's tests read them. The alerts and the dashboard of
// config/monitoring are judged by such a record. Run it again when metrics change.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
)

// nodes is how many the lab has: one to die, and two that take over.
const nodes = 3

func main() {
	lab.Main()
	name := flag.String("name", "record", "name of the lab to bring up")
	out := flag.String("o", "config/monitoring/testdata/lab.yaml", "the `file` to write")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, *name, *out); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, name, out string) (err error) {
	root, err := install.Root()
	if err != nil {
		return err
	}
	images, err := install.Images(root)
	if err != nil {
		return err
	}
	l, err := lab.Up(ctx, lab.Options{Name: name, Nodes: nodes, Owned: true, Images: images, Out: os.Stdout})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Down(context.WithoutCancel(ctx))) }()
	cfg, err := l.RESTConfig()
	if err != nil {
		return err
	}
	kube, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	if err := prepare(ctx, l, kube, root); err != nil {
		return err
	}
	r := newRecord(l, kube)
	if err := happen(ctx, l, r); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, out), r.yaml(), 0o644)
}

// prepare installs Herald with series about single Services, and what it is to serve.
func prepare(ctx context.Context, l *lab.Lab, kube kubernetes.Interface, root string) error {
	if err := install.Herald(ctx, l, kube, root); err != nil {
		return err
	}
	if _, err := l.Kubectl(ctx, "set", "env", "-n", install.Namespace, "deployment/"+install.Controller, "daemonset/"+install.Speaker,
		"HERALD_METRICS_PER_SERVICE=true"); err != nil {
		return err
	}
	if err := install.Ready(ctx, kube, nodes); err != nil {
		return err
	}
	sample, err := os.ReadFile(filepath.Join(root, "config", "samples", "pool.yaml"))
	if err != nil {
		return err
	}
	if err := l.Apply(ctx, append(append(sample, app.Deployment{Replicas: nodes}.Manifest()...), routers...)); err != nil {
		return err
	}
	return install.Until(ctx, func() error { return install.DeploymentReady(ctx, kube, "default", "testapp") })
}

// routers let every node tell the lab's router of all addresses. The router speaks no BFD, so its session stays down.
const routers = `
---
apiVersion: heraldlb.io/v1beta1
kind: BFDProfile
metadata: {name: slow}
spec: {receiveInterval: 300, transmitInterval: 300, detectMultiplier: 3}
---
apiVersion: heraldlb.io/v1beta1
kind: BGPPeer
metadata: {name: router}
spec: {peerAddress: 192.0.2.1, peerASN: 64513, myASN: 64512, families: [IPv4, IPv6], bfdProfile: slow}
---
apiVersion: heraldlb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: lan}
spec: {ipAddressPools: [lan]}
`

// happen scrapes while Services come, one of them without a pool, and a node dies and comes back.
func happen(ctx context.Context, l *lab.Lab, r *record) error {
	var services []byte
	for i := range 6 {
		services = append(services, app.Service{Name: fmt.Sprintf("web-%d", i), Type: "LoadBalancer"}.Manifest()...)
		services = append(services, "\n---\n"...)
	}
	services = append(services, app.Service{
		Name: "nowhere", Type: "LoadBalancer", Annotations: map[string]string{"heraldlb.io/address-pool": "missing"},
	}.Manifest()...)
	node := l.Nodes()[nodes-1]
	for _, step := range []struct {
		what    string
		do      func() error
		scrapes int
	}{
		{"nothing", func() error { return nil }, 4},
		{"Services come", func() error { return l.Apply(ctx, services) }, 8},
		{"a node dies", func() error { return l.Kill(ctx, node) }, 10},
		{"it comes back", func() error { return l.Start(ctx, node) }, 10},
	} {
		fmt.Println(step.what)
		done := make(chan error, 1)
		go func() { done <- step.do() }()
		if err := r.scrape(ctx, step.scrapes); err != nil {
			return err
		}
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("%s: %w", step.what, err)
			}
		case <-time.After(2 * time.Minute):
			return fmt.Errorf("%s: it takes too long", step.what)
		}
	}
	return nil
}
