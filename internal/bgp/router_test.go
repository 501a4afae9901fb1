package bgp

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/parts"
)

func cache(t *testing.T) parts.Cache {
	t.Helper()
	dir, err := parts.CacheDir()
	check(t, err)
	return parts.Cache{Dir: dir, Progress: func(s string) { t.Log(s) }}
}

// bird is BIRD on a host.
type bird struct {
	t    *testing.T
	ctl  string
	stop func()
}

// newBIRD starts BIRD with protocols beside those that every one has. It learns no route from its kernel and gives it
// none.
func newBIRD(h *host, protocols string) *bird {
	h.t.Helper()
	program, err := cache(h.t).Router(h.t.Context())
	check(h.t, err)
	dir := h.t.TempDir()
	b := &bird{t: h.t, ctl: filepath.Join(dir, "ctl")}
	conf := "log stderr all;\nrouter id 192.0.2.1;\nprotocol device { scan time 1; }\nprotocol direct { ipv4; ipv6; }\n" + protocols
	check(h.t, os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o600))
	b.stop = h.run([]string{"LD_LIBRARY_PATH=" + program.LibraryPath}, program.Program, "-f", "-c", filepath.Join(dir, "conf"), "-s", b.ctl)
	eventually(h.t, "BIRD answers", func() bool { return b.ask("show status") != "" })
	return b
}

// ask returns the answer to a command, empty when there is none.
func (b *bird) ask(command string) string {
	c, err := net.Dial("unix", b.ctl)
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second)) // a socket in memory has one
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil {
		return ""
	}
	fmt.Fprintln(c, command)
	var out strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return ""
		}
		out.WriteString(line)
		// An answer's last line has a code and a blank after it; the code is 0000, or one of 8xxx and 9xxx.
		if len(line) > 4 && line[4] == ' ' && (strings.HasPrefix(line, "0000") || line[0] == '8' || line[0] == '9') {
			return out.String()
		}
		if strings.HasPrefix(line, "0013 ") { // that of show status
			return out.String()
		}
	}
}

// route is what BIRD knows of a prefix, empty when it does not know it.
func (b *bird) route(prefix string) string {
	out := b.ask("show route " + prefix + " all")
	if !strings.Contains(out, prefix) || strings.Contains(out, "Network not found") {
		return ""
	}
	return out
}

// frr is FRR on a host: bgpd, and what else it needs.
type frr struct {
	t    *testing.T
	dir  string
	stop func()
}

// newFRR starts bgpd, which gives its kernel no route. For a configuration with BFD in it zebra and bfdd run too, without
// which bgpd has none.
func newFRR(h *host, conf string) *frr { return startFRR(h, conf, strings.Contains(conf, "\nbfd\n")) }

// newFRRWithKernel starts FRR with zebra, which sends Router Advertisements, and puts routes into its kernel.
func newFRRWithKernel(h *host, conf string) *frr { return startFRR(h, conf, true) }

func startFRR(h *host, conf string, kernel bool) *frr {
	h.t.Helper()
	program, err := cache(h.t).FRR(h.t.Context())
	check(h.t, err)
	f := &frr{t: h.t, dir: h.t.TempDir()}
	bgp, bfd, hasBFD := strings.Cut(conf, "\nbfd\n")
	for name, content := range map[string]string{
		"bgpd.conf": "hostname frr\nlog stdout\n" + bgp + "\n",
		"bfdd.conf": "bfd\n" + bfd,
		"group":     "root:x:0:\nfrrvty:x:999:root\nfrr:x:998:\n",
		"passwd":    "root:x:0:0:root:/root:/bin/sh\nfrr:x:998:998::/:/bin/false\n",
	} {
		check(h.t, os.WriteFile(filepath.Join(f.dir, name), []byte(content), 0o644))
	}
	script := `mount --make-rprivate / && mount --bind group /etc/group && mount --bind passwd /etc/passwd && ` +
		`exec "$0" -u root -g root -P 0 -i "$PWD/$1.pid" --vty_socket "$PWD" --log stdout "${@:2}"`
	var stops []func()
	daemon := func(name string, args ...string) {
		args = append([]string{"--mount", "bash", "-c", "cd " + f.dir + " && " + script, filepath.Join(program.Daemons, name), name}, args...)
		stops = append(stops, h.run([]string{"LD_LIBRARY_PATH=" + program.LibraryPath}, "unshare", args...))
	}
	f.stop = func() {
		for _, stop := range slices.Backward(stops) {
			stop()
		}
	}
	zebra := []string{"-Z"}
	if kernel {
		socket := filepath.Join(f.dir, "zserv")
		zebra = []string{"-z", socket}
		daemon("zebra", zebra...)
		eventually(h.t, "zebra listens", func() bool { _, err := os.Stat(socket); return err == nil })
	}
	if hasBFD {
		daemon("bfdd", append(zebra, "--bfdctl", filepath.Join(f.dir, "bfdd.sock"), "-f", filepath.Join(f.dir, "bfdd.conf"))...)
	}
	daemon("bgpd", append(zebra, "-f", filepath.Join(f.dir, "bgpd.conf"))...)
	eventually(h.t, "FRR answers", func() bool {
		return f.ask("show version") != "" && (!hasBFD || f.askOf("bfdd", "show version") != "")
	})
	return f
}

// ask returns bgpd's answer to the last of some commands.
func (f *frr) ask(commands ...string) string { return f.askOf("bgpd", commands...) }

// askOf asks a daemon on its vty socket: commands end with a zero byte, answers with three and a status.
func (f *frr) askOf(daemon string, commands ...string) string {
	c, err := net.Dial("unix", filepath.Join(f.dir, daemon+".vty"))
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second)) // a socket in memory has one
	var out []byte
	for _, one := range append([]string{"enable"}, commands...) {
		if _, err := io.WriteString(c, one+"\x00"); err != nil {
			return ""
		}
		out = nil
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			out = append(out, buf[:n]...)
			if len(out) >= 4 && bytes.Equal(out[len(out)-4:len(out)-1], []byte{0, 0, 0}) {
				break
			}
			if err != nil {
				return ""
			}
		}
	}
	return string(out[:len(out)-4])
}

// route is what FRR knows of a prefix, empty when it does not know it.
func (f *frr) route(prefix string) string {
	family := "ipv4"
	if strings.Contains(prefix, ":") {
		family = "ipv6"
	}
	out := f.ask("show bgp " + family + " unicast " + prefix)
	if !strings.Contains(out, "Paths:") {
		return ""
	}
	return out
}
