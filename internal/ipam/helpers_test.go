package ipam

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/service"
)

var (
	only4     = []corev1.IPFamily{corev1.IPv4Protocol}
	only6     = []corev1.IPFamily{corev1.IPv6Protocol}
	fourFirst = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	sixFirst  = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
)

// pools reads pools, separated by semicolons, each as its name, a colon, its ranges and its options:
//
//	lan: 192.0.2.1-192.0.2.4 2001:db8::/64 priority=1 quota=2 drain; dmz: 203.0.113.0/24 manual
//
// A pool without ranges is one that is not in force.
func pools(tb testing.TB, s string) []config.Pool {
	tb.Helper()
	var r config.Resources
	var idle []config.Pool
	for entry := range strings.SplitSeq(s, ";") {
		if strings.TrimSpace(entry) == "" {
			continue
		}
		name, rest, _ := strings.Cut(strings.TrimSpace(entry), ":")
		p := poolObject(tb, name, rest)
		if len(p.Spec.Addresses) == 0 {
			idle = append(idle, config.Pool{Name: name, Addresses: &netipx.IPSet{}})
			continue
		}
		r.Pools = append(r.Pools, p)
	}
	cfg, problems := config.New(r)
	if len(problems) > 0 {
		tb.Fatalf("pools %q: %v", s, problems)
	}
	return append(cfg.Pools, idle...)
}

func poolObject(tb testing.TB, name, rest string) *v1beta1.IPAddressPool {
	tb.Helper()
	p := &v1beta1.IPAddressPool{}
	p.Name = name
	choice := &v1beta1.ServiceAllocation{}
	for word := range strings.FieldsSeq(rest) {
		option, value, _ := strings.Cut(word, "=")
		switch option {
		case "manual":
			off := false
			p.Spec.AutoAssign = &off
		case "avoid":
			p.Spec.AvoidBuggyIPs = true
		case "drain":
			p.Spec.Drain = true
		case "exclude":
			p.Spec.Exclude = append(p.Spec.Exclude, value)
		case "quota":
			n := int32(number(tb, value))
			p.Spec.NamespaceQuota = &n
		case "priority":
			choice.Priority = int32(number(tb, value))
		case "namespaces":
			choice.Namespaces = strings.Split(value, ",")
		case "namespaceLabels":
			choice.NamespaceSelectors = []metav1.LabelSelector{selector(value)}
		case "labels":
			choice.ServiceSelectors = []metav1.LabelSelector{selector(value)}
		default:
			p.Spec.Addresses = append(p.Spec.Addresses, word)
		}
	}
	p.Spec.ServiceAllocation = choice
	return p
}

func selector(value string) metav1.LabelSelector {
	return metav1.LabelSelector{MatchLabels: labelsFrom(value)}
}

func labelsFrom(value string) labels.Set {
	key, value, _ := strings.Cut(value, "=")
	return labels.Set{key: value}
}

func number(tb testing.TB, s string) int {
	tb.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// key reads namespace/name; without a namespace it is web.
func key(s string) types.NamespacedName {
	namespace, name, both := strings.Cut(s, "/")
	if !both {
		namespace, name = "web", s
	}
	return types.NamespacedName{Namespace: namespace, Name: name}
}

// request reads what a Service asks for: its name, its families, and the rest by name:
//
//	shop/cart 46 pool=lan address=192.0.2.7 key=k ports=80,53/UDP selector=app=cart local with=web labels=tier=front
//
// The families are 4, 6, and 46 or 64 for both; with a question mark a part of them is welcome too. held= takes
// addresses with their pools, as in 192.0.2.1@lan,2001:db8::1.
func request(tb testing.TB, s string) service.Request {
	tb.Helper()
	words := strings.Fields(s)
	req := service.Request{Key: key(words[0])}
	req.Sharing.Namespace = req.Key.Namespace
	for _, word := range words[1:] {
		option, value, _ := strings.Cut(word, "=")
		switch option {
		case "none", "4", "6", "46", "64", "46?", "64?":
			req.Families = map[string][]corev1.IPFamily{"4": only4, "6": only6, "46": fourFirst, "64": sixFirst}[strings.TrimSuffix(option, "?")]
			req.AllFamilies = !strings.HasSuffix(option, "?")
		case "pool":
			req.Pool = value
		case "address":
			for a := range strings.SplitSeq(value, ",") {
				req.Addresses = append(req.Addresses, netip.MustParseAddr(a))
			}
		case "held":
			for h := range strings.SplitSeq(value, ",") {
				addr, pool, _ := strings.Cut(h, "@")
				req.Held = append(req.Held, service.Held{Addr: netip.MustParseAddr(addr), Pool: pool})
			}
		case "key":
			req.Sharing.Key = value
		case "ports":
			for p := range strings.SplitSeq(value, ",") {
				n, protocol, _ := strings.Cut(p, "/")
				req.Sharing.Ports = append(req.Sharing.Ports, service.Port{Protocol: corev1.Protocol(cmp.Or(protocol, "TCP")), Number: int32(number(tb, n))})
			}
			slices.SortFunc(req.Sharing.Ports, service.ComparePorts)
		case "selector":
			req.Sharing.Selector = value
		case "local":
			req.Sharing.Local = true
		case "with":
			req.Sharing.AnyNamespace = value == "*"
			req.Sharing.Namespaces = slices.Sorted(strings.SplitSeq(value, ","))
		case "labels":
			req.Labels = labelsFrom(value)
		case "fault":
			req.Fault = &service.Refusal{Reason: service.InvalidAddress, Message: "no address"}
		default:
			tb.Fatalf("request %q: what is %q?", s, word)
		}
	}
	return req
}

func leases(ls []Lease) string {
	var out []string
	for _, l := range ls {
		out = append(out, l.Addr.String()+"@"+l.Pool)
	}
	return strings.Join(out, " ")
}

func spellResult(r Result) string {
	out := []string{leases(r.Leases)}
	if len(r.Unwanted) > 0 {
		out = append(out, "leaving "+leases(r.Unwanted))
	}
	if r.Refusal != nil {
		out = append(out, string(r.Refusal.Reason))
	}
	return strings.TrimSpace(strings.Join(out, " "))
}

func spellCounts(a *Allocator) string {
	var out []string
	for _, c := range a.Counts() {
		s := fmt.Sprintf("%s/%s %d of %v, %v left", c.Pool, strings.ToLower(string(c.Family)), c.Assigned, c.Total, c.Available)
		if c.Outside > 0 {
			s += fmt.Sprintf(", %d outside", c.Outside)
		}
		if c.Draining {
			s += ", draining"
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

// name is a key without the usual namespace.
func name(k types.NamespacedName) string { return strings.TrimPrefix(k.String(), "web/") }

// do carries out one command of a story on an allocator and returns what came of it.
func do(tb testing.TB, a *Allocator, command string) string {
	tb.Helper()
	verb, rest, _ := strings.Cut(command, " ")
	words := strings.Fields(rest)
	switch verb {
	case "pools": // what was withdrawn from whom
		var out []string
		for k, ls := range a.SetPools(pools(tb, rest)) {
			out = append(out, name(k)+": "+leases(ls))
		}
		slices.Sort(out)
		return strings.Join(out, "; ")
	case "namespace":
		if len(words) < 2 {
			a.SetNamespace(words[0], nil)
		} else {
			a.SetNamespace(words[0], labelsFrom(words[1]))
		}
		return ""
	case "ask":
		return spellResult(a.Allocate(request(tb, rest)))
	case "seat": // what was refused
		var out []string
		for _, u := range a.Seat(request(tb, rest)) {
			s := fmt.Sprintf("%v %s", u.Held.Addr, u.Reason)
			if u.Holder.Name != "" {
				s += " " + name(u.Holder)
			}
			out = append(out, s)
		}
		return strings.Join(out, "; ")
	case "release":
		return leases(a.Release(key(rest)))
	case "return":
		return fmt.Sprint(a.Return(key(words[0]), netip.MustParseAddr(words[1])))
	case "cancel":
		a.Cancel(key(rest))
		return ""
	case "serve": // everybody who is tried, in order
		var out []string
		for k, r, ok := a.Serve(); ok; k, r, ok = a.Serve() {
			out = append(out, name(k)+": "+spellResult(r))
		}
		return strings.Join(out, "; ")
	case "holders":
		var out []string
		for _, k := range a.Holders(netip.MustParseAddr(rest)) {
			out = append(out, name(k))
		}
		return strings.Join(out, " ")
	case "held":
		return leases(a.Held(key(rest)))
	case "counts":
		return spellCounts(a)
	case "waiting":
		return fmt.Sprint(a.Waiting())
	default:
		tb.Fatalf("what is %q?", command)
		return ""
	}
}
