package e2etest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/internal/config"
	herald "heraldlb.io/herald/internal/kube"
)

// resources are the configuration kinds, as the API server's paths name them.
var resources = map[string]string{
	config.KindIPAddressPool:    "ipaddresspools",
	config.KindL2Advertisement:  "l2advertisements",
	config.KindBGPAdvertisement: "bgpadvertisements",
	config.KindBGPPeer:          "bgppeers",
	config.KindBFDProfile:       "bfdprofiles",
	config.KindCommunity:        "communities",
}

// objects is the API server's view of one configuration kind.
func objects(t *testing.T, kind string) dynamic.ResourceInterface {
	t.Helper()
	cfg, err := cluster.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client.Resource(v1beta1.GroupVersion.WithResource(resources[kind]))
}

// documents are the objects of a manifest, as written.
func documents(t *testing.T, manifest string) []*unstructured.Unstructured {
	t.Helper()
	var all []*unstructured.Unstructured
	for _, text := range strings.Split(manifest, "\n---\n") {
		var o unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		all = append(all, &o)
	}
	return all
}

// samples are the example documents, by file.
func samples(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "config", "samples", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples found: %v", err)
	}
	all := map[string]string{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(f)] = string(text)
	}
	return all
}

func TestTheAPIServerRefusesEachBadFieldWithItsMessage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "config", "crd", "testdata", "refused.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var refused []struct {
		Name, Kind, Schema, Config string
		Spec                       map[string]any
	}
	if err := yaml.UnmarshalStrict(text, &refused); err != nil {
		t.Fatal(err)
	}
	clients := map[string]dynamic.ResourceInterface{}
	for kind := range resources {
		clients[kind] = objects(t, kind)
	}
	var asking errgroup.Group
	asking.SetLimit(8)
	for _, c := range refused {
		asking.Go(func() error {
			o := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": "x"}, "spec": c.Spec}}
			o.SetGroupVersionKind(v1beta1.GroupVersion.WithKind(c.Kind))
			_, err := clients[c.Kind].Create(t.Context(), o, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), c.Schema) {
				t.Errorf("%s, %s: the API server says %v, want it invalid with %q", c.Kind, c.Name, err, c.Schema)
			}
			return nil
		})
	}
	asking.Wait()
	t.Logf("%d bad fields refused", len(refused))
}

func TestTheAPIServerRefusesAFieldThatDoesNotExist(t *testing.T) {
	o := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"name": "x"}, "spec": map[string]any{"addresses": []any{"192.0.2.0/24"}, "adresses": []any{}}}}
	o.SetGroupVersionKind(v1beta1.GroupVersion.WithKind(config.KindIPAddressPool))
	_, err := objects(t, config.KindIPAddressPool).Create(t.Context(), o, metav1.CreateOptions{
		DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
	if want := `unknown field "spec.adresses"`; !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

// applySamples applies all samples but the pool that the tests share, which is there, as the documents of a manifest
// are applied by users.
func applySamples(t *testing.T) map[string]string {
	t.Helper()
	all := samples(t)
	for file, text := range all {
		if file != "pool.yaml" {
			apply(t, []byte(text))
		}
	}
	return all
}

func TestTheSamplesApplyKeepEveryFieldAndAreAccepted(t *testing.T) {
	for file, text := range applySamples(t) {
		for _, sent := range documents(t, text) {
			within(t, 10*time.Second, func(ctx context.Context) error {
				served, err := objects(t, sent.GetKind()).Get(ctx, sent.GetName(), metav1.GetOptions{})
				if err != nil {
					return err
				}
				if lost := missing("spec", sent.Object["spec"], served.Object["spec"]); lost != "" {
					return fmt.Errorf("%s: %s %s: %s", file, sent.GetKind(), sent.GetName(), lost)
				}
				if c := statusCondition(served, config.ConditionAccepted); c.Status != metav1.ConditionTrue {
					return fmt.Errorf("%s: %s %s has condition %+v, want Accepted True", file, sent.GetKind(), sent.GetName(), c)
				}
				return nil
			})
		}
	}
}

// missing says what of a value that was sent is not served, empty when all is.
func missing(path string, sent, served any) string {
	switch sent := sent.(type) {
	case map[string]any:
		got, _ := served.(map[string]any)
		for key, value := range sent {
			if lost := missing(path+"."+key, value, got[key]); lost != "" {
				return lost
			}
		}
	case []any:
		got, _ := served.([]any)
		if len(got) != len(sent) {
			return fmt.Sprintf("%s is %v, sent was %v", path, served, sent)
		}
		for i := range sent {
			if lost := missing(fmt.Sprintf("%s[%d]", path, i), sent[i], got[i]); lost != "" {
				return lost
			}
		}
	default:
		if fmt.Sprint(sent) != fmt.Sprint(served) { // whole numbers are of different types
			return fmt.Sprintf("%s is %v, sent was %v", path, served, sent)
		}
	}
	return ""
}

// statusCondition returns a condition of an object's status.
func statusCondition(o *unstructured.Unstructured, kind string) metav1.Condition {
	var status v1beta1.ConfigurationStatus
	if raw, ok := o.Object["status"].(map[string]any); ok {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &status); err != nil {
			return metav1.Condition{Message: err.Error()}
		}
	}
	if c := meta.FindStatusCondition(status.Conditions, kind); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// The API server fills in defaults, which a ConfigMap has none of, and the time of creation, by which alone the two
// may differ.
func TestCustomResourcesGiveTheSameConfigAsAConfigMapOfTheSameDocuments(t *testing.T) {
	data := applySamples(t)
	for kind, spec := range map[string]string{
		config.KindBGPPeer:    "{peerAddress: 192.0.2.1, peerASN: 64513, myASN: 64512, gracefulRestart: {}, ttlSecurity: {}}",
		config.KindBFDProfile: "{}", config.KindBGPAdvertisement: "{}", config.KindL2Advertisement: "{}",
		config.KindIPAddressPool: "{addresses: [10.0.0.0/24]}",
	} {
		text := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: least}\nspec: %s\n", v1beta1.GroupVersion, kind, spec)
		data["least-"+kind+".yaml"] = text
		apply(t, []byte(text))
	}
	documents := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "same-documents", Namespace: metav1.NamespaceDefault}, Data: data}
	maps := kube.CoreV1().ConfigMaps(documents.Namespace)
	if _, err := maps.Create(t.Context(), documents, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := maps.Delete(context.Background(), documents.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	want, wantProblems := config.New(source(t, herald.ConfigFromConfigMap, documents.Name))
	got, gotProblems := config.New(source(t, herald.ConfigFromCRD, ""))
	if !reflect.DeepEqual(got, want) {
		t.Errorf("from custom resources\n%+v\nfrom a ConfigMap\n%+v", got, want)
	}
	if !reflect.DeepEqual(gotProblems, wantProblems) {
		t.Errorf("custom resources have the problems\n%v\nthe documents of a ConfigMap\n%v", gotProblems, wantProblems)
	}
	if len(got.Pools) < 3 || len(got.L2Advertisements) < 3 || len(got.BGPAdvertisements) < 2 || len(got.BGPPeers) < 4 || len(got.BFDProfiles) < 2 {
		t.Errorf("the comparison shows little: %+v", got)
	}
}

// source reads the configuration as Herald's programs do, from custom resources or a ConfigMap, and forgets the age of
// the objects.
func source(t *testing.T, kind, configMap string) config.Resources {
	t.Helper()
	cfg, err := cluster.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := herald.NewClient(cfg, "herald-e2etest")
	if err != nil {
		t.Fatal(err)
	}
	key := types.NamespacedName{Namespace: metav1.NamespaceDefault, Name: configMap}
	from, err := client.ConfigSource(kind, key, log.NewNopLogger(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := from.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := from.Ready(); err != nil {
		t.Fatal(err)
	}
	r := from.Resources()
	return config.Resources{
		Pools: ageless(r.Pools), L2Advertisements: ageless(r.L2Advertisements), BGPAdvertisements: ageless(r.BGPAdvertisements),
		BGPPeers: ageless(r.BGPPeers), BFDProfiles: ageless(r.BFDProfiles), Communities: ageless(r.Communities),
	}
}

// ageless are copies of objects that do not say when they were made.
func ageless[T interface {
	metav1.Object
	runtime.Object
}](objects []T) []T {
	var copies []T
	for _, o := range objects {
		c := o.DeepCopyObject().(T)
		c.SetCreationTimestamp(metav1.Time{})
		copies = append(copies, c)
	}
	return copies
}

func TestAPoolInUseIsNotDeletedByAccident(t *testing.T) {
	pools := objects(t, config.KindIPAddressPool)
	apply(t, pool("used", "192.0.2.251/32"))
	svc := service(t, app.Service{Name: "user", Selects: "testapp", IPFamilyPolicy: "SingleStack", IPFamilies: []string{"IPv4"},
		Annotations: map[string]string{"heraldlb.io/address-pool": "used"}})
	held := func(n int64) {
		t.Helper()
		within(t, 10*time.Second, func(ctx context.Context) error {
			o, err := pools.Get(ctx, "used", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if got, _, err := unstructured.NestedInt64(o.Object, "status", "ipv4", "assigned"); err != nil || got != n {
				return fmt.Errorf("pool used says in its status that %d addresses are assigned, %v; want %d", got, err, n)
			}
			return nil
		})
	}
	dryRun := metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
	remedies := []string{"1 IPv4 and 0 IPv6", "annotation heraldlb.io/pool", "spec.drain: true", `heraldlb.io/allow-release: "true"`}

	held(1)
	err := pools.Delete(t.Context(), "used", metav1.DeleteOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("deleting a pool in use: %v, want it forbidden", err)
	}
	for _, want := range remedies {
		if err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("the message %q lacks %q", err, want)
		}
	}
	if err := pools.DeleteCollection(t.Context(), dryRun, metav1.ListOptions{FieldSelector: "metadata.name=used"}); !apierrors.IsForbidden(err) {
		t.Errorf("deleting all pools of which one is in use: %v, want it forbidden", err)
	}
	annotate := func(value string) {
		t.Helper()
		if out, err := cluster.Kubectl(t.Context(), "annotate", "--overwrite", "ipaddresspool", "used", "heraldlb.io/allow-release="+value); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	annotate("false")
	if err := pools.Delete(t.Context(), "used", dryRun); !apierrors.IsForbidden(err) {
		t.Errorf("with the annotation false: %v, want it forbidden", err)
	}
	annotate("true")
	if err := pools.Delete(t.Context(), "used", dryRun); err != nil {
		t.Errorf("with the annotation true: %v", err)
	}

	annotate("false")
	if err := kube.CoreV1().Services("default").Delete(t.Context(), svc.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	held(0)
	if err := pools.Delete(t.Context(), "used", metav1.DeleteOptions{}); err != nil {
		t.Errorf("nobody has an address of the pool: %v", err)
	}
}
