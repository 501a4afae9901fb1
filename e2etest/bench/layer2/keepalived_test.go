package layer2

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"heraldlb.io/herald/e2etest/parts"
)

// vrrpAddress is what keepalived has, in no pool of Herald's.
var vrrpAddress = netip.MustParseAddr("192.0.2.99")

// vrrp is keepalived on all nodes of a stage, with VRRPv3, an advertisement every 100 ms and one address. Behind the address
// is the same service path as behind Herald's: kube-proxy's, of a Service with an external address.
type vrrp struct {
	scene   *scene
	program parts.Keepalived
	running map[string]*daemon // by node
}

type daemon struct {
	cmd *exec.Cmd
	out bytes.Buffer
}

// nopreempt keeps the address where it is when a node comes back, as Herald does.
const vrrpConfig = `global_defs {
  router_id %[1]s
}
vrrp_instance bench {
  state BACKUP
  nopreempt
  interface eth0
  virtual_router_id 51
  version 3
  priority %[2]d
  advert_int 0.1
  virtual_ipaddress {
    %[3]s/32 dev eth0
  }
}
`

// keepalived starts keepalived on all nodes, unless it runs already, and returns once its address is reachable.
func (s *scene) keepalived(b *testing.B) *vrrp {
	b.Helper()
	if s.vrrp != nil {
		return s.vrrp
	}
	dir, err := parts.CacheDir()
	if err != nil {
		b.Fatal(err)
	}
	cache := parts.Cache{Dir: dir, Progress: func(line string) { fmt.Fprintln(os.Stderr, line) }}
	program, err := cache.Keepalived(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	svc := object("vrrp", 0, "", corev1.ServiceTypeClusterIP)
	svc.Spec.ExternalIPs = []string{vrrpAddress.String()}
	if err := s.expose(b.Context(), svc); err != nil {
		b.Fatal(err)
	}
	s.vrrp = &vrrp{scene: s, program: program, running: map[string]*daemon{}}
	for _, n := range s.Nodes() {
		if err := s.vrrp.start(n); err != nil {
			b.Fatal(err)
		}
	}
	s.reachable(b, vrrpAddress)
	return s.vrrp
}

// start starts keepalived on a node.
func (v *vrrp) start(node string) error {
	number := int(v.scene.Host(node).IPv4.As4()[3])
	file := filepath.Join(v.scene.Dir, "keepalived-"+node+".conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, vrrpConfig, node, 100+number, vrrpAddress), 0o600); err != nil {
		return err
	}
	d := &daemon{cmd: v.scene.Command(context.Background(), node, v.program.Program, "--dont-fork", "--log-console", "--vrrp",
		"--use-file="+file, "--pid=/run/keepalived.pid", "--vrrp_pid=/run/vrrp.pid")}
	d.cmd.Env = append(d.cmd.Env, "LD_LIBRARY_PATH="+v.program.LibraryPath)
	d.cmd.Stdout, d.cmd.Stderr = &d.out, &d.out
	if err := d.cmd.Start(); err != nil {
		return fmt.Errorf("keepalived on %s: %w", node, err)
	}
	v.running[node] = d
	return nil
}

// restart starts keepalived on a node that was switched off, and its keepalived with it.
func (v *vrrp) restart(node string) error {
	_ = v.running[node].cmd.Wait() // it was killed
	return v.start(node)
}

// stop ends keepalived on all nodes.
func (v *vrrp) stop() {
	for node, d := range v.running {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		gone := make(chan struct{})
		go func() {
			_ = d.cmd.Wait()
			close(gone)
		}()
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
			_ = d.cmd.Process.Kill()
			<-gone
			fmt.Fprintf(os.Stderr, "keepalived on %s did not end: %s\n", node, d.out.Bytes())
		}
	}
}
