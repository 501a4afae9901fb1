package lab

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (c cluster) carrier(t *testing.T, host string) string {
	out, err := c.Command(t.Context(), host, "cat", "/sys/class/net/eth0/carrier").Output()
	if err != nil {
		t.Error(err)
	}
	return strings.TrimSpace(string(out))
}

func cutAndHeal(t *testing.T, c cluster) {
	n1 := c.Host("n1").IPv4
	if err := c.Cut(t.Context(), "n1"); err != nil {
		t.Fatal(err)
	}
	if got := c.carrier(t, "n1"); got != "0" {
		t.Errorf("carrier %q after the cut", got)
	}
	if err := c.dial(t, Client, n1, kubeletPort); err == nil {
		t.Error("the client reaches n1 over a cut cable")
	}
	if err := c.Heal(t.Context(), "n1"); err != nil {
		t.Fatal(err)
	}
	if got := c.carrier(t, "n1"); got != "1" {
		t.Errorf("carrier %q after the heal", got)
	}
	eventually(t, 5*time.Second, "the client reaches n1", func() error { return c.dial(t, Client, n1, kubeletPort) })
	if err := c.Cut(t.Context(), Remote); err == nil {
		t.Error("a host that is not at the switch was cut from it")
	}
}

func partitions(t *testing.T, c cluster) {
	if err := c.Partition(t.Context(), []string{Client}, []string{"n1"}); err != nil {
		t.Fatal(err)
	}
	for _, to := range []netip.Addr{c.Host("n1").IPv4, c.Host("n1").IPv6} {
		if err := c.dial(t, Client, to, kubeletPort); err == nil {
			t.Errorf("the client reaches %s across the partition", to)
		}
	}
	for from, to := range map[string]string{Client: "n2", "n2": "n1", CP: "n1"} {
		if err := c.dial(t, from, c.Host(to).IPv4, kubeletPort); err != nil {
			t.Errorf("%s to %s: %v", from, to, err)
		}
	}
	if err := c.Partition(t.Context()); err == nil {
		t.Error("a partition into no groups was accepted")
	}
	if err := c.HealPartition(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the client reaches n1", func() error { return c.dial(t, Client, c.Host("n1").IPv6, kubeletPort) })
}

func (c cluster) askAPI(t *testing.T) error {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := c.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	return err
}

func freezeAndThaw(t *testing.T, c cluster) {
	if err := c.Freeze(t.Context(), procAPIServer); err != nil {
		t.Fatal(err)
	}
	if err := c.askAPI(t); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the frozen API server: %v", err)
	}
	if err := c.Thaw(t.Context(), procAPIServer); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the thawed API server answers", func() error { return c.askAPI(t) })

	state := func() string {
		out, err := c.Command(t.Context(), "n1", "sh", "-c", "grep -l '^/pause' /proc/[0-9]*/cmdline | xargs -n1 dirname | xargs -I@ grep State: @/status").Output()
		if err != nil {
			t.Error(err)
		}
		return string(out)
	}
	if err := c.Freeze(t.Context(), "n1/main"); err != nil { // a container's name
		t.Fatal(err)
	}
	if got := state(); strings.Count(got, "stopped") != 1 {
		t.Errorf("processes of the pod, one of them frozen: %s", got)
	}
	if err := c.Thaw(t.Context(), "n1/main"); err != nil {
		t.Fatal(err)
	}
	if got := state(); strings.Contains(got, "stopped") {
		t.Errorf("after thawing: %s", got)
	}
	if err := c.Freeze(t.Context(), "n1/nothing"); err == nil {
		t.Error("a container that is not there was frozen")
	}
}

func apiServerStops(t *testing.T, c cluster) {
	if err := c.StopAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.askAPI(t); err == nil {
		t.Error("the stopped API server answers")
	}
	if err := c.StopAPIServer(t.Context()); err == nil {
		t.Error("it was stopped twice")
	}
	if err := c.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.askAPI(t); err != nil {
		t.Errorf("the API server that is said to be started: %v", err)
	}
}

func killAndStart(t *testing.T, c cluster) {
	dead := c.Host("n1").IPv4
	conn, err := c.Dialer(Client)(t.Context(), "tcp", netip.AddrPortFrom(dead, kubeletPort).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := c.Kill(t.Context(), "n1"); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a node without power has closed a connection: %v", err)
	}
	if err := c.dial(t, Client, dead, kubeletPort); err == nil {
		t.Error("the killed node answers")
	}
	if err := c.Kill(t.Context(), "n1"); err == nil {
		t.Error("it was killed twice")
	}
	out, err := c.Command(t.Context(), "n1", "true").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "switched off") {
		t.Errorf("a command on the killed node: %s, %v", out, err)
	}
	status, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range status.Hosts {
		if h.On != (h.Name != "n1") {
			t.Errorf("host %s on: %v", h.Name, h.On)
		}
	}
	if err := c.Start(t.Context(), "n1"); err != nil {
		t.Fatal(err)
	}
	if err := c.dial(t, Client, dead, kubeletPort); err != nil {
		t.Errorf("the node that is said to be started: %v", err)
	}
	eventually(t, 30*time.Second, "the pod is restarted", func() error { return c.podReady(t, "n1", 1) })
}
