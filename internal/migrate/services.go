package migrate

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"

	"heraldlb.io/herald/internal/service"
)

// balanced is a Service of type LoadBalancer as it was read, and the annotations it is to get.
type balanced struct {
	*corev1.Service
	s   *source
	set map[string]string
}

// annotations returns what the Services need so that they ask Herald for what they asked the product for.
func (c *conversion) annotations() []Annotations {
	var all []balanced
	for _, s := range c.services {
		if b, ok := c.balanced(s); ok {
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(x, y balanced) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
	if c.product.Name == kubeVIPName {
		shareByAddress(all)
	}
	shareAcrossNamespaces(all)
	var out []Annotations
	for _, b := range all {
		if len(b.set) > 0 {
			out = append(out, Annotations{b.Namespace, b.Name, b.set})
		}
		c.ask(b)
	}
	return out
}

// balanced reads a Service; false means that it is of another type, or cannot be read.
func (c *conversion) balanced(s *source) (balanced, bool) {
	svc := &corev1.Service{}
	var value any
	err := s.node.Decode(&value)
	if err == nil {
		var raw []byte
		if raw, err = json.Marshal(value); err == nil {
			err = json.Unmarshal(raw, svc)
		}
	}
	if err != nil {
		c.tell(s, s.node.Line, "", Refused, "the Service cannot be read: %v", err)
		return balanced{}, false
	}
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return balanced{}, false
	}
	svc.Namespace = cmp.Or(svc.Namespace, corev1.NamespaceDefault)
	b := balanced{svc, s, map[string]string{}}
	if notes := child(s.node, "metadata", "annotations"); notes != nil {
		c.translate(b, notes)
	}
	if class := svc.Spec.LoadBalancerClass; class != nil && *class != service.Class {
		c.tell(s, s.node.Line, "spec.loadBalancerClass", Check,
			"the class %s cannot be changed: make the Service anew without it, or run Herald with --lb-class=%[1]s, which then serves no other", *class)
	}
	if c.product.Name == kubeVIPName && svc.Spec.LoadBalancerIP == "0.0.0.0" {
		c.tell(s, s.node.Line, "spec.loadBalancerIP", Check, "0.0.0.0 asked kube-vip for an address of a DHCP server: remove it, since no pool has it")
	}
	return b, true
}

// translate makes Herald's annotations of the product's.
func (c *conversion) translate(b balanced, notes *yaml.Node) {
	for i := 0; i+1 < len(notes.Content); i += 2 {
		key, node := notes.Content[i].Value, resolve(notes.Content[i+1])
		prefix, _, _ := strings.Cut(key, "/")
		if !slices.ContainsFunc(c.product.notes, func(r rule) bool { return strings.HasPrefix(r.from, prefix+"/") }) {
			continue // somebody else's
		}
		f := &field{c: c, s: b.s, path: key, node: node, value: node.Value}
		at := slices.IndexFunc(c.product.notes, func(r rule) bool { return r.from == key || strings.HasPrefix(key, r.from+"-") && r.level == NoEqual })
		if at < 0 {
			f.tell(NoEqual, "this annotation is not known, so nothing became of it")
			continue
		}
		r := c.product.notes[at]
		if r.level != "" && node.Value != "false" {
			f.tell(r.level, "%s", r.say)
		}
		value := f.value
		if r.how != nil {
			value = r.how(f)
		}
		if text, ok := value.(string); ok && r.to != "" && b.Annotations[r.to] == "" {
			b.set[r.to] = text
		}
		if name, renamed := c.pools[node.Value]; renamed && strings.HasSuffix(key, "/address-pool") {
			b.set[service.AnnotationAddressPool] = name
		}
	}
}

// request is what the Service asks Herald for once it has its annotations.
func (b balanced) request() service.Request {
	svc := b.DeepCopy()
	if svc.Annotations == nil {
		svc.Annotations = map[string]string{}
	}
	maps.Copy(svc.Annotations, b.set)
	class := ""
	if named := svc.Spec.LoadBalancerClass; named != nil && *named != service.Class {
		class = *named
	}
	if len(svc.Spec.IPFamilies) == 0 && len(svc.Spec.ClusterIPs) == 0 { // a Service from a file that no API server has filled in
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		svc.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
	}
	req, _ := service.Of(svc, class)
	return req
}

// ask tells what Herald would not understand of a Service's wishes.
func (c *conversion) ask(b balanced) {
	if fault := b.request().Fault; fault != nil {
		c.tell(b.s, b.s.node.Line, "", Check, "Herald would give it no address: %s", fault.Message)
	}
}

// shareByAddress gives Services that have one address a key to share it under: kube-vip asks for none.
func shareByAddress(all []balanced) {
	sharing := map[string][]balanced{}
	for _, b := range all {
		for address := range strings.SplitSeq(b.set[service.AnnotationAddresses], ",") {
			if address = strings.TrimSpace(address); address != "" {
				sharing[address] = append(sharing[address], b)
			}
		}
	}
	for _, address := range slices.Sorted(maps.Keys(sharing)) {
		if len(sharing[address]) < 2 {
			continue
		}
		for _, b := range sharing[address] {
			if b.set[service.AnnotationAllowSharedIP] == "" {
				b.set[service.AnnotationAllowSharedIP] = "shared-" + address
			}
		}
	}
}

// shareAcrossNamespaces has the Services of one key name each other's namespaces, which elsewhere is not needed.
func shareAcrossNamespaces(all []balanced) {
	namespaces := map[string][]string{}
	keys := make([]string, len(all))
	for i, b := range all {
		sharing := b.request().Sharing
		if keys[i] = sharing.Key; keys[i] != "" {
			namespaces[keys[i]] = append(namespaces[keys[i]], b.Namespace)
		}
	}
	for i, b := range all {
		others := slices.Sorted(slices.Values(namespaces[keys[i]]))
		others = slices.DeleteFunc(slices.Compact(others), func(n string) bool { return n == b.Namespace })
		if len(others) > 0 && b.Annotations[service.AnnotationAllowSharedNamespaces] == "" {
			b.set[service.AnnotationAllowSharedNamespaces] = strings.Join(others, ",")
		}
	}
}
