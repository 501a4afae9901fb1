// Speaker runs on every node and announces the external addresses of Services that this node is elected for.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kit/log/level"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/announce"
	"heraldlb.io/herald/internal/bfd"
	"heraldlb.io/herald/internal/bgp"
	"heraldlb.io/herald/internal/cmdline"
	"heraldlb.io/herald/internal/election"
	"heraldlb.io/herald/internal/gossip"
	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/layer2"
	"heraldlb.io/herald/internal/logging"
	"heraldlb.io/herald/internal/metrics"
	"heraldlb.io/herald/internal/servicepath"
)

func main() { cmdline.Run(run) }

func run(ctx context.Context) error {
	flags := cmdline.New("speaker", "Announces the external addresses of Services from the node it runs on.")
	common := flags.Common(":7481")
	hostname, _ := os.Hostname() // what the kubelet calls a node that nobody named; empty is refused below
	node := flags.String("node-name", hostname, "`name` of the Node that this speaker runs on")
	bind := flags.String("gossip-bind", "", "`address[:port]` that this speaker's peers reach it at; empty: the Node's first InternalIP, port 7947; \":port\": that address, another port. All speakers use the same port")
	keyFile := flags.String("gossip-key-file", "", "`file` with the secret that all speakers share; empty: Secret "+kube.GossipSecret+" in --namespace, which the controller creates. It is waited for")
	label := flags.String("cluster-label", "herald", "`name` that keeps the speakers of this cluster apart from those of another on the same network; at most 63 bytes")
	grace := flags.Duration("restart-grace", gossip.DefaultRestartGrace, "how long the addresses of a node stay with it while its speaker is being restarted; after it they move. The same for all speakers")
	detection := flags.String("failure-detection", "fast", "how soon a node is held for dead: fast, after about 0.3 s; default, after about 2 s; wan, after about 10 s. The same for all speakers")
	pathHealth := flags.String("service-path-health", "auto", "how to know whether this node brings traffic to pods: auto asks kube-proxy at port 10256, once anything answers there; off; or a `URL` that answers 200")
	pace := flags.Int("layer2-packets-per-second", layer2.DefaultPacketsPerSecond, "how many announcements and probes an interface sends at most")
	refresh := flags.Duration("layer2-refresh", layer2.DefaultRefresh, "how often an address is announced while nothing happens")
	probe := flags.Bool("layer2-probe", true, "ask the link whether a stranger has an address before it is used for the first time; not where a router answers for every address")
	speakBGP := flags.Bool("bgp", true, "talk BGP to the BGPPeers of this node; false: to none, and read no Secret but the gossip key's")
	drainDelay := flags.Duration("drain-delay", 3*time.Second, "how long routers have to turn to other nodes before a node that is drained withdraws its BGP routes")
	observe := flags.Bool("observe", false, "only tell, in Herald's own objects, what would be announced: elect with the other speakers, answer no ARP and NDP, and talk to no router. The same for all speakers")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	if *node == "" {
		return errors.New("--node-name: the name of this node is needed")
	}
	if len(*label) > gossip.MaxLabel {
		return fmt.Errorf("--cluster-label=%s: want at most %d bytes, each packet carries them", *label, gossip.MaxLabel)
	}
	if *grace <= 0 {
		return fmt.Errorf("--restart-grace=%s: want more than 0", *grace)
	}
	if *pace <= 0 || *pace > 1_000_000 {
		return fmt.Errorf("--layer2-packets-per-second=%d: want 1 to 1000000", *pace)
	}
	if *refresh < time.Second {
		return fmt.Errorf("--layer2-refresh=%s: want at least 1s", *refresh)
	}
	wire := layer2.Config{PacketsPerSecond: *pace, Refresh: *refresh, NoProbes: !*probe}
	detect, err := gossip.ParseDetection(*detection)
	if err != nil {
		return fmt.Errorf("--failure-detection=%w", err)
	}
	path, err := servicepath.Parse(*pathHealth)
	if err != nil {
		return fmt.Errorf("--service-path-health=%w", err)
	}
	if *drainDelay < 0 {
		return fmt.Errorf("--drain-delay=%s: want 0 or more", *drainDelay)
	}
	logger, err := common.Logger()
	if err != nil {
		return err
	}
	logging.Libraries(logger)
	restConfig, err := kube.Config(common.Kubeconfig)
	if err != nil {
		return err
	}
	client, err := kube.NewClient(restConfig, "herald-speaker/"+cmdline.Version())
	if err != nil {
		return err
	}
	reg := metrics.NewRegistry()
	source, err := client.ConfigSource(common.ConfigSource, types.NamespacedName{Namespace: common.Namespace, Name: common.ConfigMap}, logger, reg)
	if err != nil {
		return err
	}
	informers, err := announce.NewInformers(client, source)
	if err != nil {
		return err
	}
	if *speakBGP {
		informers.Secrets = client.Secrets(common.Namespace)
	}
	cluster, err := announce.NewCluster(informers)
	if err != nil {
		return err
	}
	level.Info(logger).Log("msg", "speaker starts", "node", *node, "version", cmdline.Version(), "commit", cmdline.Commit(), "observe", *observe)

	// What the speaker runs on outlives ctx: peers take over or stand in after the signal. It ends early when the
	// probes cannot be served.
	parts, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var ready readiness
	failed := make(chan error, 1)
	server := metrics.Server{Options: common.Metrics, Registry: reg, Ready: ready.check, Reviewer: client, Logger: logger}
	running.Go(func() {
		if err := server.Run(parts); err != nil {
			failed <- err
			cancel()
		}
	})
	driver := layer2.New(wire, logger, reg)
	running.Go(func() { driver.Run(parts) })

	ready.set(cluster.Ready, driver.Ready)
	if err := cluster.Read(ctx); err != nil {
		return ended(failed) // it only fails when ctx is done
	}
	addr, err := cluster.GossipAddr(ctx, *node, *bind, func(why error) {
		ready.set(waiting(why), driver.Ready)
	})
	if ctx.Err() != nil {
		return ended(failed)
	}
	if err != nil {
		return err
	}
	secret := gossip.SecretFile(*keyFile)
	if *keyFile == "" {
		watched := client.GossipSecret(common.Namespace)
		running.Go(func() { watched.Run(parts.Done()) })
		secret = func() ([]byte, error) { return kube.ReadGossipSecret(watched) }
	}
	ring := gossip.New(gossip.Config{Node: *node, Bind: addr, Secret: secret, Label: *label, RestartGrace: *grace, Detection: detect, Version: cmdline.Version(), Prefer: election.Prefer}, logger, reg)
	running.Go(func() { ring.Run(parts) })
	prober := servicepath.New(path, addr.Addr(), logger, reg)
	running.Go(func() { prober.Run(parts, ring.SetServicePathDown) })
	events := kube.NewEvents(client, "speaker", logger, reg)
	running.Go(func() { events.Run(parts) })
	loop := announce.New(announce.Config{
		Node: *node, Cluster: cluster, Ring: ring, Layer2: driver, Gossip: addr, Events: events, Logger: logger, Registerer: reg,
		PerService: common.Metrics.PerService, Observe: *observe,
	})
	ready.set(loop.Ready, driver.Ready)
	if informers.Secrets != nil {
		running.Go(func() { informers.Secrets.Run(parts.Done()) })
	}
	if !*speakBGP {
		loop.SpeakNoBGP()
	} else if !*observe {
		routers := bgp.New(cluster.RouterID(*node), logger, reg)
		paths, err := bfd.New(logger, reg, routers.PathChanged)
		if err != nil {
			return err
		}
		defer paths.Close()
		routers.Watch(paths)
		running.Go(func() { routers.Run(parts) })
		loop.SpeakBGP(routers, *drainDelay)
	}
	if common.ConfigSource == kube.ConfigFromCRD { // else there are no kinds of Herald's to write
		reporter := kube.NewReporter(client, *node, logger, reg)
		running.Go(func() { reporter.Run(parts) })
		loop.ReportTo(reporter, cmdline.Version())
	}
	loop.Run(ctx)
	return ended(failed)
}

// ended returns why the process ends: what failed, or nil when it was told to.
func ended(failed <-chan error) error {
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// readiness is what /readyz asks: all that was set last.
type readiness struct {
	checks atomic.Pointer[[]func() error]
}

func (r *readiness) set(checks ...func() error) { r.checks.Store(&checks) }

func (r *readiness) check() error {
	checks := r.checks.Load()
	if checks == nil {
		return errors.New("starting")
	}
	var errs []error
	for _, check := range *checks {
		errs = append(errs, check())
	}
	return errors.Join(errs...)
}

func waiting(err error) func() error { return func() error { return err } }
