package migrate

import (
	"fmt"
	"slices"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
)

// aliases keeps the names for communities that Herald can use. A name that it cannot use is left out, and
// resolveAliases puts its value where the name stood.
func aliases(f *field) any {
	list, ok := f.value.([]any)
	if !ok {
		return f.value
	}
	var kept []any
	for i, one := range list {
		alias, _ := one.(map[string]any)
		name, value := fmt.Sprint(alias["name"]), fmt.Sprint(alias["value"])
		why := refusedAlias(name, value)
		if why == "" {
			kept = append(kept, one)
			continue
		}
		if known, ok := config.WellKnownCommunity(name); ok && known == value {
			continue // the name means this without being given
		}
		if refusedAlias("name", value) != "" {
			kept = append(kept, one) // no name would help: the value is judged with the object
			continue
		}
		f.c.aliases = append(f.c.aliases, [2]string{name, value})
		f.tell(Check, "%s[%d]: %s. The value %s stands in the advertisements instead", f.path, i, why, value)
	}
	if kept == nil {
		f.c.drafts = slices.DeleteFunc(f.c.drafts, func(d *draft) bool { return d == f.d })
		return nil
	}
	return kept
}

// refusedAlias says why Herald refuses a name for a community, empty when it does not.
func refusedAlias(name, value string) string {
	one := &v1beta1.Community{Spec: v1beta1.CommunitySpec{Communities: []v1beta1.CommunityAlias{{Name: name, Value: value}}}}
	if _, problems := config.New(config.Resources{Communities: []*v1beta1.Community{one}}); len(problems) > 0 {
		return problems[0].Message
	}
	return ""
}

// resolveAliases replaces, in the advertisements, names that could not be kept by their values.
func (c *conversion) resolveAliases() {
	for _, d := range c.drafts {
		list, ok := d.get("communities").([]any)
		if d.kind != config.KindBGPAdvertisement || !ok {
			continue
		}
		for i := range list {
			for _, alias := range c.aliases {
				if list[i] == alias[0] {
					list[i] = alias[1]
				}
			}
		}
	}
}
