package bgp

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"heraldlb.io/herald/e2etest/parts"
)

const inNamespace = "HERALD_TEST_NETNS"

// atOnce is how many processes share the tests, which spend their time waiting.
const atOnce = 4

// TestMain runs the tests in network namespaces of their own: a Speaker uses the addresses of its process, and those of the
// machine are not for tests. Several processes do so at once.
func TestMain(m *testing.M) {
	if os.Getenv(inNamespace) != "" || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	flag.Parse()
	parts.FetchRouters(os.Stderr)
	given := func(name string) string { return flag.Lookup("test." + name).Value.String() }
	var listed bytes.Buffer
	code := inOwnNamespace(&listed, "-test.list="+cmp.Or(given("run"), "."))
	tests := strings.Fields(listed.String())
	// One process writes one profile, and knows of one subtest, benchmark or fuzzing target.
	if code != 0 || len(tests) < 2 || strings.ContainsAny(given("run"), "/") || given("coverprofile")+given("bench")+given("fuzz")+given("list") != "" {
		os.Exit(inOwnNamespace(os.Stdout, os.Args[1:]...))
	}
	var all sync.WaitGroup
	codes, said, logs := make([]int, atOnce), make([]bytes.Buffer, atOnce), make([]string, atOnce)
	for i := range atOnce {
		var mine []string
		for j := i; j < len(tests); j += atOnce {
			mine = append(mine, tests[j])
		}
		args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool {
			return strings.HasPrefix(a, "-test.run=") || strings.HasPrefix(a, "-test.testlogfile=")
		})
		args = append(args, "-test.run=^("+strings.Join(mine, "|")+")$")
		if file := given("testlogfile"); file != "" {
			logs[i] = fmt.Sprint(file, i)
			args = append(args, "-test.testlogfile="+logs[i])
		}
		all.Go(func() { codes[i] = inOwnNamespace(&said[i], args...) })
	}
	all.Wait()
	var inputs []byte // by which go test knows whether it may remember the result
	for i := range atOnce {
		_, _ = said[i].WriteTo(os.Stdout)
		part, _ := os.ReadFile(logs[i])
		inputs = append(inputs, part...)
	}
	if file := given("testlogfile"); file != "" {
		_ = os.WriteFile(file, inputs, 0o666) // without it nothing is remembered
	}
	os.Exit(slices.Max(codes))
}

// inOwnNamespace runs tests in a new process and returns its exit code.
func inOwnNamespace(out io.Writer, args ...string) int {
	runtime.LockOSThread() // Pdeathsig is sent when the thread that started the child ends
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		fmt.Fprintln(out, "run the tests in a network namespace:", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}
