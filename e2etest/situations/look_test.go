package situations

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/e2etest/probe"
	"heraldlb.io/herald/e2etest/situations/page"
)

// known are, by namespace, the addresses at which controllers served metrics when the API server was last asked: it may be
// down now.
var known struct {
	sync.Mutex
	controllers map[string][]string
}

// controllers are where the controllers of a namespace serve metrics.
func controllers(ctx context.Context, namespace string) []string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	pods, err := kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=controller"})
	known.Lock()
	defer known.Unlock()
	if err != nil {
		return known.controllers[namespace]
	}
	var found []string
	for _, p := range pods.Items {
		if p.Status.PodIP != "" && p.DeletionTimestamp == nil {
			found = append(found, net.JoinHostPort(p.Status.PodIP, "7480"))
		}
	}
	if known.controllers == nil {
		known.controllers = map[string][]string{}
	}
	known.controllers[namespace] = found
	return found
}

// metrics are those of a node's speaker, or of the controllers, of a namespace after the @ if that is not Herald's own, one after the
// other: those that stand by tell of little more than that.
func metrics(ctx context.Context, of string) (string, error) {
	namespace := install.Namespace
	if program, in, elsewhere := strings.Cut(of, "@"); elsewhere {
		of, namespace = program, in
	}
	if of != page.Controller {
		return fetch(ctx, netip.AddrPortFrom(cluster.Host(of).IPv4, 7481).String())
	}
	var all strings.Builder
	var errs []error
	for _, address := range controllers(ctx, namespace) {
		text, err := fetch(ctx, address)
		all.WriteString(text)
		errs = append(errs, err)
	}
	return all.String(), errors.Join(errs...)
}

func fetch(ctx context.Context, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DialContext: cluster.Dialer(cluster.Nodes()[0]), DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

var label = regexp.MustCompile(`[a-z_]+="[^"]*"`)

// sum adds up the series of a name that have these labels, of which there must be one.
func sum(text, series string) (total float64, err error) {
	name, labels, _ := strings.Cut(series, "{")
	wanted := label.FindAllString(labels, -1)
	found := 0
	for line := range strings.SplitSeq(text, "\n") {
		at := strings.LastIndexByte(line, ' ')
		if at < 0 {
			continue
		}
		own, labels, _ := strings.Cut(line[:at], "{")
		has := label.FindAllString(labels, -1)
		if own != name || slices.ContainsFunc(wanted, func(w string) bool { return !slices.Contains(has, w) }) {
			continue
		}
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("metric %q: %w", line, err)
		}
		found++
		total += value
	}
	if found == 0 {
		return 0, fmt.Errorf("there is no series %s", series)
	}
	return total, nil
}

func answers(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, args, 1, "answers ADDRESS HOST...")
	a, err := netip.ParseAddr(args[0])
	ts.Check(err)
	want := slices.Sorted(slices.Values(args[1:]))
	until(ts, func(context.Context) error {
		got, err := answering(context.Background(), a)
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("%s is answered for by %v, want %v", a, got, want)
		}
		return err
	})
}

// answering asks on the LAN who has an address, and returns the hosts that answered, sorted.
func answering(ctx context.Context, a netip.Addr) ([]string, error) {
	ask := probe.ARP
	if a.Is6() {
		ask = probe.NDP
	}
	var macs map[string]int
	err := cluster.InNet(lab.Client, func() (err error) {
		macs, err = ask(ctx, "eth0", a, 5)
		return err
	})
	hosts := map[string]bool{}
	for mac := range macs {
		host := mac
		for _, name := range append(cluster.Nodes(), lab.Router) {
			if cluster.Host(name).MAC.String() == mac {
				host = name
			}
		}
		hosts[host] = true
	}
	return slices.Sorted(maps.Keys(hosts)), err
}

// speaks has a host use an address of its own.
func speaks(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: speaks HOST ADDRESS")
	}
	from, err := netip.ParseAddr(args[1])
	ts.Check(err)
	ts.Check(cluster.InNet(args[0], func() error { return probe.Speak(from) }))
}

// older stands between heraldctl and the API server from now on, and gives another version than that has.
func older(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 1, "older VERSION")
	number := regexp.MustCompile(`^v1\.([0-9]+)\.[0-9]+$`).FindStringSubmatch(args[0])
	if number == nil {
		ts.Fatalf("%s is no version such as v1.31.9", args[0])
	}
	cfg, err := cluster.RESTConfig()
	ts.Check(err)
	transport, err := rest.TransportFor(cfg)
	ts.Check(err)
	at, err := url.Parse(cfg.Host)
	ts.Check(err)
	pass := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(at) }}
	mux := http.NewServeMux()
	mux.Handle("/", pass)
	mux.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"major": "1", "minor": %q, "gitVersion": %q}`, number[1], args[0])
	})
	var listener net.Listener
	ts.Check(cluster.InNet(lab.CP, func() (err error) {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	}))
	server := &http.Server{Handler: mux}
	go server.Serve(listener)
	ts.Defer(func() { server.Close() })
	ts.Setenv("SERVER", "http://"+listener.Addr().String())
}
