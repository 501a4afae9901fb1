package ctl

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/kube/kubetest"
)

var update = flag.Bool("update", false, "write what the commands print to testdata/golden and docs/heraldctl.md")

// noon is when the commands of the tests run.
var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// cluster serves testdata/cluster.yaml.
func cluster(t *testing.T) *kubetest.API {
	t.Helper()
	api := kubetest.New(t)
	text, err := os.ReadFile("testdata/cluster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range strings.Split(string(text), "\n---\n") {
		var obj unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(document), &obj.Object); err != nil {
			t.Fatal(err)
		}
		api.Create(resourceOf(obj.GetKind()), &obj)
	}
	return api
}

func resourceOf(kind string) string {
	if kind == "Community" {
		return "communities"
	}
	return strings.ToLower(kind) + "s"
}

// ran is what became of a command.
type ran struct {
	code     int
	out, err string
}

// run runs a command against an API server; nil for none.
func run(t *testing.T, api *kubetest.API, args ...string) ran {
	t.Helper()
	t.Setenv("KUBECONFIG", os.DevNull)
	all := []string{"heraldctl"}
	if api != nil {
		all = append(all, "--server", api.URL())
	}
	all = append(all, args...)
	var out, errs bytes.Buffer
	code := Run(t.Context(), Env{Args: all, In: strings.NewReader(""), Out: &out, Err: &errs, Now: func() time.Time { return noon }})
	return ran{code, out.String(), errs.String()}
}

// goldens are the commands whose output is kept, by the name of its file.
var goldens = map[string][]string{
	"validate":               {"validate", "-f", "testdata/broken.yaml"},
	"validate-json":          {"validate", "-f", "testdata/broken.yaml", "-o", "json"},
	"pools":                  {"pools"},
	"pools-yaml":             {"pools", "-o", "yaml"},
	"speakers":               {"speakers"},
	"peers":                  {"peers"},
	"announcements":          {"announcements"},
	"announcements-node":     {"announcements", "--node", "n1"},
	"announcements-service":  {"announcements", "--service", "web"},
	"announcements-ip":       {"announcements", "--ip", "192.0.2.102", "-o", "json"},
	"events":                 {"events"},
	"events-for":             {"events", "--for", "service/shop/back", "--warnings"},
	"status":                 {"status"},
	"explain-announced":      {"explain", "service", "web"},
	"explain-conflict":       {"explain", "service", "local"},
	"explain-not-advertised": {"explain", "service", "default/hidden"},
	"explain-routers":        {"explain", "service", "shop/front"},
	"explain-pending":        {"explain", "service", "shop/back"},
	"explain-other-class":    {"explain", "svc", "shop/other", "-o", "yaml"},
	"simulate-without":       {"simulate", "--without", "n2"},
	"simulate-drain":         {"simulate", "--drain", "n1"},
	"simulate-file":          {"simulate", "-f", "testdata/change.yaml"},
	"observe":                {"observe"},
	"doctor":                 {"doctor"},
	"migrate":                {"migrate", "metallb", "-f", "testdata/metallb.yaml"},
}

func TestWhatEachCommandPrints(t *testing.T) {
	api := cluster(t)
	for name, args := range goldens {
		t.Run(name, func(t *testing.T) {
			got := run(t, api, args...)
			if strings.HasPrefix(got.err, "error:") {
				t.Fatal(got.err)
			}
			text := fmt.Sprintf("$ heraldctl %s\n%s%s(exit %d)\n", strings.Join(args, " "), got.err, got.out, got.code)
			path := filepath.Join("testdata", "golden", name+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if text != string(want) {
				t.Errorf("got\n%s\nwant\n%s\n(go test ./internal/ctl -update, when it is meant)", text, want)
			}
		})
	}
	files, err := filepath.Glob("testdata/golden/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if _, ok := goldens[strings.TrimSuffix(filepath.Base(f), ".txt")]; !ok {
			t.Errorf("%s is nobody's", f)
		}
	}
}

func TestErrorsSayWhatHelps(t *testing.T) {
	refuse := func(code int, resource string) func(*kubetest.API) {
		return func(api *kubetest.API) {
			api.Fault(func(r *http.Request) int {
				if strings.Contains(r.URL.Path, "/"+resource) {
					return code
				}
				return 0
			})
		}
	}
	for _, c := range []struct {
		name  string
		args  string
		given func(*kubetest.API)
		code  int
		want  string
	}{
		{"no rights to read pools", "pools", refuse(http.StatusForbidden, "ipaddresspools"), ExitFailed, "ask for a ClusterRole that grants it"},
		{"no rights to mark a node", "drain n1", refuse(http.StatusForbidden, "nodes"), ExitFailed, "mark Node n1: your user may not"},
		{"no CustomResourceDefinitions", "pools", refuse(http.StatusNotFound, "ipaddresspools"), ExitFailed, "install Herald's CustomResourceDefinitions"},
		{"none for speakers", "speakers", refuse(http.StatusNotFound, "speakers"), ExitFailed, "install Herald's CustomResourceDefinitions"},
		{"a user that is not known", "status", refuse(http.StatusUnauthorized, "deployments"), ExitFailed, "log in again"},
		{"an API server that is not there", "status --server http://127.0.0.1:1", nil, ExitFailed, "no answer from the API server"},
		{"no such Service", "explain service web2", nil, ExitFailed, "read Service default/web2"},
		{"no such node", "simulate --without n9", nil, ExitFailed, "there is no Node n9"},
		{"no such node to drain", "drain n9", nil, ExitFailed, "mark Node n9"},
		{"no such command", "statsu", nil, ExitUsage, "no such command"},
		{"no such flag", "status --colour", nil, ExitUsage, "--colour"},
		{"no such format", "pools -o xml", nil, ExitUsage, "write table, json or yaml"},
		{"an argument too many", "pools lan", nil, ExitUsage, "takes no arguments"},
		{"an argument too few", "explain service", nil, ExitUsage, "takes the name of one Service"},
		{"a simulation of nothing", "simulate", nil, ExitUsage, "--without, --drain or -f"},
		{"an address that is none", "announcements --ip nonsense", nil, ExitUsage, "write an IP address"},
		{"a source that is none", "pools --config-source=etcd", nil, ExitUsage, "write crd or configmap"},
		{"a product that cannot be converted", "migrate cloud", nil, ExitUsage, "kube-vip-cloud-provider"},
		{"nothing to convert from", "migrate", nil, ExitUsage, "metallb"},
		{"nothing to convert in the cluster", "migrate purelb", nil, ExitFailed, "no configuration of PureLB"},
		{"no rights to read what is to be converted", "migrate metallb", refuse(http.StatusForbidden, "bgppeers"), ExitFailed, "read bgppeers: your user may not"},
		{"nothing to validate", "validate", nil, ExitUsage, "-f"},
		{"a file that is not there", "validate -f nowhere.yaml", nil, ExitFailed, "nowhere.yaml"},
		{"files that cannot be read as configuration", "simulate -f testdata/broken.yaml", nil, ExitFailed, "heraldctl validate"},
		{"nothing to move", "move --to n2", nil, ExitUsage, "takes the IP addresses"},
		{"a move to nowhere", "move 192.0.2.100", nil, ExitUsage, "with --to"},
		{"a move of no address", "move web --to n2", nil, ExitUsage, "write an IP address"},
		{"a move that would wait too long", "move 192.0.2.100 --to n2 --timeout 1h", nil, ExitUsage, "write 1s to 5m"},
		{"a move to a node that is not there", "move 192.0.2.100 --to n9", nil, ExitFailed, "there is no Node n9"},
		{"a move to a node that is dead", "move 192.0.2.100 --to n3", nil, ExitFailed, "node n3 cannot take 192.0.2.100 of default/web: its speaker is gone"},
		{"a move to a node without an endpoint", "move 192.0.2.101 --to n1", nil, ExitFailed, "(NoEndpoint)"},
		{"a move of an address that no Service has", "move 192.0.2.103 --to n2", nil, ExitFailed, "no Service has 192.0.2.103"},
		{"a move without the right to", "move 192.0.2.100 --to n2", func(api *kubetest.API) {
			api.Fault(func(r *http.Request) int {
				if r.Method == http.MethodPatch {
					return http.StatusForbidden
				}
				return 0
			})
		}, ExitFailed, "mark Node n2: your user may not"},
		{"undoing and waiting", "drain n1 --undo --wait", nil, ExitUsage, "nothing to --wait for"},
	} {
		t.Run(c.name, func(t *testing.T) {
			api := cluster(t)
			if c.given != nil {
				c.given(api)
			}
			got := run(t, api, strings.Fields(c.args)...)
			if got.code != c.code || !strings.Contains(got.err, c.want) || strings.Count(got.err, "error:") != 1 {
				t.Errorf("exit %d, error %q; want %d, %q", got.code, got.err, c.code, c.want)
			}
		})
	}
	t.Run("no cluster is named", func(t *testing.T) {
		got := run(t, nil, "status")
		if got.code != ExitFailed || !strings.Contains(got.err, "--kubeconfig") {
			t.Errorf("exit %d, error %q", got.code, got.err)
		}
	})
}

func TestStatusTellsWhatItCannotSee(t *testing.T) {
	api := cluster(t)
	api.Fault(func(r *http.Request) int {
		if strings.Contains(r.URL.Path, "/announcementslices") {
			return http.StatusForbidden
		}
		return 0
	})
	got := run(t, api, "status")
	if got.code != ExitAttention || !strings.Contains(got.out, "AnnouncementSlices: not known: read AnnouncementSlices: your user may not") {
		t.Errorf("exit %d, %s%s", got.code, got.out, got.err)
	}
	if strings.Contains(got.out, "NotAnnounced") {
		t.Errorf("what was not read is told as missing: %s", got.out)
	}
}

func TestStatusFindsKindsThatAreNotInstalled(t *testing.T) {
	api := cluster(t)
	api.Fault(func(r *http.Request) int {
		if strings.HasSuffix(r.URL.Path, "/communities") {
			return http.StatusNotFound
		}
		return 0
	})
	got := run(t, api, "status")
	want := "error  Kind/the configuration  NotInstalled: the API server does not know the kind of the configuration\n    -> kubectl apply --server-side -f manifests/herald.yaml"
	if got.code != ExitAttention || !strings.Contains(got.out, want) {
		t.Errorf("exit %d, want %q:\n%s%s", got.code, want, got.out, got.err)
	}
}

func TestDoctorFindsWhatMayNotBeDone(t *testing.T) {
	api := cluster(t)
	api.Deny("system:serviceaccount:herald-system:herald-controller", "create", "leases")
	api.Create("deployments", &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "metallb-system", Name: "controller"},
		Spec:       appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: "quay.io/metallb/controller:v0.16.0"}}}}},
	})
	got := run(t, api, "doctor")
	for _, want := range []string{
		"ServiceAccount/herald-controller: it may not create leases.coordination.k8s.io (NotAllowed)",
		"Deployment/metallb-system/controller: MetalLB runs in this cluster",
	} {
		if got.code != ExitAttention || !strings.Contains(got.out, want) {
			t.Errorf("exit %d, no %q in %s%s", got.code, want, got.out, got.err)
		}
	}
	api.Fault(func(r *http.Request) int {
		if strings.HasSuffix(r.URL.Path, "/speakers") {
			return http.StatusNotFound
		}
		return 0
	})
	if got := run(t, api, "doctor"); !strings.Contains(got.out, "Kind/Speakers: the API server does not know the kind of Speakers (NotInstalled)") {
		t.Errorf("exit %d, %s%s", got.code, got.out, got.err)
	}
}

func TestASupportBundleHoldsNoSecrets(t *testing.T) {
	api := cluster(t)
	path := filepath.Join(t.TempDir(), "bundle.tar.gz")
	if got := run(t, api, "support-bundle", "-f", path); got.code != ExitOK {
		t.Fatalf("exit %d, %s%s", got.code, got.out, got.err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	unpack := tar.NewReader(zip)
	for {
		h, err := unpack.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(unpack)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if bytes.Contains(data, []byte("hunter2")) {
			t.Errorf("%s holds the password", h.Name)
		}
		if h.Name == "herald-support/services.yaml" && !bytes.Contains(data, []byte("192.0.2.100")) {
			t.Errorf("%s holds no addresses:\n%s", h.Name, data)
		}
	}
	for _, want := range []string{"doctor.yaml", "status.yaml", "configuration.yaml", "speakers.yaml", "services.yaml", "pods.yaml"} {
		if !slices.Contains(names, "herald-support/"+want) {
			t.Errorf("no %s among %v", want, names)
		}
	}
	if api.Lists("secrets") > 0 {
		t.Error("Secrets were read")
	}
}

// fromConfigMap is a cluster without any of Herald's kinds, whose configuration is the ConfigMap mine.
func fromConfigMap(t *testing.T) *kubetest.API {
	t.Helper()
	api := kubetest.New(t)
	api.Fault(func(r *http.Request) int {
		if strings.HasPrefix(r.URL.Path, "/apis/heraldlb.io/") {
			return http.StatusNotFound
		}
		return 0
	})
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "herald-system", Name: "herald-controller"}}
	deployment.Spec.Template.Spec.Containers = []corev1.Container{{Env: []corev1.EnvVar{{Name: "HERALD_CONFIG_SOURCE", Value: "configmap"}}, Args: []string{"--config-map=mine"}}}
	api.Create("deployments", deployment)
	return api
}

// configure has a ConfigMap be in force, and say more of itself.
func configure(api *kubetest.API, more string) {
	for name, data := range map[string]map[string]string{
		"mine-accepted": {"a": "apiVersion: heraldlb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: lan}\nspec: {addresses: [192.0.2.0/30]}\n" +
			"---\napiVersion: heraldlb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: lan}\nspec: {ipAddressPools: [lan]}\n"},
		"mine-status": {"status.yaml": more + `objects: [{kind: IPAddressPool, name: lan, status: {ipv4: {total: "4", assigned: 1, available: "3"},
			conditions: [{type: Accepted, status: "True"}, {type: Available, status: "True"}]}}]`},
	} {
		api.Create("configmaps", &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "herald-system", Name: name}, Data: data})
	}
}

func TestTheConfigurationIsReadFromWhereTheControllerReadsIt(t *testing.T) {
	api := fromConfigMap(t)
	got := run(t, api, "pools")
	if got.code != ExitFailed || !strings.Contains(got.err, "mine-accepted") {
		t.Errorf("without the ConfigMap: exit %d, %s", got.code, got.err)
	}
	configure(api, "")
	got = run(t, api, "pools")
	if got.code != ExitOK || !strings.Contains(got.out, "lan    IPv4     ###....... 25%   1          3           4       0         Available") {
		t.Errorf("exit %d, %s%s", got.code, got.out, got.err)
	}
}

// Without Herald's kinds speakers say nothing of themselves. What is known all the same is told, and nothing is told of them
// that nobody knows.
func TestWhatIsKnownWithoutHeraldsKinds(t *testing.T) {
	api := fromConfigMap(t)
	configure(api, `configMap: {status: {conditions: [{type: Accepted, status: "False", reason: InvalidDocument, message: "data[\"a\"] line 3: no field spec.adresses"}]}}`+"\n")
	for name, ready := range map[string]corev1.ConditionStatus{"n1": corev1.ConditionTrue, "n2": corev1.ConditionFalse} {
		api.Create("nodes", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
		api.Create("pods", &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "herald-system", Name: "herald-speaker-" + name, Labels: map[string]string{"app.kubernetes.io/name": "herald", "app.kubernetes.io/component": "speaker"}},
			Spec:       corev1.PodSpec{NodeName: name},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
		})
	}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Annotations: map[string]string{"heraldlb.io/pool": "lan"}}}
	svc.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}}
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	svc.Status.Conditions = []metav1.Condition{{Type: "heraldlb.io/Allocated", Status: metav1.ConditionTrue, Reason: "Allocated", Message: "Holds 192.0.2.1 from pool lan"}}
	api.Create("services", svc)
	yes, on := true, "n1"
	api.Create("endpointslices", &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{"kubernetes.io/service-name": "web"}},
		Endpoints:  []discoveryv1.Endpoint{{Conditions: discoveryv1.EndpointConditions{Ready: &yes}, NodeName: &on}},
	})
	const plain = "where the configuration is a ConfigMap speakers write none"
	for _, c := range []struct {
		args string
		code int
		want []string // in what it prints
	}{
		{"status", ExitAttention, []string{"1, 1 with their addresses\n", "Speakers      1 of 2 ready", "AnnouncementSlices: not known: read AnnouncementSlices: " + plain,
			"error  ConfigMap/herald-system/mine  InvalidDocument: data[\"a\"] line 3: no field spec.adresses", "error  Speaker/n2  SpeakerNotReady"}},
		{"speakers", ExitOK, []string{"n1     Ready      -", "n2     NotReady   -"}},
		{"explain service web", ExitOK, []string{"ok       Address: Holds 192.0.2.1 from pool lan", "unknown  Nodes of 192.0.2.1", plain, "Nothing is found against it, and not all could be seen."}},
		{"doctor", ExitAttention, []string{"unknown  kube-proxy, or what takes its place, works\n           read Speakers: " + plain, "Speaker/n2: Running (SpeakerNotReady)", "failed   the configuration is accepted"}},
		{"events", ExitOK, []string{"Herald told nothing that is still kept."}},
		{"drain n1", ExitOK, []string{"node n1 gives its addresses away"}},
		{"announcements", ExitFailed, []string{plain}},
		{"peers", ExitFailed, []string{plain}},
		{"simulate --without n1", ExitFailed, []string{plain}},
		{"move 192.0.2.1 --to n1", ExitFailed, []string{plain}},
		{"drain n2 --wait", ExitFailed, []string{plain}},
	} {
		got := run(t, api, strings.Fields(c.args)...)
		for _, want := range c.want {
			if all := got.out + got.err; got.code != c.code || !strings.Contains(all, want) || strings.Contains(all, "CustomResourceDefinition") || strings.Contains(all, "NotAlive") {
				t.Errorf("%s: exit %d, want %d, %q:\n%s", c.args, got.code, c.code, want, all)
			}
		}
	}
	if got := api.Node("n2").Annotations; len(got) > 0 {
		t.Errorf("a node was marked whose drain cannot be waited for: %v", got)
	}
}

// Every command that talks to a cluster says what is wrong with it, whatever that is.
func TestEveryCommandSaysWhatIsWrongWithTheCluster(t *testing.T) {
	commands := map[string]string{ // and what it cannot do without, if anything
		"status": "services", "observe": "services", "pools": "ipaddresspools", "speakers": "speakers", "peers": "speakers", "announcements": "announcementslices", "events": "events",
		"explain service web": "services", "simulate --without n2": "speakers", "drain n2 --wait": "announcementslices", "move 192.0.2.100 --to n2": "speakers",
		"migrate metallb": "bgppeers", "doctor": "", "support-bundle -f -": "",
	}
	seen := map[string]bool{"validate": true, "completion": true, "cleanup": true} // which need no cluster, or have tests of their own
	for args := range commands {
		seen[strings.Fields(args)[0]] = true
	}
	for _, c := range newRoot(Env{Args: []string{"heraldctl"}}).Commands() {
		if !seen[c.Name()] {
			t.Errorf("%s is not looked at", c.Name())
		}
	}
	for args, needed := range commands {
		t.Run(args, func(t *testing.T) {
			fails := func(api *kubetest.API, more, want string) {
				t.Helper()
				got := run(t, api, strings.Fields(args+more)...)
				if got.code != ExitFailed || !strings.Contains(got.err, want) || strings.Count(got.err, "error:") != 1 {
					t.Errorf("exit %d, error %q, want %q", got.code, got.err, want)
				}
			}
			fails(nil, "", "--kubeconfig")
			fails(nil, " --server http://127.0.0.1:1", "no answer from the API server")
			unknown := cluster(t)
			unknown.Fault(func(*http.Request) int { return http.StatusUnauthorized })
			fails(unknown, "", "log in again")
			if needed == "" {
				return
			}
			forbidden := cluster(t)
			forbidden.Fault(func(r *http.Request) int {
				if strings.Contains(r.URL.Path, "/"+needed) {
					return http.StatusForbidden
				}
				return 0
			})
			fails(forbidden, "", "your user may not")
			if needed == "services" || needed == "events" || strings.HasPrefix(args, "migrate") {
				return
			}
			bare := cluster(t)
			bare.Fault(func(r *http.Request) int {
				if strings.HasPrefix(r.URL.Path, "/apis/heraldlb.io/") {
					return http.StatusNotFound
				}
				return 0
			})
			fails(bare, "", "install Herald's CustomResourceDefinitions")
		})
	}
}

func TestDrainMarksTheNode(t *testing.T) {
	api := cluster(t)
	if got := run(t, api, "drain", "n1"); got.code != ExitOK || api.Node("n1").Annotations["heraldlb.io/drain"] != "true" {
		t.Errorf("exit %d, %s%s, annotations %v", got.code, got.out, got.err, api.Node("n1").Annotations)
	}
	if got := run(t, api, "drain", "n1", "--undo"); got.code != ExitOK || len(api.Node("n1").Annotations) > 0 {
		t.Errorf("exit %d, %s%s, annotations %v", got.code, got.out, got.err, api.Node("n1").Annotations)
	}
}

func TestDrainWaitsUntilNothingIsLeft(t *testing.T) {
	api := cluster(t)
	got := run(t, api, "drain", "n2", "--wait", "--timeout", "1ms")
	if got.code != ExitAttention || !strings.Contains(got.out, "192.0.2.101 of default/local: heraldctl explain service default/local") || strings.Contains(got.out, "198.51.100.0") {
		t.Errorf("exit %d, %s%s", got.code, got.out, got.err)
	}
	api.Delete("announcementslices", "", "n2-0")
	if got := run(t, api, "drain", "n2", "--wait"); got.code != ExitOK || !strings.Contains(got.out, "announces nothing") {
		t.Errorf("exit %d, %s%s", got.code, got.out, got.err)
	}
}

func TestMoveAsksTheNodeAndTakesItBack(t *testing.T) {
	api := cluster(t)
	asked := func() string { return api.Node("n2").Annotations["heraldlb.io/move"] }
	before := asked()
	got := run(t, api, "move", "192.0.2.100", "--to", "n2", "--timeout", "1s")
	if got.code != ExitAttention || !strings.Contains(got.out, "192.0.2.100 is not announced from node n2 after 1s, and from n1 as before: its speaker did not take it") {
		t.Errorf("exit %d, %s%s", got.code, got.out, got.err)
	}
	if asked() != before {
		t.Errorf("left on the node: %q", asked())
	}

	done := make(chan ran)
	go func() {
		done <- run(t, api, "move", "192.0.2.100", "192.0.2.101", "--to", "n2")
	}()
	deadline := time.After(20 * time.Second)
	for asked() == "" {
		select {
		case got := <-done:
			t.Fatalf("it asks for nothing: exit %d, %s%s", got.code, got.out, got.err)
		case <-deadline:
			t.Fatal("it asks for nothing")
		case <-time.After(10 * time.Millisecond):
		}
	}
	if want := "192.0.2.100 until 2026-01-02T12:00:30Z"; asked() != want {
		t.Errorf("n2 is asked %q, want %q", asked(), want)
	}
	if got := run(t, api, "move", "192.0.2.100", "--to", "n2"); got.code != ExitFailed || !strings.Contains(got.err, "somebody else moves addresses to node n2 now") {
		t.Errorf("while another one waits: exit %d, %s%s", got.code, got.out, got.err)
	}
	api.Create("announcementslices", &v1beta1.AnnouncementSlice{ObjectMeta: metav1.ObjectMeta{Name: "n2-1"}, NodeName: "n2", Announcements: []v1beta1.Announcement{{
		Namespace: "default", Name: "web", Address: "192.0.2.100", Role: v1beta1.RoleOwner, Protocol: v1beta1.ProtocolL2, Interfaces: []string{"eth0"}, Since: metav1.NewMicroTime(noon),
	}}})
	got = <-done
	for _, want := range []string{"192.0.2.100 is announced from node n2, and from n1 no more", "192.0.2.101 is announced from node n2 already"} {
		if got.code != ExitOK || !strings.Contains(got.out, want) {
			t.Errorf("exit %d, %s%s, want %q", got.code, got.out, got.err, want)
		}
	}
	if asked() != "" {
		t.Errorf("left on the node: %q", asked())
	}
}

func TestColoursStayWithinTheirCells(t *testing.T) {
	api := cluster(t)
	t.Setenv("KUBECONFIG", os.DevNull)
	var plain, coloured bytes.Buffer
	for color, out := range map[bool]*bytes.Buffer{false: &plain, true: &coloured} {
		Run(t.Context(), Env{Args: []string{"heraldctl", "speakers", "--server", api.URL()}, Out: out, Err: os.Stderr, Color: color, Now: func() time.Time { return noon }})
	}
	bare := coloured.String()
	for _, code := range []string{"\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"} {
		bare = strings.ReplaceAll(bare, code, "")
	}
	if bare != plain.String() || bare == coloured.String() {
		t.Errorf("coloured\n%s\nplain\n%s", &coloured, &plain)
	}
}

func TestAsAPluginOfKubectl(t *testing.T) {
	api := cluster(t)
	t.Setenv("KUBECONFIG", os.DevNull)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"/usr/bin/kubectl-herald", "--help"}, "kubectl herald [command]"},
		{[]string{"kubectl_complete-herald", "--server", api.URL(), "drain", ""}, "n1\nn2\nn3\n:4"},
		{[]string{"heraldctl", "__complete", "--server", api.URL(), "explain", "service", ""}, "default/hidden\ndefault/local"},
	} {
		var out bytes.Buffer
		code := Run(t.Context(), Env{Args: c.args, Out: &out, Err: &bytes.Buffer{}, Now: func() time.Time { return noon }})
		lines := strings.Split(out.String(), "\n")
		slices.Sort(lines[:max(len(lines)-2, 0)]) // the API server's order is its own
		if got := strings.Join(lines, "\n"); code != ExitOK || !strings.Contains(got, c.want) && !strings.Contains(out.String(), c.want) {
			t.Errorf("%v: exit %d, %s", c.args, code, &out)
		}
	}
}
