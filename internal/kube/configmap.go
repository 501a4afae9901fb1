package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"heraldlb.io/herald/internal/config"
)

// ConfigMapSource is the source that reads the documents of one ConfigMap.
//
// They are taken as a whole or not at all, as when the API server refuses an apply: while one of them cannot be read,
// and when the ConfigMap is deleted, the last accepted documents stay in force. A process that has accepted none yet
// takes those that the controller keeps in the ConfigMap named Accepted. An empty ConfigMap is an empty configuration.
type ConfigMapSource struct {
	key            types.NamespacedName
	live, accepted cache.SharedIndexInformer
	logger         log.Logger
	inForce        prometheus.Gauge
	rejections     prometheus.Counter

	mu        sync.Mutex
	read      bool
	state     ConfigMapState
	resources config.Resources
	listeners map[*func()]struct{}
}

// ConfigMapState is what became of the ConfigMap.
type ConfigMapState struct {
	// Object is its newest version, nil when there is none.
	Object *corev1.ConfigMap
	// Problems say why the newest version is not in force; none when it is.
	Problems []config.Problem
	// InForce are the documents in force; nil while no configuration is known.
	InForce map[string]string
}

var _ ConfigSource = (*ConfigMapSource)(nil)

// ConfigMapSource returns the source that reads a ConfigMap.
func (c *Client) ConfigMapSource(key types.NamespacedName, logger log.Logger, reg prometheus.Registerer) *ConfigMapSource {
	s := &ConfigMapSource{
		key:    key,
		live:   c.ConfigMap(key),
		logger: log.With(logger, "configmap", key),
		inForce: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_config_accepted",
			Help: "1 when the newest version of the ConfigMap is in force, 0 when an older one is or none. Only with --config-source=configmap.",
		}),
		rejections: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "herald_config_rejections_total",
			Help: "Versions of the ConfigMap that could not be taken, its deletion included. Only with --config-source=configmap.",
		}),
		listeners: map[*func()]struct{}{},
	}
	s.accepted = c.ConfigMap(s.AcceptedKey())
	reg.MustRegister(s.inForce, s.rejections)
	return s
}

// ConfigMap watches one ConfigMap.
func (c *Client) ConfigMap(key types.NamespacedName) cache.SharedIndexInformer {
	return informer(c.core, "configmaps", key.Namespace, &corev1.ConfigMap{}, fields.OneTermEqualSelector("metadata.name", key.Name))
}

// Key names the ConfigMap.
func (s *ConfigMapSource) Key() types.NamespacedName { return s.key }

// AcceptedKey names the ConfigMap with a copy of the documents that were accepted last.
func (s *ConfigMapSource) AcceptedKey() types.NamespacedName {
	return types.NamespacedName{Namespace: s.key.Namespace, Name: s.key.Name + "-accepted"}
}

// StatusKey names the ConfigMap that says what became of the documents.
func (s *ConfigMapSource) StatusKey() types.NamespacedName {
	return types.NamespacedName{Namespace: s.key.Namespace, Name: s.key.Name + "-status"}
}

// Run implements ConfigSource.
func (s *ConfigMapSource) Run(ctx context.Context) error {
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { s.take() },
		UpdateFunc: func(any, any) { s.take() },
		DeleteFunc: func(any) { s.take() },
	}
	for _, informer := range []cache.SharedIndexInformer{s.live, s.accepted} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return fmt.Errorf("watch ConfigMap %s: %w", s.key, err)
		}
	}
	if err := Run(ctx, s.live, s.accepted); err != nil {
		return err
	}
	s.take() // the handlers hear nothing of what is not there
	return nil
}

// Ready implements ConfigSource.
func (s *ConfigMapSource) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.state.InForce != nil:
		return nil
	case !s.read:
		return fmt.Errorf("ConfigMap %s has not been read from the API server yet", s.key)
	}
	return fmt.Errorf("no configuration is known, so nothing is decided: %w", joined(s.state.Problems))
}

// Resources implements ConfigSource.
func (s *ConfigMapSource) Resources() config.Resources {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resources
}

// State returns what became of the ConfigMap. Nobody may change it.
func (s *ConfigMapSource) State() ConfigMapState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Accepted returns the ConfigMap with the documents that were accepted last, nil when there is none.
func (s *ConfigMapSource) Accepted() *corev1.ConfigMap { return ConfigMapOf(s.accepted) }

// OnChange implements ConfigSource.
func (s *ConfigMapSource) OnChange(changed func()) (stop func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners[&changed] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, &changed)
	}, nil
}

// take looks at both ConfigMaps and tells the listeners.
func (s *ConfigMapSource) take() {
	if !s.live.HasSynced() || !s.accepted.HasSynced() {
		return
	}
	s.mu.Lock()
	s.look(ConfigMapOf(s.live))
	listeners := slices.Collect(maps.Keys(s.listeners))
	s.mu.Unlock()
	for _, changed := range listeners {
		(*changed)()
	}
}

// look takes in the newest version, nil when there is none.
func (s *ConfigMapSource) look(live *corev1.ConfigMap) {
	before := s.state
	if !s.read || !sameDocuments(before.Object, live) {
		var read config.Resources
		if read, s.state.Problems = s.parse(live); len(s.state.Problems) == 0 {
			s.force(read, live.Data)
		}
		s.tell(before)
	}
	s.read, s.state.Object = true, live
	if s.state.InForce != nil {
		return
	}
	kept := ConfigMapOf(s.accepted)
	if kept == nil {
		return
	}
	if read, problems := config.Parse(kept.Name, kept.Data); len(problems) == 0 {
		s.force(read, kept.Data)
		level.Warn(s.logger).Log("msg", "the configuration that was accepted last is in force", "from", s.AcceptedKey())
	}
}

func (s *ConfigMapSource) parse(cm *corev1.ConfigMap) (config.Resources, []config.Problem) {
	refused := config.Problem{Kind: config.KindConfigMap, Name: s.key.Name, Condition: config.ConditionAccepted}
	switch {
	case cm == nil:
		refused.Reason = config.ReasonConfigMapNotFound
		refused.Message = fmt.Sprintf("there is no ConfigMap %s: create it; an empty one is an empty configuration", s.key)
		return config.Resources{}, []config.Problem{refused}
	case len(cm.BinaryData) > 0:
		refused.Field, refused.Reason = "binaryData", config.ReasonInvalidDocument
		refused.Message = "only data is read: write the documents there, in UTF-8"
		return config.Resources{}, []config.Problem{refused}
	}
	return config.Parse(s.key.Name, cm.Data)
}

func (s *ConfigMapSource) force(r config.Resources, documents map[string]string) {
	s.resources, s.state.InForce = r, documents
	if documents == nil {
		s.state.InForce = map[string]string{} // an empty one is known, too
	}
}

// tell logs and counts what became of another version.
func (s *ConfigMapSource) tell(before ConfigMapState) {
	if err := joined(s.state.Problems); err != nil {
		s.inForce.Set(0)
		s.rejections.Inc()
		msg := "configuration rejected: the one accepted before stays in force"
		if s.state.InForce == nil {
			msg = "configuration rejected, and none was accepted before"
		}
		level.Warn(s.logger).Log("msg", msg, "err", err)
		return
	}
	s.inForce.Set(1)
	if len(before.Problems) > 0 {
		level.Info(s.logger).Log("msg", "configuration accepted")
	}
}

func sameDocuments(a, b *corev1.ConfigMap) bool {
	if a == nil || b == nil {
		return a == b
	}
	return maps.Equal(a.Data, b.Data) && maps.EqualFunc(a.BinaryData, b.BinaryData, slices.Equal[[]byte])
}

func joined(problems []config.Problem) error {
	const most = 3
	var errs []error
	for i, p := range problems {
		if i == most {
			errs = append(errs, fmt.Errorf("and %d more faults", len(problems)-most))
			break
		}
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

// ConfigMapOf returns the ConfigMap that an informer of ConfigMap has, nil when there is none.
func ConfigMapOf(informer cache.SharedIndexInformer) *corev1.ConfigMap {
	for _, cm := range listed[*corev1.ConfigMap](informer) {
		return cm
	}
	return nil
}

// WriteConfigMap makes a ConfigMap hold this data. have is its newest version known, nil when there is none; if that is
// no longer true, the API server refuses the write.
func (c *Client) WriteConfigMap(ctx context.Context, key types.NamespacedName, have *corev1.ConfigMap, data map[string]string) (*corev1.ConfigMap, error) {
	next := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Namespace: key.Namespace, Name: key.Name,
		Labels: map[string]string{"app.kubernetes.io/name": "herald", "app.kubernetes.io/managed-by": fieldManager},
	}}
	if have != nil {
		next = have.DeepCopy()
	}
	next.Data, next.BinaryData = data, nil
	var err error
	if have == nil {
		next, err = c.configMapsOf(key.Namespace).Create(ctx, next, metav1.CreateOptions{FieldManager: fieldManager})
	} else {
		next, err = c.configMapsOf(key.Namespace).Update(ctx, next, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	if err != nil {
		return nil, fmt.Errorf("write ConfigMap %s: %w", key, err)
	}
	return next, nil
}
