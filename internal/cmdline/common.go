package cmdline

import (
	"os"
	"strings"

	"github.com/go-kit/log"

	"heraldlb.io/herald/internal/logging"
)

// Common are the values of the flags that every long-running program of Herald has. They are set once Parse has
// returned.
type Common struct {
	Kubeconfig  string
	Namespace   string
	MetricsBind string
	// ConfigSource and ConfigMap say where the configuration is.
	ConfigSource, ConfigMap string

	logLevel, logFormat string
}

// Common adds the common flags. metricsBind is the default address of the metrics and probes.
func (s *Set) Common(metricsBind string) *Common {
	c := &Common{}
	s.flags.StringVar(&c.Kubeconfig, "kubeconfig", "", "kubeconfig `file` that says how to reach the API server; empty: as a pod does, by its service account")
	s.flags.StringVar(&c.Namespace, "namespace", defaultNamespace(), "namespace that Herald is installed in")
	s.flags.StringVar(&c.MetricsBind, "metrics-bind", metricsBind, "`address:port` to serve /metrics, /healthz and /readyz on")
	s.flags.StringVar(&c.ConfigSource, "config-source", "crd", "where the configuration is: crd (API objects of group heraldlb.io) or configmap (documents in a ConfigMap, with no CRD installed). The same for all of Herald's programs")
	s.flags.StringVar(&c.ConfigMap, "config-map", "herald-config", "`name` of the ConfigMap in --namespace that holds the configuration with --config-source=configmap")
	s.flags.StringVar(&c.logLevel, "log-level", "info", "leave out log lines below this level: debug, info, warn or error")
	s.flags.StringVar(&c.logFormat, "log-format", "logfmt", "format of log lines: logfmt or json")
	return c
}

// Logger makes the process's logger, on standard error.
func (c *Common) Logger() (log.Logger, error) {
	return logging.New(os.Stderr, c.logFormat, c.logLevel)
}

// defaultNamespace is the pod's own namespace, or the one that the manifests use.
func defaultNamespace() string {
	if b, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace"); err == nil {
		return strings.TrimSpace(string(b))
	}
	return "herald-system"
}
