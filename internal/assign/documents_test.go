package assign

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/kube/kubetest"
)

const (
	home       = "herald-system"
	configName = "herald-config"
)

// newConfigMapWorld is a world whose configuration is in a ConfigMap.
func newConfigMapWorld(t *testing.T) *world {
	w := newWorld(t)
	w.source = func(c *kube.Client, reg prometheus.Registerer) kube.ConfigSource {
		return c.ConfigMapSource(types.NamespacedName{Namespace: home, Name: configName}, log.NewNopLogger(), reg)
	}
	return w
}

// configure makes the ConfigMap hold these documents.
func (w *world) configure(documents ...string) {
	w.t.Helper()
	data := map[string]string{"config.yaml": strings.Join(documents, "\n---\n")}
	if w.ConfigMap(home, configName) == nil {
		w.Create("configmaps", &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: configName}, Data: data})
		return
	}
	w.EditConfigMap(home, configName, func(cm *corev1.ConfigMap) { cm.Data = data })
}

// document writes an object as "kind name spec".
func document(text string) string {
	part := strings.SplitN(text, " ", 3)
	return fmt.Sprintf("apiVersion: heraldlb.io/v1beta1\nkind: %s\nmetadata: {name: %s}\nspec: %s", part[0], part[1], part[2])
}

// status reads what the controller wrote about the documents.
func (w *world) status() (s documentsStatus) {
	if cm := w.ConfigMap(home, configName+"-status"); cm != nil {
		if err := yaml.UnmarshalStrict([]byte(cm.Data[keyOfStatus]), &s); err != nil {
			w.t.Error(err)
		}
	}
	return s
}

func (w *world) wholeConditions() []metav1.Condition { return w.status().ConfigMap.Status.Conditions }

func (w *world) documentConditions(kind, name string) func() []metav1.Condition {
	return func() []metav1.Condition {
		for _, o := range w.status().Objects {
			if o.Kind == kind && o.Name == name {
				return o.Status.Conditions
			}
		}
		return nil
	}
}

// keeps waits until the copy of what was accepted holds what the ConfigMap holds.
func (w *world) keeps() {
	w.t.Helper()
	kubetest.Eventually(w.t, "the accepted documents are kept", func() bool {
		kept := w.ConfigMap(home, configName+"-accepted")
		return kept != nil && maps.Equal(kept.Data, w.ConfigMap(home, configName).Data)
	})
}

var (
	lan  = document("IPAddressPool lan {addresses: [192.0.2.0/30]}")
	wan  = document("IPAddressPool wan {addresses: [198.51.100.0/24]}")
	l2   = document("L2Advertisement l2 {ipAddressPools: [lan]}")
	typo = document("IPAddressPool lan {adresses: [192.0.2.0/30]}")
)

func TestTheConfigurationOfAConfigMapIsServedAndItsStatusWritten(t *testing.T) {
	w := newConfigMapWorld(t)
	w.configure(lan, l2, document("IPAddressPool overlap {addresses: [192.0.2.0/24]}"))
	w.service("a")
	w.start("")
	w.shows("a", "192.0.2.0 @lan True:AddressAssigned")
	w.hasCondition("the ConfigMap", w.wholeConditions, "Accepted", metav1.ConditionTrue, "Accepted")
	w.hasCondition("pool lan", w.documentConditions("IPAddressPool", "lan"), "Available", metav1.ConditionTrue, "AddressesAvailable")
	w.hasCondition("pool overlap", w.documentConditions("IPAddressPool", "overlap"), "Accepted", metav1.ConditionFalse, "Overlap")
	w.hasCondition("advertisement", w.documentConditions("L2Advertisement", "l2"), "ResolvedRefs", metav1.ConditionTrue, "ResolvedRefs")
	w.hasEvent(configName, corev1.EventTypeWarning, "ConfigurationRejected", "IPAddressPool overlap: spec.addresses[0]")
	w.keeps()
	kubetest.Eventually(t, "addresses are counted", func() bool {
		return slices.ContainsFunc(w.status().Objects, func(o namedStatus) bool {
			return o.Name == "lan" && o.Status.IPv4 != nil && *o.Status.IPv4 == v1beta1.AddressCounts{Total: "4", Assigned: 1, Available: "3"}
		})
	})
	for _, request := range w.Writes() {
		if strings.Contains(request, "ipaddresspools") || strings.Contains(request, "advertisements") {
			t.Errorf("asked for a resource that need not exist: %s", request)
		}
	}
	if n := w.Lists("ipaddresspools"); n > 0 {
		t.Errorf("listed pools %d times", n)
	}
}

func TestABrokenEditOfTheConfigMapLeavesTheLastGoodOneInForce(t *testing.T) {
	w := newConfigMapWorld(t)
	w.configure(lan)
	stop := w.start("")
	w.service("a")
	w.shows("a", "192.0.2.0 @lan True:AddressAssigned")
	w.keeps()

	w.configure(typo, wan)
	w.hasCondition("the ConfigMap", w.wholeConditions, "Accepted", metav1.ConditionFalse, "InvalidDocument")
	w.hasEvent(configName, corev1.EventTypeWarning, "ConfigurationRejected", `data["config.yaml"] line 4: IPAddressPool has no field spec.adresses`)
	w.configIs("0", "1")
	w.service("b")
	w.shows("b", "192.0.2.1 @lan True:AddressAssigned")
	stop()

	// A restart finds what was accepted last, and tells nothing twice.
	events := len(w.Events(configName))
	w.start("")
	w.service("c")
	w.shows("c", "192.0.2.2 @lan True:AddressAssigned")
	w.hasCondition("the ConfigMap", w.wholeConditions, "Accepted", metav1.ConditionFalse, "InvalidDocument")
	if got := len(w.Events(configName)); got != events {
		t.Errorf("the restart made %d events: %v", got-events, w.reasons(configName))
	}

	w.configure(lan, wan)
	w.hasCondition("the ConfigMap", w.wholeConditions, "Accepted", metav1.ConditionTrue, "Accepted")
	w.hasEvent(configName, corev1.EventTypeNormal, "ConfigurationAccepted", "")
	w.configIs("1", "1")
	w.keeps()
	if got, want := w.shown("a"), "192.0.2.0 @lan True:AddressAssigned"; got != want {
		t.Errorf("a shows %q, want %q", got, want)
	}
}

// configIs checks the metrics of the source.
func (w *world) configIs(accepted, rejections string) {
	w.t.Helper()
	if err := testutil.CollectAndCompare(w.registry, strings.NewReader(`
# HELP herald_config_accepted 1 when the newest version of the ConfigMap is in force, 0 when an older one is or none. Only with --config-source=configmap.
# TYPE herald_config_accepted gauge
herald_config_accepted `+accepted+`
# HELP herald_config_rejections_total Versions of the ConfigMap that could not be taken, its deletion included. Only with --config-source=configmap.
# TYPE herald_config_rejections_total counter
herald_config_rejections_total `+rejections+`
`), "herald_config_accepted", "herald_config_rejections_total"); err != nil {
		w.t.Error(err)
	}
}

func TestADeletedConfigMapIsNoEmptyOne(t *testing.T) {
	w := newConfigMapWorld(t)
	w.configure(lan)
	stop := w.start("")
	w.service("a")
	w.shows("a", "192.0.2.0 @lan True:AddressAssigned")
	w.keeps()
	w.Delete("configmaps", home, configName)
	w.hasCondition("the ConfigMap", w.wholeConditions, "Accepted", metav1.ConditionFalse, "ConfigMapNotFound")
	w.hasEvent(configName, corev1.EventTypeWarning, "ConfigurationRejected", "an empty one is an empty configuration")
	w.service("b")
	w.shows("b", "192.0.2.1 @lan True:AddressAssigned")
	stop()
	w.start("")
	w.service("c")
	w.shows("c", "192.0.2.2 @lan True:AddressAssigned")

	w.configure("# nothing")
	w.shows("a", "False:NoPools")
	w.hasCondition("the ConfigMap", w.wholeConditions, "Accepted", metav1.ConditionTrue, "Accepted")
}

func TestWithoutAnyConfigurationNothingIsGivenOrWithdrawn(t *testing.T) {
	for what, prepare := range map[string]func(*world){
		"missing": func(*world) {},
		"broken":  func(w *world) { w.configure(typo) },
	} {
		t.Run(what, func(t *testing.T) {
			w := newConfigMapWorld(t)
			prepare(w)
			w.service("holder", holding("lan", "192.0.2.3"))
			w.service("new")
			c, _ := w.launch(5*time.Millisecond, "")
			w.hasCondition("the ConfigMap", w.wholeConditions, "Accepted", metav1.ConditionFalse, map[string]string{"missing": "ConfigMapNotFound", "broken": "InvalidDocument"}[what])
			w.hasEvent(configName, corev1.EventTypeWarning, "ConfigurationRejected", "nothing is decided")
			if err := c.Ready(); err == nil || !strings.Contains(err.Error(), "no configuration is known") {
				t.Errorf("ready: %v", err)
			}
			for _, request := range w.Writes() {
				if strings.Contains(request, "services") {
					t.Errorf("wrote %s", request)
				}
			}
			w.configure(lan)
			w.shows("new", "192.0.2.0 @lan True:AddressAssigned")
			w.shows("holder", "192.0.2.3 @lan True:AddressAssigned")
			w.hasEvent(configName, corev1.EventTypeNormal, "ConfigurationAccepted", "")
			if err := c.Ready(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTheStatusOfManyDocumentsFitsIntoAConfigMap(t *testing.T) {
	var s documentsStatus
	for i := range 400 {
		c := metav1.Condition{Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Accepted", Message: strings.Repeat("x", 100)}
		if i%8 == 0 {
			c.Status = metav1.ConditionFalse
		}
		s.Objects = append(s.Objects, namedStatus{"IPAddressPool", fmt.Sprint("p", i), v1beta1.IPAddressPoolStatus{Conditions: []metav1.Condition{c}}})
	}
	for _, step := range []struct{ most, objects int }{{4 << 20, 400}, {50 << 10, 50}, {7 << 10, 25}} {
		text, err := s.text(step.most)
		var got documentsStatus
		if err != nil || yaml.Unmarshal([]byte(text), &got) != nil || len(got.Objects) != step.objects || got.Omitted != 400-step.objects {
			t.Errorf("at most %d bytes: %d bytes with %d objects, %d omitted, %v; want %d", step.most, len(text), len(got.Objects), got.Omitted, err, step.objects)
		}
	}
	if len(s.Objects) != 400 {
		t.Error("the status itself was cut")
	}
}
