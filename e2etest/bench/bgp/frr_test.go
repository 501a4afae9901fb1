package bgp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/bench/stage"
	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/e2etest/parts"
)

// frr is FRR on all nodes.
type frr struct {
	scene   *scene
	program parts.FRR
	config  func(node string) string // bgpd's
	bfd     string                   // bfdd's configuration
	running map[string]*frrNode
}

func newFRR(b *testing.B, s *scene) *frr {
	b.Helper()
	return &frr{scene: s, program: frrProgram(b), running: map[string]*frrNode{}}
}

func frrProgram(b *testing.B) parts.FRR {
	b.Helper()
	dir, err := parts.CacheDir()
	if err != nil {
		b.Fatal(err)
	}
	cache := parts.Cache{Dir: dir, Progress: func(line string) { fmt.Fprintln(os.Stderr, line) }}
	program, err := cache.FRR(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return program
}

func (f *frr) begin(b *testing.B, w way) netip.Addr {
	b.Helper()
	f.config = func(node string) string {
		router := f.scene.Host(lab.Router).IPv4
		return fmt.Sprintf(`hostname %s
router bgp 64512
 bgp router-id %s
 bgp graceful-restart-disable
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor %[3]s remote-as 64513
 neighbor %[3]s port %d
 neighbor %[3]s timers connect 2
 neighbor %[3]s %[5]s
 address-family ipv4 unicast
  network %[6]s/32
 exit-address-family
`, node, f.scene.Host(node).IPv4, router, w.port, w.frr, frrAddress)
	}
	f.bfd = fmt.Sprintf("bfd\n profile bench\n  detect-multiplier 3\n  receive-interval %d\n  transmit-interval %[1]d\n", w.bfd)
	b.Cleanup(func() { f.end(b) })
	for _, n := range f.scene.Nodes() {
		f.start(b, n)
	}
	f.scene.routed(b, frrAddress, f.scene.Nodes()...)
	if w.bfd > 0 {
		f.watched(b)
	}
	return frrAddress
}

func (f *frr) watched(b *testing.B) {
	b.Helper()
	for node, n := range f.running {
		stage.Until(b, func(context.Context) error {
			out, err := n.ask("bfdd", "show bfd peers brief")
			if err == nil && !bytes.Contains(out, []byte("up")) {
				err = fmt.Errorf("BFD of FRR on %s: %s", node, out)
			}
			return err
		})
	}
}

func (f *frr) again(b *testing.B, node string) {
	b.Helper()
	f.running[node].stop()
	f.start(b, node)
}

func (f *frr) end(*testing.B) {
	for node, n := range f.running {
		n.stop()
		delete(f.running, node)
	}
}

func (f *frr) start(b *testing.B, node string) {
	b.Helper()
	n := newFRRNode(b, f.scene, f.program, node)
	f.running[node] = n
	n.run(b, "zebra", "")
	stage.Until(b, func(ctx context.Context) error { // the speaker has it until BFD has told the router that it ends
		out, err := f.scene.Command(ctx, node, "ss", "-Huln", "sport = :3784").Output()
		if err == nil && len(out) > 0 {
			err = fmt.Errorf("BFD's port is still in use on %s: %s", node, out)
		}
		return err
	})
	n.run(b, "bfdd", f.bfd, "--bfdctl", filepath.Join(n.dir, "bfdd.sock"))
	n.run(b, "bgpd", f.config(node), "-p", "0")
}

// frrNode is FRR's daemons on a host of the lab.
type frrNode struct {
	scene   *scene
	program parts.FRR
	host    string
	dir     string
	running []*exec.Cmd
}

func newFRRNode(b *testing.B, s *scene, program parts.FRR, host string) *frrNode {
	b.Helper()
	n := &frrNode{scene: s, program: program, host: host}
	var err error
	if n.dir, err = os.MkdirTemp(s.Dir, "frr-"+host+"-"); err != nil {
		b.Fatal(err)
	}
	// Its daemons insist on these users and groups, whoever they run as.
	n.write(b, "group", "root:x:0:\nfrrvty:x:999:root\nfrr:x:998:\n")
	n.write(b, "passwd", "root:x:0:0:root:/root:/bin/sh\nfrr:x:998:998::/:/bin/false\n")
	return n
}

func (n *frrNode) write(b *testing.B, name, content string) {
	b.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, name), []byte(content), 0o644); err != nil {
		b.Fatal(err)
	}
}

// run starts a daemon and returns when it can be asked.
func (n *frrNode) run(b *testing.B, daemon, config string, more ...string) {
	b.Helper()
	n.write(b, daemon+".conf", config)
	const script = `mount --make-rprivate / && mount --bind "$1/group" /etc/group && mount --bind "$1/passwd" /etc/passwd && d=$2 && shift 2 && exec "$d" "$@"`
	at := func(name string) string { return filepath.Join(n.dir, name) }
	args := append([]string{"--mount", "sh", "-c", script, "sh", n.dir, filepath.Join(n.program.Daemons, daemon),
		"-u", "root", "-g", "root", "--vty_socket", n.dir, "-z", at("zebra.sock"), "-i", at(daemon + ".pid"), "-f", at(daemon + ".conf"), "-P", "0", "--log", "stdout"}, more...)
	cmd := n.scene.Command(context.Background(), n.host, "unshare", args...)
	cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+n.program.LibraryPath)
	said, err := os.Create(at(daemon + ".log"))
	if err != nil {
		b.Fatal(err)
	}
	defer said.Close()
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		b.Fatalf("%s on %s: %v", daemon, n.host, err)
	}
	n.running = append(n.running, cmd)
	stage.Until(b, func(context.Context) error {
		_, err := n.ask(daemon, "show version")
		if err != nil {
			text, _ := os.ReadFile(said.Name()) // it was made
			err = fmt.Errorf("%s on %s: %w: %s", daemon, n.host, err, text)
		}
		return err
	})
}

// stop kills the daemons, the last that was started first. They may have gone with their node.
func (n *frrNode) stop() {
	for i := len(n.running) - 1; i >= 0; i-- {
		_ = n.running[i].Process.Kill()
		_ = n.running[i].Wait()
	}
	n.running = nil
}

// ask returns a daemon's answer to the last of some commands: commands end with a zero byte, answers with three and a status.
func (n *frrNode) ask(daemon string, commands ...string) ([]byte, error) {
	c, err := net.Dial("unix", filepath.Join(n.dir, daemon+".vty"))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	var out []byte
	for _, one := range append([]string{"enable"}, commands...) {
		if _, err := io.WriteString(c, one+"\x00"); err != nil {
			return nil, err
		}
		out = nil
		buf := make([]byte, 64<<10)
		for len(out) < 4 || !bytes.Equal(out[len(out)-4:len(out)-1], []byte{0, 0, 0}) {
			k, err := c.Read(buf)
			if err != nil {
				return nil, err
			}
			out = append(out, buf[:k]...)
		}
	}
	return out[:len(out)-4], nil
}
