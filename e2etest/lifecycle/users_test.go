package lifecycle

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/probe"
)

// held is how many established connections to each address are watched.
const held = 20

// users are what clients on one host do with addresses: to each they open a new connection every 5 ms and send datagrams of new flows,
// and hold established ones.
type users struct {
	news  []named
	holds []*probe.Holder
}

type named struct {
	name      string
	connector *probe.Connector
}

// seen is what new connections or datagrams saw.
type seen struct {
	name   string
	report probe.Report
}

// use begins to use addresses and goes on until it is stopped or the test is over.
func (s *transcript) use(host string, addrs []netip.Addr, established int) *users {
	s.t.Helper()
	u := &users{}
	for _, a := range addrs {
		for range 2 * nodes { // a node may know of the address later than others
			s.answersFrom(host, a)
		}
		at := func(port uint16) string { return netip.AddrPortFrom(a, port).String() }
		for _, c := range []struct {
			what   string
			config probe.ConnectConfig
		}{
			{"new connections to", probe.ConnectConfig{Address: at(80)}},
			{"datagrams to", probe.ConnectConfig{Network: "udp", Address: at(app.EchoPort), Interval: 10 * time.Millisecond}},
		} {
			c.config.Dial = cluster.Dialer(host)
			p := probe.Connect(s.t.Context(), c.config)
			s.t.Cleanup(func() { p.Stop() })
			u.news = append(u.news, named{c.what + " " + a.String(), p})
		}
		if established > 0 {
			h, err := probe.Hold(s.t.Context(), probe.HoldConfig{Dial: cluster.Dialer(host), Address: at(app.StreamPort), Count: established})
			if err != nil {
				s.t.Fatal(err)
			}
			s.t.Cleanup(func() { h.Stop() })
			u.holds = append(u.holds, h)
		}
	}
	u.goOn(s.t, 20)
	return u
}

// goOn waits until so many attempts of each kind have succeeded from now on.
func (u *users) goOn(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, c := range u.news {
		if err := c.connector.Wait(ctx, n); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
	}
}

// stop stops everything and returns what the new ones saw.
func (u *users) stop(t *testing.T) (out []seen) {
	t.Helper()
	for _, c := range u.news {
		out = append(out, seen{c.name, c.connector.Stop()})
	}
	return out
}

// past opens connections to a Service that go past Herald, at the port that kube-proxy gives it on a node. They are given up
// after half the time: when they fail, the machine is too busy for the others too.
func (s *transcript) past(host, service string) *probe.Connector {
	s.t.Helper()
	svc, err := kube.CoreV1().Services("default").Get(s.t.Context(), service, metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	at := netip.AddrPortFrom(cluster.Host("n2").IPv4, uint16(svc.Spec.Ports[0].NodePort))
	p := probe.Connect(s.t.Context(), probe.ConnectConfig{Dial: cluster.Dialer(host), Address: at.String(), Timeout: probe.DefaultTimeout / 2})
	s.t.Cleanup(func() { p.Stop() })
	return p
}

// unharmed stops everything, says what was seen, and fails the test unless that is nothing. A timeout within a second of one
// of a connection that went past Herald tells of the machine alone, as all do where the prober itself stood still.
func (u *users) unharmed(s *transcript, past probe.Report) {
	s.t.Helper()
	for _, r := range u.stop(s.t) {
		stood := r.report.Pause > probe.DefaultTimeout/2
		failures := slices.DeleteFunc(slices.Clone(r.report.Failures), func(f probe.Sample) bool {
			return f.TimedOut() && (stood || slices.ContainsFunc(past.Failures, func(p probe.Sample) bool {
				return p.Start.Before(f.End.Add(time.Second)) && p.End.After(f.Start.Add(-time.Second))
			}))
		})
		s.say("%d %s, %d failed; at most %v between two", r.report.Attempts, r.name, len(r.report.Failures), r.report.Pause.Round(time.Millisecond))
		if len(failures) > 0 {
			s.t.Errorf("%d of %d %s failed, the first %v after the start: %v", len(failures), r.report.Attempts, r.name,
				failures[0].Start.Sub(r.report.Started), failures[0].Err)
		}
	}
	for _, h := range u.holds {
		r := h.Stop()
		s.say("%v", r)
		if len(r.Breaks) > 0 {
			s.t.Errorf("%d of %d established connections broke, the first with %v", len(r.Breaks), len(r.Connections), r.Breaks[0].Err)
		}
		for _, stall := range r.Stalls {
			if stall.To.IsZero() {
				s.t.Errorf("an established connection to %s is silent since %v", stall.Node, stall.From)
			}
		}
	}
}

// owner waits until exactly one node answers ARP or NDP for an address, and returns it.
func (s *transcript) owner(a netip.Addr) (who string) {
	s.t.Helper()
	ask := probe.ARP
	if a.Is6() {
		ask = probe.NDP
	}
	s.wait(func(ctx context.Context) error {
		var macs map[string]int
		err := cluster.InNet("client", func() (err error) {
			macs, err = ask(ctx, "eth0", a, 5)
			return err
		})
		if err != nil {
			return err
		}
		who = ""
		for _, n := range cluster.Nodes() {
			if macs[cluster.Host(n).MAC.String()] > 0 {
				who = n
			}
		}
		if len(macs) != 1 || who == "" {
			return fmt.Errorf("%s is answered for by %v, want one node", a, macs)
		}
		return nil
	})
	return who
}

// nextHops follows the next hops of an address at the router, until the test is over.
func (s *transcript) nextHops(a netip.Addr) (w *probe.RouteWatcher) {
	s.t.Helper()
	err := cluster.InNet("router", func() (err error) {
		w, err = probe.WatchRoute(netip.PrefixFrom(a, a.BitLen()))
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { w.Stop() })
	return w
}

// fetch gets the metrics of a node's speaker.
func fetch(ctx context.Context, node string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+netip.AddrPortFrom(cluster.Host(node).IPv4, 7481).String()+"/metrics", nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DialContext: cluster.Dialer("client"), DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("speaker of %s: %w", node, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}
