package oci

import (
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// showCapabilities makes this test binary print the capabilities that it is permitted, as a program that a container starts.
const showCapabilities = "OCI_TEST_SHOW_CAPABILITIES"

func TestMain(m *testing.M) {
	if os.Getenv(showCapabilities) != "" {
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			os.Exit(1)
		}
		for line := range strings.Lines(string(status)) {
			if value, ok := strings.CutPrefix(line, "CapPrm:"); ok {
				os.Stdout.WriteString(strings.TrimSpace(value))
			}
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestFileCapabilityEncoding(t *testing.T) {
	for name, c := range map[string]struct {
		names []string
		want  string // as "setcap names+p" stores it
	}{
		"one below 32":                     {[]string{"CAP_NET_RAW"}, "0000000200200000000000000000000000000000"},
		"one above 32":                     {[]string{"cap_bpf"}, "0000000200000000000000008000000000000000"},
		"several, in any order, any case":  {[]string{"cap_checkpoint_restore", "CAP_CHOWN"}, "0000000201000000000000000001000000000000"},
		"naming one twice changes nothing": {[]string{"cap_net_raw", "CAP_NET_RAW"}, "0000000200200000000000000000000000000000"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := fileCapability(c.names)
			if err != nil {
				t.Fatal(err)
			}
			if hex.EncodeToString(got) != c.want {
				t.Errorf("encoded as %x, want %s", got, c.want)
			}
		})
	}
}

func TestCapabilityNumbersAreTheKernels(t *testing.T) {
	for name, number := range map[string]int{
		"cap_chown": unix.CAP_CHOWN, "cap_net_bind_service": unix.CAP_NET_BIND_SERVICE, "cap_net_raw": unix.CAP_NET_RAW,
		"cap_sys_admin": unix.CAP_SYS_ADMIN, "cap_syslog": unix.CAP_SYSLOG, "cap_bpf": unix.CAP_BPF,
	} {
		if capabilityNames[number] != name {
			t.Errorf("number %d is called %s, want %s", number, capabilityNames[number], name)
		}
	}
	if len(capabilityNames) != unix.CAP_LAST_CAP+1 {
		t.Errorf("%d names, the kernel has %d", len(capabilityNames), unix.CAP_LAST_CAP+1)
	}
}

func TestKernelGrantsTheFilesCapabilityToANonRootUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to set a file capability")
	}
	dir, err := os.MkdirTemp("", "oci-capability-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run := func() string {
		t.Helper()
		command := exec.Command(program)
		command.Env = []string{showCapabilities + "=1"}
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
		out, err := command.Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if got := run(); got != "0000000000000000" {
		t.Fatalf("without the attribute: permitted %s, want none", got)
	}
	attribute, err := fileCapability([]string{"CAP_NET_RAW"})
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(program, "security.capability", attribute, 0); err != nil {
		t.Fatal(err)
	}
	if got := run(); got != "0000000000002000" {
		t.Errorf("with the attribute: permitted %s, want 0000000000002000", got)
	}
}
