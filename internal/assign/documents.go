package assign

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/go-kit/log/level"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/yaml"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/kube"
)

// documents shows what became of a configuration that is read from a ConfigMap. Its documents have no status, so one
// more ConfigMap says what their status would be; another one keeps the documents that were accepted last, for
// processes that start while the newest ones cannot be read.
type documents struct {
	source *kube.ConfigMapSource
	status cache.SharedIndexInformer

	// Of the loop, from restore on: what the ConfigMap of the status says, or will say when the write under way has
	// succeeded.
	whole v1beta1.IPAddressPoolStatus
	shown map[subject]v1beta1.IPAddressPoolStatus
}

// keyOfStatus is the key of the ConfigMap's data that holds a documentsStatus.
const keyOfStatus = "status.yaml"

// maxStatus is how long that text may be: a ConfigMap holds 1 MiB.
const maxStatus = 960 << 10

const resourceConfigMaps = "configmaps"

// documentsStatus is what became of a configuration, for people and tools to read.
type documentsStatus struct {
	// ConfigMap is the status of the documents as a whole.
	ConfigMap namedStatus `json:"configMap"`
	// Objects are in order of kind and name. Where there is not room for all, those without a fault are left out first.
	Objects []namedStatus `json:"objects"`
	Omitted int           `json:"omitted,omitempty"`
}

type namedStatus struct {
	Kind   string                      `json:"kind,omitempty"`
	Name   string                      `json:"name"`
	Status v1beta1.IPAddressPoolStatus `json:"status"`
}

func newDocuments(c *kube.Client, source *kube.ConfigMapSource) *documents {
	return &documents{source: source, status: c.ConfigMap(source.StatusKey())}
}

// restore reads what an earlier leader wrote, so that times are kept and nothing is told twice.
func (d *documents) restore() {
	d.whole, d.shown = v1beta1.IPAddressPoolStatus{}, map[subject]v1beta1.IPAddressPoolStatus{}
	var s documentsStatus
	cm := kube.ConfigMapOf(d.status)
	if cm == nil || yaml.Unmarshal([]byte(cm.Data[keyOfStatus]), &s) != nil {
		return // it is written anew
	}
	d.whole = s.ConfigMap.Status
	for _, o := range s.Objects {
		d.shown[configSubject(o.Kind, o.Name)] = o.Status
	}
}

// reviewDocuments queues the writes of the ConfigMaps that do not hold what they should.
func (c *Controller) reviewDocuments(want map[subject]v1beta1.IPAddressPoolStatus) {
	d := c.documents
	state := d.source.State()
	if state.InForce != nil && !c.began {
		return // what became of it is not known yet
	}
	if accepted := d.source.Accepted(); state.InForce != nil && (accepted == nil || !maps.Equal(accepted.Data, state.InForce)) {
		c.planConfigMap(d.source.AcceptedKey(), accepted, state.InForce, func() {})
	}
	if c.desk.busy(subject{resourceConfigMaps, d.source.StatusKey()}) {
		return
	}
	now := time.Now()
	whole := renew(d.whole, v1beta1.IPAddressPoolStatus{Conditions: []metav1.Condition{wholeCondition(state)}}, now)
	shown := make(map[subject]v1beta1.IPAddressPoolStatus, len(want))
	for s, w := range want {
		shown[s] = renew(d.shown[s], w, now)
	}
	text, err := c.render(whole, shown)
	if err != nil {
		level.Error(c.logger).Log("msg", "cannot say what to write", "configmap", d.source.StatusKey(), "err", err)
		return
	}
	have := kube.ConfigMapOf(d.status)
	if have != nil && have.Data[keyOfStatus] == text {
		return
	}
	objects := c.config.objects
	c.planConfigMap(d.source.StatusKey(), have, map[string]string{keyOfStatus: text}, func() {
		c.tellWhole(state, d.whole.Conditions, whole.Conditions)
		for s, o := range objects {
			c.tellConfig(o, d.shown[s].Conditions, shown[s].Conditions)
		}
		d.whole, d.shown = whole, shown
	})
}

// planConfigMap queues the write of a ConfigMap. told runs in the loop when it has succeeded.
func (c *Controller) planConfigMap(key types.NamespacedName, have *corev1.ConfigMap, data map[string]string, told func()) {
	s := subject{resourceConfigMaps, key}
	if c.desk.busy(s) {
		return
	}
	c.desk.queue(task{subject: s, later: true, do: func(ctx context.Context) (func(), error) {
		if _, err := c.client.WriteConfigMap(ctx, key, have, data); err != nil {
			return func() {}, err
		}
		return told, nil
	}})
}

// renew returns the status want with the times of have where nothing has changed.
func renew(have, want v1beta1.IPAddressPoolStatus, now time.Time) v1beta1.IPAddressPoolStatus {
	want.Conditions, _ = kube.NextConditions(0, have.Conditions, want.Conditions, now)
	return want
}

// wholeCondition is the condition Accepted of the documents as a whole.
func wholeCondition(state kube.ConfigMapState) metav1.Condition {
	c := judge(config.ConditionAccepted, reasonAccepted, "The documents are in force", state.Problems)
	switch {
	case len(state.Problems) == 0:
	case state.InForce == nil:
		c.Message = "No configuration is in force, and nothing is decided: " + c.Message
	default:
		c.Message = "The documents accepted before stay in force: " + c.Message
	}
	return c
}

// render writes the status of the documents.
func (c *Controller) render(whole v1beta1.IPAddressPoolStatus, shown map[subject]v1beta1.IPAddressPoolStatus) (string, error) {
	out := documentsStatus{ConfigMap: namedStatus{Name: c.documents.source.Key().Name, Status: whole}, Objects: []namedStatus{}}
	for s, status := range shown {
		out.Objects = append(out.Objects, namedStatus{c.config.objects[s].kind, s.key.Name, status})
	}
	slices.SortFunc(out.Objects, func(x, y namedStatus) int { return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Name, y.Name)) })
	return out.text(maxStatus)
}

// text writes as much as there is room for.
func (s documentsStatus) text(most int) (string, error) {
	const about = "# Written by Herald's controller: what became of the configuration.\n"
	for all := len(s.Objects); ; s.Omitted = all - len(s.Objects) {
		data, err := yaml.Marshal(s)
		if err != nil || len(data) <= most || len(s.Objects) == 0 {
			return about + string(data), err
		}
		faulty := slices.DeleteFunc(slices.Clone(s.Objects), func(o namedStatus) bool {
			return !slices.ContainsFunc(o.Status.Conditions, func(c metav1.Condition) bool { return c.Status == metav1.ConditionFalse })
		})
		if len(faulty) == len(s.Objects) {
			faulty = faulty[:len(faulty)/2]
		}
		s.Objects = faulty
	}
}
