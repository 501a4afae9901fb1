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
	Kubeconfig string
	Namespace  string
	Metrics    Metrics
	// ConfigSource and ConfigMap say where the configuration is.
	ConfigSource, ConfigMap string

	logLevel, logFormat string
}

// Metrics say how the metrics and probes are served, and to whom.
type Metrics struct {
	Bind                    string
	TLSCertFile, TLSKeyFile string
	Auth                    string // none or token
	PerService              bool
}

// Common adds the common flags. metricsBind is the default address of the metrics and probes.
func (s *Set) Common(metricsBind string) *Common {
	c := &Common{}
	s.flags.StringVar(&c.Kubeconfig, "kubeconfig", "", "kubeconfig `file` that says how to reach the API server; empty: as a pod does, by its service account")
	s.flags.StringVar(&c.Namespace, "namespace", defaultNamespace(), "namespace that Herald is installed in")
	s.flags.StringVar(&c.Metrics.Bind, "metrics-bind", metricsBind, "`address:port` to serve /metrics, /healthz and /readyz on")
	s.flags.StringVar(&c.Metrics.TLSCertFile, "metrics-tls-cert-file", "", "`file` with the certificate to serve them with, followed by those of its issuers; read again when it changes. Empty: no TLS, or with --metrics-auth=token a certificate of the process's own making")
	s.flags.StringVar(&c.Metrics.TLSKeyFile, "metrics-tls-key-file", "", "`file` with the key of that certificate")
	s.flags.StringVar(&c.Metrics.Auth, "metrics-auth", "none", "who may read /metrics: none, which asks nobody, or token, those whose bearer token the API server knows and allows to get /metrics. Nobody is asked on a loopback address")
	s.flags.BoolVar(&c.Metrics.PerService, "metrics-per-service", false, "have series about single Services and addresses too, up to 10000")
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
