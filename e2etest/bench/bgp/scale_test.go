package bgp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/bench/stage"
	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/e2etest/parts"
)

// teller tells many addresses to routers, from the client's host, and changes one of them.
type teller interface {
	// start returns when the teller has been started, not when the routers have heard it.
	start(b *testing.B, peers int)
	// change gives the first address another MED.
	change(b *testing.B, med int)
	// sent is how many UPDATEs all peers have been sent; a negative number where that is not known.
	sent(b *testing.B) int
	// process is the name of the process that tells.
	process() string
	stop()
}

// BenchmarkScale tells many addresses to one router and to ten, and changes one of them, as Herald does and as FRR's bgpd does.
// Herald's speaker runs without the rest of Herald: the time from its first plan on is measured, not how it comes to one.
func BenchmarkScale(b *testing.B) {
	for _, peers := range []int{1, 10} {
		b.Run(fmt.Sprintf("peers=%d/addresses=%d", peers, *many), func(b *testing.B) {
			s := set(b)
			all, changes, counts := s.scale(b, &heraldTeller{scene: s}, peers)
			bench.Report(b, []time.Duration{all}, counts)
			bench.Add("  one address changed", changes, "")
			all, changes, counts = s.scale(b, &frrTeller{scene: s}, peers)
			bench.Add("  FRR, the same: all addresses", []time.Duration{all}, counts)
			bench.Add("  FRR: one address changed", changes, "")
		})
	}
}

// scale returns how long it took from the teller's start until all routers had all addresses, and for each change of one until
// they had that.
func (s *scene) scale(b *testing.B, t teller, peers int) (all time.Duration, changes []time.Duration, counts string) {
	b.Helper()
	r := newRouters(b, s, peers)
	defer r.stop()
	began := time.Now()
	t.start(b, peers)
	defer t.stop()
	r.await(b, func() string { return r.ask("show protocols all") }, fmt.Sprintf(" %d imported", *many), peers)
	all = time.Since(began)
	used := s.cost(b, t.process())
	before, sent := r.updates(b), t.sent(b)
	for i := range *rounds {
		began := time.Now()
		t.change(b, i+1)
		r.await(b, func() string { return r.ask("show route " + prefix(0).String() + " table all all") }, fmt.Sprintf("BGP.med: %d\n", i+1), peers)
		changes = append(changes, time.Since(began))
	}
	counts = fmt.Sprintf("%s resident, %.2f s of CPU; a change brings each router %.2f routes", used.memory, used.cpu.Seconds(), float64(r.updates(b)-before)/float64(*rounds*peers))
	if sent >= 0 {
		began := time.Now()
		updates := float64(t.sent(b)-sent) / float64(*rounds*peers)
		counts += fmt.Sprintf(" in %.2f UPDATEs; its metrics take %.0f ms", updates, stage.Milliseconds(time.Since(began)))
	}
	return all, changes, counts
}

// cost is what a process on the client's host has used.
type cost struct {
	memory string
	cpu    time.Duration
}

func (s *scene) cost(b *testing.B, process string) (c cost) {
	b.Helper()
	script := `for p in /proc/[0-9]*; do if [ "$(cat $p/comm 2>/dev/null)" = "$1" ]; then grep VmRSS $p/status; cut -d" " -f14,15 $p/stat; fi; done`
	out, err := s.Command(b.Context(), lab.Client, "sh", "-c", script, "sh", process).Output()
	words := strings.Fields(string(out))
	if err != nil || len(words) != 5 {
		b.Fatalf("cost of %s: %v: %q", process, err, out)
	}
	kib, err1 := strconv.Atoi(words[1])
	user, err2 := strconv.Atoi(words[3])
	system, err3 := strconv.Atoi(words[4])
	if err := errors.Join(err1, err2, err3); err != nil {
		b.Fatal(err)
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux
	return cost{fmt.Sprintf("%d MiB", kib/1024), time.Duration(user+system) * tick}
}

// routers is one BIRD that is as many routers as there are peers, on the control plane host.
type routers struct {
	scene *scene
	peers int
	cmd   *exec.Cmd
	ctl   string
}

func newRouters(b *testing.B, s *scene, peers int) *routers {
	b.Helper()
	dir, err := parts.CacheDir()
	if err != nil {
		b.Fatal(err)
	}
	program, err := parts.Cache{Dir: dir, Progress: func(string) {}}.Router(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(s.Dir, "routers."+name) }
	var conf strings.Builder
	fmt.Fprintf(&conf, "router id %s;\nprotocol device {}\n", routerAddress(0))
	for i := range peers {
		if err := stage.Run(s.Command(b.Context(), lab.CP, "ip", "addr", "replace", routerAddress(i).String()+"/24", "dev", "eth0")); err != nil {
			b.Fatal(err)
		}
		// BIRD tells neighbors of one address apart by the port that it would connect to.
		fmt.Fprintf(&conf, "ipv4 table t%[1]d;\nprotocol bgp p%[1]d { local %[2]s as 64513; neighbor %[3]s port %[4]d as 64512; strict bind; passive; ipv4 { table t%[1]d; import all; export none; }; }\n",
			i, routerAddress(i), tellerAddress, 1000+i)
	}
	if err := os.WriteFile(at("conf"), []byte(conf.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	r := &routers{scene: s, peers: peers, ctl: at("ctl")}
	r.cmd = s.Command(context.Background(), lab.CP, program.Program, "-f", "-c", at("conf"), "-s", r.ctl, "-P", at("pid"))
	r.cmd.Env = append(r.cmd.Env, "LD_LIBRARY_PATH="+program.LibraryPath)
	if err := r.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(r.stop)
	r.await(b, func() string { return r.ask("show protocols") }, "Passive", peers)
	return r
}

func (r *routers) stop() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait() // it was killed
		r.cmd = nil
	}
}

// ask returns BIRD's answer to a command, empty when there is none.
func (r *routers) ask(command string) string {
	c, err := net.Dial("unix", r.ctl)
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second)) // a socket in memory has one
	if _, err := io.WriteString(c, command+"\n"); err != nil {
		return ""
	}
	var out []byte
	buf := make([]byte, 64<<10)
	for !bytes.Contains(out, []byte("\n0000 ")) && !bytes.Contains(out, []byte("\n8001 ")) && !bytes.Contains(out, []byte("\n9001 ")) {
		n, err := c.Read(buf)
		if err != nil {
			return ""
		}
		out = append(out, buf[:n]...)
	}
	return string(out)
}

// await waits until an answer says something so many times. What it measures is not finer than how often it asks: every 2 ms.
func (r *routers) await(b *testing.B, answer func() string, says string, times int) {
	b.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var last string
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); <-tick.C {
		if last = answer(); strings.Count(last, says) == times {
			return
		}
	}
	b.Fatalf("BIRD does not say %q %d times: %s", says, times, last)
}

// updates is how many routes the routers have been told, again or for the first time.
func (r *routers) updates(b *testing.B) (n int) {
	b.Helper()
	for line := range strings.SplitSeq(r.ask("show protocols all"), "\n") {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "Import updates:"); ok {
			k, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				b.Fatal(err)
			}
			n += k
		}
	}
	return n
}

// heraldTeller is a speaker of Herald's, in a process of its own.
type heraldTeller struct {
	scene *scene
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
}

func (h *heraldTeller) process() string { return "bgp.test" }

func (h *heraldTeller) start(b *testing.B, peers int) {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	h.cmd = h.scene.Command(context.Background(), lab.Client, self)
	h.cmd.Env = append(h.cmd.Env, tellerEnv+"="+strconv.Itoa(peers), tellerEnv+"_ADDRESSES="+strconv.Itoa(*many))
	h.cmd.Stderr = os.Stderr
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	h.out = bufio.NewReader(out)
	if err := h.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(h.stop)
	h.answer(b)
}

// answer is the number that the process says next.
func (h *heraldTeller) answer(b *testing.B) int {
	b.Helper()
	line, err := h.out.ReadString('\n')
	n, err2 := strconv.Atoi(strings.TrimSpace(line))
	if err := errors.Join(err, err2); err != nil {
		b.Fatalf("the speaker says %q: %v", line, err)
	}
	return n
}

func (h *heraldTeller) ask(b *testing.B, command string) int {
	b.Helper()
	if _, err := fmt.Fprintln(h.in, command); err != nil {
		b.Fatal(err)
	}
	return h.answer(b)
}

func (h *heraldTeller) change(b *testing.B, med int) { h.ask(b, fmt.Sprintf("change %d", med)) }
func (h *heraldTeller) sent(b *testing.B) int        { return h.ask(b, "sent") }

func (h *heraldTeller) stop() {
	if h.cmd != nil {
		_ = h.cmd.Process.Kill()
		_ = h.cmd.Wait() // it was killed
		h.cmd = nil
	}
}

// frrTeller is FRR's bgpd.
type frrTeller struct {
	scene *scene
	node  *frrNode
}

func (f *frrTeller) process() string     { return "bgpd" }
func (f *frrTeller) sent(*testing.B) int { return -1 }

func (f *frrTeller) start(b *testing.B, peers int) {
	b.Helper()
	var conf strings.Builder
	fmt.Fprintf(&conf, "router bgp 64512\n bgp router-id %s\n no bgp ebgp-requires-policy\n no bgp network import-check\n", tellerAddress)
	for i := range peers {
		fmt.Fprintf(&conf, " neighbor %s remote-as 64513\n", routerAddress(i))
	}
	conf.WriteString(" address-family ipv4 unicast\n")
	for i := range *many {
		fmt.Fprintf(&conf, "  network %s\n", prefix(i))
	}
	conf.WriteString(" exit-address-family\n")
	for i := range *rounds {
		fmt.Fprintf(&conf, "route-map med%d permit 10\n set metric %[1]d\n", i+1)
	}
	f.node = newFRRNode(b, f.scene, frrProgram(b), lab.Client)
	b.Cleanup(f.node.stop)
	f.node.run(b, "bgpd", conf.String(), "-p", "0", "-Z")
}

func (f *frrTeller) change(b *testing.B, med int) {
	b.Helper()
	if _, err := f.node.ask("bgpd", "configure terminal", "router bgp 64512", "address-family ipv4 unicast", fmt.Sprintf("network %s route-map med%d", prefix(0), med)); err != nil {
		b.Fatal(err)
	}
}

func (f *frrTeller) stop() { f.node.stop() }
