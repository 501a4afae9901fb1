package migrate

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
)

// Object is one of Herald's, ready to be written.
type Object struct {
	Kind, Name string
	YAML       string // one document
}

// judge returns the drafts that Herald accepts together, and tells of the others why it does not.
func (c *conversion) judge() []Object {
	slices.SortStableFunc(c.drafts, func(x, y *draft) int { return cmp.Or(cmp.Compare(x.kind, y.kind), cmp.Compare(x.name, y.name)) })
	var single []*draft
	for i, d := range c.drafts {
		if i > 0 && c.drafts[i-1].kind == d.kind && c.drafts[i-1].name == d.name {
			first := c.drafts[i-1].from
			c.tell(d.from, d.from.node.Line, "", Refused, "%s %s is made of another object already (%s): give one of the two another name", d.kind, d.name, Finding{File: first.file, Line: first.at(first.node.Line)}.Place())
		} else if c.write(d) {
			single = append(single, d)
		}
	}
	var good []*draft
	var resources []config.Resources
	for some := range slices.Chunk(single, atOnce) {
		read, ok := c.parse(some)
		good, resources = append(good, ok...), append(resources, read)
	}
	all := together(resources)
	for {
		var refused, waiting []config.Problem
		_, problems := config.New(all)
		for _, p := range problems {
			if p.Condition == config.ConditionAccepted {
				refused = append(refused, p)
			} else {
				waiting = append(waiting, p)
			}
		}
		if len(refused) == 0 {
			c.tellProblems(good, waiting, Check)
			break
		}
		c.tellProblems(good, refused, Refused)
		without := map[[2]string]bool{}
		for _, p := range refused {
			without[[2]string{p.Kind, p.Name}] = true
		}
		good = slices.DeleteFunc(good, func(d *draft) bool { return without[[2]string{d.kind, d.name}] })
		all = remaining(all, without)
	}
	var out []Object
	for _, d := range good {
		out = append(out, Object{d.kind, d.name, d.text})
	}
	return out
}

// tellProblems tells what is wrong with objects where their users find it: in what they were made from.
func (c *conversion) tellProblems(drafts []*draft, problems []config.Problem, level Level) {
	for _, p := range problems {
		for _, d := range drafts {
			if d.kind == p.Kind && d.name == p.Name {
				c.tellProblem(d, p, level)
			}
		}
	}
}

// tellProblem names the field where the user wrote it, or what was made of it where that has another name.
func (c *conversion) tellProblem(d *draft, p config.Problem, level Level) {
	if d.from.kind == d.kind {
		c.tell(d.from, d.line(p.Field), p.Field, level, "%s", p.Message)
		return
	}
	c.tell(d.from, d.line(p.Field), "", level, "%s", p.Error())
}

// write writes a draft as a document, if that can be.
func (c *conversion) write(d *draft) bool {
	metadata := map[string]any{"name": d.name}
	if !empty(d.labels) {
		metadata["labels"] = d.labels
	}
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	encoder.CompactSeqIndent()
	if err := encoder.Encode(map[string]any{"apiVersion": v1beta1.GroupVersion.String(), "kind": d.kind, "metadata": metadata, "spec": d.spec}); err != nil {
		c.tell(d.from, d.from.node.Line, "", Refused, "%s %s cannot be written: %v", d.kind, d.name, err)
		return false
	}
	d.text = b.String()
	return true
}

// atOnce is how many documents config.Parse is given at once: it takes no more than a few MiB, and some time for each
// call.
const atOnce = 500

// parse reads the drafts as Herald would, and returns those that can be read.
func (c *conversion) parse(drafts []*draft) (config.Resources, []*draft) {
	texts, byField := map[string]string{}, map[string]*draft{}
	for i, d := range drafts {
		key := fmt.Sprint(i)
		texts[key], byField[fmt.Sprintf("data[%q]", key)] = d.text, d
	}
	resources, problems := config.Parse("", texts)
	bad := map[*draft]bool{}
	for _, p := range problems {
		key, _, _ := strings.Cut(p.Field, " ")
		if d := byField[key]; d != nil {
			bad[d] = true
			c.tellProblem(d, config.Problem{Kind: d.kind, Name: d.name, Message: p.Message}, Refused)
		}
	}
	return resources, slices.DeleteFunc(drafts, func(d *draft) bool { return bad[d] })
}

// together is what config.New is to judge.
func together(parts []config.Resources) (all config.Resources) {
	for _, r := range parts {
		all.Pools = append(all.Pools, r.Pools...)
		all.L2Advertisements = append(all.L2Advertisements, r.L2Advertisements...)
		all.BGPAdvertisements = append(all.BGPAdvertisements, r.BGPAdvertisements...)
		all.BGPPeers = append(all.BGPPeers, r.BGPPeers...)
		all.BFDProfiles = append(all.BFDProfiles, r.BFDProfiles...)
		all.Communities = append(all.Communities, r.Communities...)
	}
	return all
}

// remaining leaves objects out, by kind and name.
func remaining(all config.Resources, without map[[2]string]bool) config.Resources {
	return config.Resources{
		Pools:             keep(all.Pools, config.KindIPAddressPool, without),
		L2Advertisements:  keep(all.L2Advertisements, config.KindL2Advertisement, without),
		BGPAdvertisements: keep(all.BGPAdvertisements, config.KindBGPAdvertisement, without),
		BGPPeers:          keep(all.BGPPeers, config.KindBGPPeer, without),
		BFDProfiles:       keep(all.BFDProfiles, config.KindBFDProfile, without),
		Communities:       keep(all.Communities, config.KindCommunity, without),
	}
}

func keep[T metav1.Object](list []T, kind string, without map[[2]string]bool) []T {
	return slices.DeleteFunc(list, func(o T) bool { return without[[2]string{kind, o.GetName()}] })
}

// Documents are objects as one text of YAML documents.
func Documents(objects []Object) string {
	var texts []string
	for _, o := range objects {
		texts = append(texts, o.YAML)
	}
	return strings.Join(texts, "---\n")
}

// File names the file of the step in which an object is applied: those that nobody outside notices, those with which
// speakers begin to answer ARP and NDP, and those with which they begin to talk to routers.
func (o Object) File() string {
	switch o.Kind {
	case config.KindL2Advertisement:
		return FileLayer2
	case config.KindBGPAdvertisement, config.KindBGPPeer:
		return FileBGP
	}
	return FilePools
}

// The files of the steps.
const (
	FilePools  = "pools.yaml"
	FileLayer2 = "layer2.yaml"
	FileBGP    = "bgp.yaml"
)

// Script is the annotations as commands of a shell, empty when there are none.
func (r Result) Script() string {
	var b strings.Builder
	for _, s := range r.Services {
		fmt.Fprintf(&b, "kubectl annotate --overwrite service -n %s %s", quote(s.Namespace), quote(s.Name))
		for _, key := range slices.Sorted(maps.Keys(s.Set)) {
			fmt.Fprintf(&b, " %s", quote(key+"="+s.Set[key]))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// quote writes a text so that a shell takes it as it is.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
