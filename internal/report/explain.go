package report

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/announce"
	"heraldlb.io/herald/internal/assign"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/service"
)

// The verdicts of a Step.
const (
	VerdictOK      = "ok"
	VerdictWarning = "warning"
	VerdictFailed  = "failed"  // the Service gets no further, or not everywhere
	VerdictUnknown = "unknown" // it could not be looked at
)

// Step is one step on the way from a Service to its traffic.
type Step struct {
	Title    string   `json:"title"`
	Address  string   `json:"address,omitempty"` // that the step is about, when not about all
	Verdict  string   `json:"verdict"`
	Text     string   `json:"text"`
	Evidence []string `json:"evidence,omitempty"`
}

// Explanation is why a Service is announced as it is, or is not.
type Explanation struct {
	Service string   `json:"service"`
	Steps   []Step   `json:"steps"`
	Verdict string   `json:"verdict"` // the worst of the steps'
	Summary string   `json:"summary"`
	Advice  []string `json:"advice"` // what to do; none when all is well
}

// explainer makes an Explanation.
type explainer struct {
	*Snapshot
	svc    *corev1.Service
	key    types.NamespacedName
	config *config.Config
	told   []Announcement // about this Service
	out    Explanation
}

// Explain goes the whole way of a Service, which need not be in the Snapshot's list of those of type LoadBalancer.
func Explain(s *Snapshot, svc *corev1.Service) Explanation {
	e := &explainer{Snapshot: s, svc: svc, key: types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}}
	e.config, _ = config.New(s.Resources)
	e.out = Explanation{Service: e.key.String(), Verdict: VerdictOK, Advice: []string{}}
	e.told = Announcements(s, Filter{Service: e.key.String()})
	if e.class() && e.request() {
		if held := service.HeldBy(svc); e.address(held) {
			e.endpoints()
			e.announcement(held)
		}
	}
	e.conclude()
	return e.out
}

// step adds a step, with what to do when it is not all right.
func (e *explainer) step(s Step, advice string) {
	e.out.Steps = append(e.out.Steps, s)
	if s.Verdict == VerdictOK {
		return
	}
	if e.out.Verdict == VerdictOK || e.out.Verdict == VerdictUnknown || s.Verdict == VerdictFailed {
		e.out.Verdict = s.Verdict
	}
	if advice != "" && !slices.Contains(e.out.Advice, advice) {
		e.out.Advice = append(e.out.Advice, advice)
	}
}

// class tells whether the Service is Herald's to serve.
func (e *explainer) class() bool {
	step := Step{Title: "Class", Verdict: VerdictFailed}
	ours := service.Class
	if e.Class != "" {
		ours = e.Class
	}
	switch named := e.svc.Spec.LoadBalancerClass; {
	case e.svc.Spec.Type != corev1.ServiceTypeLoadBalancer:
		step.Text = fmt.Sprintf("its type is %s: only a Service of type LoadBalancer gets an external address", e.svc.Spec.Type)
		e.step(step, "set spec.type: LoadBalancer")
		return false
	case !service.OfClass(e.svc, e.Class) && named == nil:
		step.Text = "it names no loadBalancerClass, and this controller serves class " + e.Class + " only"
		e.step(step, "make the Service anew with spec.loadBalancerClass: "+ours+" (the field cannot be changed)")
		return false
	case !service.OfClass(e.svc, e.Class):
		step.Text = fmt.Sprintf("its loadBalancerClass is %s: another load balancer's, so Herald leaves it alone", service.Quote(*named))
		e.step(step, "if Herald is to serve it, make the Service anew with spec.loadBalancerClass: "+ours+" (the field cannot be changed)")
		return false
	case named == nil:
		step.Text = "type LoadBalancer, and no class: Herald serves it"
	default:
		step.Text = fmt.Sprintf("type LoadBalancer of class %s: Herald serves it", *named)
	}
	step.Verdict = VerdictOK
	e.step(step, "")
	return true
}

// request tells what the Service asks for.
func (e *explainer) request() bool {
	if e.svc.DeletionTimestamp != nil {
		e.step(Step{Title: "Request", Verdict: VerdictFailed, Text: "it is being deleted"}, "")
		return false
	}
	req, _ := service.Of(e.svc, e.Class)
	step := Step{Title: "Request", Verdict: VerdictOK, Text: "any address"}
	if len(req.Families) > 0 {
		step.Text = "an address of " + families(req.Families)
	}
	if len(req.Addresses) > 0 {
		step.Text = "the address " + list(spelled(req.Addresses))
	}
	if req.Pool != "" {
		step.Text += " from pool " + req.Pool
	}
	if req.Sharing.Key != "" {
		step.Text += fmt.Sprintf(", shared under the key %s", service.Quote(req.Sharing.Key))
	}
	if req.Fault != nil {
		step.Verdict, step.Text = VerdictFailed, req.Fault.Message
		e.step(step, "correct the Service: "+string(req.Fault.Reason))
		return true // it keeps what it has
	}
	e.step(step, "")
	return true
}

// address tells which addresses the Service holds, and what each pool could give when it lacks one.
func (e *explainer) address(held []service.Held) bool {
	allocated := service.Condition(e.svc)
	step := Step{Title: "Address", Verdict: VerdictOK}
	switch {
	case allocated == nil:
		step.Verdict, step.Text = VerdictFailed, "no controller has looked at the Service yet"
		e.step(step, "see that a controller is ready, heraldctl status, and that it may write, heraldctl doctor")
		return false
	case allocated.Status == metav1.ConditionTrue:
		step.Text = allocated.Message
		e.step(step, "")
		return len(held) > 0
	}
	step.Verdict = VerdictFailed
	step.Text = fmt.Sprintf("%s (%s, for %s)", allocated.Message, allocated.Reason, Age(e.Now, allocated.LastTransitionTime.Time))
	for _, c := range assign.NewSurvey(e.Class, e.config, e.Resources, e.Namespaces, e.Services).Considered(e.key) {
		line := fmt.Sprintf("pool %s, %s: %s", c.Pool, c.Family, c.Why)
		if c.Family == "" {
			line = c.Why
		}
		step.Evidence = append(step.Evidence, line)
	}
	e.step(step, remedies[allocated.Reason])
	return len(held) > 0
}

// remedies say what helps against the reasons of a condition Allocated that is False.
var remedies = map[string]string{
	"NoPools":            "create an IPAddressPool, or mend one that is not accepted: heraldctl pools",
	"NoEligiblePool":     "name a pool in the annotation " + service.AnnotationAddressPool + ", or change serviceAllocation or autoAssign of one",
	"FamilyUnavailable":  "add addresses of this family to a pool, or change spec.ipFamilies of the Service",
	"PoolExhausted":      "add addresses to a pool, or delete Services that need theirs no more: heraldctl pools",
	"QuotaExceeded":      "raise spec.namespaceQuota of the pool, or delete Services of this namespace",
	"PoolDraining":       "set spec.drain: false on the pool, or add another one",
	"PoolNotFound":       "create the pool, or name another in the annotation " + service.AnnotationAddressPool,
	"PoolNotAccepted":    "see why the pool is not in force: heraldctl pools",
	"PoolNotAllowed":     "name another pool, or have this one's serviceAllocation select the Service",
	"AddressOutsidePool": "ask for an address of a pool: heraldctl pools",
	"AddressInUse":       "ask for another address, or see who has it: heraldctl announcements --ip ADDRESS",
	"SharingConflict":    "see the annotations " + service.AnnotationAllowSharedIP + " and " + service.AnnotationAllowSharedNamespaces + " of both Services",
}

// endpoints tells whether anything could serve the Service.
func (e *explainer) endpoints() {
	ready, total, nodes := 0, 0, map[string]bool{}
	for _, slice := range e.EndpointSlices {
		if slice.Namespace != e.svc.Namespace || slice.Labels["kubernetes.io/service-name"] != e.svc.Name {
			continue
		}
		for _, ep := range slice.Endpoints {
			total++
			if ep.Conditions.Ready == nil || *ep.Conditions.Ready {
				ready++
				if ep.NodeName != nil {
					nodes[*ep.NodeName] = true
				}
			}
		}
	}
	step := Step{Title: "Endpoints", Verdict: VerdictOK, Text: fmt.Sprintf("%d of %d are ready, on %s", ready, total, names(nodes, "no node"))}
	advice := ""
	switch {
	case total == 0:
		step.Verdict, step.Text = VerdictFailed, "there are none: no pod matches the Service's selector"
		advice = "see spec.selector of the Service, and whether pods with these labels run in its namespace"
	case ready == 0:
		step.Verdict = VerdictFailed
		advice = "see why the pods are not ready: kubectl -n " + e.svc.Namespace + " get pods"
	case e.svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal:
		step.Text += "; externalTrafficPolicy is Local, so only these nodes can announce it"
	}
	e.step(step, advice)
}

// conclude sums up.
func (e *explainer) conclude() {
	s := &e.out
	switch s.Verdict {
	case VerdictOK:
		s.Summary = "all is well"
	case VerdictUnknown:
		s.Summary = "nothing is found against it, and not all could be seen"
	case VerdictWarning:
		s.Summary = "it works, and something needs attention"
	default:
		for _, step := range s.Steps {
			if step.Verdict == VerdictFailed {
				s.Summary = "it fails at: " + step.Title
				if step.Address != "" {
					s.Summary += " of " + step.Address
				}
				break
			}
		}
	}
}

func spelled(addrs []netip.Addr) []string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String()
	}
	return out
}

func families(all []corev1.IPFamily) string {
	out := make([]string, len(all))
	for i, f := range all {
		out[i] = string(f)
	}
	return list(out)
}

// scene is what the speakers know, for announce.Survey.
func (s *Snapshot) scene(cfg *config.Config) announce.Scene {
	claims := map[netip.Addr]string{}
	for _, a := range announcements(s) {
		if a.ownsL2() {
			claims[a.addr] = a.Node
		}
	}
	return announce.Scene{Config: cfg, Services: s.Services, EndpointSlices: s.EndpointSlices, Nodes: s.Nodes, Members: members(s), Claims: claims}
}
