package e2etest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/e2etest/install"
	herald "heraldlb.io/herald/internal/kube"
)

// stolen returns the token that a pod of Herald's works with, as whoever breaks into the pod finds it.
func stolen(t *testing.T, pod *corev1.Pod, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := processOf(pod)
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/var/run/secrets/kubernetes.io/serviceaccount/token", pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(token)
}

// speakersToken is that of the speaker of a node.
func speakersToken(t *testing.T, node string) string {
	t.Helper()
	pod, err := speakerPod(t.Context(), node)
	return stolen(t, pod, err)
}

func TestASpeakerWritesOfItselfAlone(t *testing.T) {
	placed(t, "own", 81, "n2") // so that n2 has a slice
	admin := client(t, "")
	var other v1beta1.AnnouncementSlice
	within(t, 15*time.Second, func(ctx context.Context) error {
		found, err := slicesOf(ctx, admin, "n2")
		if err == nil && len(found) == 0 {
			err = errors.New("n2 has no slice")
		}
		if err == nil {
			other = found[0]
		}
		return err
	})
	loose, err := kube.CoreV1().ServiceAccounts(install.Namespace).CreateToken(t.Context(), install.Speaker, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n1, nobody := client(t, speakersToken(t, "n1")), client(t, loose.Status.Token)
	// Nothing is really written: the API server admits a request and stops.
	put := func(c *herald.Client, s v1beta1.AnnouncementSlice) error {
		return c.Herald.Put().Resource(herald.ResourceAnnouncementSlices).Name(s.Name).Param("dryRun", "All").Body(&s).Do(t.Context()).Error()
	}
	post := func(c *herald.Client, name, node string) error {
		s := &v1beta1.AnnouncementSlice{NodeName: node}
		s.Name = name
		return c.Herald.Post().Resource(herald.ResourceAnnouncementSlices).Param("dryRun", "All").Body(s).Do(t.Context()).Error()
	}
	end := func(c *herald.Client, resource, name string) error {
		return c.Herald.Delete().Resource(resource).Name(name).Param("dryRun", "All").Do(t.Context()).Error()
	}
	status := func(c *herald.Client, node string) error {
		s, err := speaker(t.Context(), admin, node)
		if err != nil {
			t.Fatal(err)
		}
		return c.Herald.Put().Resource(herald.ResourceSpeakers).Name(node).SubResource("status").Param("dryRun", "All").Body(s).Do(t.Context()).Error()
	}
	taken := other
	taken.NodeName = "n1"
	for _, tc := range []struct {
		name string
		err  error
		want string // a part of the refusal; empty for none
	}{
		{"a slice of its own", post(n1, "n1-99", "n1"), ""},
		{"its own Speaker", status(n1, "n1"), ""},
		{"another one's slice", put(n1, other), "may write AnnouncementSlices with that nodeName only"},
		{"one that it takes over", put(n1, taken), "may write AnnouncementSlices with that nodeName only"},
		{"a new slice of another one", post(n1, "n2-99", "n2"), "may write AnnouncementSlices with that nodeName only"},
		{"one in another one's name", post(n1, "n2-99", "n1"), "named n1- and a number"},
		{"another one's Speaker", status(n1, "n2"), "may write the Speaker of that name only"},
		{"the end of another one's slice", end(n1, herald.ResourceAnnouncementSlices, other.Name), "may write AnnouncementSlices with that nodeName only"},
		{"the end of another one's Speaker", end(n1, herald.ResourceSpeakers, "n2"), "may write the Speaker of that name only"},
		{"anything, with a token of no pod", post(nobody, "n1-99", "n1"), "this token names no node"},
	} {
		if (tc.want == "") != (tc.err == nil) || tc.err != nil && !(apierrors.IsForbidden(tc.err) && strings.Contains(tc.err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, tc.err, tc.want)
		}
	}
}

// What a stolen token is good for is found by trying everything that the API server offers, and is all that is listed here.
func TestAStolenTokenIsGoodForLittle(t *testing.T) {
	// Whoever is known to the API server may ask it about himself, and every service account whom the cluster trusts.
	anybody := []string{
		"get clustertrustbundles.certificates.k8s.io", "list clustertrustbundles.certificates.k8s.io",
		"create selfsubjectaccessreviews.authorization.k8s.io", "create selfsubjectrulesreviews.authorization.k8s.io",
		"create selfsubjectreviews.authentication.k8s.io",
	}
	configuration := []string{
		"list bfdprofiles.heraldlb.io", "list bgpadvertisements.heraldlb.io", "list bgppeers.heraldlb.io",
		"list communities.heraldlb.io", "list ipaddresspools.heraldlb.io", "list l2advertisements.heraldlb.io",
	}
	t.Run("a speaker's changes no Service, Node, Secret or configuration", func(t *testing.T) {
		token := speakersToken(t, "n1")
		matches(t, tried(t, token), anybody, configuration, []string{
			"list services", "list nodes", "list endpointslices.discovery.k8s.io", "list secrets in herald-system",
			"create events.events.k8s.io",
			// Of its own node only: TestASpeakerWritesOfItselfAlone.
			"list speakers.heraldlb.io", "create speakers.heraldlb.io", "delete speakers.heraldlb.io", "update speakers/status.heraldlb.io",
			"list announcementslices.heraldlb.io", "create announcementslices.heraldlb.io", "update announcementslices.heraldlb.io",
			"delete announcementslices.heraldlb.io",
		})
	})
	t.Run("a controller's changes what the controller writes", func(t *testing.T) {
		_, pod, err := leader(t.Context())
		token := stolen(t, pod, err)
		matches(t, tried(t, token), anybody, configuration, []string{
			"list services", "get services", "patch services/status", "list nodes", "list namespaces",
			"list speakers.heraldlb.io", "list announcementslices.heraldlb.io",
			"patch bfdprofiles/status.heraldlb.io", "patch bgpadvertisements/status.heraldlb.io", "patch bgppeers/status.heraldlb.io",
			"patch communities/status.heraldlb.io", "patch ipaddresspools/status.heraldlb.io", "patch l2advertisements/status.heraldlb.io",
			"create events.events.k8s.io",
			"create leases.coordination.k8s.io in herald-system",
			"get leases.coordination.k8s.io herald-controller in herald-system", "update leases.coordination.k8s.io herald-controller in herald-system",
			"create secrets in herald-system", "get secrets herald-gossip in herald-system",
		})
		t.Run("and of Services their status and one annotation", func(t *testing.T) {
			services := thief(t, token).CoreV1().Services("default")
			patch := func(patch string) (*corev1.Service, error) {
				return services.Patch(t.Context(), "kubernetes", types.MergePatchType, []byte(patch), metav1.PatchOptions{DryRun: []string{"All"}}, "status")
			}
			before, err := services.Get(t.Context(), "kubernetes", metav1.GetOptions{}) // every cluster has this one
			if err != nil {
				t.Fatal(err)
			}
			after, err := patch(`{"metadata":{"annotations":{"heraldlb.io/pool":"lan"}},"spec":{"externalIPs":["192.0.2.66"],"selector":{"app":"thief"}}}`)
			if err != nil {
				t.Fatal(err)
			}
			if after.Annotations["heraldlb.io/pool"] != "lan" || len(after.Spec.ExternalIPs) > 0 || len(after.Spec.Selector) != len(before.Spec.Selector) {
				t.Errorf("patched with its status it became %+v", after)
			}
			for _, p := range []struct{ patch, want string }{
				{`{"metadata":{"labels":{"a":"b"}}}`, "may change no labels"},
				{`{"metadata":{"finalizers":["a/b"]}}`, "may change no labels, finalizers"},
				{`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"gone","uid":"0"}]}}`, "may change no labels, finalizers and owners"},
				{`{"metadata":{"annotations":{"a":"b"}}}`, "may change no annotation of Services but heraldlb.io/pool"},
			} {
				if _, err := patch(p.patch); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), p.want) {
					t.Errorf("%s: %v, want %q", p.patch, err, p.want)
				}
			}
		})
	})
}

// matches fails the test unless what was allowed is what these lists say together.
func matches(t *testing.T, allowed []string, lists ...[]string) {
	t.Helper()
	want := slices.Concat(lists...)
	for _, a := range allowed {
		if !slices.Contains(want, a) {
			t.Errorf("the token may %s", a)
		}
	}
	for _, w := range want {
		if !slices.Contains(allowed, w) {
			t.Errorf("the token may not %s", w)
		}
	}
}

// attempt is one request that a token is tried with.
type attempt struct {
	verb, resource string // the resource with its group
	name           string // of the object; empty for one that is not there, or for the collection
	namespace      string // empty for what is in none
	path           string
}

func (a attempt) String() string {
	words := []string{a.verb, a.resource}
	if a.name != "" {
		words = append(words, a.name)
	}
	return strings.Join(words, " ")
}

// thief has a token and nothing else.
func thief(t *testing.T, token string) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(access(t, token))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tried asks, as a token's owner, for everything that the API server offers except to watch: every verb of every resource and
// subresource, where it is in a namespace in Herald's and in another one. Nothing is changed: what is allowed is only asked
// whether it would work. It returns what was not refused; with the namespace, if it was refused in the other.
func tried(t *testing.T, token string) (allowed []string) {
	t.Helper()
	attempts := attempts(t)
	asking := thief(t, token).CoreV1().RESTClient()
	var mu sync.Mutex
	in := map[string][]string{}
	var group errgroup.Group
	group.SetLimit(8)
	for _, a := range attempts {
		group.Go(func() error {
			method := map[string]string{"get": "GET", "list": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE", "deletecollection": "DELETE"}[a.verb]
			req := asking.Verb(method).AbsPath(a.path)
			if method != "GET" {
				req = req.Param("dryRun", "All").Body([]byte("{}")).SetHeader("Content-Type", "application/json")
			} else {
				req = req.Param("limit", "1")
			}
			if method == "PATCH" {
				req = req.SetHeader("Content-Type", string(types.MergePatchType))
			}
			err := req.Do(t.Context()).Error()
			if apierrors.IsForbidden(err) && strings.Contains(err.Error(), fmt.Sprintf("cannot %s resource", a.verb)) {
				return nil
			}
			if apierrors.IsUnauthorized(err) {
				return fmt.Errorf("%v: the token is not known: %w", a, err)
			}
			mu.Lock()
			defer mu.Unlock()
			in[a.String()] = append(in[a.String()], a.namespace)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for what, namespaces := range in {
		if len(namespaces) == 1 && namespaces[0] != "" {
			what += " in " + namespaces[0]
		}
		allowed = append(allowed, what)
	}
	slices.Sort(allowed)
	t.Logf("%d of %d requests were not refused: %s", len(allowed), len(attempts), strings.Join(allowed, "; "))
	return allowed
}

// attempts are all that tried does.
func attempts(t *testing.T) (all []attempt) {
	t.Helper()
	// The objects that Herald's programs have a right to by name.
	named := map[string]string{"leases.coordination.k8s.io": "herald-controller", "secrets": "herald-gossip"}
	_, lists, err := kube.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{} // versions of one group are one to whoever decides on rights
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		root := "/apis/" + list.GroupVersion
		if gv.Group == "" {
			root = "/api/" + gv.Version
		}
		for _, r := range list.APIResources {
			of := r.Name
			if gv.Group != "" {
				of += "." + gv.Group
			}
			if seen[of] {
				continue
			}
			seen[of] = true
			namespaces := []string{""}
			if r.Namespaced {
				namespaces = []string{metav1.NamespaceDefault, install.Namespace}
			}
			resource, sub, _ := strings.Cut(r.Name, "/")
			for _, namespace := range namespaces {
				collection := root
				if namespace != "" {
					collection += "/namespaces/" + namespace
				}
				collection += "/" + resource
				for _, verb := range r.Verbs {
					a := attempt{verb: verb, resource: of, namespace: namespace, path: collection + "/nothing"}
					switch {
					case verb == "watch":
						continue
					case sub != "":
						a.path += "/" + sub
					case verb == "list" || verb == "create" || verb == "deletecollection":
						a.path = collection
					case named[of] != "":
						one := a
						one.name, one.path = named[of], collection+"/"+named[of]
						all = append(all, one)
					}
					all = append(all, a)
				}
			}
		}
	}
	if len(all) < 500 {
		t.Fatalf("the API server offers only %d requests", len(all))
	}
	return all
}
