package lifecycle

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// everything is what `kubectl get` shows of all objects of all resources in all namespaces, by resource, namespace and name,
// without what a cluster changes by itself: versions, times, the leases of its own parts, how nodes and pods fare, and events that
// are not Herald's. Who wrote which field counts only where it is Herald.
func everything(ctx context.Context) (map[string]string, error) {
	lists, err := kube.Discovery().ServerPreferredResources()
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		root := "/apis/" + list.GroupVersion
		if gv.Group == "" {
			root = "/api/" + gv.Version
		}
		for _, r := range list.APIResources {
			kind := schema.GroupResource{Group: gv.Group, Resource: r.Name}.String()
			if !slices.Contains(r.Verbs, "list") || kind == "componentstatuses" || kind == "events" { // the events of events.k8s.io
				continue
			}
			raw, err := kube.CoreV1().RESTClient().Get().AbsPath(root + "/" + r.Name).DoRaw(ctx)
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", kind, err)
			}
			var got struct{ Items []map[string]any }
			if err := json.Unmarshal(raw, &got); err != nil {
				return nil, fmt.Errorf("list %s: %w", kind, err)
			}
			for _, o := range got.Items {
				meta := o["metadata"].(map[string]any)
				if !settle(kind, o, meta) {
					continue
				}
				text, err := json.MarshalIndent(o, "", " ")
				if err != nil {
					return nil, err
				}
				all[fmt.Sprintf("%s %v/%v", kind, meta["namespace"], meta["name"])] = string(text)
			}
		}
	}
	return all, nil
}

// settle takes from an object what changes by itself, and tells whether the object stays by itself.
func settle(kind string, o, meta map[string]any) bool {
	delete(meta, "resourceVersion")
	var ours []any
	if managed, ok := meta["managedFields"].([]any); ok {
		for _, m := range managed {
			if strings.Contains(fmt.Sprint(m.(map[string]any)["manager"]), "herald") {
				ours = append(ours, m)
			}
		}
	}
	meta["managedFields"] = ours
	status, _ := o["status"].(map[string]any)
	switch kind {
	case "leases.coordination.k8s.io":
		delete(o, "spec")
	case "events.events.k8s.io":
		return strings.HasPrefix(fmt.Sprint(o["reportingController"]), "heraldlb.io/")
	case "endpointslices.discovery.k8s.io":
		delete(meta, "generation")
		delete(meta, "annotations") // when it last changed
	case "nodes":
		var types []string
		conditions, _ := status["conditions"].([]any)
		for _, c := range conditions {
			types = append(types, fmt.Sprint(c.(map[string]any)["type"]))
		}
		slices.Sort(types)
		o["status"] = types
	case "pods":
		delete(o, "status")
	}
	return true
}

// differences say what is in only one of two states of everything, or not the same in both.
func differences(before, after map[string]string) (out []string) {
	for key, text := range after {
		was, ok := before[key]
		switch {
		case !ok:
			out = append(out, "left: "+key)
		case was != text:
			out = append(out, fmt.Sprintf("changed: %s: has%s, had%s", key, lines(text, was), lines(was, text)))
		}
	}
	for key := range before {
		if _, ok := after[key]; !ok {
			out = append(out, "gone: "+key)
		}
	}
	slices.Sort(out)
	return out
}

// lines are those that are in one text and not in another.
func lines(in, notIn string) string {
	other := strings.Split(notIn, "\n")
	only := slices.DeleteFunc(strings.Split(in, "\n"), func(l string) bool { return slices.Contains(other, l) })
	return strings.Join(only, "")
}
