// Command testapp is the application behind the Services that Herald is tested and shown with. On every port it tells
// which pod on which node answered and which client address it saw, and its long-lived connections let a holder see
// whether a move broke them. Package app says what is on which port.
//
// It is a test's counterpart, not an example of a server: it limits nobody, and anybody may set its readiness.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-kit/log"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"heraldlb.io/herald/e2etest/app"
)

// defaultTerminationDelay outlasts the time in which kube-proxies everywhere learn that a pod is going: until then new
// connections still come, and refusing them would be the application's failure, not the load balancer's.
const defaultTerminationDelay = 2 * time.Second

// config is what the environment says; an address of port 0 takes a free port.
type config struct {
	node, pod                string
	http, echo, stream, grpc string
	terminationDelay         time.Duration
}

func configFrom(getenv func(string) string) (config, error) {
	listen := func(name string, port int) string {
		if v := getenv(name); v != "" {
			return v
		}
		return fmt.Sprintf(":%d", port)
	}
	c := config{
		node:             getenv("NODE_NAME"),
		pod:              getenv("POD_NAME"),
		http:             listen("HTTP_ADDRESS", app.HTTPPort),
		echo:             listen("ECHO_ADDRESS", app.EchoPort),
		stream:           listen("STREAM_ADDRESS", app.StreamPort),
		grpc:             listen("GRPC_ADDRESS", app.GRPCPort),
		terminationDelay: defaultTerminationDelay,
	}
	if v := getenv("TERMINATION_DELAY"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return config{}, fmt.Errorf("TERMINATION_DELAY is %q: give a duration such as 2s", v)
		}
		c.terminationDelay = d
	}
	return c, nil
}

func main() {
	logger := log.NewLogfmtLogger(log.NewSyncWriter(os.Stderr))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) == 3 && os.Args[1] == "get" {
		if err := fetch(ctx, os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(ctx, logger); err != nil {
		logger.Log("level", "error", "msg", "cannot serve", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, logger log.Logger) error {
	c, err := configFrom(os.Getenv)
	if err != nil {
		return err
	}
	a, err := listen(c)
	if err != nil {
		return err
	}
	logger.Log("msg", "serving", "node", c.node, "pod", c.pod, "http", a.http.Addr(), "echo", a.echo.Addr(), "stream", a.stream.Addr(), "grpc", a.grpc.Addr())
	err = a.serve(ctx)
	logger.Log("msg", "ended", "pod", c.pod)
	return err
}

// application is the servers of one pod.
type application struct {
	config
	http, echo, stream, grpc net.Listener
	echoUDP                  net.PacketConn
	health                   *health.Server
	wanted, terminating      atomic.Bool // ready is: wanted and not terminating
}

// listen opens every socket, or none. UDP echo takes the port that TCP echo got.
func listen(c config) (*application, error) {
	a := &application{config: c, health: health.NewServer()}
	a.wanted.Store(true)
	for _, l := range []struct {
		to      *net.Listener
		address string
	}{{&a.http, c.http}, {&a.echo, c.echo}, {&a.stream, c.stream}, {&a.grpc, c.grpc}} {
		opened, err := net.Listen("tcp", l.address)
		if err != nil {
			a.close()
			return nil, err
		}
		*l.to = opened
	}
	var err error
	if a.echoUDP, err = net.ListenPacket("udp", a.echo.Addr().String()); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func (a *application) close() {
	for _, l := range []net.Listener{a.http, a.echo, a.stream, a.grpc} {
		if l != nil {
			l.Close()
		}
	}
	if a.echoUDP != nil {
		a.echoUDP.Close()
	}
}

func (a *application) ready() bool { return a.wanted.Load() && !a.terminating.Load() }

// publishReadiness tells gRPC's health service what /readyz tells when it is asked.
func (a *application) publishReadiness() {
	status := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if a.ready() {
		status = grpc_health_v1.HealthCheckResponse_SERVING
	}
	a.health.SetServingStatus("", status)
}

// serve runs until ctx ends, then for the termination delay without being ready, and returns when everything has
// stopped: connections that are open then are closed.
func (a *application) serve(ctx context.Context) error {
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	web := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return serving }}
	rpc := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(rpc, a.health)
	a.publishReadiness()

	var running sync.WaitGroup
	failed := make(chan error, 5)
	start := func(name string, f func() error) {
		running.Go(func() {
			if err := f(); err != nil && serving.Err() == nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("%s server: %w", name, err)
			}
		})
	}
	start("HTTP", func() error { return web.Serve(a.http) })
	start("gRPC", func() error { return rpc.Serve(a.grpc) })
	start("echo", func() error { return serveConnections(serving, a.echo, a.echoConnection) })
	start("stream", func() error { return serveConnections(serving, a.stream, a.streamConnection) })
	start("UDP echo", a.echoDatagrams)

	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		a.terminating.Store(true)
		a.publishReadiness()
		select {
		case err = <-failed:
		case <-time.After(a.terminationDelay):
		}
	}
	end()
	web.Close()
	rpc.Stop()
	a.close()
	running.Wait()
	return err
}
