package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPAdvertisement says which pools' addresses are announced with BGP, by which nodes, to which peers and with which
// attributes.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=bgpadv
// +kubebuilder:printcolumn:name="Pools",type=string,JSONPath=`.spec.ipAddressPools`
// +kubebuilder:printcolumn:name="Peers",type=string,JSONPath=`.spec.peers`
// +kubebuilder:printcolumn:name="Communities",type=string,JSONPath=`.spec.communities`,priority=1
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Refs",type=string,JSONPath=`.status.conditions[?(@.type=="ResolvedRefs")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPAdvertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BGPAdvertisementSpec `json:"spec,omitempty"`
	Status ConfigurationStatus  `json:"status,omitempty"`
}

// BGPAdvertisementSpec is what the advertisement's author asks for. An empty spec announces each address of every
// pool by itself, from every node to every peer.
type BGPAdvertisementSpec struct {
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

	// nodeSelectors: a node announces when at least one of these matches its labels. Left out, every node does; a
	// selector that matches no node lets none.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// serviceSelectors: the addresses of a Service are announced when at least one of these matches its labels. Left
	// out, those of every Service are.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`

	// peers names the BGPPeers to announce to. Left out, every peer is told.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	// +optional
	Peers []string `json:"peers,omitempty"`

	// aggregationLength is the length of the IPv4 prefix that is announced in place of the addresses within it. Every
	// address of that prefix must be of the pool.
	//
	// +kubebuilder:default=32
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=32
	// +optional
	AggregationLength *int32 `json:"aggregationLength,omitempty"`

	// aggregationLengthV6 is the same for IPv6.
	//
	// +kubebuilder:default=128
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=128
	// +optional
	AggregationLengthV6 *int32 `json:"aggregationLengthV6,omitempty"`

	// localPref is the LOCAL_PREF that peers of the own AS are told; those of others never see it.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	// +optional
	LocalPref *int64 `json:"localPref,omitempty"`

	// med is the MULTI_EXIT_DISC: of several ways into the cluster a peer prefers the one with the lowest.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	// +optional
	MED *int64 `json:"med,omitempty"`

	// asPathPrepend is how many times the own ASN is added to the path once more, so that others prefer other ways.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=32
	// +optional
	ASPathPrepend int32 `json:"asPathPrepend,omitempty"`

	// communities are attached to each route: a value (64512:100), a large one (large:64512:1:2), a route target or a
	// route origin (rt:64512:100, soo:192.0.2.1:100), a link bandwidth in bytes a second (lb:64512:125000000), a well-known
	// name (no-export, no-advertise, no-export-subconfed, no-peer, graceful-shutdown, accept-own, blackhole, llgr-stale,
	// no-llgr) or a name that a Community gives.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:XValidation:rule=`self.matches('^([0-9]{1,5}:[0-9]{1,5}|large:[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}|(rt|soo):([0-9]{1,10}|[0-9]{1,3}([.][0-9]{1,3}){3}):[0-9]{1,10}|lb:[0-9]{1,5}:[0-9]{1,10}|[A-Za-z][A-Za-z0-9._-]*)$')`,message="write a community as 64512:100, a large one as large:64512:1:2, an extended one as rt:64512:100, soo:64512:100 or lb:64512:125000000, or the name of one"
	// +kubebuilder:validation:items:XValidation:rule=`!self.matches('^[0-9]{1,5}:[0-9]{1,5}$') || self.split(':').all(n, int(n) <= 65535)`,message="each half of a community is 65535 at most: write larger ones as large:64512:1:2"
	// +kubebuilder:validation:items:XValidation:rule=`!self.matches('^large(:[0-9]{1,10}){3}$') || self.substring(6).split(':').all(n, int(n) <= 4294967295)`,message="each part of a large community is 4294967295 at most"
	// +kubebuilder:validation:items:XValidation:rule=`!self.matches('^(rt|soo):[0-9]{1,10}:[0-9]{1,10}$') || (int(self.split(':')[1]) <= 4294967295 && int(self.split(':')[2]) <= (int(self.split(':')[1]) <= 65535 ? 4294967295 : 65535))`,message="the number of an extended community is 65535 at most, and 4294967295 after an AS number up to 65535"
	// +kubebuilder:validation:items:XValidation:rule=`!self.matches('^(rt|soo):[0-9]{1,3}[.]') || (isIP(self.split(':')[1]) && int(self.split(':')[2]) <= 65535)`,message="the space of an extended community is an AS number or an IPv4 address, and the number after an address is 65535 at most"
	// +kubebuilder:validation:items:XValidation:rule=`!self.matches('^lb:[0-9]{1,5}:[0-9]{1,10}$') || (int(self.split(':')[1]) <= 65535 && int(self.split(':')[2]) >= 1 && int(self.split(':')[2]) <= 4294967295)`,message="a link bandwidth has an AS number, 65535 at most, and bytes a second, 1 to 4294967295"
	// +listType=set
	// +optional
	Communities []string `json:"communities,omitempty"`
}

// BGPAdvertisementList is a list of advertisements.
//
// +kubebuilder:object:root=true
type BGPAdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []BGPAdvertisement `json:"items"`
}
