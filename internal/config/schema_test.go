package config_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"heraldlb.io/herald/internal/config"
)

// schema is the schema of one kind, judged as the API server does.
type schema struct {
	props      *apiextensions.JSONSchemaProps
	structural *structuralschema.Structural
	fields     schemavalidation.SchemaValidator
	rules      *cel.Validator
}

// schemas reads the CRDs, by kind, and fails when an API server would not take one: a schema that is not structural, a
// rule that does not compile or may cost too much.
func schemas(t testing.TB) map[string]schema {
	t.Helper()
	files, err := filepath.Glob("../../config/crd/heraldlb.io_*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no CRDs found: %v", err)
	}
	all := map[string]schema{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var external apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(text, &external); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		apiextensionsv1.SetDefaults_CustomResourceDefinition(&external)
		apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&external.Spec)
		external.Status.StoredVersions = []string{external.Spec.Versions[0].Name}
		var crd apiextensions.CustomResourceDefinition
		if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&external, &crd, nil); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, err := range crdvalidation.ValidateCustomResourceDefinition(t.Context(), &crd) {
			t.Errorf("%s: %v", file, err)
		}
		version, err := apiextensions.GetSchemaForVersion(&crd, crd.Spec.Versions[0].Name)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		s := schema{props: version.OpenAPIV3Schema}
		if s.structural, err = structuralschema.NewStructural(s.props); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if s.fields, _, err = schemavalidation.NewSchemaValidator(s.props); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		s.rules = cel.NewValidator(s.structural, true, celconfig.PerCallLimit)
		all[crd.Spec.Names.Kind] = s
	}
	return all
}

// judge returns what the API server finds wrong with an object, after it has put in the defaults.
func (s schema) judge(t testing.TB, object map[string]any) field.ErrorList {
	t.Helper()
	defaulting.Default(object, s.structural)
	errs := schemavalidation.ValidateCustomResource(nil, object, s.fields)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, s.structural, object)...)
	if len(errs) > 0 {
		return errs // as there, the rules are not asked then
	}
	errs, _ = s.rules.Validate(t.Context(), nil, s.structural, object, nil, celconfig.RuntimeCELCostBudget)
	return errs
}

// ruleMessages lists the messages of all rules of a schema.
func (s schema) ruleMessages() []string {
	var messages []string
	var walk func(p *apiextensions.JSONSchemaProps)
	walk = func(p *apiextensions.JSONSchemaProps) {
		for _, r := range p.XValidations {
			messages = append(messages, r.Message)
		}
		for _, name := range slices.Sorted(maps.Keys(p.Properties)) {
			child := p.Properties[name]
			walk(&child)
		}
		if p.Items != nil && p.Items.Schema != nil {
			walk(p.Items.Schema)
		}
	}
	walk(s.props)
	slices.Sort(messages)
	return slices.Compact(messages)
}

const (
	peerBase = "myASN: 64512, peerASN: 64513"
	peerOK   = "peerAddress: 192.0.2.1, " + peerBase
)

// refusedAlone are the faults that one object shows alone: the API server refuses them by its schema, and New refuses
// them too.
var refusedAlone = []struct {
	name, kind, spec string
	schema           string // part of the API server's message
	config           string // part of New's message; empty when it is the same
}{
	{"no address", "IPAddressPool", "{addresses: []}", "at least 1 items", "has no address"},
	{"a bare address", "IPAddressPool", "{addresses: [192.0.2.1]}", "write a prefix such as", "want a prefix such as"},
	{"a host name", "IPAddressPool", "{addresses: [example.com]}", "write a prefix such as", "want a prefix such as"},
	{"a range of three", "IPAddressPool", "{addresses: [192.0.2.1-192.0.2.2-192.0.2.3]}", "write a prefix such as", "not an IP address"},
	{"an IPv4-mapped prefix", "IPAddressPool", "{addresses: ['::ffff:192.0.2.0/120']}", "write a prefix such as", "IPv4-mapped"},
	{"an IPv4-mapped range", "IPAddressPool", "{addresses: ['::ffff:192.0.2.1-::ffff:192.0.2.9']}", "not IPv4-mapped", "IPv4-mapped"},
	{"a zone", "IPAddressPool", "{addresses: ['2001:db8::1%eth0-2001:db8::2%eth0']}", "without zone", "zone"},
	{"host bits", "IPAddressPool", "{addresses: [192.0.2.1/24]}", "bits set beyond its length", ""},
	{"mixed families", "IPAddressPool", "{addresses: ['192.0.2.1-2001:db8::1']}", "mixes IPv4 and IPv6", ""},
	{"everything", "IPAddressPool", "{addresses: [0.0.0.0/0]}", "no Service can have", ""},
	{"everything of IPv6", "IPAddressPool", "{addresses: ['::/0']}", "no Service can have", ""},
	{"loopback", "IPAddressPool", "{addresses: [127.0.0.1-127.0.0.9]}", "no Service can have", ""},
	{"link-local", "IPAddressPool", "{addresses: ['fe80::/64']}", "no Service can have", ""},
	{"multicast", "IPAddressPool", "{addresses: [224.0.0.0/24]}", "no Service can have", ""},
	{"an exclude that is nothing", "IPAddressPool", "{addresses: [192.0.2.0/24], exclude: [x1]}", "write an address, a prefix", "want a prefix"},
	{"an exclude with host bits", "IPAddressPool", "{addresses: [192.0.2.0/24], exclude: [192.0.2.1/25]}", "bits set beyond its length", ""},
	{"an exclude of both families", "IPAddressPool", "{addresses: [192.0.2.0/24], exclude: ['192.0.2.1-::1']}", "mixes IPv4 and IPv6", ""},
	{"no excludes", "IPAddressPool", "{addresses: [192.0.2.0/24], exclude: []}", "at least 1 items", "the list is empty"},
	{"a quota of none", "IPAddressPool", "{addresses: [192.0.2.0/24], namespaceQuota: 0}", "greater than or equal to 1", "would let no namespace"},
	{"a negative priority", "IPAddressPool", "{addresses: [192.0.2.0/24], serviceAllocation: {priority: -1}}", "greater than or equal to 0", "is negative"},
	{"no namespaces", "IPAddressPool", "{addresses: [192.0.2.0/24], serviceAllocation: {namespaces: []}}", "at least 1 items", "the list is empty"},
	{"no namespace selectors", "IPAddressPool", "{addresses: [192.0.2.0/24], serviceAllocation: {namespaceSelectors: []}}", "at least 1 items", "the list is empty"},
	{"no service selectors", "IPAddressPool", "{addresses: [192.0.2.0/24], serviceAllocation: {serviceSelectors: []}}", "at least 1 items", "the list is empty"},

	{"no pools", "L2Advertisement", "{ipAddressPools: []}", "at least 1 items", "the list is empty"},
	{"no nodes", "L2Advertisement", "{nodeSelectors: []}", "at least 1 items", "the list is empty"},
	{"no interfaces", "L2Advertisement", "{interfaces: []}", "at least 1 items", "the list is empty"},
	{"an interface with a slash", "L2Advertisement", "{interfaces: [eth0/1]}", "write the name of an interface or a pattern", ""},
	{"an interface with a space", "L2Advertisement", "{interfaces: ['eth0 eth1']}", "write the name of an interface or a pattern", ""},
	{"a set that does not end", "L2Advertisement", "{interfaces: ['eth[0-3']}", "write the name of an interface or a pattern", ""},
	{"a weight of none", "L2Advertisement", "{preferredNodeSelectors: [{weight: 0, preference: {}}]}", "greater than or equal to 1", "from 1 to 100"},
	{"too great a weight", "L2Advertisement", "{preferredNodeSelectors: [{weight: 101, preference: {}}]}", "less than or equal to 100", "from 1 to 100"},

	{"an aggregate of everything", "BGPAdvertisement", "{aggregationLength: 0}", "greater than or equal to 1", "from 1 to 32"},
	{"an aggregate longer than an address", "BGPAdvertisement", "{aggregationLengthV6: 129}", "less than or equal to 128", "from 1 to 128"},
	{"a local preference of 33 bits", "BGPAdvertisement", "{localPref: 4294967296}", "less than or equal to 4294967295", "from 0 to 4294967295"},
	{"a negative MED", "BGPAdvertisement", "{med: -1}", "greater than or equal to 0", "from 0 to 4294967295"},
	{"endless prepending", "BGPAdvertisement", "{asPathPrepend: 33}", "less than or equal to 32", "from 0 to 32"},
	{"no peers", "BGPAdvertisement", "{peers: []}", "at least 1 items", "the list is empty"},
	{"no communities", "BGPAdvertisement", "{communities: []}", "at least 1 items", "the list is empty"},
	{"half a community", "BGPAdvertisement", "{communities: ['64512:']}", "write a community as 64512:100", "write two numbers"},
	{"a community beyond 16 bits", "BGPAdvertisement", "{communities: ['64512:65536']}", "65535 at most", ""},
	{"a large community of two parts", "BGPAdvertisement", "{communities: ['large:1:2']}", "large:64512:1:2", ""},
	{"a large community beyond 32 bits", "BGPAdvertisement", "{communities: ['large:1:2:4294967296']}", "4294967295 at most", ""},

	{"no names", "Community", "{communities: []}", "", "the list is empty"},
	{"a name with a space", "Community", "{communities: [{name: 'a b', value: '1:2'}]}", "a name begins with a letter", ""},
	{"a well-known name", "Community", "{communities: [{name: no-export, value: '1:2'}]}", "is a well-known community", ""},
	{"a name twice", "Community", "{communities: [{name: a, value: '1:2'}, {name: a, value: '1:3'}]}", "Duplicate value", "is there twice"},
	{"a value that is a name", "Community", "{communities: [{name: a, value: no-export}]}", "write a community as 64512:100", "write two numbers"},
	{"a value beyond 16 bits", "Community", "{communities: [{name: a, value: '65536:1'}]}", "65535 at most", ""},
	{"a large value beyond 32 bits", "Community", "{communities: [{name: a, value: 'large:4294967296:1:1'}]}", "4294967295 at most", ""},

	{"packets in no time", "BFDProfile", "{receiveInterval: 9}", "greater than or equal to 10", "from 10 to 60000"},
	{"packets once in a while", "BFDProfile", "{transmitInterval: 60001}", "less than or equal to 60000", "from 10 to 60000"},
	{"down at the first loss", "BFDProfile", "{detectMultiplier: 1}", "greater than or equal to 2", "from 2 to 255"},
	{"a TTL that one router leaves no more", "BFDProfile", "{minimumTtl: 255}", "less than or equal to 254", "from 1 to 254"},

	{"no router", "BGPPeer", "{" + peerBase + "}", "name the peer by one of", ""},
	{"two ways to the router", "BGPPeer", "{" + peerOK + ", peerAddressFrom: {nodeAnnotation: a}}", "name the peer by one of", ""},
	{"an unnumbered peer with an annotation", "BGPPeer", "{interface: eth0, peerAddressFrom: {nodeAnnotation: a}, " + peerBase + "}", "name the peer by one of", ""},
	{"a name for the router", "BGPPeer", "{peerAddress: tor.example.com, " + peerBase + "}", "write an IP address", "is not an IP address"},
	{"a zone in the address", "BGPPeer", "{peerAddress: 'fe80::1%eth0', " + peerBase + "}", "without zone", "has a zone"},
	{"a multicast router", "BGPPeer", "{peerAddress: 224.0.0.5, " + peerBase + "}", "write the address of one router", ""},
	{"a global address and an interface", "BGPPeer", "{interface: eth0, " + peerOK + "}", "interface goes with a peerAddress exactly when", ""},
	{"a link-local address alone", "BGPPeer", "{peerAddress: 'fe80::1', " + peerBase + "}", "interface goes with a peerAddress exactly when", ""},
	{"an interface with a slash", "BGPPeer", "{interface: a/b, " + peerBase + "}", "write the name of an interface", ""},
	{"an annotation that is no key", "BGPPeer", "{peerAddressFrom: {nodeAnnotation: 'a b'}, " + peerBase + "}", "write the key of a label or annotation", ""},
	{"no ASN of the peer", "BGPPeer", "{peerAddress: 192.0.2.1, myASN: 1}", "write one of peerASN and dynamicASN", ""},
	{"two ASNs of the peer", "BGPPeer", "{" + peerOK + ", dynamicASN: external}", "write one of peerASN and dynamicASN", ""},
	{"a dynamic ASN that is none", "BGPPeer", "{peerAddress: 192.0.2.1, myASN: 1, dynamicASN: any}", "supported values", "write internal or external"},
	{"ASN 0", "BGPPeer", "{peerAddress: 192.0.2.1, myASN: 1, peerASN: 0}", "greater than or equal to 1", "from 1 to 4294967294"},
	{"the last ASN", "BGPPeer", "{peerAddress: 192.0.2.1, myASN: 4294967295, peerASN: 1}", "less than or equal to 4294967294", "from 1 to 4294967294"},
	{"no ASN of the nodes", "BGPPeer", "{peerAddress: 192.0.2.1, peerASN: 1}", "write one of myASN and myASNFrom", ""},
	{"two ASNs of the nodes", "BGPPeer", "{" + peerOK + ", myASNFrom: {nodeLabel: asn}}", "write one of myASN and myASNFrom", ""},
	{"an ASN from two places", "BGPPeer", "{peerAddress: 192.0.2.1, peerASN: 1, myASNFrom: {nodeLabel: asn, nodeAnnotation: asn}}", "write one of nodeAnnotation and nodeLabel", ""},
	{"a local ASN that is the own", "BGPPeer", "{" + peerOK + ", localASN: 64512}", "localASN is myASN", ""},
	{"port 0", "BGPPeer", "{" + peerOK + ", peerPort: 0}", "greater than or equal to 1", "from 1 to 65535"},
	{"a source that is no address", "BGPPeer", "{" + peerOK + ", sourceAddress: eth0}", "write an IP address of the node", ""},
	{"a source of the other family", "BGPPeer", "{" + peerOK + ", sourceAddress: '2001:db8::1'}", "must be of one family", ""},
	{"two sources", "BGPPeer", "{" + peerOK + ", sourceAddress: 192.0.2.2, sourceInterface: eth0}", "write one of sourceAddress and sourceInterface", ""},
	{"a source interface with a space", "BGPPeer", "{" + peerOK + ", sourceInterface: 'a b'}", "write the name of an interface", ""},
	{"a router ID of IPv6", "BGPPeer", "{" + peerOK + ", routerID: '2001:db8::1'}", "write the router ID as an IPv4 address", ""},
	{"an unspecified router ID", "BGPPeer", "{" + peerOK + ", routerID: 0.0.0.0}", "write the router ID as an IPv4 address", ""},
	{"a hold time below 3 s", "BGPPeer", "{" + peerOK + ", holdTime: 2s}", "holdTime is 0s, or from 3s to 65535s", ""},
	{"a hold time beyond its field", "BGPPeer", "{" + peerOK + ", holdTime: 65536s}", "holdTime is 0s, or from 3s to 65535s", "whole seconds from 0s to 65535s"},
	{"a hold time in milliseconds", "BGPPeer", "{" + peerOK + ", holdTime: 3500ms}", "should match", "whole seconds"},
	{"a keepalive time of none", "BGPPeer", "{" + peerOK + ", keepaliveTime: 0s}", "keepaliveTime is 1s at least", "whole seconds from 1s"},
	{"too few keepalives", "BGPPeer", "{" + peerOK + ", holdTime: 9s, keepaliveTime: 4s}", "a third of holdTime or less", "must be a third of holdTime"},
	{"too few keepalives for the default", "BGPPeer", "{" + peerOK + ", keepaliveTime: 31s}", "a third of holdTime or less", "must be a third of holdTime"},
	{"no time between attempts", "BGPPeer", "{" + peerOK + ", connectTime: 0s}", "connectTime is from 1s to 65535s", "whole seconds from 1s to 65535s"},
	{"no password", "BGPPeer", "{" + peerOK + ", passwordSecret: {name: ''}}", "at least 1 chars", "the name is empty"},
	{"near and far at once", "BGPPeer", "{" + peerOK + ", ttlSecurity: {}, ebgpMultiHop: true}", "exclude each other", ""},
	{"a TTL of none", "BGPPeer", "{" + peerOK + ", ttlSecurity: {minimumTtl: 0}}", "greater than or equal to 1", "from 1 to 255"},
	{"a distant peer on the link", "BGPPeer", "{interface: eth0, ebgpMultiHop: true, " + peerBase + "}", "one hop away", ""},
	{"a restart that never ends", "BGPPeer", "{" + peerOK + ", gracefulRestart: {restartTime: 4096s}}", "restartTime is from 1s to 4095s", "whole seconds from 1s to 4095s"},
	{"routes that live for ever", "BGPPeer", "{" + peerOK + ", gracefulRestart: {longLivedStaleTime: 16777216s}}", "longLivedStaleTime is from 1s to 16777215s", "whole seconds from 1s to 16777215s"},
	{"long-lived routes without restart", "BGPPeer", "{" + peerOK + ", gracefulRestart: {enabled: false, longLivedStaleTime: 1h}}", "needs graceful restart to be enabled", ""},
	{"no families", "BGPPeer", "{" + peerOK + ", families: []}", "at least 1 items", "the list is empty"},
	{"a family that is none", "BGPPeer", "{" + peerOK + ", families: [IPv5]}", "supported values", "write IPv4 or IPv6"},
}

// object is a YAML document of a kind with a spec.
func object(kind, spec string) string {
	return "apiVersion: heraldlb.io/v1beta1\nkind: " + kind + "\nmetadata: {name: x}\nspec: " + spec + "\n"
}

// untyped reads a document as the API server does, which tells whole numbers from others.
func untyped(t testing.TB, document string) map[string]any {
	t.Helper()
	text, err := yaml.YAMLToJSON([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := utiljson.Unmarshal(text, &object); err != nil {
		t.Fatal(err)
	}
	return object
}

func accepted(c *config.Config) int {
	return len(c.Pools) + len(c.L2Advertisements) + len(c.BGPAdvertisements) + len(c.BGPPeers) + len(c.BFDProfiles)
}

func TestWhatTheSchemaRefusesNewRefusesToo(t *testing.T) {
	all := schemas(t)
	seen := map[string]bool{}
	for _, c := range refusedAlone {
		t.Run(c.kind+": "+c.name, func(t *testing.T) {
			errs := all[c.kind].judge(t, untyped(t, object(c.kind, c.spec)))
			for _, err := range errs {
				seen[c.kind+": "+err.Detail] = true
			}
			if text := errs.ToAggregate(); text == nil || !strings.Contains(text.Error(), c.schema) {
				t.Errorf("the schema says %v, want %q", text, c.schema)
			}
			want := c.config
			if want == "" {
				want = c.schema
			}
			r, problems := config.Parse("cm", map[string]string{"a": object(c.kind, c.spec)})
			if len(problems) > 0 {
				t.Fatalf("Parse: %v", problems)
			}
			cfg, problems := config.New(r)
			if accepted(cfg) > 0 || !slices.ContainsFunc(problems, func(p config.Problem) bool {
				return p.Condition == config.ConditionAccepted && strings.Contains(p.Message, want)
			}) {
				t.Errorf("New accepted %d objects and says %v, want %q", accepted(cfg), problems, want)
			}
		})
	}
	for kind, s := range all {
		for _, message := range s.ruleMessages() {
			if !seen[kind+": "+message] {
				t.Errorf("no case shows the rule of %s: %s", kind, message)
			}
		}
	}
}
