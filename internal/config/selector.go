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
type selectors []selector

// selector is one selector and its text, by which two are compared.
type selector struct {
	labels.Selector
	text string
}

func (s selectors) match(set labels.Set) bool {
	return slices.ContainsFunc(s, func(one selector) bool { return one.Matches(set) })
}

// meet tells whether two choices by labels certainly have something in common, as far as that can be known without
// looking at what there is to choose from: one is of everything, or both hold the same selector.
func meet(x, y selectors) bool {
	if x == nil || y == nil {
		return true
	}
	return slices.ContainsFunc(x, func(one selector) bool {
		return slices.ContainsFunc(y, func(other selector) bool { return one.text == other.text })
	})
}

// selectors reads a list of label selectors.
func (v *verdict) selectors(field string, in []metav1.LabelSelector, leftOut string) selectors {
	v.notEmpty(field, in != nil && len(in) == 0, leftOut)
	var out selectors
	for i := range in {
		if one, ok := v.selector(fmt.Sprintf("%s[%d]", field, i), &in[i]); ok {
			out = append(out, selector{one, one.String()})
		}
	}
	return out
}

func (v *verdict) selector(field string, in *metav1.LabelSelector) (labels.Selector, bool) {
	s, err := metav1.LabelSelectorAsSelector(in)
	if err != nil {
		v.refuse(field, ReasonInvalidSelector, "%v", err)
	}
	return s, err == nil
}

// notEmpty refuses a list that is there and has no entry: nobody can say whether it means all or none.
func (v *verdict) notEmpty(field string, empty bool, leftOut string) {
	if empty {
		v.refuse(field, ReasonInvalidValue, "the list is empty: leave it out %s, or give it an entry", leftOut)
	}
}

// within refuses a number out of its bounds.
func (v *verdict) within(field string, n, least, most int64) {
	if n < least || n > most {
		v.refuse(field, ReasonInvalidValue, "%d is out of bounds: write a number from %d to %d", n, least, most)
	}
}
