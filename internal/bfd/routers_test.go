package bfd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"heraldlb.io/herald/e2etest/parts"
)

// daemon is the BFD of another make, at the router's end of the link. It has a session with each of the node's addresses,
// and one over several hops with node4.
type daemon interface {
	// start runs it with this interval in both directions, and the tests' multiplier.
	start(interval time.Duration)
	// pace changes the interval while it runs.
	pace(interval time.Duration)
	// shutdown has the operator switch the session with node4 off, and returns how that looks to us.
	shutdown() State
	// sees tells how it sees the session with node4 over one hop: its state in lower case, and details with its interval
	// and, when we fell silent, the word expired.
	sees() (state, details string)
	kill()
}

func TestRouters(t *testing.T) {
	for name, make := range map[string]func(*router) daemon{"FRR": newFRR, "BIRD": newBIRD} {
		t.Run(name, func(t *testing.T) {
			r := newRouter(t)
			d := make(r)
			d.start(quick)
			here := watch(t)
			wanted := func(interval time.Duration) []Session {
				return []Session{
					{Peer: router4, Profile: every(interval)},
					{Peer: router6, Local: node6, Profile: every(interval)},
					{Peer: routerLL, Local: nodeLL, Profile: every(interval)},
				}
			}
			here.Set(wanted(quick))
			here.told(Up, Up, Up)
			agreed := func(interval time.Duration) {
				t.Helper()
				for _, session := range wanted(interval) {
					here.agrees(t, d, session.Peer, interval)
				}
			}
			agreed(quick)

			t.Log("we become slower: the router follows our poll")
			here.Set(wanted(150 * time.Millisecond))
			agreed(150 * time.Millisecond)
			eventually(t, "the router knows our interval", func() bool {
				_, details := d.sees()
				return strings.Contains(details, "150")
			})
			t.Log("the router becomes slower: we follow its poll")
			d.pace(200 * time.Millisecond)
			agreed(200 * time.Millisecond)
			d.pace(quick)
			here.Set(wanted(quick))
			agreed(quick)
			here.told()

			t.Log("the operator switches a session off")
			if c := here.told(d.shutdown())[0]; c.Peer != router4 {
				t.Errorf("the session with %v ends, want %v", c.Peer, router4)
			}

			t.Log("the router dies")
			killed := time.Now()
			d.kill()
			for _, c := range here.told(Down, Down) {
				c.failed(t, killed)
			}

			t.Log("it comes back, and we stop: it is told")
			d.start(quick)
			here.told(Up, Up, Up)
			check(t, here.Close())
			eventually(t, "the router knows that we were stopped", func() bool {
				state, details := d.sees()
				return state == "down" && !strings.Contains(details, "expired")
			})
		})
	}
}

func TestRoutersOverSeveralHops(t *testing.T) {
	for name, make := range map[string]func(*router) daemon{"FRR": newFRR, "BIRD": newBIRD} {
		t.Run(name, func(t *testing.T) {
			r := newRouter(t)
			d := make(r)
			d.start(quick)
			here := watch(t)
			profile := every(quick)
			profile.MinimumTTL = 64 // what BIRD sends with; FRR with 255
			here.Set([]Session{{Peer: router4, Local: node4, Multihop: true, Profile: profile}})
			here.told(Up)
			here.agrees(t, d, router4, quick)
			killed := time.Now()
			d.kill()
			here.told(Down)[0].failed(t, killed)
		})
	}
}

// process is a daemon's process in the router's namespace.
type process struct {
	r   *router
	dir string
	cmd *exec.Cmd
	log bytes.Buffer
}

// cache is where routers are unpacked to.
func cache(t testing.TB) parts.Cache {
	t.Helper()
	dir, err := parts.CacheDir()
	check(t, err)
	return parts.Cache{Dir: dir, Progress: func(s string) { t.Log(s) }}
}

func (p *process) run(libraries, script string) {
	p.r.t.Helper()
	p.cmd = exec.Command("sh", "-ec", script)
	p.cmd.Dir = p.dir
	p.cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+libraries)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setpgid: true}
	p.r.in(p.cmd.Start)
}

func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // its own group
	_ = p.cmd.Wait()                                      // says that it was killed
	p.cmd = nil
}

func (p *process) write(name, content string) {
	p.r.t.Helper()
	check(p.r.t, os.WriteFile(filepath.Join(p.dir, name), []byte(content), 0o644))
}

// frr is FRRouting: zebra, because bfdd learns of interfaces from it, and bfdd.
type frr struct {
	process
	program parts.FRR
}

func newFRR(r *router) daemon {
	f := &frr{process: process{r: r, dir: r.t.TempDir()}}
	var err error
	f.program, err = cache(r.t).FRR(context.Background())
	check(r.t, err)
	r.t.Cleanup(f.kill)
	return f
}

func (f *frr) start(interval time.Duration) {
	pace := fmt.Sprintf("  detect-multiplier %[2]d\n  receive-interval %[1]d\n  transmit-interval %[1]d\n", interval.Milliseconds(), multiplier)
	f.write("frr.conf", "bfd\n"+
		" peer 192.0.2.1\n"+pace+" !\n"+
		" peer 192.0.2.1 multihop local-address 192.0.2.2\n"+pace+" !\n"+
		" peer 2001:db8::1 local-address 2001:db8::2\n"+pace+" !\n"+
		" peer fe80::1 local-address fe80::2 interface rt\n"+pace+" !\n")
	groups, err := os.ReadFile("/etc/group")
	check(f.r.t, err)
	f.write("group", string(groups)+"\nfrrvty:x:65500:root\n")
	common := "-u root -g root --vty_socket . -z zebra.sock"
	f.run(f.program.LibraryPath, fmt.Sprintf(`mount --bind group /etc/group
rm -f *.sock *.vty
%[1]s/zebra %[2]s -i zebra.pid -f /dev/null &
until [ -S zebra.sock ]; do sleep 0.02; done
exec %[1]s/bfdd %[2]s -i bfdd.pid -f frr.conf --bfdctl bfdd.sock
`, f.program.Daemons, common))
}

// ask runs commands in bfdd and returns what the last one shows.
func (f *frr) ask(commands ...string) string {
	f.r.t.Helper()
	c, err := net.Dial("unix", filepath.Join(f.dir, "bfdd.vty"))
	check(f.r.t, err)
	defer c.Close()
	check(f.r.t, c.SetDeadline(time.Now().Add(5*time.Second)))
	var out []byte
	for _, command := range append([]string{"enable"}, commands...) {
		_, err = c.Write(append([]byte(command), 0))
		check(f.r.t, err)
		// An answer ends with three zero bytes and a status.
		out = nil
		for len(out) < 4 || !bytes.Equal(out[len(out)-4:len(out)-1], []byte{0, 0, 0}) {
			buf := make([]byte, 4096)
			n, err := c.Read(buf)
			check(f.r.t, err)
			out = append(out, buf[:n]...)
		}
		if status := out[len(out)-1]; status > 1 { // 1 is a warning, for one that nothing is known yet
			f.r.t.Fatalf("FRR, %s: status %d: %s", command, status, out)
		}
	}
	return string(out[:len(out)-4])
}

var frrPeers = []string{
	"peer 192.0.2.1", "peer 2001:db8::1 local-address 2001:db8::2", "peer fe80::1 local-address fe80::2 interface rt",
}

func (f *frr) pace(interval time.Duration) {
	for _, peer := range frrPeers {
		f.ask("configure terminal", "bfd", peer,
			fmt.Sprintf("receive-interval %d", interval.Milliseconds()), fmt.Sprintf("transmit-interval %d", interval.Milliseconds()))
	}
}

func (f *frr) shutdown() State {
	f.ask("configure terminal", "bfd", frrPeers[0], "shutdown")
	return AdminDown
}

func (f *frr) sees() (state, details string) {
	var peers []struct {
		Multihop   bool
		Peer       netip.Addr
		Status     string
		Diagnostic string `json:"remote-diagnostic"`
		Own        string `json:"diagnostic"`
		Interval   int    `json:"remote-receive-interval"`
	}
	check(f.r.t, json.Unmarshal([]byte(f.ask("show bfd peers json")), &peers))
	for _, p := range peers {
		if p.Peer == node4 && !p.Multihop {
			return p.Status, fmt.Sprint(p.Own, ", ", p.Diagnostic, ", ", p.Interval)
		}
	}
	return "", ""
}

// bird is BIRD 2.
type bird struct {
	process
	program parts.Router
	off     bool
}

func newBIRD(r *router) daemon {
	b := &bird{process: process{r: r, dir: r.t.TempDir()}}
	var err error
	b.program, err = cache(r.t).Router(context.Background())
	check(r.t, err)
	r.t.Cleanup(b.kill)
	return b
}

func (b *bird) configure(interval time.Duration) {
	pace := fmt.Sprintf("{ interval %d ms; multiplier %d; };", interval.Milliseconds(), multiplier)
	neighbor4 := `neighbor 192.0.2.1 dev "rt" local 192.0.2.2;`
	if b.off {
		neighbor4 = ""
	}
	b.write("bird.conf", `router id 192.0.2.2;
protocol device {}
protocol bfd {
  interface "rt" `+pace+`
  multihop `+pace+`
  `+neighbor4+`
  neighbor 192.0.2.1 local 192.0.2.2 multihop yes;
  neighbor 2001:db8::1 dev "rt" local 2001:db8::2;
  neighbor fe80::1 dev "rt" local fe80::2;
}
`)
}

func (b *bird) start(interval time.Duration) {
	b.off = false
	b.configure(interval)
	b.run(b.program.LibraryPath, "exec "+b.program.Program+" -f -c bird.conf -s bird.ctl -P bird.pid")
}

func (b *bird) pace(interval time.Duration) {
	b.configure(interval)
	check(b.r.t, b.cmd.Process.Signal(unix.SIGHUP))
}

// shutdown looks like a failure: BIRD 2 says nothing when a session is taken away.
func (b *bird) shutdown() State {
	b.off = true
	b.pace(quick)
	return Down
}

// ask sends a command to BIRD's control socket, and returns the answer.
func (b *bird) ask(command string) string {
	b.r.t.Helper()
	c, err := net.Dial("unix", filepath.Join(b.dir, "bird.ctl"))
	check(b.r.t, err)
	defer c.Close()
	check(b.r.t, c.SetDeadline(time.Now().Add(5*time.Second)))
	_, err = c.Write([]byte(command + "\n"))
	check(b.r.t, err)
	// After the greeting comes the answer; the line 0000 or one of an error ends it.
	var out []byte
	for !bytes.Contains(out, []byte("\n0000")) && !bytes.Contains(out, []byte("\n9001")) {
		buf := make([]byte, 4096)
		n, err := c.Read(buf)
		check(b.r.t, err)
		out = append(out, buf[:n]...)
	}
	return string(out)
}

func (b *bird) sees() (state, details string) {
	for line := range strings.SplitSeq(b.ask("show bfd sessions"), "\n") {
		// IP address, interface, state, since, interval, timeout
		if f := strings.Fields(strings.TrimPrefix(line, "1020-")); len(f) == 6 && f[0] == "192.0.2.1" && f[1] == "rt" {
			details = line
			if f[5] == "0.000" { // the peer was not heard for so long that nothing is expected any more
				details += " expired"
			}
			return strings.ToLower(f[2]), details
		}
	}
	return "", ""
}
