package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
)

// interval is the time between two scrapes.
const interval = 5 * time.Second

// record is what was scraped: for each series its value at each scrape, or missing.
type record struct {
	lab     *lab.Lab
	kube    kubernetes.Interface
	series  map[string][]string
	types   map[string]string
	scrapes int
}

// How promtool reads that there is no value, and that the one before no longer counts: what Prometheus notes when a scrape
// does not have a series any more.
const (
	missing = "_"
	stale   = "stale"
)

func newRecord(l *lab.Lab, kube kubernetes.Interface) *record {
	return &record{lab: l, kube: kube, series: map[string][]string{}, types: map[string]string{}}
}

// target is one process to scrape, with the labels that config/monitoring gives it.
type target struct{ job, instance, address string }

// targets are the pods that there are. Their names tell controllers apart, their nodes speakers.
func (r *record) targets(ctx context.Context) ([]target, error) {
	pods, err := r.kube.CoreV1().Pods(install.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []target
	for _, p := range pods.Items {
		switch {
		case p.Status.PodIP == "":
		case strings.HasPrefix(p.Name, install.Controller):
			out = append(out, target{install.Controller, p.Name, net.JoinHostPort(p.Status.PodIP, "7480")})
		case strings.HasPrefix(p.Name, install.Speaker):
			out = append(out, target{install.Speaker, p.Spec.NodeName, net.JoinHostPort(p.Status.PodIP, "7481")})
		}
	}
	return out, nil
}

// scrape scrapes all targets so many times.
func (r *record) scrape(ctx context.Context, times int) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for range times {
		targets, err := r.targets(ctx)
		if err != nil {
			return err
		}
		for _, t := range targets {
			up := "1"
			body, err := r.fetch(ctx, t.address)
			if err != nil {
				up = "0"
			}
			r.note(fmt.Sprintf("up{%s}", t.labels()), up)
			r.read(body, t)
		}
		r.scrapes++
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

func (t target) labels() string {
	return fmt.Sprintf("job=%q,namespace=%q,instance=%q", t.job, install.Namespace, t.instance)
}

func (r *record) fetch(ctx context.Context, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DialContext: r.lab.Dialer(r.lab.Nodes()[0]), DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// read takes in the series of a scrape that are Herald's, or about its process.
func (r *record) read(body string, t target) {
	for line := range strings.SplitSeq(body, "\n") {
		if fields := strings.Fields(line); len(fields) == 4 && fields[1] == "TYPE" && strings.HasPrefix(fields[2], "herald_") {
			r.types[fields[2]] = fields[3]
		}
		if !strings.HasPrefix(line, "herald_") && !strings.HasPrefix(line, "process_") {
			continue
		}
		series, value, _ := cutLast(line)
		name, own, _ := strings.Cut(series, "{")
		labels := t.labels()
		if own = strings.TrimSuffix(own, "}"); own != "" {
			// A label that the target has too is called exported_ of it, as Prometheus does.
			labels += "," + strings.ReplaceAll(","+own, ",namespace=", ",exported_namespace=")[1:]
		}
		r.note(name+"{"+labels+"}", value)
	}
}

// cutLast cuts a line at its last space: a label's value may hold spaces.
func cutLast(line string) (before, after string, found bool) {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 {
		return line, "", false
	}
	return line[:i], line[i+1:], true
}

// note adds a value of the present scrape.
func (r *record) note(series, value string) {
	r.series[series] = append(r.padded(series), value)
}

// padded are the values of a series up to the present scrape.
func (r *record) padded(series string) []string {
	values := r.series[series]
	for len(values) < r.scrapes {
		gap := missing
		if n := len(values); n > 0 && values[n-1] != missing && values[n-1] != stale {
			gap = stale
		}
		values = append(values, gap)
	}
	return values
}

// yaml is the record as promtool reads it, preceded by the types of the metrics.
func (r *record) yaml() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Recorded from a lab by e2etest/record: a scrape every %s while Services come, and a node dies and comes back.\n", interval)
	fmt.Fprintf(&b, "interval: %s\ntypes:\n", interval)
	for _, name := range slices.Sorted(maps.Keys(r.types)) {
		fmt.Fprintf(&b, "  %s: %s\n", name, r.types[name])
	}
	b.WriteString("series:\n")
	for _, s := range slices.Sorted(maps.Keys(r.series)) {
		fmt.Fprintf(&b, "- {series: '%s', values: '%s'}\n", strings.ReplaceAll(s, "'", "''"), pack(r.padded(s)))
	}
	return b.Bytes()
}

// pack writes values as promtool reads them, those that repeat once.
func pack(values []string) string {
	var out []string
	for i := 0; i < len(values); {
		n := 1
		for i+n < len(values) && values[i+n] == values[i] {
			n++
		}
		switch {
		case n == 1:
			out = append(out, values[i])
		case values[i] == missing:
			out = append(out, fmt.Sprintf("_x%d", n))
		default:
			out = append(out, fmt.Sprintf("%sx%d", values[i], n-1))
		}
		i += n
	}
	return strings.Join(out, " ")
}
