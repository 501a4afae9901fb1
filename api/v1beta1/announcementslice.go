package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MaxAnnouncements is how many announcements one AnnouncementSlice holds at most.
const MaxAnnouncements = 500

// AnnouncementSlice says what one node's speaker announces, or a part of it: a speaker writes as many slices as it needs.
// They belong to the Node object and go with it. The speaker alone writes them; what others write into them is undone.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=announcements
// +kubebuilder:selectablefield:JSONPath=`.nodeName`
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.nodeName`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type AnnouncementSlice struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// nodeName is the node whose speaker wrote the slice.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	NodeName string `json:"nodeName"`

	// announcements are in order of address, Service and protocol. No two of a node's slices hold the same one.
	//
	// +kubebuilder:validation:MaxItems=500
	// +listType=atomic
	// +optional
	Announcements []Announcement `json:"announcements,omitempty"`
}

// Announcement is one address of one Service as a speaker announces it, or tells that nobody does.
type Announcement struct {
	// namespace and name of the Service.
	//
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`

	// name of the Service.
	//
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// address of the Service.
	//
	// +kubebuilder:validation:MaxLength=64
	Address string `json:"address"`

	// role: "Owner" announces the address; with BGP every node that announces it is one. "StandIn" answers for the address
	// while the speaker of its owner is being restarted. "None" tells that no node announces the address, and why; it is
	// told by one speaker, which need not have anything to do with the address. "Observed" would be the owner, and announces
	// nothing: its speaker only observes.
	Role AnnouncementRole `json:"role"`

	// protocol by which the address is announced; left out when the role is None.
	//
	// +optional
	Protocol AnnouncementProtocol `json:"protocol,omitempty"`

	// interfaces of the node on which the address is announced, for L2.
	//
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	Interfaces []string `json:"interfaces,omitempty"`

	// peers are the BGPPeers that are told of the address over an established session, for BGP. Without any the address is
	// ready to be told, and nobody listens. When the role is Observed, they are those that would be told.
	//
	// +kubebuilder:validation:MaxItems=256
	// +listType=atomic
	// +optional
	Peers []string `json:"peers,omitempty"`

	// since is when the speaker took the role. Of several that say to own an address by L2 the latest does: a node that died
	// cannot take its word back.
	Since metav1.MicroTime `json:"since"`

	// reason why no node announces the address, when the role is None, or what is wrong with that it does, in one CamelCase
	// word.
	//
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Reason string `json:"reason,omitempty"`

	// message says the same in words, with what keeps each node from it.
	//
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
}

// AnnouncementRole is the part that a node has in the announcement of an address.
//
// +kubebuilder:validation:Enum=Owner;StandIn;None;Observed
type AnnouncementRole string

// The values of AnnouncementRole.
const (
	RoleOwner    AnnouncementRole = "Owner"
	RoleStandIn  AnnouncementRole = "StandIn"
	RoleNone     AnnouncementRole = "None"
	RoleObserved AnnouncementRole = "Observed"
)

// AnnouncementProtocol is how an address is announced.
//
// +kubebuilder:validation:Enum=L2;BGP
type AnnouncementProtocol string

// The values of AnnouncementProtocol.
const (
	ProtocolL2  AnnouncementProtocol = "L2"
	ProtocolBGP AnnouncementProtocol = "BGP"
)

// The reasons why no node announces an address.
const (
	ReasonNoAdvertisement = "NoAdvertisement" // no advertisement selects its pool and a Service that holds it
	ReasonNoEndpoints     = "NoEndpoints"     // none of its Services has an endpoint that could serve
	ReasonNoEligibleNode  = "NoEligibleNode"  // each node is kept from it by something

	// ReasonAddressConflict: a host outside of the cluster has the address, so that it is left alone; or uses it too, and then
	// the owner has this reason.
	ReasonAddressConflict = "AddressConflict"
)

// AnnouncementSliceList is a list of slices.
//
// +kubebuilder:object:root=true
type AnnouncementSliceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []AnnouncementSlice `json:"items"`
}
