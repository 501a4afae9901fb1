package service

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func shared(key string) func(*corev1.Service) { return annotated("heraldlb.io/allow-shared-ip", key) }

func port(n int32, protocol corev1.Protocol) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Port: n, Protocol: protocol})
	}
}

func local(svc *corev1.Service) {
	svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

func selecting(app string) func(*corev1.Service) {
	return func(svc *corev1.Service) { svc.Spec.Selector = map[string]string{"app": app, "tier": "front"} }
}

func in(namespace string) func(*corev1.Service) {
	return func(svc *corev1.Service) { svc.Namespace = namespace }
}

func with(namespaces string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Annotations["heraldlb.io/allow-shared-namespaces"] = namespaces
	}
}

func TestWhoMayShareAnAddress(t *testing.T) {
	for _, c := range []struct {
		name     string
		one, two *corev1.Service
		obstacle string // part of what is said of it to one; empty when they may
	}{
		{"those without a key do not", balanced(), balanced(), "this Service has no annotation heraldlb.io/allow-shared-ip"},
		{"nor with one without", balanced(shared("k")), balanced(), "which has no annotation heraldlb.io/allow-shared-ip"},
		{"nor with one of another key", balanced(shared("k")), balanced(shared("l")), `under the key "l" and not under "k"`},
		{"those of one key do", balanced(shared("k"), port(80, "TCP")), balanced(shared("k"), port(443, "TCP")), ""},
		{"MetalLB's annotation is the same", balanced(annotated("metallb.io/allow-shared-ip", "k")), balanced(annotated("metallb.universe.tf/allow-shared-ip", "k")), ""},
		{"not on one port", balanced(shared("k"), port(80, "TCP"), port(81, "TCP")), balanced(shared("k"), port(79, "TCP"), port(81, "TCP")), "uses port 81/TCP too"},
		{"a port without a protocol is TCP's", balanced(shared("k"), port(80, "")), balanced(shared("k"), port(80, "TCP")), "uses port 80/TCP too"},
		{"TCP and UDP do not clash", balanced(shared("k"), port(53, "TCP")), balanced(shared("k"), port(53, "UDP")), ""},
		{"delivered everywhere, whatever their backends", balanced(shared("k"), selecting("a")), balanced(shared("k"), selecting("b")), ""},
		{"delivered locally with the same backends", balanced(shared("k"), local, selecting("a")), balanced(shared("k"), local, selecting("a")), ""},
		{"not with others", balanced(shared("k"), local, selecting("a")), balanced(shared("k"), local, selecting("b")), "another selector"},
		{"nor when only one is delivered locally", balanced(shared("k"), local, selecting("a")), balanced(shared("k"), selecting("b")), "another selector"},
		{"one of each with the same backends", balanced(shared("k"), local, selecting("a")), balanced(shared("k"), selecting("a")), ""},
		{"not locally without selectors", balanced(shared("k"), local), balanced(shared("k"), local), "another selector"},
		{"not across namespaces by the key alone", balanced(shared("k")), balanced(in("shop"), shared("k")), "namespace shop is not in this Service's annotation"},
		{"nor when one side says so", balanced(shared("k"), with("shop")), balanced(in("shop"), shared("k")), "does not name the namespace web"},
		{"but when both do", balanced(shared("k"), with("bank, shop")), balanced(in("shop"), shared("k"), with("web")), ""},
		{"one of them with a star", balanced(shared("k"), with("*")), balanced(in("shop"), shared("k"), with("web")), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			one, _ := Of(c.one, "")
			two, _ := Of(c.two, "")
			obstacle := one.Sharing.Obstacle(&two.Sharing)
			if !strings.Contains(obstacle, c.obstacle) || (obstacle == "") != (c.obstacle == "") {
				t.Errorf("obstacle %q, want %q", obstacle, c.obstacle)
			}
			if got, want := one.Sharing.With(&two.Sharing), c.obstacle == ""; got != want {
				t.Errorf("they share: %v, want %v", got, want)
			}
			if one.Sharing.With(&two.Sharing) != two.Sharing.With(&one.Sharing) {
				t.Error("they do not agree whether they share")
			}
		})
	}
}
