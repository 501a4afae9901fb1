package app

import (
	"maps"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func parse[T any](t *testing.T, manifest []byte) T {
	t.Helper()
	var object T
	if err := yaml.UnmarshalStrict(manifest, &object); err != nil {
		t.Fatalf("%v in\n%s", err, manifest)
	}
	return object
}

func TestDeploymentRunsWithoutAnyPrivilege(t *testing.T) {
	d := parse[appsv1.Deployment](t, Deployment{Replicas: 3}.Manifest())
	if d.Name != "testapp" || d.Namespace != "default" || *d.Spec.Replicas != 3 {
		t.Errorf("%s/%s with %d replicas", d.Namespace, d.Name, *d.Spec.Replicas)
	}
	if !maps.Equal(d.Spec.Selector.MatchLabels, d.Spec.Template.Labels) || d.Spec.Template.Labels["app"] != "testapp" {
		t.Errorf("selects %v, its pods carry %v", d.Spec.Selector.MatchLabels, d.Spec.Template.Labels)
	}
	pod := d.Spec.Template.Spec
	c := pod.Containers[0]
	if !*pod.SecurityContext.RunAsNonRoot || !*c.SecurityContext.ReadOnlyRootFilesystem || *c.SecurityContext.AllowPrivilegeEscalation ||
		!slices.Equal(c.SecurityContext.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		t.Errorf("pod %+v, container %+v", pod.SecurityContext, c.SecurityContext)
	}
	if c.Image != Image || c.ImagePullPolicy != corev1.PullIfNotPresent || c.ReadinessProbe.PeriodSeconds != 1 {
		t.Errorf("image %s, pulled %s, probed every %d s", c.Image, c.ImagePullPolicy, c.ReadinessProbe.PeriodSeconds)
	}
	if spread := pod.TopologySpreadConstraints[0]; spread.WhenUnsatisfiable != corev1.ScheduleAnyway || spread.TopologyKey != corev1.LabelHostname {
		t.Errorf("spread by %+v", spread)
	}
	var env []string
	for _, e := range c.Env {
		env = append(env, e.Name)
	}
	if !slices.Equal(env, []string{"NODE_NAME", "POD_NAME"}) {
		t.Errorf("environment %v", env)
	}
	ports := map[string]int32{}
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	if want := map[string]int32{"http": HTTPPort, "echo": EchoPort, "echo-udp": EchoPort, "stream": StreamPort, "grpc": GRPCPort}; !maps.Equal(ports, want) {
		t.Errorf("ports %v, want %v", ports, want)
	}
}

func TestDeploymentTakesEveryOption(t *testing.T) {
	d := parse[appsv1.Deployment](t, Deployment{
		Name: "shop", Namespace: "web", Image: "localhost/herald-testapp:v1",
		NodeSelector: map[string]string{"kubernetes.io/hostname": "n1: {"}, TerminationDelay: 8500 * time.Millisecond,
	}.Manifest())
	pod := d.Spec.Template.Spec
	if d.Name != "shop" || d.Namespace != "web" || *d.Spec.Replicas != 0 || pod.Containers[0].Image != "localhost/herald-testapp:v1" {
		t.Errorf("%s/%s, %d replicas of %s", d.Namespace, d.Name, *d.Spec.Replicas, pod.Containers[0].Image)
	}
	if pod.NodeSelector["kubernetes.io/hostname"] != "n1: {" {
		t.Errorf("node selector %v", pod.NodeSelector)
	}
	if last := pod.Containers[0].Env[2]; last.Name != "TERMINATION_DELAY" || last.Value != "8.5s" {
		t.Errorf("environment %+v", last)
	}
	if *pod.TerminationGracePeriodSeconds <= 8 {
		t.Errorf("killed after %d s, while it still serves", *pod.TerminationGracePeriodSeconds)
	}
}

func TestServiceHasEveryPort(t *testing.T) {
	s := parse[corev1.Service](t, Service{}.Manifest())
	if s.Name != "testapp" || s.Spec.Type != corev1.ServiceTypeClusterIP || *s.Spec.IPFamilyPolicy != corev1.IPFamilyPolicyPreferDualStack {
		t.Errorf("%s of type %s, %s", s.Name, s.Spec.Type, *s.Spec.IPFamilyPolicy)
	}
	var got []string
	for _, p := range s.Spec.Ports {
		if p.Name != p.TargetPort.StrVal {
			t.Errorf("port %s leads to %s", p.Name, p.TargetPort.StrVal)
		}
		got = append(got, p.Name)
	}
	if !slices.Equal(got, []string{"http", "echo", "echo-udp", "stream", "grpc"}) {
		t.Errorf("ports %v", got)
	}
}

func TestServiceTakesEveryOption(t *testing.T) {
	s := parse[corev1.Service](t, Service{
		Name: "myapp-service", Namespace: "web", Selects: "shop", Type: "LoadBalancer", NodePort: 30008,
		Annotations: map[string]string{"heraldlb.io/pool": "lan"}, Labels: map[string]string{"tier": "front"},
		IPFamilyPolicy: "SingleStack", IPFamilies: []string{"IPv6"}, ExternalTrafficPolicy: "Local", LoadBalancerClass: "heraldlb.io/herald",
	}.Manifest())
	if s.Name != "myapp-service" || s.Namespace != "web" || s.Spec.Selector["app"] != "shop" || s.Spec.Ports[0].NodePort != 30008 {
		t.Errorf("%+v", s)
	}
	if s.Annotations["heraldlb.io/pool"] != "lan" || s.Labels["tier"] != "front" {
		t.Errorf("annotations %v, labels %v", s.Annotations, s.Labels)
	}
	if *s.Spec.IPFamilyPolicy != "SingleStack" || !slices.Equal(s.Spec.IPFamilies, []corev1.IPFamily{"IPv6"}) ||
		s.Spec.ExternalTrafficPolicy != "Local" || *s.Spec.LoadBalancerClass != "heraldlb.io/herald" || s.Spec.Type != "LoadBalancer" {
		t.Errorf("%+v", s.Spec)
	}
}
