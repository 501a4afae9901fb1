package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// L2Advertisement says which pools' addresses are announced with ARP and NDP, by which nodes and on which of
// their interfaces.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=l2adv
// +kubebuilder:printcolumn:name="Pools",type=string,JSONPath=`.spec.ipAddressPools`
// +kubebuilder:printcolumn:name="Interfaces",type=string,JSONPath=`.spec.interfaces`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Refs",type=string,JSONPath=`.status.conditions[?(@.type=="ResolvedRefs")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type L2Advertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   L2AdvertisementSpec `json:"spec,omitempty"`
	Status ConfigurationStatus `json:"status,omitempty"`
}

// L2AdvertisementSpec is what the advertisement's author asks for. An empty spec announces every pool from every
// node, on each interface whose subnet holds the address.
type L2AdvertisementSpec struct {
	// ipAddressPools names the pools whose addresses are announced, beside those of ipAddressPoolSelectors. With
	// neither, every pool is announced.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	// +optional
	IPAddressPools []string `json:"ipAddressPools,omitempty"`

	// ipAddressPoolSelectors: a pool is announced when at least one of these matches its labels. A selector that
	// matches no pool announces none.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	IPAddressPoolSelectors []metav1.LabelSelector `json:"ipAddressPoolSelectors,omitempty"`

	// nodeSelectors: a node may announce when at least one of these matches its labels. Left out, every node may; a
	// selector that matches no node lets none.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// preferredNodeSelectors: of the nodes that may announce an address, the one with the greatest sum of the weights
	// that match its labels is preferred.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	PreferredNodeSelectors []PreferredNodeSelector `json:"preferredNodeSelectors,omitempty"`

	// interfaces names the interfaces on which the addresses are announced, also when their subnets do not hold the
	// address. An entry is a name, or a pattern as a shell knows it: eth*, eth?, bond[0-3]. Left out, each interface
	// whose subnet holds the address is used.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:XValidation:rule=`self.matches(r'^([^][\\/\s]|\[\^?([^][\\/\s^-](-[^][\\/\s^-])?)+\])+$')`,message="write the name of an interface or a pattern such as eth*, eth? or bond[0-3], without spaces, slashes and backslashes"
	// +listType=set
	// +optional
	Interfaces []string `json:"interfaces,omitempty"`

	// serviceSelectors: the addresses of a Service are announced when at least one of these matches its labels. Left
	// out, those of every Service are.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`

	// rebalance: when an address moves to a node that is preferred over its owner. Never: not as long as the owner can
	// serve, because every move breaks connections. OnPreference: at once, when the weights of preferredNodeSelectors
	// say so.
	//
	// +kubebuilder:default=Never
	// +optional
	Rebalance Rebalance `json:"rebalance,omitempty"`
}

// Rebalance says when an address leaves an owner that could keep it.
//
// +kubebuilder:validation:Enum=Never;OnPreference
type Rebalance string

// The values of rebalance.
const (
	RebalanceNever        Rebalance = "Never"
	RebalanceOnPreference Rebalance = "OnPreference"
)

// PreferredNodeSelector gives weight to the nodes that it matches.
type PreferredNodeSelector struct {
	// weight is added for a node that preference matches.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`

	// preference matches the labels of nodes.
	Preference metav1.LabelSelector `json:"preference"`
}

// L2AdvertisementList is a list of advertisements.
//
// +kubebuilder:object:root=true
type L2AdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []L2Advertisement `json:"items"`
}
