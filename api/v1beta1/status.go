package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ConfigurationStatus is what the controller observed of a configuration object.
type ConfigurationStatus struct {
	// conditions: "Accepted" says whether the object is in force, and if not why; "ResolvedRefs" says whether all that
	// it names is in force too.
	//
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
