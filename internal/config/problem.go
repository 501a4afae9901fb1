package config

import (
	"cmp"
	"fmt"
	"slices"
)

// The kinds a Problem can name.
const (
	KindIPAddressPool    = "IPAddressPool"
	KindL2Advertisement  = "L2Advertisement"
	KindBGPAdvertisement = "BGPAdvertisement"
	KindBGPPeer          = "BGPPeer"
	KindBFDProfile       = "BFDProfile"
	KindCommunity        = "Community"
	// KindConfigMap is the kind of what Parse finds wrong in a document, which may be no object at all.
	KindConfigMap = "ConfigMap"
)

// The conditions a Problem makes False.
const (
	// ConditionAccepted is False on an object that is left out of the Config.
	ConditionAccepted = "Accepted"
	// ConditionResolvedRefs is False on an object that names another one that is not in force, or not fit for it; what
	// does resolve applies.
	ConditionResolvedRefs = "ResolvedRefs"
)

// The reasons of a Problem.
const (
	ReasonInvalidAddresses    = "InvalidAddresses"
	ReasonInvalidSelector     = "InvalidSelector"
	ReasonInvalidValue        = "InvalidValue"
	ReasonConflictingFields   = "ConflictingFields" // fields of one object that exclude each other
	ReasonInvalidDocument     = "InvalidDocument"   // of a ConfigMap
	ReasonConfigMapNotFound   = "ConfigMapNotFound" // where the configuration should be
	ReasonDuplicateName       = "DuplicateName"     // of two documents of a ConfigMap
	ReasonOverlap             = "Overlap"
	ReasonConflict            = "Conflict" // with an older object
	ReasonPoolNotFound        = "PoolNotFound"
	ReasonPeerNotFound        = "PeerNotFound"
	ReasonBFDProfileNotFound  = "BFDProfileNotFound"
	ReasonCommunityNotFound   = "CommunityNotFound"
	ReasonAggregateBeyondPool = "AggregateBeyondPool"
	ReasonNodeValueInvalid    = "NodeValueInvalid" // of what a BGPPeer reads from a Node
)

// Problem is one fault of one object, in words that its author can act on.
type Problem struct {
	Kind, Name string
	Field      string // the path of the field at fault, such as spec.addresses[2]
	Condition  string
	Reason     string // CamelCase
	Message    string // a sentence: what is wrong and what to write instead
}

// Error makes a Problem an error that names the object and the field.
func (p Problem) Error() string {
	return fmt.Sprintf("%s %s: %s", p.Kind, p.Name, p.Text())
}

// Text is the message with the field, if it is about one.
func (p Problem) Text() string {
	if p.Field == "" {
		return p.Message
	}
	return p.Field + ": " + p.Message
}

// sortProblems sorts by kind and name; those of one object stay in the order they were found.
func sortProblems(problems []Problem) {
	slices.SortStableFunc(problems, func(x, y Problem) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Name, y.Name))
	})
}

// verdict collects the problems of one object.
type verdict struct {
	kind, name string
	problems   *[]Problem
	refused    bool
}

// refuse leaves the object out of the Config.
func (v *verdict) refuse(field, reason, format string, args ...any) {
	v.refused = true
	v.add(field, ConditionAccepted, reason, format, args)
}

// unresolved says that a part of the object waits for another object.
func (v *verdict) unresolved(field, reason, format string, args ...any) {
	v.add(field, ConditionResolvedRefs, reason, format, args)
}

func (v *verdict) add(field, condition, reason, format string, args []any) {
	*v.problems = append(*v.problems, Problem{v.kind, v.name, field, condition, reason, fmt.Sprintf(format, args...)})
}
