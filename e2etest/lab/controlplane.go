package lab

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"heraldlb.io/herald/e2etest/lab/pki"
)

// apiPort is where the API server listens on the control plane host.
const apiPort = 6443

// nodeMonitorGrace is how long a node may be silent before the controller manager calls it NotReady.
const nodeMonitorGrace = "20s"

// auditedNamespace is the one whose service accounts' requests are written down: Herald's.
const auditedNamespace = "herald-system"

// Users of the API, as Kubernetes' own RBAC rules know them.
const (
	userAdmin      = "admin"
	userManager    = "system:kube-controller-manager"
	userScheduler  = "system:kube-scheduler"
	userProxy      = "system:kube-proxy"
	userAPIServer  = "kube-apiserver-kubelet-client"
	groupMasters   = "system:masters"
	groupNodes     = "system:nodes"
	nodeUserPrefix = "system:node:"
)

// credentials writes the cluster's certificates and kubeconfigs to the lab's pki directory.
func credentials(p place, hosts []Host) error {
	ca, err := pki.NewAuthority("herald-lab-" + p.name)
	if err != nil {
		return err
	}
	files := map[string][]byte{"ca.crt": ca.Cert}
	if files["service-accounts.key"], err = pki.NewKey(); err != nil {
		return fmt.Errorf("service account key: %w", err)
	}
	keep := func(name string, pair pki.Pair, err error) error {
		files[name+".crt"], files[name+".key"] = pair.Cert, pair.Key
		return err
	}
	user := func(file, user string, groups ...string) error {
		pair, err := ca.Client(user, groups...)
		if err != nil {
			return err
		}
		files[file+".kubeconfig"], err = kubeconfig(ca.Cert, pair)
		return keep(file, pair, err)
	}
	cp := onLAN(CP, 10)
	pair, err := ca.Server("kube-apiserver",
		[]string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"},
		[]netip.Addr{cp.IPv4, cp.IPv6, apiService4, apiService6, netip.MustParseAddr("127.0.0.1")})
	if err := keep("apiserver", pair, err); err != nil {
		return err
	}
	pair, err = ca.Client(userAPIServer, groupMasters)
	if err := keep("apiserver-kubelet-client", pair, err); err != nil {
		return err
	}
	for _, u := range []struct{ file, user, group string }{
		{"admin", userAdmin, groupMasters},
		{"controller-manager", userManager, ""},
		{"scheduler", userScheduler, ""},
		{"kube-proxy", userProxy, ""},
	} {
		var groups []string
		if u.group != "" {
			groups = []string{u.group}
		}
		if err := user(u.file, u.user, groups...); err != nil {
			return err
		}
	}
	for _, h := range hosts {
		if !h.isNode() {
			continue
		}
		if err := user(h.Name, nodeUserPrefix+h.Name, groupNodes); err != nil {
			return err
		}
		pair, err := ca.Server(nodeUserPrefix+h.Name, []string{h.Name}, []netip.Addr{h.IPv4, h.IPv6})
		if err := keep(h.Name+"-serving", pair, err); err != nil {
			return err
		}
	}
	for name, data := range files {
		if err := writeFile(p.path("pki", name), data); err != nil {
			return err
		}
	}
	return nil
}

func apiURL() string {
	return fmt.Sprintf("https://%s", netip.AddrPortFrom(onLAN(CP, 10).IPv4, apiPort))
}

// kubeconfig is a client configuration for the cluster with everything in it. JSON is YAML too.
func kubeconfig(ca []byte, pair pki.Pair) ([]byte, error) {
	type object = map[string]any
	return json.MarshalIndent(object{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": "lab",
		"contexts":        []object{{"name": "lab", "context": object{"cluster": "lab", "user": "lab"}}},
		"clusters":        []object{{"name": "lab", "cluster": object{"server": apiURL(), "certificate-authority-data": ca}}},
		"users":           []object{{"name": "lab", "user": object{"client-certificate-data": pair.Cert, "client-key-data": pair.Key}}},
	}, "", "  ")
}

// daemonSpec is how one long-running program of the lab is started.
type daemonSpec struct {
	Name string // n1/kubelet, or apiserver for those of the control plane
	Host string
	Argv []string
	Env  []string
}

// Processes of the control plane and of the router.
const (
	procEtcd      = "etcd"
	procAPIServer = "apiserver"
	procManager   = "controller-manager"
	procScheduler = "scheduler"
	procRouter    = "bird"
)

func etcd(p place, b programs) daemonSpec {
	return daemonSpec{Name: procEtcd, Host: CP, Argv: []string{
		filepath.Join(b.Etcd, "etcd"),
		"--data-dir=" + p.path("etcd"),
		"--listen-client-urls=http://127.0.0.1:2379",
		"--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380",
		"--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=default=http://127.0.0.1:2380",
		"--unsafe-no-fsync", // nobody needs the data after a power cut
		"--log-level=warn",
	}}
}

func apiServer(p place, b programs) daemonSpec {
	f := func(name string) string { return p.path("pki", name) }
	return daemonSpec{Name: procAPIServer, Host: CP, Argv: []string{
		filepath.Join(b.Kubernetes, "kube-apiserver"),
		"--etcd-servers=http://127.0.0.1:2379",
		"--bind-address=::",
		"--advertise-address=" + onLAN(CP, 10).IPv4.String(),
		fmt.Sprintf("--secure-port=%d", apiPort),
		"--tls-cert-file=" + f("apiserver.crt"),
		"--tls-private-key-file=" + f("apiserver.key"),
		"--client-ca-file=" + f("ca.crt"),
		"--kubelet-client-certificate=" + f("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + f("apiserver-kubelet-client.key"),
		"--kubelet-certificate-authority=" + f("ca.crt"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + f("service-accounts.key"),
		"--service-account-signing-key-file=" + f("service-accounts.key"),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--anonymous-auth=true",
		fmt.Sprintf("--service-cluster-ip-range=%s,%s", services4, services6),
		"--allow-privileged=true",
		"--shutdown-delay-duration=0s",
		"--audit-policy-file=" + p.path("audit-policy.yaml"),
		"--audit-log-path=" + p.path("audit.log"),
		"--audit-log-maxsize=1000", // MB: it is never rotated
	}}
}

// auditPolicy has the API server write down, without their contents, the requests of the service accounts of one
// namespace, and nobody else's.
func auditPolicy() []byte {
	return fmt.Appendf(nil, `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, userGroups: ["system:serviceaccounts:%s"]}
- {level: None}
`, auditedNamespace)
}

func controllerManager(p place, b programs) daemonSpec {
	return daemonSpec{Name: procManager, Host: CP, Argv: []string{
		filepath.Join(b.Kubernetes, "kube-controller-manager"),
		"--kubeconfig=" + p.path("pki", "controller-manager.kubeconfig"),
		"--service-account-private-key-file=" + p.path("pki", "service-accounts.key"),
		"--root-ca-file=" + p.path("pki", "ca.crt"),
		"--use-service-account-credentials",
		"--leader-elect=false",
		"--secure-port=0",
		fmt.Sprintf("--cluster-cidr=%s,%s", pods4, pods6),
		"--allocate-node-cidrs=false", // each node's range is fixed by its number
		"--node-monitor-grace-period=" + nodeMonitorGrace,
		"--node-monitor-period=1s",
		// With the default limits half of the start-up is spent waiting for them.
		"--kube-api-qps=1000",
		"--kube-api-burst=1000",
	}}
}

func scheduler(p place, b programs) daemonSpec {
	return daemonSpec{Name: procScheduler, Host: CP, Argv: []string{
		filepath.Join(b.Kubernetes, "kube-scheduler"),
		"--kubeconfig=" + p.path("pki", "scheduler.kubeconfig"),
		"--leader-elect=false",
		"--secure-port=0",
	}}
}

// router runs before all others: it stands for a machine of its own, which is not slow because the nodes are busy.
func router(p place, b programs) daemonSpec {
	return daemonSpec{
		Name: procRouter,
		Host: Router,
		Argv: []string{"/usr/bin/nice", "-n", "-20", b.Bird, "-f",
			"-c", p.path("hosts", Router, "bird.conf"),
			"-s", p.path("hosts", Router, "bird.ctl")},
		Env: []string{"LD_LIBRARY_PATH=" + b.BirdLibraries},
	}
}

// Ports of the router, AS 64513, for nodes of AS 64512 that speak BGP to it. On all of them it agrees to a graceful restart;
// they differ in what BFD means to it.
const (
	RouterPort            = 179  // nothing
	RouterBFDPort         = 1790 // routes go when BFD fails
	RouterBFDGracefulPort = 1791 // routes stay when BFD fails, as while a graceful restart lasts
)

// birdConfig lets the router exchange routes with its kernel, and hear from any node that talks BGP to it. Its BFD sends and
// wants packets as often as the node says, but no faster than every 50 ms. After a failure it would hear nothing from the node
// for a minute, unless told otherwise.
func birdConfig(h Host) string {
	var b strings.Builder
	fmt.Fprintf(&b, `router id %s;
log stderr all;
protocol device {}
protocol direct { ipv4; ipv6; }
protocol kernel kernel4 { learn; merge paths; ipv4 { import none; export where source ~ [ RTS_BGP, RTS_STATIC ]; }; }
protocol kernel kernel6 { learn; merge paths; ipv6 { import none; export where source ~ [ RTS_BGP, RTS_STATIC ]; }; }
protocol bfd { interface "eth0" { interval 50 ms; multiplier 3; }; }
`, h.IPv4)
	for _, p := range []struct { // BIRD, which connects to none of them, tells neighbors of one address apart by the port it would connect to
		name string
		port int
		bfd  string
	}{{"node", RouterPort, "off"}, {"bfdnode", RouterBFDPort, "on"}, {"gracefulnode", RouterBFDGracefulPort, "graceful"}} {
		fmt.Fprintf(&b, `protocol bgp %[1]ss {
	local %[2]s port %[3]d as 64513; neighbor range %[4]s port %[3]d as 64512; dynamic name "%[1]s"; passive; graceful restart on; bfd %[5]s; error wait time 1, 1;
	ipv4 { import all; export none; };
	ipv6 { import all; export none; };
}
`, p.name, h.IPv4, p.port, LAN4, p.bfd)
	}
	return b.String()
}
