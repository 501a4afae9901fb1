package app

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"strings"
	"text/template"
	"time"
)

//go:embed deployment.yaml
var deploymentText string

//go:embed service.yaml
var serviceText string

var manifests = template.Must(template.New("").Funcs(template.FuncMap{"json": toJSON}).Parse(
	`{{define "deployment"}}` + deploymentText + `{{end}}{{define "service"}}` + serviceText + `{{end}}`))

// Image is what a Deployment runs unless it names another: the one that mkimages makes.
const Image = "localhost/herald-testapp:dev"

// Deployment describes a Deployment of the application. Its pods carry the label app: NAME.
type Deployment struct {
	Name             string // default testapp
	Namespace        string // default default
	Image            string // default Image
	Replicas         int
	NodeSelector     map[string]string
	TerminationDelay time.Duration // how long a terminating pod keeps serving; 0: the application's default
}

// Manifest renders d as YAML.
func (d Deployment) Manifest() []byte {
	orDefault(&d.Name, "testapp")
	orDefault(&d.Namespace, "default")
	orDefault(&d.Image, Image)
	return render("deployment", d)
}

// GraceSeconds leaves a terminating pod time for its delay and its end.
func (d Deployment) GraceSeconds() int {
	const end, least = 5 * time.Second, 10 * time.Second
	return int(max(d.TerminationDelay+end, least).Seconds())
}

// Service describes a Service in front of a Deployment, with every port of the application: http 80, echo and echo-udp
// 7000, stream 7001, grpc 9000.
type Service struct {
	Name                  string // default: Selects
	Namespace             string // default default
	Selects               string // the Deployment's name; default testapp
	Type                  string // default ClusterIP
	Annotations           map[string]string
	Labels                map[string]string
	IPFamilyPolicy        string // default PreferDualStack
	IPFamilies            []string
	ExternalTrafficPolicy string // empty: the API server's default
	LoadBalancerClass     string
	NodePort              int // of the http port; 0: one is chosen
}

// Manifest renders s as YAML.
func (s Service) Manifest() []byte {
	orDefault(&s.Selects, "testapp")
	orDefault(&s.Name, s.Selects)
	orDefault(&s.Namespace, "default")
	orDefault(&s.Type, "ClusterIP")
	orDefault(&s.IPFamilyPolicy, "PreferDualStack")
	return render("service", s)
}

func orDefault(value *string, otherwise string) {
	if *value == "" {
		*value = otherwise
	}
}

// render cannot fail on the fields of this package's types: a failure is a mistake in the embedded text.
func render(name string, data any) []byte {
	var b bytes.Buffer
	b.WriteString("---\n")
	if err := manifests.ExecuteTemplate(&b, name, data); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// toJSON writes a value as YAML's flow style, quoted, so that no value can change the document around it.
func toJSON(value any) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(value)
	return strings.TrimSpace(b.String()), err
}
