package report

import (
	"fmt"
	"net/netip"
	"slices"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/announce"
	"heraldlb.io/herald/internal/election"
	"heraldlb.io/herald/internal/service"
)

// announcement goes the second half of the way: from an address to the node that its traffic comes to.
func (e *explainer) announcement(held []service.Held) {
	outlooks := map[netip.Addr]announce.Outlook{}
	for _, o := range announce.Survey(e.scene(e.config)) {
		outlooks[o.Addr] = o
	}
	for _, h := range held {
		o := outlooks[h.Addr]
		if o.Pool == "" {
			e.step(Step{Title: "Advertisements", Address: h.Addr.String(), Verdict: VerdictFailed, Text: "the address is of no pool that exists, so nothing announces it"},
				"add the address to a pool, or delete it from the Service's status by another request")
			continue
		}
		if e.advertisements(o) {
			if len(o.L2) > 0 {
				e.nodes(o)
			}
			if len(o.BGP) > 0 {
				e.routers(o)
			}
		}
		e.announcedNow(h.Addr)
		e.node(h.Addr)
	}
}

// advertisements tells which select the address, and why the others do not.
func (e *explainer) advertisements(o announce.Outlook) bool {
	step := Step{Title: "Advertisements", Address: o.Addr.String(), Verdict: VerdictOK}
	var chosen []string
	for _, a := range e.config.L2Advertisements {
		if slices.Contains(o.L2, a.Name) {
			chosen = append(chosen, "L2Advertisement "+a.Name)
		} else {
			step.Evidence = append(step.Evidence, "L2Advertisement "+a.Name+passedOver(a.SelectsPool(o.Pool), o.Pool))
		}
	}
	for _, a := range e.config.BGPAdvertisements {
		if slices.Contains(o.BGP, a.Name) {
			chosen = append(chosen, "BGPAdvertisement "+a.Name)
		} else {
			step.Evidence = append(step.Evidence, "BGPAdvertisement "+a.Name+passedOver(a.SelectsPool(o.Pool), o.Pool))
		}
	}
	step.Text = "selected by " + list(chosen)
	if len(chosen) > 0 {
		e.step(step, "")
		return true
	}
	step.Verdict, step.Text = VerdictFailed, fmt.Sprintf("no advertisement selects pool %s and this Service: an address alone is announced by nobody", o.Pool)
	e.step(step, "create an L2Advertisement or BGPAdvertisement with ipAddressPools: ["+o.Pool+"], or change one of those that there are")
	return false
}

func passedOver(selectsPool bool, pool string) string {
	if selectsPool {
		return " selects pool " + pool + ", and by its serviceSelectors not this Service"
	}
	return " does not select pool " + pool
}

// nodes tells why each node owns the address, or could, or cannot.
func (e *explainer) nodes(o announce.Outlook) {
	step := Step{Title: "Nodes", Address: o.Addr.String(), Verdict: VerdictOK}
	if e.Missed("Speakers") {
		step.Verdict, step.Text = VerdictUnknown, "which can announce it is not known: what the speakers say of themselves could not be read"
		e.step(step, "")
		return
	}
	var fit []string
	for _, v := range o.Verdicts {
		switch v.Reason {
		case election.Fit:
			fit = append(fit, v.Node)
			step.Evidence = append(step.Evidence, v.Node+": is the one to announce it")
		case election.Claimed, election.Unclaimed, election.LessPreferred, election.Draining, election.NotReady, election.ServicePathDown:
			fit = append(fit, v.Node)
			fallthrough
		default:
			step.Evidence = append(step.Evidence, fmt.Sprintf("%s: %s (%s)", v.Node, announce.Because(v.Reason), v.Reason))
		}
	}
	step.Text = fmt.Sprintf("%d of %d can announce it by ARP or NDP", len(fit), len(o.Verdicts))
	if len(fit) > 0 || len(o.Routes) > 0 {
		e.step(step, "")
		return
	}
	step.Verdict = VerdictFailed
	advice := "make one of the nodes fit: see what stands against each"
	if len(o.Verdicts) == 0 {
		step.Text, advice = "no node and no speaker is known", "see that speakers run: heraldctl speakers"
	}
	e.step(step, advice)
}

// routers tells which nodes tell routers of the address, over which sessions.
func (e *explainer) routers(o announce.Outlook) {
	step := Step{Title: "Routers", Address: o.Addr.String(), Verdict: VerdictOK}
	if e.Missed("Speakers") {
		step.Verdict, step.Text = VerdictUnknown, "which are told is not known: what the speakers say of themselves could not be read"
		e.step(step, "")
		return
	}
	up, down := 0, 0
	for _, r := range o.Routes {
		if len(r.Peers) == 0 {
			step.Evidence = append(step.Evidence, r.Node+": has no BGPPeer to tell")
		}
		for _, p := range Peers(e.Snapshot) {
			if p.Node != r.Node || !slices.Contains(r.Peers, p.Peer) {
				continue
			}
			line := fmt.Sprintf("%s: session with %s (%s) is %s since %s", r.Node, p.Peer, p.Address, p.State, Age(e.Now, p.Since.Time))
			if p.State == established {
				up++
				if p.BFD != "" && p.BFD != bfdUp {
					line += ", and does not hear it by BFD"
				}
			} else if down++; p.LastError != "" {
				line += ": " + p.LastError
			}
			step.Evidence = append(step.Evidence, line)
		}
	}
	step.Text = fmt.Sprintf("%d of the cluster's nodes can tell routers of it, over %s", len(o.Routes), Count(up, "established session"))
	advice := ""
	switch {
	case len(o.Routes) == 0:
		step.Verdict, advice = VerdictFailed, "see nodeSelectors of the BGPAdvertisement, the nodes' labels, and the Service's endpoints"
	case up == 0:
		step.Verdict, advice = VerdictFailed, "see why no router has a session: heraldctl peers"
	case down > 0:
		step.Verdict, advice = VerdictWarning, "see why a session is not established: heraldctl peers"
	}
	e.step(step, advice)
}

// announcedNow tells what the speakers say that they do.
func (e *explainer) announcedNow(addr netip.Addr) {
	step := Step{Title: "Announcement", Address: addr.String(), Verdict: VerdictOK}
	announced := false
	for _, a := range e.told {
		if a.addr != addr {
			continue
		}
		announced = announced || a.Role != v1beta1.RoleNone && !a.unheard() && !a.observed()
		if step.Text == "" {
			step.Text = a.words(e.Now)
		} else {
			step.Evidence = append(step.Evidence, a.words(e.Now))
		}
	}
	advice := ""
	switch {
	case e.Missed("AnnouncementSlices"):
		step.Verdict, step.Text = VerdictUnknown, "not known: what the speakers announce could not be read"
	case step.Text == "":
		step.Verdict, step.Text, advice = VerdictFailed, "no speaker says that it announces the address, nor why not", "see that speakers run: heraldctl speakers"
	case !announced:
		step.Verdict = VerdictFailed
	}
	e.step(step, advice)
}

// node tells what the nodes that announce the address do with its traffic, and who else answers for it.
func (e *explainer) node(addr netip.Addr) {
	step := Step{Title: "Node", Address: addr.String(), Verdict: VerdictOK}
	advice := ""
	for _, sp := range Speakers(e.Snapshot) {
		if !slices.ContainsFunc(e.told, func(a Announcement) bool { return a.addr == addr && a.Role == v1beta1.RoleOwner && a.Node == sp.Node }) {
			continue
		}
		switch sp.ServicePath {
		case "True":
			step.Evidence = append(step.Evidence, sp.Node+": its service proxy works")
		case "False":
			step.Verdict = VerdictFailed
			step.Evidence = append(step.Evidence, sp.Node+": its service proxy does not work, so it brings no traffic to pods")
			advice = "see kube-proxy, or what takes its place, on the node"
		default:
			step.Evidence = append(step.Evidence, sp.Node+": nothing is known of its service proxy")
		}
	}
	here := &Snapshot{Speakers: speakersWith(e.Speakers, addr)}
	for _, f := range append(conflicts(here), kernels(here)...) {
		step.Verdict = VerdictFailed
		step.Evidence, advice = append(step.Evidence, f.Object+": "+f.Message), f.Remedy
	}
	if step.Evidence == nil {
		return
	}
	step.Text = "what the nodes do with what arrives"
	e.step(step, advice)
}

// speakersWith are the speakers with only those conflicts that are about an address.
func speakersWith(all []v1beta1.Speaker, addr netip.Addr) []v1beta1.Speaker {
	out := slices.Clone(all)
	for i := range out {
		st := &out[i].Status
		st.Conflicts = slices.DeleteFunc(slices.Clone(st.Conflicts), func(c v1beta1.AddressConflict) bool { return c.Address != addr.String() })
		st.KernelAddresses = slices.DeleteFunc(slices.Clone(st.KernelAddresses), func(k v1beta1.KernelAddress) bool { return k.Address != addr.String() })
	}
	return out
}
