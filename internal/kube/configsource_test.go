package kube_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/kube/kubetest"
)

var configKey = types.NamespacedName{Namespace: "herald-system", Name: "herald-config"}

// samples are the example documents, by file.
func samples(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../config/samples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	data := map[string]string{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		data[filepath.Base(f)] = string(text)
	}
	return data
}

func configMap(name string, data map[string]string) *corev1.ConfigMap {
	cm := &corev1.ConfigMap{Data: data}
	cm.Namespace, cm.Name = configKey.Namespace, name
	return cm
}

// source starts a source of this kind, and returns it when a configuration is known.
func source(t *testing.T, api *kubetest.API, kind string) kube.ConfigSource {
	t.Helper()
	s, err := api.Client().ConfigSource(kind, configKey, log.NewNopLogger(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if s.Ready() == nil {
		t.Error("ready before anything was read")
	}
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTheSameDocumentsGiveTheSameConfigurationFromEitherSource(t *testing.T) {
	api := kubetest.New(t)
	documents := samples(t)
	r, problems := config.Parse("samples", documents)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, o := range r.Pools {
		api.Create(kube.ResourceIPAddressPools, o)
	}
	for _, o := range r.L2Advertisements {
		api.Create(kube.ResourceL2Advertisements, o)
	}
	for _, o := range r.BGPAdvertisements {
		api.Create(kube.ResourceBGPAdvertisements, o)
	}
	for _, o := range r.BGPPeers {
		api.Create(kube.ResourceBGPPeers, o)
	}
	for _, o := range r.BFDProfiles {
		api.Create(kube.ResourceBFDProfiles, o)
	}
	for _, o := range r.Communities {
		api.Create(kube.ResourceCommunities, o)
	}
	api.Create("configmaps", configMap(configKey.Name, documents))

	want, _ := config.New(r)
	for _, kind := range []string{kube.ConfigFromCRD, kube.ConfigFromConfigMap} {
		s := source(t, api, kind)
		if err := s.Ready(); err != nil {
			t.Fatal(err)
		}
		got, problems := config.New(s.Resources())
		if len(problems) > 0 || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: problems %v\n%+v\nwant\n%+v", kind, problems, got, want)
		}
	}
}

func TestASourceTellsOfEveryChangeUntilItIsStopped(t *testing.T) {
	api := kubetest.New(t)
	documents := samples(t)
	r, _ := config.Parse("samples", documents)
	for kind, change := range map[string]func(){
		kube.ConfigFromCRD:       func() { api.Create(kube.ResourceCommunities, r.Communities[0]) },
		kube.ConfigFromConfigMap: func() { api.Create("configmaps", configMap(configKey.Name, documents)) },
	} {
		s := source(t, api, kind)
		told, untold := make(chan struct{}, 100), make(chan struct{}, 100)
		if _, err := s.OnChange(func() { told <- struct{}{} }); err != nil {
			t.Fatal(err)
		}
		stop, err := s.OnChange(func() { untold <- struct{}{} })
		if err != nil {
			t.Fatal(err)
		}
		stop()
		change()
		<-told
		if len(s.Resources().Communities) != 1 {
			t.Errorf("%s: told before the change is there: %+v", kind, s.Resources())
		}
		if len(untold) > 0 {
			t.Errorf("%s: told after it was stopped", kind)
		}
	}
}

func TestAnUnknownConfigurationIsWaitedFor(t *testing.T) {
	api := kubetest.New(t)
	s := source(t, api, kube.ConfigFromConfigMap)
	if err := s.Ready(); err == nil || !strings.Contains(err.Error(), "there is no ConfigMap herald-system/herald-config") {
		t.Errorf("ready: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := kube.AwaitConfig(ended, s); err == nil {
		t.Error("known without a ConfigMap")
	}
	known := make(chan error, 1)
	go func() { known <- kube.AwaitConfig(t.Context(), s) }()
	api.Create("configmaps", configMap(configKey.Name, nil))
	if err := <-known; err != nil {
		t.Error(err)
	}
	if r := s.Resources(); !reflect.DeepEqual(r, config.Resources{}) {
		t.Errorf("an empty ConfigMap gives %+v", r)
	}
}

func TestAProcessThatStartsWithBrokenDocumentsTakesTheAcceptedOnes(t *testing.T) {
	for what, live := range map[string]*corev1.ConfigMap{
		"broken":  configMap(configKey.Name, map[string]string{"a": "nonsense"}),
		"binary":  {ObjectMeta: configMap(configKey.Name, nil).ObjectMeta, BinaryData: map[string][]byte{"a": {0}}},
		"missing": nil,
	} {
		t.Run(what, func(t *testing.T) {
			api := kubetest.New(t)
			api.Create("configmaps", configMap(configKey.Name+"-accepted", samples(t)))
			if live != nil {
				api.Create("configmaps", live)
			}
			s := source(t, api, kube.ConfigFromConfigMap).(*kube.ConfigMapSource)
			if err := s.Ready(); err != nil {
				t.Fatal(err)
			}
			if state := s.State(); len(state.Problems) == 0 || !maps.Equal(state.InForce, samples(t)) || len(s.Resources().Pools) == 0 {
				t.Errorf("problems %v, in force %v", state.Problems, state.InForce)
			}
			if live == nil {
				return
			}
			api.EditConfigMap(configKey.Namespace, configKey.Name, func(cm *corev1.ConfigMap) { cm.Data, cm.BinaryData = nil, nil })
			kubetest.Eventually(t, "the mended ConfigMap is in force", func() bool {
				return len(s.State().Problems) == 0 && len(s.Resources().Pools) == 0
			})
		})
	}
}

func TestAnUnknownKindOfSourceIsRefused(t *testing.T) {
	api := kubetest.New(t)
	for _, c := range []struct {
		kind string
		key  types.NamespacedName
		want string
	}{{"file", configKey, "--config-source=file"}, {kube.ConfigFromConfigMap, types.NamespacedName{}, "--config-map"}} {
		_, err := api.Client().ConfigSource(c.kind, c.key, log.NewNopLogger(), prometheus.NewRegistry())
		if !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v", c.kind, err)
		}
	}
}
