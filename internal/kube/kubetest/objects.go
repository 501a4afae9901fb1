package kubetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"

	"heraldlb.io/herald/api/v1beta1"
)

// kinds are the resources that the server has.
var kinds = map[string]struct{ kind, version string }{
	"services":          {"Service", "v1"},
	"secrets":           {"Secret", "v1"},
	"events":            {"Event", "events.k8s.io/v1"},
	"leases":            {"Lease", "coordination.k8s.io/v1"},
	"configmaps":        {"ConfigMap", "v1"},
	"namespaces":        {"Namespace", "v1"},
	"ipaddresspools":    {"IPAddressPool", "heraldlb.io/v1beta1"},
	"l2advertisements":  {"L2Advertisement", "heraldlb.io/v1beta1"},
	"bgpadvertisements": {"BGPAdvertisement", "heraldlb.io/v1beta1"},
	"bgppeers":          {"BGPPeer", "heraldlb.io/v1beta1"},
	"bfdprofiles":       {"BFDProfile", "heraldlb.io/v1beta1"},
	"communities":       {"Community", "heraldlb.io/v1beta1"},

	"endpointslices":     {"EndpointSlice", "discovery.k8s.io/v1"},
	reviews:              {"SubjectAccessReview", "authorization.k8s.io/v1"},
	"deployments":        {"Deployment", "apps/v1"},
	"daemonsets":         {"DaemonSet", "apps/v1"},
	"pods":               {"Pod", "v1"},
	"nodes":              {"Node", "v1"},
	"speakers":           {"Speaker", "heraldlb.io/v1beta1"},
	"announcementslices": {"AnnouncementSlice", "heraldlb.io/v1beta1"},
}

// write does what a request other than GET asks for and returns the answer.
func (a *API) write(r *http.Request, req request, body []byte) (int, any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch r.Method {
	case http.MethodPost:
		obj, err := decode(body)
		if err != nil {
			return http.StatusBadRequest, status(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		}
		if req.resource == reviews {
			return http.StatusCreated, a.review(obj)
		}
		delete(obj, "status") // as of every kind with a subresource for it
		return a.create(req, obj)
	case http.MethodPut:
		obj, err := decode(body)
		if err != nil {
			return http.StatusBadRequest, status(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		}
		return a.update(req, func(object) (object, error) { return obj, nil })
	case http.MethodPatch:
		kind := types.PatchType(r.Header.Get("Content-Type"))
		return a.update(req, func(old object) (object, error) { return patched(kind, req.resource, old, body) })
	case http.MethodDelete:
		if a.objects[req.resource][req.key()] == nil {
			return http.StatusNotFound, status(http.StatusNotFound, metav1.StatusReasonNotFound, req.key()+" not found")
		}
		return http.StatusOK, a.remove(req)
	default:
		return http.StatusMethodNotAllowed, status(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, r.Method)
	}
}

// decode reads an object in JSON or, as client-go sends Kubernetes' own types, in protobuf.
func decode(body []byte) (object, error) {
	var obj object
	if json.Unmarshal(body, &obj) == nil {
		return obj, nil
	}
	typed, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
	if err != nil {
		return nil, err
	}
	return runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
}

func patched(kind types.PatchType, resource string, old object, patch []byte) (object, error) {
	if kind == types.MergePatchType {
		var p object
		if err := json.Unmarshal(patch, &p); err != nil {
			return nil, err
		}
		out := clone(old)
		merge(out, p)
		return out, nil
	}
	if kind != types.StrategicMergePatchType || resource != "services" {
		return nil, fmt.Errorf("patch type %s of %s is not served", kind, resource)
	}
	before, err := json.Marshal(old)
	if err != nil {
		return nil, err
	}
	after, err := strategicpatch.StrategicMergePatch(before, patch, corev1.Service{})
	if err != nil {
		return nil, err
	}
	var out object
	return out, json.Unmarshal(after, &out)
}

// merge is RFC 7396.
func merge(into, patch object) {
	for k, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(into, k)
		case object:
			inner, ok := into[k].(object)
			if !ok {
				inner = object{}
				into[k] = inner
			}
			merge(inner, v)
		default:
			into[k] = v
		}
	}
}

func (a *API) create(req request, obj object) (int, any) {
	meta := obj["metadata"].(object)
	if req.namespace != "" {
		meta["namespace"] = req.namespace
	}
	req.name = meta["name"].(string)
	if a.objects[req.resource][req.key()] != nil {
		return http.StatusConflict, status(http.StatusConflict, metav1.StatusReasonAlreadyExists, req.key()+" already exists")
	}
	if field(obj, "metadata", "creationTimestamp") == "" {
		meta["creationTimestamp"] = time.Now().UTC().Format(time.RFC3339)
	}
	meta["uid"] = fmt.Sprintf("uid-%d", a.version+1)
	meta["generation"] = 1
	return http.StatusCreated, a.commit(req, obj)
}

func (a *API) update(req request, edit func(object) (object, error)) (int, any) {
	old := a.objects[req.resource][req.key()]
	if old == nil {
		return http.StatusNotFound, status(http.StatusNotFound, metav1.StatusReasonNotFound, req.key()+" not found")
	}
	next, err := edit(clone(old))
	if err != nil {
		return http.StatusBadRequest, status(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	if v := field(next, "metadata", "resourceVersion"); v != "" && v != field(old, "metadata", "resourceVersion") {
		return http.StatusConflict, status(http.StatusConflict, metav1.StatusReasonConflict, "the object has been modified")
	}
	switch {
	case req.subresource == "status":
		next["spec"] = old["spec"]
	case kinds[req.resource].kind != "Lease" && old["status"] != nil:
		next["status"] = old["status"]
		if req.resource == "services" && field(next, "spec", "type") != string(corev1.ServiceTypeLoadBalancer) {
			delete(next["status"].(object), "loadBalancer")
		}
	}
	next["metadata"].(object)["uid"] = field(old, "metadata", "uid")
	return http.StatusOK, a.commit(req, next)
}

// commit stores an object under the next version and tells the watchers.
func (a *API) commit(req request, obj object) object {
	before := a.objects[req.resource][req.key()]
	obj["kind"], obj["apiVersion"] = kinds[req.resource].kind, kinds[req.resource].version
	meta := obj["metadata"].(object)
	if before != nil && req.subresource == "" {
		generation, _ := before["metadata"].(object)["generation"].(float64)
		meta["generation"] = generation + 1
	}
	_, finalized := meta["finalizers"]
	if field(obj, "metadata", "deletionTimestamp") != "" && !finalized {
		return a.remove(req)
	}
	obj = at(obj, a.version+1)
	a.objects[req.resource][req.key()] = obj
	a.note(change{req.resource, a.version + 1, before, obj})
	return obj
}

func (a *API) remove(req request) object {
	before := a.objects[req.resource][req.key()]
	delete(a.objects[req.resource], req.key())
	a.note(change{req.resource, a.version + 1, before, nil})
	return before
}

func (a *API) note(c change) {
	a.version = c.version
	a.history = append(a.history, c)
	close(a.changed)
	a.changed = make(chan struct{})
}

// Create adds an object as somebody else than Herald would. A creationTimestamp and a status that it has are kept.
func (a *API) Create(resource string, obj metav1.Object) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if code, result := a.create(named(resource, obj), encode(a, obj)); code != http.StatusCreated {
		a.t.Fatalf("create %s %s: %v", resource, obj.GetName(), result)
	}
}

// EditService changes a Service's metadata and spec as its author would.
func (a *API) EditService(namespace, name string, edit func(*corev1.Service)) {
	a.t.Helper()
	a.edit(request{resource: "services", namespace: namespace, name: name}, &corev1.Service{}, func(obj metav1.Object) { edit(obj.(*corev1.Service)) })
}

// EditServiceStatus changes a Service's status and metadata as somebody else than Herald might.
func (a *API) EditServiceStatus(namespace, name string, edit func(*corev1.Service)) {
	a.t.Helper()
	a.edit(request{resource: "services", namespace: namespace, name: name, subresource: "status"}, &corev1.Service{}, func(obj metav1.Object) { edit(obj.(*corev1.Service)) })
}

// EditNamespace changes a namespace.
func (a *API) EditNamespace(name string, edit func(*corev1.Namespace)) {
	a.t.Helper()
	a.edit(request{resource: "namespaces", name: name}, &corev1.Namespace{}, func(obj metav1.Object) { edit(obj.(*corev1.Namespace)) })
}

// EditConfigMap changes a ConfigMap.
func (a *API) EditConfigMap(namespace, name string, edit func(*corev1.ConfigMap)) {
	a.t.Helper()
	a.edit(request{resource: "configmaps", namespace: namespace, name: name}, &corev1.ConfigMap{}, func(obj metav1.Object) { edit(obj.(*corev1.ConfigMap)) })
}

// EditPool changes a pool as its author would.
func (a *API) EditPool(name string, edit func(*v1beta1.IPAddressPool)) {
	a.t.Helper()
	a.edit(request{resource: "ipaddresspools", name: name}, &v1beta1.IPAddressPool{}, func(obj metav1.Object) { edit(obj.(*v1beta1.IPAddressPool)) })
}

func (a *API) edit(req request, as metav1.Object, edit func(metav1.Object)) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	code, result := a.update(req, func(old object) (object, error) {
		fill(a, old, as)
		edit(as)
		return encode(a, as), nil
	})
	if code != http.StatusOK {
		a.t.Fatalf("edit %s %s: %v", req.resource, req.name, result)
	}
}

// Delete removes an object; one with finalizers stays, marked as being deleted, until they are gone.
func (a *API) Delete(resource, namespace, name string) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	req := request{resource: resource, namespace: namespace, name: name}
	obj := a.objects[resource][req.key()]
	if obj == nil {
		a.t.Fatalf("delete %s %s: it does not exist", resource, req.key())
	}
	if _, finalized := obj["metadata"].(object)["finalizers"]; finalized {
		obj = clone(obj)
		obj["metadata"].(object)["deletionTimestamp"] = time.Now().UTC().Format(time.RFC3339)
		a.commit(req, obj)
		return
	}
	a.remove(req)
}

// Service returns a Service as it is now, nil when there is none.
func (a *API) Service(namespace, name string) *corev1.Service {
	return get(a, request{resource: "services", namespace: namespace, name: name}, &corev1.Service{})
}

// Services returns all Services.
func (a *API) Services() []*corev1.Service {
	return all(a, "services", func() *corev1.Service { return &corev1.Service{} })
}

// Pool returns a pool as it is now, nil when there is none.
func (a *API) Pool(name string) *v1beta1.IPAddressPool {
	return get(a, request{resource: "ipaddresspools", name: name}, &v1beta1.IPAddressPool{})
}

// L2Advertisement returns an advertisement as it is now, nil when there is none.
func (a *API) L2Advertisement(name string) *v1beta1.L2Advertisement {
	return get(a, request{resource: "l2advertisements", name: name}, &v1beta1.L2Advertisement{})
}

// ConfigMap returns a ConfigMap as it is now, nil when there is none.
func (a *API) ConfigMap(namespace, name string) *corev1.ConfigMap {
	return get(a, request{resource: "configmaps", namespace: namespace, name: name}, &corev1.ConfigMap{})
}

// Conditions returns the conditions that the status of a cluster-scoped object has.
func (a *API) Conditions(resource, name string) []metav1.Condition {
	a.mu.Lock()
	defer a.mu.Unlock()
	var obj struct {
		Status struct{ Conditions []metav1.Condition }
	}
	if stored := a.objects[resource][request{name: name}.key()]; stored != nil {
		fill(a, stored, &obj)
	}
	return obj.Status.Conditions
}

// Node returns a Node as it is now, nil when there is none.
func (a *API) Node(name string) *corev1.Node {
	return get(a, request{resource: "nodes", name: name}, &corev1.Node{})
}

// Speaker returns a Speaker as it is now, nil when there is none.
func (a *API) Speaker(name string) *v1beta1.Speaker {
	return get(a, request{resource: "speakers", name: name}, &v1beta1.Speaker{})
}

// AnnouncementSlices returns all slices, by name.
func (a *API) AnnouncementSlices() []*v1beta1.AnnouncementSlice {
	out := all(a, "announcementslices", func() *v1beta1.AnnouncementSlice { return &v1beta1.AnnouncementSlice{} })
	slices.SortFunc(out, func(x, y *v1beta1.AnnouncementSlice) int { return strings.Compare(x.Name, y.Name) })
	return out
}

// EditAnnouncementSlice changes a slice as somebody else than its speaker might.
func (a *API) EditAnnouncementSlice(name string, edit func(*v1beta1.AnnouncementSlice)) {
	a.t.Helper()
	a.edit(request{resource: "announcementslices", name: name}, &v1beta1.AnnouncementSlice{}, func(obj metav1.Object) { edit(obj.(*v1beta1.AnnouncementSlice)) })
}

// EditNode changes a Node.
func (a *API) EditNode(name string, edit func(*corev1.Node)) {
	a.t.Helper()
	a.edit(request{resource: "nodes", name: name, subresource: "status"}, &corev1.Node{}, func(obj metav1.Object) { edit(obj.(*corev1.Node)) })
}

// EditSpeaker changes what a Speaker says.
func (a *API) EditSpeaker(name string, edit func(*v1beta1.Speaker)) {
	a.t.Helper()
	a.edit(request{resource: "speakers", name: name, subresource: "status"}, &v1beta1.Speaker{}, func(obj metav1.Object) { edit(obj.(*v1beta1.Speaker)) })
}

// Secret returns a Secret as it is now, nil when there is none.
func (a *API) Secret(namespace, name string) *corev1.Secret {
	return get(a, request{resource: "secrets", namespace: namespace, name: name}, &corev1.Secret{})
}

// Events returns the events about the object of this name.
func (a *API) Events(name string) []*eventsv1.Event {
	var about []*eventsv1.Event
	for _, e := range all(a, "events", func() *eventsv1.Event { return &eventsv1.Event{} }) {
		if e.Regarding.Name == name {
			about = append(about, e)
		}
	}
	return about
}

func get[T metav1.Object](a *API, req request, into T) (none T) {
	a.mu.Lock()
	defer a.mu.Unlock()
	obj := a.objects[req.resource][req.key()]
	if obj == nil {
		return none
	}
	fill(a, obj, into)
	return into
}

func all[T metav1.Object](a *API, resource string, empty func() T) []T {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []T
	for _, obj := range a.objects[resource] {
		into := empty()
		fill(a, obj, into)
		out = append(out, into)
	}
	return out
}

func named(resource string, obj metav1.Object) request {
	return request{resource: resource, namespace: obj.GetNamespace(), name: obj.GetName()}
}

func encode(a *API, obj any) object {
	data, err := json.Marshal(obj)
	if err != nil {
		a.t.Fatal(err)
	}
	var out object
	if err := json.Unmarshal(data, &out); err != nil {
		a.t.Fatal(err)
	}
	return out
}

func fill(a *API, obj object, into any) {
	data, err := json.Marshal(obj)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		a.t.Fatal(err)
	}
}
