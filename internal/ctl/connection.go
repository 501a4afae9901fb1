package ctl

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"heraldlb.io/herald/internal/cmdline"
	"heraldlb.io/herald/internal/kube"
)

// patience is how long one answer of the API server is waited for when --request-timeout does not say.
const patience = 20 * time.Second

// connection is how to reach the API server, and where Herald is in the cluster.
type connection struct {
	rules     clientcmd.ClientConfigLoadingRules
	overrides clientcmd.ConfigOverrides
	herald    string // namespace
	source    string // of the configuration; empty: as the controller is told
	configMap string
}

// flags adds the flags that kubectl has too, and Herald's own.
func (c *connection) flags(f *pflag.FlagSet) {
	c.rules = *clientcmd.NewDefaultClientConfigLoadingRules()
	f.StringVar(&c.rules.ExplicitPath, "kubeconfig", "", "kubeconfig `file`; empty: that of the environment variable KUBECONFIG, or ~/.kube/config, or the pod's service account")
	clientcmd.BindOverrideFlags(&c.overrides, f, clientcmd.RecommendedConfigOverrideFlags(""))
	f.StringVar(&c.herald, "herald-namespace", "herald-system", "namespace that Herald is installed in")
	f.StringVar(&c.source, "config-source", "", "where the configuration is: crd or configmap; empty: as the controller is told")
	f.StringVar(&c.configMap, "config-map", "herald-config", "`name` of the ConfigMap with the configuration")
}

var errNoCluster = errors.New("no cluster is named: name a kubeconfig file with --kubeconfig or the environment variable KUBECONFIG, or an API server with --server")

// An apiClient knows all of Kubernetes' own objects, and Herald's as Herald's other programs do.
type apiClient struct {
	kubernetes.Interface
	*kube.Client
}

// client connects to nothing yet.
func (c *connection) client() (*apiClient, *rest.Config, error) {
	cfg, err := c.config().ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, nil, errNoCluster
	}
	if err != nil {
		return nil, nil, fmt.Errorf("find the API server: %w", err)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = patience
	}
	cfg.UserAgent, cfg.QPS = "heraldctl/"+cmdline.Version(), -1
	client, err := kube.NewClient(cfg, cfg.UserAgent)
	if err != nil {
		return nil, nil, err
	}
	compact := rest.CopyConfig(cfg)
	compact.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	compact.ContentType = runtime.ContentTypeProtobuf
	theirs, err := kubernetes.NewForConfig(compact)
	if err != nil {
		return nil, nil, fmt.Errorf("make a client for %s: %w", cfg.Host, err)
	}
	return &apiClient{Interface: theirs, Client: client}, cfg, nil
}

func (c *connection) config() clientcmd.ClientConfig {
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(&c.rules, &c.overrides)
}

// namespace is that of the user's objects when a name has none.
func (c *connection) namespace() (string, error) {
	namespace, _, err := c.config().Namespace()
	if clientcmd.IsEmptyConfig(err) {
		return "", errNoCluster
	}
	if err != nil {
		return "", fmt.Errorf("find the namespace: %w", err)
	}
	return namespace, nil
}

// clarify says what an error of the API server means for whoever tried to do something, and what helps.
func clarify(doing string, err error) error {
	var unreachable *url.Error
	switch {
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%s: your user may not: %w; ask for a ClusterRole that grants it (herald-view has all that only reads), or use another --context", doing, err)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: the API server does not know your user: %w; log in again, or use another --context", doing, err)
	case ofHerald(err):
		return fmt.Errorf("%s: the API server does not know this kind: install Herald's CustomResourceDefinitions (kubectl apply --server-side -f manifests/herald.yaml)", doing)
	case errors.As(err, &unreachable):
		return fmt.Errorf("%s: no answer from the API server: %w; see --kubeconfig, --context and --server. If it is down, what is announced stays announced, and new Services wait", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
