package ipam

import (
	"fmt"
	"strings"
	"testing"

	"heraldlb.io/herald/internal/service"
)

func TestWhatEachPoolCouldGive(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*service.Request)
		want string // pool and reason, - for none
	}{
		{"of all pools", func(*service.Request) {}, "lan -, full PoolExhausted, v6 FamilyUnavailable, asked NoEligiblePool"},
		{"of the other family", func(r *service.Request) { r.Families = only6 },
			"lan FamilyUnavailable, full FamilyUnavailable, v6 -, asked FamilyUnavailable"},
		{"of the one that it names", func(r *service.Request) { r.Pool = "asked" }, "asked -"},
		{"of one that is not there", func(r *service.Request) { r.Pool = "nowhere" }, "nowhere PoolNotFound"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := New()
			a.SetPools(pools(t, "lan: 192.0.2.0-192.0.2.9; full: 198.51.100.1-198.51.100.1; v6: 2001:db8::/64; asked: 203.0.113.0/24 manual"))
			a.Allocate(service.Request{Key: key("holder"), Families: only4, AllFamilies: true, Pool: "full"})
			req := service.Request{Key: key("waiting"), Families: only4, AllFamilies: true}
			c.edit(&req)
			before := a.Counts()
			var got []string
			for _, one := range a.Consider(req) {
				reason := string(one.Reason)
				if reason == "" {
					reason = "-"
				}
				if one.Why == "" {
					t.Errorf("no words for %+v", one)
				}
				got = append(got, one.Pool+" "+reason)
			}
			for _, want := range strings.Split(c.want, ", ") {
				if !strings.Contains(strings.Join(got, ", "), want) || len(got) != strings.Count(c.want, ",")+1 {
					t.Fatalf("got %q, want %q", got, c.want)
				}
			}
			if after := a.Counts(); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("it gave something: %v, then %v", before, after)
			}
		})
	}
}
