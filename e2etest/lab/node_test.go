package lab

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func nodeWith(ready string, heartbeat time.Time) *corev1.Node {
	node := &corev1.Node{}
	if ready != "" {
		node.Status.Conditions = []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionStatus(ready), LastHeartbeatTime: metav1.NewTime(heartbeat)}}
	}
	return node
}

func decode(t *testing.T, data []byte) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return v
}

func TestNodeConfiguration(t *testing.T) {
	p := place{"/state", "x"}
	files, err := nodeFiles(p, onLAN("n2", 12), programs{Containerd: "/parts/containerd"}, "overlayfs")
	if err != nil {
		t.Fatal(err)
	}
	kubelet := decode(t, files["kubelet.json"])
	for key, want := range map[string]any{
		"cgroupRoot":            "/herald-lab-x/n2", // two labs must not meet in one group
		"protectKernelDefaults": true,
		"failCgroupV1":          false,
		"volumePluginDir":       "/state/x/hosts/n2/kubelet/volume-plugins",
	} {
		if kubelet[key] != want {
			t.Errorf("kubelet: %s is %v, want %v", key, kubelet[key], want)
		}
	}
	proxy := decode(t, files["kube-proxy.json"])
	if proxy["mode"] != "nftables" || proxy["clusterCIDR"] != "10.244.0.0/16,fd00:10:244::/48" || proxy["healthzBindAddress"] != "0.0.0.0:10256" {
		t.Errorf("kube-proxy: %s", files["kube-proxy.json"])
	}
	for _, want := range []string{"10.244.2.0/24", "fd00:10:244:2::/64"} {
		if !strings.Contains(string(files["cni/10-lab.conflist"]), want) {
			t.Errorf("pods get no addresses from %s: %s", want, files["cni/10-lab.conflist"])
		}
	}
	for _, want := range []string{"restrict_oom_score_adj = true", `root = "/state/x/hosts/n2/containerd"`, `bin_dirs = ["/parts/containerd"]`, pauseImage} {
		if !strings.Contains(string(files["containerd.toml"]), want) {
			t.Errorf("containerd: no %s in\n%s", want, files["containerd.toml"])
		}
	}
}

func TestAPIServerServesBothFamiliesUnderNodeAndRBACAuthorisation(t *testing.T) {
	argv := apiServer(place{"/state", "x"}, programs{Kubernetes: "/k"}).Argv
	for _, want := range []string{"/k/kube-apiserver", "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112", "--advertise-address=192.0.2.10"} {
		if !slices.Contains(argv, want) {
			t.Errorf("no %s in %v", want, argv)
		}
	}
}

func TestKubeletReportsBothItsAddresses(t *testing.T) {
	argv := kubelet(place{"/state", "x"}, onLAN("n1", 11), programs{}).Argv
	if !slices.Contains(argv, "--node-ip=192.0.2.11,2001:db8:1::11") {
		t.Errorf("no such --node-ip in %v", argv)
	}
}

func TestProcessNames(t *testing.T) {
	for name, want := range map[string][2]string{
		"n1/kubelet": {"n1", "kubelet"},
		"etcd":       {CP, "etcd"},
		"bird":       {Router, "bird"},
	} {
		if host, proc := splitProcess(name); host != want[0] || proc != want[1] {
			t.Errorf("%s is %s on %s", name, proc, host)
		}
	}
	if got := logName("n1/kubelet"); got != "n1-kubelet.log" {
		t.Errorf("log of n1/kubelet: %s", got)
	}
}
