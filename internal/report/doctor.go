package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"heraldlb.io/herald/internal/service"
)

// Check is one thing that was looked at.
type Check struct {
	Name     string    `json:"name"`
	Verdict  string    `json:"verdict"` // ok, warning, failed, or unknown when it could not be looked at
	Why      string    `json:"why,omitempty"`
	Findings []Finding `json:"findings"`
}

// Facts are what Diagnose needs beside a Snapshot.
type Facts struct {
	Rights        []Right
	ServerMinor   int // of Kubernetes 1.x; 0 when it is not known
	ServerVersion string
	Workloads     []Workload // of the whole cluster
}

// Workload is a Deployment or DaemonSet and its images.
type Workload struct {
	Kind, Namespace, Name string
	Images                []string
}

// leastMinor is the oldest Kubernetes 1.x that has all that Herald uses.
const leastMinor = 32

// Diagnose looks for what commonly goes wrong.
func Diagnose(s *Snapshot, f Facts) []Check {
	checks := []Check{
		check(s, "Kubernetes is new enough", versionOfKubernetes(f), "the API server's version"),
		check(s, "Herald's programs may do what they need", denied(f.Rights), "the rights of Herald's programs"),
		check(s, "controllers work, and one leads", only(func(add func(...Finding)) { controllers(s, add) }), "the controller's Deployment", "the controllers' Lease"),
		check(s, "Herald's pods run", podFindings(s), "Herald's pods"),
		check(s, "all programs are of one version", skew(s), "Speakers"),
		check(s, "speakers see each other and announce", everySpeaker(s, speakerFindings), "Speakers"),
		check(s, "kube-proxy, or what takes its place, works", everySpeaker(s, pathFindings), "Speakers"),
		check(s, "kernels let clients' packets in", everySpeaker(s, filterFindings), "Speakers"),
		check(s, "kernels leave the addresses to speakers (strict ARP)", kernels(s), "Speakers"),
		check(s, "no other host uses the addresses", conflicts(s), "Speakers"),
		check(s, "no other load balancer serves the same Services", rivals(s, f), "Services", "workloads of other load balancers"),
		check(s, "some node may announce", excluded(s), "Nodes"),
		check(s, "the configuration is accepted", configFindings(s), "the configuration"),
	}
	if !s.FromConfigMap {
		checks = slices.Insert(checks, 1, check(s, "CustomResourceDefinitions are installed", unknownKinds(s)))
	}
	return checks
}

// check makes a Check of what was found and of the parts that it was looked for in.
func check(s *Snapshot, name string, found []Finding, parts ...string) Check {
	c := Check{Name: name, Verdict: VerdictOK, Findings: sortFindings(found)}
	for _, u := range s.Unread {
		if slices.Contains(parts, u.What) {
			c.Verdict = VerdictUnknown
			if c.Why != "" {
				c.Why += "; "
			}
			c.Why += u.Why
		}
	}
	for _, f := range found {
		if f.Severity == SeverityError {
			c.Verdict = VerdictFailed
			break
		}
		c.Verdict = VerdictWarning
	}
	return c
}

func only(collect func(add func(...Finding))) (found []Finding) {
	collect(func(f ...Finding) { found = append(found, f...) })
	return found
}

func versionOfKubernetes(f Facts) []Finding {
	if f.ServerMinor == 0 || f.ServerMinor >= leastMinor {
		return nil
	}
	return []Finding{failure("Kubernetes/"+f.ServerVersion, "UnsupportedKubernetes", fmt.Sprintf("Herald uses what Kubernetes has since 1.%d", leastMinor), "upgrade the cluster")}
}

func unknownKinds(s *Snapshot) []Finding {
	var out []Finding
	for _, u := range s.Unread {
		if u.NoKind {
			out = append(out, failure("Kind/"+u.What, "NotInstalled", "the API server does not know the kind of "+u.What, "kubectl apply --server-side -f manifests/herald.yaml"))
		}
	}
	return out
}

func denied(rights []Right) []Finding {
	missing := map[string][]string{}
	for _, r := range rights {
		if r.Reviewed && !r.Allowed {
			what := r.Verb + " " + r.Resource
			if r.Group != "" {
				what += "." + r.Group
			}
			missing[r.Account] = append(missing[r.Account], what)
		}
	}
	var out []Finding
	for _, account := range slices.Sorted(maps.Keys(missing)) {
		out = append(out, failure("ServiceAccount/"+account, "NotAllowed", "it may not "+strings.Join(missing[account], ", "), "apply Herald's manifest again: its ClusterRole or binding was changed or removed"))
	}
	return out
}

// podFindings tells of Herald's pods that are not ready, and why as far as they say.
func podFindings(s *Snapshot) []Finding {
	var out []Finding
	for i := range s.Pods {
		p := &s.Pods[i]
		if podReady(p) || p.DeletionTimestamp != nil {
			continue
		}
		out = append(out, failure("Pod/"+p.Namespace+"/"+p.Name, "PodNotReady", "not ready on node "+p.Spec.NodeName+": "+podState(p),
			fmt.Sprintf("kubectl -n %s logs %s", p.Namespace, p.Name)))
	}
	if d := s.DaemonSet; d != nil && d.Status.NumberReady < d.Status.DesiredNumberScheduled {
		out = append(out, failure("DaemonSet/"+d.Namespace+"/"+d.Name, "SpeakersNotReady", fmt.Sprintf("%d of %d speakers are ready", d.Status.NumberReady, d.Status.DesiredNumberScheduled),
			"kubectl -n "+d.Namespace+" get pods -l app.kubernetes.io/component=speaker -o wide"))
	}
	return out
}

func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue })
}

// podState is why a pod is not ready, as far as it says.
func podState(p *corev1.Pod) string {
	why := string(p.Status.Phase)
	for _, c := range p.Status.ContainerStatuses {
		switch {
		case c.State.Waiting != nil:
			why = c.State.Waiting.Reason + ": " + c.State.Waiting.Message
		case c.State.Terminated != nil:
			why = c.State.Terminated.Reason + ": " + c.State.Terminated.Message
		case c.RestartCount > 0:
			why = fmt.Sprintf("restarted %d times", c.RestartCount)
		}
	}
	return why
}

// skew tells of versions that differ.
func skew(s *Snapshot) []Finding {
	versions := map[string][]string{}
	for _, sp := range s.Speakers {
		if v := sp.Status.Version; v != "" {
			versions[v] = append(versions[v], sp.Name)
		}
	}
	var out []Finding
	if len(versions) > 1 {
		var texts []string
		for _, v := range slices.Sorted(maps.Keys(versions)) {
			slices.Sort(versions[v])
			texts = append(texts, v+" on "+list(versions[v]))
		}
		out = append(out, warning("DaemonSet/"+s.Namespace+"/herald-speaker", "VersionSkew", "speakers are of several versions: "+strings.Join(texts, "; "), "end the rollout: kubectl -n "+s.Namespace+" rollout status ds/herald-speaker"))
	}
	if s.Deployment != nil && s.DaemonSet != nil {
		c, sp := tag(s.Deployment.Spec.Template.Spec), tag(s.DaemonSet.Spec.Template.Spec)
		if c != sp {
			out = append(out, warning("Deployment/"+s.Namespace+"/herald-controller", "VersionSkew", fmt.Sprintf("the controller's image is %s, the speakers' %s", c, sp), "apply one release's manifest"))
		}
	}
	return out
}

// tag is what follows the name of a pod's image.
func tag(p corev1.PodSpec) string {
	if len(p.Containers) == 0 {
		return ""
	}
	image := p.Containers[0].Image
	return image[strings.LastIndexAny(image, ":@/")+1:]
}

func everySpeaker(s *Snapshot, of func(Speaker) []Finding) []Finding {
	var out []Finding
	for _, sp := range Speakers(s) {
		out = append(out, of(sp)...)
	}
	return out
}

// rivalImages are parts of the names of other load balancers' images.
var rivalImages = map[string]string{
	"metallb/controller": "MetalLB", "kube-vip/kube-vip-cloud-provider": "kube-vip", "purelb/allocator": "PureLB",
	"kubesphere/openelb": "OpenELB", "rancher/klipper-lb": "ServiceLB", "loxilb/kube-loxilb": "loxilb", ownImage: "another Herald",
}

// ownImage is a part of the name of the controller's image. In another namespace it is of another Herald.
const ownImage = "herald-controller"

// rivals tells of what else gives Services without a class their addresses.
func rivals(s *Snapshot, f Facts) []Finding {
	if s.Class != "" || s.Observes() {
		return nil // only Services that name Herald are Herald's, or none yet
	}
	var out []Finding
	const remedy = "run only one of them for Services without a class: give Herald's controller --lb-class=" + service.Class + ", or the other one a class"
	for _, w := range f.Workloads {
		for _, part := range slices.Sorted(maps.Keys(rivalImages)) {
			if w.Namespace == s.Namespace && part == ownImage {
				continue
			}
			if slices.ContainsFunc(w.Images, func(image string) bool { return strings.Contains(image, part) }) {
				out = append(out, warning(w.Kind+"/"+w.Namespace+"/"+w.Name, "OtherLoadBalancer", rivalImages[part]+" runs in this cluster and may serve Services that name no loadBalancerClass, as Herald does", remedy))
			}
		}
	}
	for i := range s.Services {
		svc := &s.Services[i]
		if svc.Spec.LoadBalancerClass == nil && service.OfClass(svc, "") && !service.Marked(svc) && len(svc.Status.LoadBalancer.Ingress) > 0 {
			out = append(out, failure("Service/"+svc.Namespace+"/"+svc.Name, "AddressOfAnother", "somebody else gave it "+svc.Status.LoadBalancer.Ingress[0].IP, remedy))
		}
	}
	return out
}

// excluded tells when the label that keeps external load balancers away leaves no node.
func excluded(s *Snapshot) []Finding {
	for _, n := range s.Nodes {
		if _, out := n.Labels[corev1.LabelNodeExcludeBalancers]; !out {
			return nil
		}
	}
	if len(s.Nodes) == 0 {
		return nil
	}
	return []Finding{failure("Node/"+s.Nodes[0].Name, "EveryNodeExcluded", "every node is labelled "+corev1.LabelNodeExcludeBalancers+", so none may announce", "kubectl label node NODE "+corev1.LabelNodeExcludeBalancers+"-")}
}
