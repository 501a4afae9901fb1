// The controller gives Services of type LoadBalancer their addresses. This package is flags and wiring: what the
// program does is in internal/assign.
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"

	"github.com/go-kit/log/level"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/assign"
	"heraldlb.io/herald/internal/cmdline"
	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/lead"
	"heraldlb.io/herald/internal/logging"
	"heraldlb.io/herald/internal/metrics"
	"heraldlb.io/herald/internal/service"
)

// program is the controller's name: its user agent, and the name of its Lease.
const program = "herald-controller"

func main() { cmdline.Run(run) }

func run(ctx context.Context) error {
	flags := cmdline.New("controller", "Herald's controller gives Services of type LoadBalancer addresses from the configured pools.")
	common := flags.Common(":7480")
	class := flags.String("lb-class", "", "serve only Services with this spec.loadBalancerClass; empty: those without a class and those of class "+service.Class)
	elect := flags.Bool("leader-elect", true, "assign addresses only while holding the Lease "+program+", so that several controllers can run; switch it off only where there is certainly one")
	observe := flags.Bool("observe", false, "give no Service anything: only tell, in the status of Herald's own objects, what Services would hold")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	logger, err := common.Logger()
	if err != nil {
		return err
	}
	logging.Libraries(logger)
	cfg, err := kube.Config(common.Kubeconfig)
	if err != nil {
		return err
	}
	cfg.UserAgent, cfg.QPS = program+"/"+cmdline.Version(), -1
	client, err := kube.NewClient(cfg, cfg.UserAgent)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find this host's name, which tells controllers apart: %w", err)
	}

	registry := metrics.NewRegistry()
	events := kube.NewEvents(client, "controller", logger, registry)
	source, err := client.ConfigSource(common.ConfigSource, types.NamespacedName{Namespace: common.Namespace, Name: common.ConfigMap}, logger, registry)
	if err != nil {
		return err
	}
	controller := assign.New(assign.Options{
		Client: client, Config: source, Events: events, Logger: logger, Registry: registry, Class: *class, PerService: common.Metrics.PerService, Observe: *observe,
	})
	level.Info(logger).Log("msg", "controller starts", "version", cmdline.Version(), "commit", cmdline.Commit(), "class", *class, "observe", *observe)

	tasks, working := errgroup.WithContext(ctx)
	server := metrics.Server{Options: common.Metrics, Registry: registry, Ready: controller.Ready, Reviewer: client, Logger: logger}
	tasks.Go(func() error { return server.Run(working) })
	tasks.Go(func() error { client.ProvideGossipSecret(working, common.Namespace, logger); return nil })
	tasks.Go(func() error {
		if err := controller.Start(working); err != nil {
			return err
		}
		if !*elect {
			return controller.Run(working)
		}
		lease := lead.Lease{Namespace: common.Namespace, Name: program, Identity: host + "_" + rand.Text()}
		return lead.Run(working, cfg, lease, logger, controller.Run)
	})

	// Events outlast the work that makes them.
	telling, stop := context.WithCancel(context.WithoutCancel(ctx))
	told := make(chan struct{})
	go func() {
		defer close(told)
		events.Run(telling)
	}()
	err = tasks.Wait()
	stop()
	<-told
	if ctx.Err() != nil {
		err = nil // asked to end
	}
	level.Info(logger).Log("msg", "controller ends")
	return err
}
