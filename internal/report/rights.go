package report

// Right is something that one of Herald's service accounts must be allowed to do.
type Right struct {
	Account  string // of the service account
	Verb     string
	Group    string // of the API
	Resource string // with a subresource after a slash
	Name     string // of the only object, empty for all
	Own      bool   // in Herald's namespace only
	// Allowed and Reviewed: the API server was asked, and what it said.
	Allowed, Reviewed bool
}

// Rights are all that Herald's programs need, where the configuration is read from objects.
func Rights() []Right {
	var all []Right
	add := func(account, group string, own bool, name string, verbs []string, resources ...string) {
		for _, resource := range resources {
			for _, verb := range verbs {
				all = append(all, Right{Account: account, Verb: verb, Group: group, Resource: resource, Name: name, Own: own})
			}
		}
	}
	const herald, controller, speaker = "heraldlb.io", "herald-controller", "herald-speaker"
	kinds := []string{"ipaddresspools", "l2advertisements", "bgpadvertisements", "bgppeers", "bfdprofiles", "communities"}
	follow, patch := []string{"list", "watch"}, []string{"patch"}
	add(controller, "", false, "", append([]string{"get"}, follow...), "services")
	add(controller, "", false, "", patch, "services/status")
	add(controller, "", false, "", follow, "namespaces")
	add(controller, herald, false, "", follow, kinds...)
	for _, kind := range kinds {
		add(controller, herald, false, "", patch, kind+"/status")
	}
	add(controller, herald, false, "", follow, "speakers", "announcementslices")
	add(controller, "", false, "", follow, "nodes")
	add(controller, "events.k8s.io", false, "", []string{"create"}, "events")
	add(controller, "coordination.k8s.io", true, "", []string{"create"}, "leases")
	add(controller, "coordination.k8s.io", true, "herald-controller", []string{"get", "update"}, "leases")
	add(controller, "", true, "", []string{"create"}, "secrets")
	add(controller, "", true, "herald-gossip", []string{"get"}, "secrets")
	add(speaker, "", false, "", follow, "services", "nodes")
	add(speaker, "discovery.k8s.io", false, "", follow, "endpointslices")
	add(speaker, herald, false, "", follow, kinds...)
	add(speaker, herald, false, "", []string{"list", "watch", "create", "delete"}, "speakers", "announcementslices")
	add(speaker, herald, false, "", []string{"update"}, "speakers/status", "announcementslices")
	add(speaker, "events.k8s.io", false, "", []string{"create"}, "events")
	add(speaker, "", true, "", follow, "secrets")
	return all
}
