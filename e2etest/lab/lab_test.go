package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"heraldlb.io/herald/internal/oci"
)

// ownerEnv makes this test program the owner of a lab of that name, until it is killed.
const ownerEnv = "HERALD_LAB_TEST_OWNER"

func TestMain(m *testing.M) {
	Main()
	if name := os.Getenv(ownerEnv); name != "" {
		ownLab(name)
	}
	os.Exit(m.Run())
}

// ownLab says when its lab is up and then waits for its end.
func ownLab(name string) {
	l, err := Up(context.Background(), Options{Name: name, Nodes: 1, Owned: true, Out: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("up", l.Name())
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func needCluster(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a cluster: left out with -short")
	}
	if os.Getuid() != 0 {
		t.Skip("runs a cluster in namespaces, which needs root")
	}
}

func randomName() string { return fmt.Sprintf("test-%06x", rand.Uint32N(1<<24)) }

// eventually fails the test when check has returned an error for that long.
func eventually(t *testing.T, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// cluster is a running lab and what its tests ask it.
type cluster struct {
	*Lab
	kube kubernetes.Interface
}

// dial connects once and closes; a host that does not answer is given up soon.
func (c cluster) dial(t *testing.T, from string, to netip.Addr, port uint16) error {
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	conn, err := c.Dialer(from)(ctx, "tcp", netip.AddrPortFrom(to, port).String())
	if err == nil {
		conn.Close()
	}
	return err
}

const kubeletPort = 10250

// TestCluster goes through a lab's life in the order in which things happen to it.
func TestCluster(t *testing.T) {
	needCluster(t)
	before := machine(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	l, err := Up(ctx, Options{Name: randomName(), Nodes: 2, Owned: true, Out: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Down(context.WithoutCancel(ctx))
	config, err := l.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	c := cluster{l, kube}
	tr := findTraces(t, l.place)

	for _, s := range []struct {
		story string
		test  func(*testing.T, cluster)
	}{
		{"a second lab of the name is refused", func(t *testing.T, c cluster) {
			if _, err := Up(t.Context(), Options{Name: c.Name(), Nodes: 1}); err == nil || !strings.Contains(err.Error(), "up already") {
				t.Errorf("got %v", err)
			}
		}},
		{"another process can open it", func(t *testing.T, c cluster) {
			again, err := Open(c.Name())
			if err != nil {
				t.Fatal(err)
			}
			out, err := again.Kubectl(t.Context(), "get", "nodes", "--output=name")
			if err != nil || string(out) != "node/n1\nnode/n2\n" {
				t.Errorf("kubectl get nodes: %q, %v", out, err)
			}
		}},
		{"nodes have addresses of both families", nodesAreDualStack},
		{"hosts reach each other over both families", hostsReachEachOther},
		{"commands run on a host, with their exit codes", commandsRunOnHosts},
		{"pods run and have addresses of both families", podsRun},
		{"an image that is loaded is on every node", imagesLoad},
		{"a cut cable is a lost carrier until it is healed", cutAndHeal},
		{"a partition separates groups and nobody else", partitions},
		{"a frozen process answers nothing until it is thawed", freezeAndThaw},
		{"the API server stops and starts", apiServerStops},
		{"a killed node says no goodbye, and comes back with its pods", killAndStart},
	} {
		if !t.Run(s.story, func(t *testing.T) { s.test(t, c) }) {
			return
		}
	}
	if err := l.Down(ctx); err != nil {
		t.Fatal(err)
	}
	tr.nothingLeft(t)
	if after := machine(t); after != before {
		t.Errorf("the lab has changed the machine: before\n%s\nafter\n%s", before, after)
	}
}

func nodesAreDualStack(t *testing.T, c cluster) {
	for _, name := range c.Nodes() {
		node, err := c.kube.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var addrs []string
		for _, a := range node.Status.Addresses {
			if a.Type == corev1.NodeInternalIP {
				addrs = append(addrs, a.Address)
			}
		}
		h := c.Host(name)
		if want := []string{h.IPv4.String(), h.IPv6.String()}; strings.Join(addrs, " ") != strings.Join(want, " ") {
			t.Errorf("node %s has %v, want %v", name, addrs, want)
		}
	}
}

func hostsReachEachOther(t *testing.T, c cluster) {
	for _, from := range []string{Client, Remote, CP, Router, "n2"} {
		for _, to := range []netip.Addr{c.Host("n1").IPv4, c.Host("n1").IPv6} {
			eventually(t, 3*time.Second, fmt.Sprintf("%s reaches %s", from, to), func() error { return c.dial(t, from, to, kubeletPort) })
		}
	}
	if _, err := c.Dialer(Client)(t.Context(), "tcp", "n1:80"); err == nil {
		t.Error("a name was looked up, by whom?")
	}
	if _, err := c.Dialer("n7")(t.Context(), "tcp", "192.0.2.11:80"); err == nil || !strings.Contains(err.Error(), "n7") {
		t.Errorf("a host that is not there: %v", err)
	}
	var addrs []net.Addr
	err := c.InNet(Client, func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err == nil {
			addrs, err = eth0.Addrs()
		}
		return err
	})
	if err != nil || !strings.Contains(fmt.Sprint(addrs), "192.0.2.2/24") {
		t.Errorf("eth0 of the client: %v, %v", addrs, err)
	}
}

func commandsRunOnHosts(t *testing.T, c cluster) {
	for _, host := range []string{"n1", Client, Router, Switch} {
		out, err := c.Command(t.Context(), host, "hostname").Output()
		if err != nil || strings.TrimSpace(string(out)) != host {
			t.Errorf("host name of %s: %q, %v", host, out, err)
		}
	}
	cmd := c.Command(t.Context(), "n1", "sh", "-c", "cat >&2; exit 7")
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader("hello"), &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 || stderr.String() != "hello" {
		t.Errorf("got %v and %q", err, stderr.String())
	}
	if err := c.Command(t.Context(), "n7", "true").Run(); err == nil || !strings.Contains(err.Error(), `"n7"`) {
		t.Errorf("on a host that is not there: %v", err)
	}
	// A command whose context ends must not live on in the host.
	ctx, cancel := context.WithCancel(t.Context())
	marker := fmt.Sprintf("%d", 100000+rand.IntN(100000))
	cmd = c.Command(ctx, Client, "sleep", marker)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	running := func() bool {
		out, _ := c.Command(t.Context(), Client, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").Output()
		return strings.Contains(string(out), "sleep "+marker)
	}
	eventually(t, 5*time.Second, "the command runs", func() error {
		if !running() {
			return errors.New("not seen")
		}
		return nil
	})
	cancel()
	cmd.Wait()
	eventually(t, 5*time.Second, "the command is gone", func() error {
		if running() {
			return errors.New("still there")
		}
		return nil
	})
}

const podManifest = `
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: default}
spec:
  nodeName: %[1]s
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: %[2]q, imagePullPolicy: Never}]
`

func podsRun(t *testing.T, c cluster) {
	for _, node := range c.Nodes() {
		if err := c.Apply(t.Context(), fmt.Appendf(nil, podManifest, node, pauseImage)); err != nil {
			t.Fatal(err)
		}
	}
	for _, node := range c.Nodes() {
		eventually(t, 30*time.Second, "pod on "+node, func() error { return c.podReady(t, node, 0) })
		pod, err := c.kube.CoreV1().Pods("default").Get(t.Context(), node, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(pod.Status.PodIPs) != 2 {
			t.Errorf("pod %s has addresses %v", node, pod.Status.PodIPs)
		}
	}
}

// podReady returns nil when the pod of that name is Ready after at least so many restarts.
func (c cluster) podReady(t *testing.T, name string, restarts int32) error {
	pod, err := c.kube.CoreV1().Pods("default").Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, s := range pod.Status.ContainerStatuses {
		if s.Ready && s.RestartCount >= restarts {
			return nil
		}
	}
	return fmt.Errorf("%s: %v", pod.Status.Phase, pod.Status.ContainerStatuses)
}

func imagesLoad(t *testing.T, c cluster) {
	const ref = "localhost/herald-lab-test:1"
	archive := filepath.Join(t.TempDir(), "test.tar")
	err := oci.Write(archive, oci.Image{Ref: ref, Entrypoint: []string{"/x"}, Architecture: "amd64",
		Files: []oci.File{{Path: "/x", Mode: 0o755, Content: []byte("x")}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.LoadImages(t.Context(), archive); err != nil {
		t.Fatal(err)
	}
	for _, node := range c.Nodes() {
		out, err := c.Command(t.Context(), node, c.rec.Programs.Containerd+"/ctr", "--address="+containerdSocket,
			"--namespace=k8s.io", "images", "list", "--quiet").Output()
		if err != nil || !strings.Contains(string(out), ref) {
			t.Errorf("images of %s: %s, %v", node, out, err)
		}
	}
	if err := c.LoadImages(t.Context(), "/nowhere.tar"); err == nil {
		t.Error("an archive that is not there was loaded")
	}
}
