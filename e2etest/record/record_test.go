package main

import (
	"strings"
	"testing"
)

func TestARecordIsWhatPrometheusWouldHave(t *testing.T) {
	r := newRecord(nil, nil)
	n1 := target{job: "herald-speaker", instance: "n1"}
	for _, scrape := range []string{
		"# TYPE herald_a gauge\nherald_a{peer=\"x y\"} 1\ngo_threads 7\n",
		"herald_a{peer=\"x y\"} 1\nherald_b{namespace=\"web\"} 2\n",
		"",
		"",
		"herald_a{peer=\"x y\"} 3\n",
	} {
		r.read(scrape, n1)
		r.scrapes++
	}
	got := string(r.yaml())
	for _, want := range []string{
		"  herald_a: gauge\n",
		`- {series: 'herald_a{job="herald-speaker",namespace="herald-system",instance="n1",peer="x y"}', values: '1x1 stale _ 3'}`,
		`- {series: 'herald_b{job="herald-speaker",namespace="herald-system",instance="n1",exported_namespace="web"}', values: '_ 2 stale _x2'}`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the record lacks %s:\n%s", want, got)
		}
	}
	if strings.Contains(got, "go_threads") {
		t.Error("the record has metrics of Go's runtime")
	}
}
