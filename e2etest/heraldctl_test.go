package e2etest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
)

// commands runs heraldctl where kubectl would be run, and returns all that it prints.
type commands func(t *testing.T, args ...string) (out string, code int)

// program builds heraldctl, once for all tests, and returns its path.
var program = sync.OnceValues(func() (string, error) { return suite.Program(context.Background(), "./heraldctl") })

func heraldctl(t *testing.T) commands {
	t.Helper()
	program, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T, args ...string) (out string, code int) {
		t.Helper()
		cmd := cluster.Command(t.Context(), lab.CP, program, append([]string{"--kubeconfig", cluster.Kubeconfig()}, args...)...)
		both, err := cmd.CombinedOutput()
		var failed *exec.ExitError
		if err != nil && !errors.As(err, &failed) {
			t.Fatalf("%v: %v", cmd, err)
		}
		return string(both), cmd.ProcessState.ExitCode()
	}
}

// says waits until a command says all of what is wanted and ends with a code: what it reads is up to a second old.
func (c commands) says(t *testing.T, code int, args string, wanted ...string) {
	t.Helper()
	within(t, 15*time.Second, func(context.Context) error {
		out, got := c(t, strings.Fields(args)...)
		for _, w := range wanted {
			if got != code || !strings.Contains(out, w) {
				return fmt.Errorf("heraldctl %s: exit %d, want %d and %q:\n%s", args, got, code, w, out)
			}
		}
		return nil
	})
}

// What heraldctl says of a live cluster is what clients on its network see.
func TestHeraldctl(t *testing.T) {
	ctl := heraldctl(t)
	says := ctl.says
	addrs := placed(t, "asked", 90, "n1")

	t.Run("all is well", func(t *testing.T) {
		says(t, 0, "announcements --service asked --node n1", addrs[0].String(), addrs[1].String(), "Owner")
		says(t, 0, "explain service asked", "n1: is the one to announce it", "node n1 answers ARP or NDP for it on eth0", "n1: its service proxy works", "All is well.")
		says(t, 0, "speakers", "n1", "n2", "n3", "Ready")
		says(t, 0, "pools", "asked", "100%")
		says(t, 0, "events --for service/default/asked", "AddressAnnounced")
		says(t, 0, "doctor", "ok       Herald's programs may do what they need", "ok       speakers see each other and announce")
	})
	t.Run("what it says of a drain comes true", func(t *testing.T) {
		t.Cleanup(func() { nodeWith(t, "n1", `{"metadata":{"annotations":{"heraldlb.io/drain":null}}}`) })
		out, code := ctl(t, "simulate", "--drain", "n1", "-o", "json")
		var sim struct {
			Moves []struct{ Address, From, To string }
		}
		if err := json.Unmarshal([]byte(out), &sim); err != nil || code != 0 {
			t.Fatalf("exit %d, %v: %s", code, err, out)
		}
		says(t, 0, "drain n1 --wait", "announces nothing")
		for i, who := range owners(t, addrs) {
			at := slices.IndexFunc(sim.Moves, func(m struct{ Address, From, To string }) bool { return m.Address == addrs[i].String() })
			if at < 0 || sim.Moves[at].From != "n1" || sim.Moves[at].To != who {
				t.Errorf("%s moved to %s, and the forecast is %+v", addrs[i], who, sim.Moves)
			}
		}
		says(t, 0, "drain n1 --undo", "may have addresses again")
	})
	t.Run("an address is moved by hand and stays there, and no connection fails", func(t *testing.T) {
		carried := placed(t, "carried", 94, "n1")
		u := use(t, carried, 0)
		says(t, 0, fmt.Sprintf("move %s %s --to n2", carried[0], carried[1]), carried[0].String()+" is announced from node n2", carried[1].String()+" is announced from node n2")
		u.goesOn(t, 50)
		to := moved(t, u.end(t), "n1")
		if !slices.Equal(to, []string{"n2", "n2"}) {
			t.Errorf("they are at %v, want n2", to)
		}
		moves(t, "carried", carried, "n1", to, "Requested")
		n, err := kube.CoreV1().Nodes().Get(t.Context(), "n2", metav1.GetOptions{})
		if err != nil || n.Annotations["heraldlb.io/move"] != "" {
			t.Errorf("left on n2: %v, %v", n.Annotations, err)
		}
		says(t, 1, "move 192.0.2.3 --to n2", "no Service has 192.0.2.3")
	})
	t.Run("a Service that cannot have an address", func(t *testing.T) {
		svc := balanced("lacking", annotated("heraldlb.io/address-pool", "nowhere"))
		create(t, svc)
		says(t, 3, "explain service lacking", "PoolNotFound", "-> create the pool, or name another")
		says(t, 3, "status", "Service/default/lacking  PoolNotFound")
	})
	t.Run("a Service without a pod", func(t *testing.T) {
		svc := balanced("idle", func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "nobody"} })
		create(t, svc)
		addressed(t, "idle")
		says(t, 3, "explain service idle", "failed   Endpoints", "NoEndpoint", "-> see spec.selector")
		says(t, 3, "status", "Service/default/idle  NoEndpoints")
	})
	t.Run("a user without rights", func(t *testing.T) {
		says(t, 1, "pools --as nobody", "your user may not", "ask for a ClusterRole that grants it")
	})
	t.Run("a bundle without secrets", func(t *testing.T) {
		secret, err := kube.CoreV1().Secrets(install.Namespace).Get(t.Context(), "herald-gossip", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "bundle.tar.gz")
		says(t, 0, "support-bundle -f "+path, "files")
		files := unpacked(t, path)
		for name, data := range files {
			if bytes.Contains(data, secret.Data["key"]) {
				t.Errorf("%s holds the gossip key", name)
			}
		}
		for _, want := range []string{"controller", "speaker"} {
			if !slices.ContainsFunc(slices.Collect(maps.Keys(files)), func(n string) bool { return strings.HasSuffix(n, "."+want+".log") }) {
				t.Errorf("no log of a %s in %v", want, slices.Collect(maps.Keys(files)))
			}
		}
	})
}

// unpacked are the files of a .tar.gz.
func unpacked(t *testing.T, path string) map[string][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for archive := tar.NewReader(zip); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err == nil {
			out[h.Name], err = io.ReadAll(archive)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
