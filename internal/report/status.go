package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/service"
)

// Status is how Herald and what it serves stand.
type Status struct {
	Controllers Controllers `json:"controllers"`
	Speakers    []Speaker   `json:"speakers"`
	Pools       []Pool      `json:"pools"`
	Services    Services    `json:"services"`
	Sessions    Sessions    `json:"sessions"`
	Findings    []Finding   `json:"findings"`
	Unread      []Unread    `json:"unread,omitempty"`
}

// Controllers are those that run, of which one leads.
type Controllers struct {
	Desired int32     `json:"desired"`
	Ready   int32     `json:"ready"`
	Leader  string    `json:"leader,omitempty"`
	Renewed time.Time `json:"renewed"` // when the leader last said so
	// Observing: they give nothing to Services, and only tell what they would.
	Observing bool `json:"observing,omitempty"`
}

// Services counts those that are Herald's.
type Services struct {
	Total     int `json:"total"`
	Addressed int `json:"addressed"` // that have all they ask for; while controllers only observe, that have any address
	Announced int `json:"announced"` // of whose addresses each is announced, or would be while controllers only observe
}

// Sessions counts those with routers.
type Sessions struct {
	Total       int `json:"total"`
	Established int `json:"established"`
}

// StatusOf makes a Status of a Snapshot.
func StatusOf(s *Snapshot) Status {
	out := Status{Speakers: Speakers(s), Pools: Pools(s), Unread: s.Unread}
	var found []Finding
	add := func(f ...Finding) { found = append(found, f...) }
	out.Controllers = controllers(s, add)
	for _, sp := range out.Speakers {
		add(speakerFindings(sp)...)
		add(pathFindings(sp)...)
		add(filterFindings(sp)...)
	}
	if !s.FromConfigMap {
		add(unknownKinds(s)...)
	}
	add(configFindings(s)...)
	for _, p := range out.Pools {
		if p.State != StateAvailable && condition(poolConditions(s, p.Name), config.ConditionAccepted).Status != metav1.ConditionFalse {
			add(warning("IPAddressPool/"+p.Name, p.State, p.Message, "add addresses to spec.addresses, or create another pool"))
		}
	}
	add(observers(s.Namespace, out)...)
	out.Services = serviceFindings(s, add)
	for _, p := range Peers(s) {
		if p.State == "Disabled" {
			continue
		}
		out.Sessions.Total++
		if p.State == established {
			out.Sessions.Established++
			if p.BFD != "" && p.BFD != bfdUp {
				add(warning("BGPPeer/"+p.Peer, "BFDDown", fmt.Sprintf("node %s does not hear BFD from %s, so that a broken path is noticed by BGP's hold time alone", p.Node, cmp.Or(p.Address, p.Peer)),
					"switch BFD on at the router for this node, and see that UDP port 3784 (4784 over several hops) is open; or leave bfdProfile out"))
			}
			continue
		}
		add(failure("BGPPeer/"+p.Peer, "SessionNotEstablished", fmt.Sprintf("node %s has no session with %s since %s, and is %s: %s", p.Node, cmp.Or(p.Address, p.Peer),
			Age(s.Now, p.Since.Time), cmp.Or(p.Reason, p.State), cmp.Or(p.LastError, "no error is known")), "see that the router is configured for this node, its address, AS number and password: heraldctl peers"))
	}
	add(conflicts(s)...)
	add(kernels(s)...)
	out.Findings = sortFindings(found)
	return out
}

// observers tells of programs that only observe.
func observers(namespace string, st Status) []Finding {
	const remedy = "compare with heraldctl observe; to put Herald to work, apply its manifest without --observe"
	var out []Finding
	if st.Controllers.Observing {
		out = append(out, warning("Deployment/"+namespace+"/herald-controller", "Observing", "the controllers only observe: they give nothing to Services", remedy))
	}
	n := 0
	for _, sp := range st.Speakers {
		if sp.Observing {
			n++
		}
	}
	if n > 0 {
		out = append(out, warning("DaemonSet/"+namespace+"/herald-speaker", "Observing",
			fmt.Sprintf("%d of %s only observe: they announce nothing", n, Count(len(st.Speakers), "speaker")), remedy))
	}
	return out
}

func poolConditions(s *Snapshot, name string) []metav1.Condition {
	for _, p := range s.Resources.Pools {
		if p.Name == name {
			return p.Status.Conditions
		}
	}
	return nil
}

func controllers(s *Snapshot, add func(...Finding)) Controllers {
	c := Controllers{Observing: s.Observes()}
	object := "Deployment/" + s.Namespace + "/herald-controller"
	if d := s.Deployment; d != nil {
		c.Desired, c.Ready = 1, d.Status.ReadyReplicas
		if d.Spec.Replicas != nil {
			c.Desired = *d.Spec.Replicas
		}
		switch {
		case c.Ready == 0:
			add(failure(object, "NoControllerReady", "no controller is ready: new Services wait for addresses; those that have one keep it", "kubectl -n "+s.Namespace+" describe deployment herald-controller"))
		case c.Ready < c.Desired:
			add(warning(object, "ControllerNotReady", fmt.Sprintf("%d of %d controllers are ready", c.Ready, c.Desired), "kubectl -n "+s.Namespace+" get pods -l app.kubernetes.io/component=controller"))
		}
	}
	lead(s, &c, add)
	return c
}

func speakerFindings(sp Speaker) []Finding {
	object := "Speaker/" + sp.Node
	var out []Finding
	switch sp.State {
	case SpeakerAbsent:
		out = append(out, warning(object, "SpeakerAbsent", sp.Message, "see whether the DaemonSet herald-speaker has a pod there, and its log"))
	case SpeakerUnseen:
		out = append(out, failure(object, "SpeakerUnseen", sp.Message, "if the node is up: see that TCP and UDP port 7947 are open between nodes and that all speakers have one gossip key"))
	case SpeakerNotReady:
		out = append(out, failure(object, "SpeakerNotReady", sp.Message, "see the log of the node's speaker"))
	}
	if len(sp.Missing) > 0 && sp.State != SpeakerUnseen {
		out = append(out, warning(object, "MembersMissing", "it sees no speaker on "+list(sp.Missing), "if these nodes are up: see that TCP and UDP port 7947 are open between nodes"))
	}
	return out
}

// pathFindings tell of a service proxy that does not work.
func pathFindings(sp Speaker) []Finding {
	if sp.ServicePath != metav1.ConditionFalse {
		return nil
	}
	return []Finding{failure("Speaker/"+sp.Node, "ServicePathDown", "the node's service proxy does not bring traffic to pods", "see kube-proxy, or what takes its place, on the node")}
}

// filterFindings tell of a kernel that drops what clients send.
func filterFindings(sp Speaker) []Finding {
	if sp.Filtered == "" {
		return nil
	}
	return []Finding{failure("Speaker/"+sp.Node, "ReversePathFiltered", sp.Filtered, "set rp_filter of this interface to 2 (loose) on the node, or have replies leave by it")}
}

// configFindings tells of objects that are refused, or name what is not in force.
func configFindings(s *Snapshot) []Finding {
	var out []Finding
	_, problems := config.New(s.Resources)
	for _, p := range problems {
		f := failure(p.Kind+"/"+p.Name, p.Reason, p.Text(), "")
		if p.Condition == config.ConditionResolvedRefs {
			f.Severity = SeverityWarning
		}
		out = append(out, f)
	}
	if c := condition(s.Documents, config.ConditionAccepted); c.Status == metav1.ConditionFalse {
		out = append(out, failure("ConfigMap/"+strings.TrimPrefix(s.Source, "ConfigMap "), c.Reason, c.Message, "correct it, and try before with heraldctl validate -f FILE"))
	}
	return out
}

// serviceFindings tells of Services without address or announcement.
func serviceFindings(s *Snapshot, add func(...Finding)) Services {
	var n Services
	told := map[string][]Announcement{}
	for _, a := range announcements(s) {
		told[a.Service] = append(told[a.Service], a)
	}
	for i := range s.Services {
		svc := &s.Services[i]
		if !service.OfClass(svc, s.Class) {
			continue
		}
		n.Total++
		name := svc.Namespace + "/" + svc.Name
		object, more := "Service/"+name, "heraldctl explain service "+name
		allocated := service.Condition(svc)
		held := service.HeldBy(svc)
		switch {
		case s.Observes():
			if len(held) > 0 {
				n.Addressed++
			}
		case allocated == nil:
			add(failure(object, "NotConsidered", "no controller has looked at it yet", "see that a controller is ready and serves its class"))
		case allocated.Status != metav1.ConditionTrue:
			add(failure(object, allocated.Reason, allocated.Message, more))
		default:
			n.Addressed++
		}
		if !service.Marked(svc) && !s.Observes() || len(held) == 0 || s.Missed("AnnouncementSlices") {
			continue
		}
		all := true
		for _, h := range held {
			f, ok := announced(object, h.Addr.String(), more, told[name], s.Observes())
			if !ok {
				all = false
				add(f)
			}
		}
		if all {
			n.Announced++
		}
	}
	return n
}

// announced tells whether somebody announces an address, and if not, why. Where all only observe, it is enough that
// somebody would.
func announced(object, addr, more string, told []Announcement, observing bool) (Finding, bool) {
	f := failure(object, "NotAnnounced", addr+" is announced by nobody, and no speaker says why", more)
	for _, a := range told {
		switch {
		case a.Address != addr:
		case a.Role == v1beta1.RoleNone:
			f = failure(object, a.Reason, addr+" is announced by nobody: "+a.Message, more)
		case a.observed() && !observing:
			f = failure(object, "Observing", addr+" is announced by nobody: the speaker of node "+a.Node+" only observes", more)
		case a.unheard():
			f = failure(object, "NoSession", addr+" would be told to routers by node "+a.Node+", which has no session with any", "heraldctl peers")
		default:
			return Finding{}, true
		}
	}
	return f, false
}

// conflicts tells of hosts that answer where a speaker should.
func conflicts(s *Snapshot) []Finding {
	var out []Finding
	for _, sp := range s.Speakers {
		for _, c := range sp.Status.Conflicts {
			what := "both answer"
			if c.Held {
				what = "the speaker leaves it alone until that one is gone"
			}
			out = append(out, failure("Speaker/"+sp.Name, "AddressConflict", fmt.Sprintf("%s is used by %s on the link of %s too: %s", c.Address, c.MAC, c.Interface, what),
				"give that host another address, or exclude this one from the pool"))
		}
	}
	return out
}

// kernels tells of kernels that answer where a speaker should.
func kernels(s *Snapshot) []Finding {
	var out []Finding
	for _, sp := range s.Speakers {
		for _, k := range sp.Status.KernelAddresses {
			out = append(out, warning("Speaker/"+sp.Name, "KernelAnswers", fmt.Sprintf("the node's kernel answers for %s on %s, because the address is bound to %s", k.Address, k.Interface, k.Bound),
				"with kube-proxy in IPVS mode set strictARP: true; else remove the address from the interface"))
		}
	}
	return out
}

// Summary is the top of a Status for people: names and values.
func (st Status) Summary() [][]Cell {
	c := st.Controllers
	line := fmt.Sprintf("%d of %d ready", c.Ready, c.Desired)
	if c.Leader != "" {
		line += ", leader " + c.Leader
	}
	if c.Observing {
		line += ", only observing"
	}
	controllers := Cell{line, Good}
	if c.Ready < c.Desired || c.Ready == 0 {
		controllers.Tone = Bad
	}
	ready, observing := 0, 0
	for _, sp := range st.Speakers {
		if sp.Observing {
			observing++
		}
		if sp.State == SpeakerReady {
			ready++
		}
	}
	speakers := Cell{fmt.Sprintf("%d of %d ready", ready, len(st.Speakers)), Good}
	if observing > 0 {
		speakers = Cell{fmt.Sprintf("%s, %d only observing", speakers.Text, observing), Warn}
	}
	if ready < len(st.Speakers) || ready == 0 {
		speakers.Tone = Bad
	}
	words, told := "%d, %d with their addresses", ", %d announced"
	if c.Observing {
		words, told = "%d, %d with an address, given by somebody else", ", %d of them would be announced"
	}
	services := Cell{fmt.Sprintf(words, st.Services.Total, st.Services.Addressed), Good}
	dark := slices.ContainsFunc(st.Unread, func(u Unread) bool { return u.What == "AnnouncementSlices" })
	if !dark {
		services.Text += fmt.Sprintf(told, st.Services.Announced)
	}
	if st.Services.Addressed < st.Services.Total || !dark && st.Services.Announced < st.Services.Total {
		services.Tone = Warn
	}
	rows := [][]Cell{{{Text: "Controllers"}, controllers}, {{Text: "Speakers"}, speakers}, {{Text: "Services"}, services}}
	if n := st.Sessions; n.Total > 0 {
		sessions := Cell{fmt.Sprintf("%d of %d established", n.Established, n.Total), Good}
		if n.Established < n.Total {
			sessions.Tone = Bad
		}
		rows = append(rows, []Cell{{Text: "BGP sessions"}, sessions})
	}
	return rows
}
