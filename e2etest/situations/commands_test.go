package situations

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/e2etest/situations/page"
)

// patience is how long a script waits for what it asserts. Most is so within a second; a speaker or a controller that is replaced takes
// some, and a controller that follows one that died 15.
var patience = flag.Duration("patience", time.Minute, "for `how long` a script waits for what it asserts")

// often is how long a script waits before it looks again.
const often = 250 * time.Millisecond

// commands are what scripts can do beside what testscript can. Those that assert wait until it is so.
//
//	apply FILE...                       creates or changes the objects in files, and deletes them at the end
//	kubectl ARGS...                     runs kubectl, in the script's directory
//	on HOST COMMAND...                  runs a command on a host of the lab
//	lab VERB ARG                        cut, heal, freeze, thaw, or apiserver stop and start
//	whole                               waits until Herald is as it was installed
//	finally ACTION...                   runs one of the four above at the end, whatever happens; the last one first
//	condition KIND/NAME TYPE STATUS REASON PART...   PARTs are in its message; with !, there is no condition of this TYPE
//	event KIND/NAME REASON PART...      PARTs are in its text; with !, there is no such event
//	metric NODE|controller[@NAMESPACE] SERIES OP VALUE   the sum of all series with these labels; OP is =, <, or >
//	alert NAME                          is judged by package page
//	says [-exit=N] 'ARGS' SENTENCE...   heraldctl ARGS exits with N, 3 unless told, and says each SENTENCE; with !, it says none
//	older VERSION                       heraldctl sees an API server of this version
//	answers ADDRESS HOST...             these hosts, and no others, answer for an address on the LAN
//	speaks HOST ADDRESS                 a host uses an address that it has
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"apply":     apply,
	"kubectl":   act("kubectl"),
	"on":        act("on"),
	"lab":       act("lab"),
	"whole":     act("whole"),
	"finally":   finally,
	"condition": condition,
	"event":     event,
	"metric":    metric,
	"alert":     func(*testscript.TestScript, bool, []string) {},
	"says":      says,
	"older":     older,
	"answers":   answers,
	"speaks":    speaks,
}

// test is the test that a script is.
func test(ts *testscript.TestScript) *testing.T { return ts.Value(theTest{}).(*testing.T) }

// need ends the script when it gives a command too few arguments.
func need(ts *testscript.TestScript, args []string, least int, usage string) {
	if len(args) < least {
		ts.Fatalf("usage: %s", usage)
	}
}

// until ends the script unless f returns nil in time.
func until(ts *testscript.TestScript, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), *patience)
	defer cancel()
	ts.Check(install.UntilEvery(ctx, often, func() error { return f(ctx) }))
}

func apply(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, args, 1, "apply FILE...")
	for _, file := range args {
		manifest := []byte(ts.ReadFile(file))
		ts.Defer(func() { remove(test(ts), manifest) })
		ctx, cancel := context.WithTimeout(context.Background(), *patience)
		err := cluster.Apply(ctx, manifest)
		cancel()
		ts.Check(err)
	}
}

// remove deletes what is in a manifest. A pool may be refused at first: until its status shows that nobody has its addresses any
// more.
func remove(t *testing.T, manifest []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), *patience)
	defer cancel()
	err := install.UntilEvery(ctx, often, func() error {
		cmd := cluster.KubectlCommand(ctx, "delete", "--ignore-not-found", "--wait", "-f", "-")
		cmd.Stdin = bytes.NewReader(manifest)
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%v: %w: %s", cmd, err, out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// actions are the commands that change something. They give what they print.
var actions = map[string]func(ctx context.Context, dir string, args []string) ([]byte, error){
	"kubectl": func(ctx context.Context, dir string, args []string) ([]byte, error) {
		return output(cluster.KubectlCommand(ctx, args...), dir)
	},
	"on": func(ctx context.Context, dir string, args []string) ([]byte, error) {
		if len(args) < 2 {
			return nil, errors.New("usage: on HOST COMMAND...")
		}
		return output(cluster.Command(ctx, args[0], args[1], args[2:]...), dir)
	},
	"lab": func(ctx context.Context, _ string, args []string) ([]byte, error) {
		if len(args) != 2 {
			return nil, errors.New("usage: lab VERB ARG")
		}
		switch args[0] + " " + args[1] {
		case "apiserver stop":
			return nil, cluster.StopAPIServer(ctx)
		case "apiserver start":
			if _, err := kube.Discovery().ServerVersion(); err == nil {
				return nil, nil // finally, after the script has started it
			}
			return nil, cluster.StartAPIServer(ctx)
		}
		do, ok := map[string]func(context.Context, string) error{
			"cut": cluster.Cut, "heal": cluster.Heal, "freeze": cluster.Freeze, "thaw": cluster.Thaw}[args[0]]
		if !ok {
			return nil, fmt.Errorf("a lab cannot %s", args[0])
		}
		return nil, do(ctx, args[1])
	},
	"whole": func(ctx context.Context, _ string, _ []string) ([]byte, error) {
		return nil, install.UntilEvery(ctx, often, func() error { return whole(ctx) })
	},
}

// output runs a command.
func output(cmd *exec.Cmd, dir string) ([]byte, error) {
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%v: %w: %s", cmd, err, out)
	}
	return out, err
}

// act is an action as a command of a script.
func act(name string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		ctx, cancel := context.WithTimeout(context.Background(), *patience)
		defer cancel()
		out, err := actions[name](ctx, ts.Getenv("WORK"), args)
		fmt.Fprintf(ts.Stdout(), "%s", out)
		switch {
		case neg && err == nil:
			ts.Fatalf("%s %v succeeded", name, args)
		case !neg:
			ts.Check(err)
		}
	}
}

// finally runs an action when the script is over, whatever became of it.
func finally(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 1, "finally ACTION...")
	do, ok := actions[args[0]]
	if !ok {
		ts.Fatalf("%s is no action", args[0])
	}
	dir := ts.Getenv("WORK")
	ts.Defer(func() {
		ctx, cancel := context.WithTimeout(context.Background(), *patience)
		defer cancel()
		if _, err := do(ctx, dir, args[1:]); err != nil {
			test(ts).Errorf("finally %s: %v", strings.Join(args, " "), err)
		}
	})
}

// whole tells whether Herald is as it was installed, and its speakers see each other.
func whole(ctx context.Context) error {
	if err := install.Ready(ctx, kube, nodes); err != nil {
		return err
	}
	for _, n := range cluster.Nodes() {
		text, err := metrics(ctx, n)
		if err != nil {
			return err
		}
		for series, want := range map[string]float64{"herald_gossip_members": nodes, "herald_gossip_absences": 0, "herald_gossip_ready": 1} {
			if got, err := sum(text, series); err != nil || got != want {
				return fmt.Errorf("%s of %s is %v, want %v; %w", series, n, got, want, err)
			}
		}
	}
	return nil
}

// resources are where the API has what scripts call by its kind.
var resources = map[string]schema.GroupVersionResource{
	"service": corev1.SchemeGroupVersion.WithResource("services"),
}

// object is one that a script names KIND/NAME or KIND/NAMESPACE/NAME.
func object(ts *testscript.TestScript, name string) (kind, namespace, own string) {
	parts := strings.Split(name, "/")
	kind, ok := page.Kind(parts[0])
	if !ok || len(parts) < 2 {
		ts.Fatalf("%s: want KIND/NAME or KIND/NAMESPACE/NAME of a known kind", name)
	}
	if kind == "Service" {
		namespace = metav1.NamespaceDefault
	}
	if len(parts) == 3 {
		namespace = parts[1]
	}
	return kind, namespace, parts[len(parts)-1]
}

// conditions are those of an object.
func conditions(ctx context.Context, kind, namespace, name string) ([]metav1.Condition, error) {
	resource, ok := resources[strings.ToLower(kind)]
	if !ok {
		resource = v1beta1.GroupVersion.WithResource(strings.ToLower(kind) + "s")
	}
	var client interface {
		Get(context.Context, string, metav1.GetOptions, ...string) (*unstructured.Unstructured, error)
	} = objects.Resource(resource)
	if namespace != "" {
		client = objects.Resource(resource).Namespace(namespace)
	}
	got, err := client.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	var out struct {
		Status struct {
			Conditions []metav1.Condition `json:"conditions"`
		} `json:"status"`
	}
	err = runtime.DefaultUnstructuredConverter.FromUnstructured(got.Object, &out)
	return out.Status.Conditions, err
}

func condition(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		need(ts, args, 2, "! condition KIND/NAME TYPE")
		kind, namespace, name := object(ts, args[0])
		all, err := conditions(context.Background(), kind, namespace, name)
		ts.Check(err)
		if c := meta.FindStatusCondition(all, args[1]); c != nil {
			ts.Fatalf("%s has condition %+v", args[0], *c)
		}
		return
	}
	need(ts, args, 3, "condition KIND/NAME TYPE STATUS [REASON PART...]")
	kind, namespace, name := object(ts, args[0])
	until(ts, func(ctx context.Context) error {
		all, err := conditions(ctx, kind, namespace, name)
		if err != nil {
			return err
		}
		c := meta.FindStatusCondition(all, args[1])
		if c == nil || string(c.Status) != args[2] || len(args) > 3 && c.Reason != args[3] {
			return fmt.Errorf("%s: conditions are %+v, want %v", args[0], all, args[1:])
		}
		return lacks(args[0]+": "+c.Message, args[min(4, len(args)):])
	})
}

// lacks is the error of a text that lacks one of these parts.
func lacks(text string, parts []string) error {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return fmt.Errorf("%q lacks %q", text, part)
		}
	}
	return nil
}

func event(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, args, 2, "event KIND/NAME REASON PART...")
	kind, namespace, name := object(ts, args[0])
	find := func(ctx context.Context) error {
		list, err := kube.EventsV1().Events(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		var seen []string
		for _, e := range list.Items {
			if e.Regarding.Kind != kind || e.Regarding.Namespace != namespace || e.Regarding.Name != name {
				continue
			}
			if e.Reason == args[1] && lacks(e.Note, args[2:]) == nil {
				return nil
			}
			seen = append(seen, e.Reason+": "+e.Note)
		}
		return fmt.Errorf("%s has no event %q, but %q", args[0], args[1:], seen)
	}
	if !neg {
		until(ts, find)
	} else if find(context.Background()) == nil {
		ts.Fatalf("%s has an event %q", args[0], args[1:])
	}
}

func metric(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, args, 4, "metric NODE|controller SERIES =|<|> VALUE")
	want, err := strconv.ParseFloat(args[3], 64)
	ts.Check(err)
	until(ts, func(ctx context.Context) error {
		text, err := metrics(ctx, args[0])
		if err != nil {
			return err
		}
		got, err := sum(text, args[1])
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		if !map[string]bool{"=": got == want, "<": got < want, ">": got > want}[args[2]] {
			return fmt.Errorf("%s of %s is %v, want %s %v", args[1], args[0], got, args[2], want)
		}
		return nil
	})
}

func says(ts *testscript.TestScript, neg bool, args []string) {
	code := 3
	if len(args) > 0 {
		if n, found := strings.CutPrefix(args[0], "-exit="); found {
			var err error
			code, err = strconv.Atoi(n)
			ts.Check(err)
			args = args[1:]
		}
	}
	need(ts, args, 2, "says [-exit=N] 'ARGS' SENTENCE...")
	until(ts, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		access := []string{"--kubeconfig", cluster.Kubeconfig(), "--server", ts.Getenv("SERVER")} // no server: that of the file
		cmd := cluster.Command(ctx, lab.CP, heraldctl, append(access, strings.Fields(args[0])...)...)
		out, err := cmd.CombinedOutput()
		var failed *exec.ExitError
		if err != nil && !errors.As(err, &failed) {
			return err
		}
		if neg {
			for _, s := range args[1:] {
				if bytes.Contains(out, []byte(s)) {
					return fmt.Errorf("heraldctl %s says %q:\n%s", args[0], s, out)
				}
			}
			return nil
		}
		if got := cmd.ProcessState.ExitCode(); got != code {
			return fmt.Errorf("heraldctl %s: exit %d, want %d:\n%s", args[0], got, code, out)
		}
		for _, s := range args[1:] {
			if !bytes.Contains(out, []byte(s)) {
				return fmt.Errorf("heraldctl %s does not say %q:\n%s", args[0], s, out)
			}
		}
		return nil
	})
}
