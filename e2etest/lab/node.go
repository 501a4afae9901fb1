package lab

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// pauseImage is the image of every pod's first container.
const pauseImage = "localhost/herald-lab-pause:1"

// containerdSocket is where a node's container runtime listens, inside the node.
const containerdSocket = "/run/containerd/containerd.sock"

// nodeFiles renders the configuration of a node's programs, by file name in the host's directory.
func nodeFiles(p place, h Host, b programs, snapshotter string) (map[string][]byte, error) {
	conflist, err := cniConfig(h)
	if err != nil {
		return nil, err
	}
	kubelet, err := kubeletConfig(p, h)
	if err != nil {
		return nil, err
	}
	proxy, err := proxyConfig(p, h)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		"cni/10-lab.conflist": conflist,
		"kubelet.json":        kubelet,
		"kube-proxy.json":     proxy,
		"containerd.toml":     []byte(containerdConfig(p.hostDir(h.Name), b.Containerd, snapshotter)),
		// The cluster has no DNS server; this is where one would be.
		"resolv.conf": []byte("nameserver 10.96.0.10\n"),
	}, nil
}

type object = map[string]any

// cniConfig connects the pods of a node to a bridge on it and gives them addresses of both families.
func cniConfig(h Host) ([]byte, error) {
	p4, p6 := h.podPrefixes()
	return json.MarshalIndent(object{
		"cniVersion": "1.0.0",
		"name":       "lab",
		"plugins": []object{{
			"type":        "bridge",
			"bridge":      "cni0",
			"isGateway":   true,
			"ipMasq":      false, // the lab routes pod addresses everywhere
			"hairpinMode": true,
			"ipam": object{
				"type":   "host-local",
				"ranges": [][]object{{{"subnet": p4.String()}}, {{"subnet": p6.String()}}},
				"routes": []object{{"dst": "0.0.0.0/0"}, {"dst": "::/0"}},
			},
		}},
	}, "", "  ")
}

func kubeletConfig(p place, h Host) ([]byte, error) {
	none := "0%"
	return json.MarshalIndent(object{
		"apiVersion":               "kubelet.config.k8s.io/v1beta1",
		"kind":                     "KubeletConfiguration",
		"address":                  "::",
		"authentication":           object{"anonymous": object{"enabled": false}, "webhook": object{"enabled": true}, "x509": object{"clientCAFile": p.path("pki", "ca.crt")}},
		"authorization":            object{"mode": "Webhook"},
		"tlsCertFile":              p.path("pki", h.Name+"-serving.crt"),
		"tlsPrivateKeyFile":        p.path("pki", h.Name+"-serving.key"),
		"containerRuntimeEndpoint": "unix://" + containerdSocket,
		"cgroupDriver":             "cgroupfs",
		"cgroupRoot":               "/" + p.cgroup() + "/" + h.Name,
		"failCgroupV1":             false,
		"failSwapOn":               false,
		// The kernel belongs to the machine: the kubelet may check its settings and must not change them.
		"protectKernelDefaults":          true,
		"makeIPTablesUtilChains":         false,
		"oomScoreAdj":                    0,
		"resolvConf":                     filepath.Join(p.hostDir(h.Name), "resolv.conf"),
		"clusterDNS":                     []string{"10.96.0.10"},
		"clusterDomain":                  "cluster.local",
		"volumePluginDir":                filepath.Join(p.hostDir(h.Name), "kubelet", "volume-plugins"),
		"localStorageCapacityIsolation":  false,
		"evictionHard":                   object{"memory.available": "50Mi", "nodefs.available": none, "nodefs.inodesFree": none, "imagefs.available": none, "imagefs.inodesFree": none},
		"imageGCHighThresholdPercent":    100,
		"imageGCLowThresholdPercent":     99,
		"nodeStatusUpdateFrequency":      "4s",
		"nodeLeaseDurationSeconds":       10,
		"kubeAPIQPS":                     200,
		"kubeAPIBurst":                   400,
		"serializeImagePulls":            false,
		"enableDebuggingHandlers":        true,
		"shutdownGracePeriod":            "0s",
		"runtimeRequestTimeout":          "1m",
		"containerLogMaxSize":            "10Mi",
		"registerNode":                   true,
		"streamingConnectionIdleTimeout": "1h",
	}, "", "  ")
}

func proxyConfig(p place, h Host) ([]byte, error) {
	return json.MarshalIndent(object{
		"apiVersion":         "kubeproxy.config.k8s.io/v1alpha1",
		"kind":               "KubeProxyConfiguration",
		"mode":               "nftables",
		"hostnameOverride":   h.Name,
		"clientConnection":   object{"kubeconfig": p.path("pki", "kube-proxy.kubeconfig")},
		"clusterCIDR":        fmt.Sprintf("%s,%s", pods4, pods6),
		"healthzBindAddress": "0.0.0.0:10256",
		"metricsBindAddress": "127.0.0.1:10249",
		"oomScoreAdj":        0,
		// Zero leaves the machine's connection tracking limits alone.
		"conntrack": object{"maxPerCore": 0, "min": 0, "tcpCloseWaitTimeout": "0s", "tcpEstablishedTimeout": "0s"},
		"nftables":  object{"minSyncPeriod": "100ms", "syncPeriod": "30s"},
	}, "", "  ")
}

// containerdConfig keeps all that the runtime writes in the host's directory and below /run.
func containerdConfig(hostDir, binDir, snapshotter string) string {
	return fmt.Sprintf(`version = 3
root = %[1]q
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
  address = %[2]q

[plugins.'io.containerd.internal.v1.opt']
  path = %[3]q

[plugins.'io.containerd.cri.v1.images']
  snapshotter = %[4]q
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = %[5]q

[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  # Where root lacks CAP_SYS_RESOURCE no process may lower its score, and no sandbox would start.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = [%[6]q]
    conf_dir = %[7]q
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
`, filepath.Join(hostDir, "containerd"), containerdSocket, filepath.Join(hostDir, "opt"), snapshotter, pauseImage,
		binDir, filepath.Join(hostDir, "cni"))
}

// snapshotterFor chooses how images are unpacked: overlayfs cannot lie on top of itself, as it would in a
// container whose own root is one.
func snapshotterFor(dir string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", fmt.Errorf("file system of %s: %w", dir, err)
	}
	if st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return "native", nil
	}
	return "overlayfs", nil
}

// Processes of a node; their names have the node's in front.
const (
	procContainerd = "containerd"
	procKubelet    = "kubelet"
	procProxy      = "kube-proxy"
)

func onNode(node, proc string) string { return node + "/" + proc }

func containerd(p place, h Host, b programs) daemonSpec {
	return daemonSpec{
		Name: onNode(h.Name, procContainerd),
		Host: h.Name,
		Argv: []string{filepath.Join(b.Containerd, "containerd"),
			"--config=" + filepath.Join(p.hostDir(h.Name), "containerd.toml"), "--log-level=info"},
		Env: []string{"PATH=" + b.Containerd + ":" + daemonPath}, // the shim is found there
	}
}

func kubelet(p place, h Host, b programs) daemonSpec {
	dir := p.hostDir(h.Name)
	return daemonSpec{
		Name: onNode(h.Name, procKubelet),
		Host: h.Name,
		Argv: []string{filepath.Join(b.Kubernetes, "kubelet"),
			"--config=" + filepath.Join(dir, "kubelet.json"),
			"--kubeconfig=" + p.path("pki", h.Name+".kubeconfig"),
			"--hostname-override=" + h.Name,
			fmt.Sprintf("--node-ip=%s,%s", h.IPv4, h.IPv6),
			"--root-dir=/var/lib/kubelet",
			"--cert-dir=/var/lib/kubelet/pki",
			"--v=2"},
	}
}

func kubeProxy(p place, h Host, b programs) daemonSpec {
	return daemonSpec{
		Name: onNode(h.Name, procProxy),
		Host: h.Name,
		Argv: []string{filepath.Join(b.Kubernetes, "kube-proxy"),
			"--config=" + filepath.Join(p.hostDir(h.Name), "kube-proxy.json"), "--v=2"},
	}
}

// importCommand loads image files into a node's runtime.
func importCommand(b programs, file string) []string {
	return []string{filepath.Join(b.Containerd, "ctr"), "--address=" + containerdSocket,
		"--namespace=k8s.io", "images", "import", "--digests=false", file}
}

// splitProcess takes a process name apart: "n1/kubelet" is kubelet on n1, "etcd" is etcd on the control plane.
func splitProcess(name string) (host, proc string) {
	if host, proc, ok := strings.Cut(name, "/"); ok {
		return host, proc
	}
	if name == procRouter {
		return Router, name
	}
	return CP, name
}
