package config

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// What leaving a list out means, for the message about a list without entries.
const (
	everyNamespace = "to mean every namespace"
	everyService   = "to mean every Service"
	everyNode      = "to mean every node"
	everyPool      = "to mean every pool"
	everyPeer      = "to mean every peer"
)

// selectors is a choice by labels: any one that matches is enough. Nil stands for a choice that was not made; what
// that means is for whoever holds it to say.
type selectors []labels.Selector

func (s selectors) match(set labels.Set) bool {
	return slices.ContainsFunc(s, func(one labels.Selector) bool { return one.Matches(set) })
}

// selectors reads a list of label selectors.
func (v *verdict) selectors(field string, in []metav1.LabelSelector, leftOut string) selectors {
	v.notEmpty(field, in != nil && len(in) == 0, leftOut)
	var out selectors
	for i := range in {
		s, err := metav1.LabelSelectorAsSelector(&in[i])
		if err != nil {
			v.refuse(fmt.Sprintf("%s[%d]", field, i), ReasonInvalidSelector, "%v", err)
			continue
		}
		out = append(out, s)
	}
	return out
}

// notEmpty refuses a list that is there and has no entry: nobody can say whether it means all or none.
func (v *verdict) notEmpty(field string, empty bool, leftOut string) {
	if empty {
		v.refuse(field, ReasonInvalidValue, "the list is empty: leave it out %s, or give it an entry", leftOut)
	}
}
