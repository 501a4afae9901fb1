// Package v1beta1 holds the Go types of Herald's objects, group heraldlb.io: those of the configuration, and Speaker and
// AnnouncementSlice, in which speakers say how they stand and what they announce.
//
// The types are the schema: CRDs and deep copies are generated from them (make generate). Where a field means
// the same as in MetalLB's API it has the same name, so that existing YAML ports by changing the apiVersion.
//
// The package imports apimachinery only, so that anybody can use the types without the rest of Herald.
//
// +kubebuilder:object:generate=true
// +groupName=heraldlb.io
package v1beta1
