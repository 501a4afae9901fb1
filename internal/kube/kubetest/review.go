package kubetest

// reviews is the resource by which a client asks what somebody may do. Such objects are answered and not kept.
const reviews = "subjectaccessreviews"

// Deny has the server say that a user may not do something; all the rest it may.
func (a *API) Deny(user, verb, resource string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.denied == nil {
		a.denied = map[string]bool{}
	}
	a.denied[user+" "+verb+" "+resource] = true
}

// review answers what a user may do.
func (a *API) review(obj object) object {
	asked := field(obj, "spec", "user") + " " + field(obj, "spec", "resourceAttributes", "verb") + " " + field(obj, "spec", "resourceAttributes", "resource")
	out := clone(obj)
	out["kind"], out["apiVersion"] = kinds[reviews].kind, kinds[reviews].version
	out["status"] = object{"allowed": !a.denied[asked]}
	return out
}
