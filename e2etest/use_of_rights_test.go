package e2etest

// The test of this file comes last: it looks back at what all others made Herald do.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"heraldlb.io/herald/e2etest/install"
)

// right is one verb on one resource that a service account of Herald's has.
type right struct {
	account, verb, group, resource string // the resource with its subresource
	name                           string // of the only object; empty for all
	own                            bool   // in Herald's namespace only
}

func (r right) String() string {
	words := []string{r.account, "may", r.verb, r.resource}
	if r.group != "" {
		words[3] += "." + r.group
	}
	if r.name != "" {
		words = append(words, r.name)
	}
	if r.own {
		words = append(words, "in "+install.Namespace)
	}
	return strings.Join(words, " ")
}

// covers tells whether the right is what allows a request.
func (r right) covers(e *auditv1.Event) bool {
	o := e.ObjectRef
	resource := o.Resource
	if o.Subresource != "" {
		resource += "/" + o.Subresource
	}
	return e.User.Username == accountPrefix+r.account && e.Verb == r.verb && o.APIGroup == r.group && resource == r.resource &&
		(r.name == "" || r.name == o.Name) && (!r.own || o.Namespace == install.Namespace)
}

// instead is the right to watch what a list is of. Herald's caches need no list where the watch begins with what is there, and
// ask for one of API servers that cannot do that.
func (r right) instead() right {
	r.verb = "watch"
	return r
}

// accountPrefix begins the users that Herald's service accounts are.
const accountPrefix = "system:serviceaccount:" + install.Namespace + ":"

// seldom are the rights that are for what no run brings about, and why they are needed all the same.
var seldom = map[string]string{
	"herald-speaker may delete speakers.heraldlb.io": "a Node of the same name can be another one before the garbage collector has seen it",
}

// withheld are the times in which a test kept Herald from rights that it wanted.
var withheld struct {
	sync.Mutex
	spans []span
}

type span struct {
	group    string // of the API
	from, to time.Time
}

// everyGroup stands for all groups of the API, as it does in roles.
const everyGroup = "*"

// withholding notes that from now on until the function that it returns is called Herald's programs may be refused what
// they want of a group's resources.
func withholding(group string) (over func()) {
	from := time.Now()
	return func() {
		withheld.Lock()
		defer withheld.Unlock()
		withheld.spans = append(withheld.spans, span{group, from, time.Now()})
	}
}

// excused tells whether a test kept Herald from what it asked for.
func excused(e *auditv1.Event) bool {
	withheld.Lock()
	defer withheld.Unlock()
	return e.ObjectRef != nil && slices.ContainsFunc(withheld.spans, func(s span) bool {
		at := e.RequestReceivedTimestamp.Time
		return (s.group == everyGroup || s.group == e.ObjectRef.APIGroup) && at.After(s.from) && at.Before(s.to)
	})
}

// What Herald's programs may do and what they did in all tests of this package are the same.
func TestEveryRightIsUsedAndNoneIsMissing(t *testing.T) {
	if flag.Lookup("test.run").Value.String() != "" || flag.Lookup("test.skip").Value.String() != "" {
		t.Skip("only all tests together use all rights")
	}
	rights := granted(t)
	used := map[right]int{}
	requests, refused := 0, map[string]int{}
	for e := range asked(t) {
		requests++
		if e.ResponseStatus != nil && e.ResponseStatus.Code == http.StatusForbidden {
			if !excused(e) {
				refused[fmt.Sprintf("%s was refused %s %s: %s", strings.TrimPrefix(e.User.Username, accountPrefix), e.Verb, e.RequestURI, e.ResponseStatus.Message)]++
			}
			continue
		}
		for _, r := range rights {
			if e.ObjectRef != nil && r.covers(e) {
				used[r]++
			}
		}
	}
	for _, what := range slices.Sorted(maps.Keys(refused)) {
		t.Errorf("%s (%d times)", what, refused[what])
	}
	for _, r := range rights {
		why, rare := seldom[r.String()]
		switch {
		case used[r] == 0 && rare:
			t.Logf("%s, which it did not need: %s", r, why)
		case used[r] == 0 && (r.verb != "list" || used[r.instead()] == 0):
			t.Errorf("%s, which it never did", r)
		}
	}
	t.Logf("%d requests used %d of %d rights", requests, len(used), len(rights))
}

// granted are all rights that the installs give: the one whose configuration is objects, the one whose configuration is a
// ConfigMap, and the one that guards its metrics.
func granted(t *testing.T) (all []right) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "config", "rbac", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, filepath.Join(root, "config", "configmap", "rbac.yaml"), filepath.Join(root, "config", "metrics-auth", "rbac.yaml"))
	rules := map[string][]rbacv1.PolicyRule{} // by kind and name of the role
	var bindings []rbacv1.RoleBinding
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096); ; {
			var doc struct {
				rbacv1.RoleBinding `json:",inline"`
				Rules              []rbacv1.PolicyRule `json:"rules"`
			}
			if err := documents.Decode(&doc); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", f, err)
			}
			if len(doc.Subjects) > 0 {
				bindings = append(bindings, doc.RoleBinding)
			}
			rules[doc.Kind+"/"+doc.Name] = doc.Rules
		}
	}
	for _, b := range bindings {
		of, ok := rules[b.RoleRef.Kind+"/"+b.RoleRef.Name]
		if !ok {
			t.Fatalf("%s %s binds a %s %s that is not there", b.Kind, b.Name, b.RoleRef.Kind, b.RoleRef.Name)
		}
		for _, s := range b.Subjects {
			for _, rule := range of {
				all = append(all, expand(s.Name, b.Kind == "RoleBinding", rule)...)
			}
		}
	}
	return all
}

// expand makes the rights of a rule, one for each verb and resource, and each name if it has any.
func expand(account string, own bool, rule rbacv1.PolicyRule) (all []right) {
	names := rule.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				for _, name := range names {
					all = append(all, right{account, verb, group, resource, name, own})
				}
			}
		}
	}
	return all
}

// asked yields all requests of Herald's programs. Those that tests made with their tokens are not among them.
func asked(t *testing.T) func(yield func(*auditv1.Event) bool) {
	t.Helper()
	f, err := os.Open(cluster.AuditLog())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return func(yield func(*auditv1.Event) bool) {
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var e auditv1.Event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Errorf("%s: %v", cluster.AuditLog(), err)
				return
			}
			program, _, _ := strings.Cut(e.UserAgent, "/")
			switch {
			case program == testsAgent:
			case e.User.Username != accountPrefix+program:
				t.Errorf("%s, with the user agent %q, asked %s %s: who is this?", e.User.Username, e.UserAgent, e.Verb, e.RequestURI)
			case !yield(&e):
				return
			}
		}
		if err := lines.Err(); err != nil {
			t.Errorf("%s: %v", cluster.AuditLog(), err)
		}
	}
}
