package migrate

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

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
	texts := map[*draft]string{}
	var good []*draft
	for i, d := range c.drafts {
		if i > 0 && c.drafts[i-1].kind == d.kind && c.drafts[i-1].name == d.name {
			first := c.drafts[i-1].from
			c.tell(d.from, d.from.node.Line, "", Refused, "%s %s is made of another object already (%s): give one of the two another name", d.kind, d.name, Finding{File: first.file, Line: first.at(first.node.Line)}.Place())
			continue
		}
		if texts[d] = c.write(d); texts[d] != "" {
			good = append(good, d)
		}
	}
	for {
		var refused, waiting []config.Problem
		_, problems := config.New(together(good))
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
		good = slices.DeleteFunc(good, func(d *draft) bool {
			return slices.ContainsFunc(refused, func(p config.Problem) bool { return p.Kind == d.kind && p.Name == d.name })
		})
	}
	var out []Object
	for _, d := range good {
		out = append(out, Object{d.kind, d.name, texts[d]})
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

// write writes a draft as a document; empty when it cannot be an object of Herald's.
func (c *conversion) write(d *draft) string {
	metadata := map[string]any{"name": d.name}
	if !empty(d.labels) {
		metadata["labels"] = d.labels
	}
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	encoder.CompactSeqIndent()
	err := encoder.Encode(map[string]any{"apiVersion": v1beta1.GroupVersion.String(), "kind": d.kind, "metadata": metadata, "spec": d.spec})
	if err != nil {
		c.tell(d.from, d.from.node.Line, "", Refused, "%s %s cannot be written: %v", d.kind, d.name, err)
		return ""
	}
	parsed, problems := config.Parse(d.from.file, map[string]string{"": b.String()})
	for _, p := range problems {
		c.tellProblem(d, config.Problem{Kind: d.kind, Name: d.name, Message: p.Message}, Refused)
	}
	if len(problems) > 0 {
		return ""
	}
	d.parsed = parsed
	return b.String()
}

// together gathers what the drafts are for config.New.
func together(drafts []*draft) config.Resources {
	var all config.Resources
	for _, d := range drafts {
		all.Pools = append(all.Pools, d.parsed.Pools...)
		all.L2Advertisements = append(all.L2Advertisements, d.parsed.L2Advertisements...)
		all.BGPAdvertisements = append(all.BGPAdvertisements, d.parsed.BGPAdvertisements...)
		all.BGPPeers = append(all.BGPPeers, d.parsed.BGPPeers...)
		all.BFDProfiles = append(all.BFDProfiles, d.parsed.BFDProfiles...)
		all.Communities = append(all.Communities, d.parsed.Communities...)
	}
	return all
}

// Documents are all objects as one text of YAML documents.
func (r Result) Documents() string {
	var b bytes.Buffer
	for i, o := range r.Objects {
		if i > 0 {
			fmt.Fprintln(&b, "---")
		}
		b.WriteString(o.YAML)
	}
	return b.String()
}
