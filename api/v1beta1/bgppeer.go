package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPPeer is a router that the speakers talk BGP to.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=peer
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.peerAddress`
// +kubebuilder:printcolumn:name="Interface",type=string,JSONPath=`.spec.interface`,priority=1
// +kubebuilder:printcolumn:name="ASN",type=integer,JSONPath=`.spec.peerASN`
// +kubebuilder:printcolumn:name="My ASN",type=integer,JSONPath=`.spec.myASN`
// +kubebuilder:printcolumn:name="BFD",type=string,JSONPath=`.spec.bfdProfile`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Refs",type=string,JSONPath=`.status.conditions[?(@.type=="ResolvedRefs")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BGPPeerSpec         `json:"spec"`
	Status ConfigurationStatus `json:"status,omitempty"`
}

// BGPPeerSpec is what the peer's author asks for.
//
// +kubebuilder:validation:XValidation:rule=`(has(self.peerAddress) ? 1 : 0) + (has(self.peerAddressFrom) ? 1 : 0) + (has(self.interface) && !has(self.peerAddress) ? 1 : 0) == 1`,message="name the peer by one of peerAddress, peerAddressFrom and interface (unnumbered)"
// +kubebuilder:validation:XValidation:rule=`!has(self.peerAddress) || !isIP(self.peerAddress) || has(self.interface) == (ip(self.peerAddress).family() == 6 && ip(self.peerAddress).isLinkLocalUnicast())`,message="interface goes with a peerAddress exactly when that is an IPv6 link-local one: add or remove it"
// +kubebuilder:validation:XValidation:rule=`has(self.myASN) != has(self.myASNFrom)`,message="write one of myASN and myASNFrom"
// +kubebuilder:validation:XValidation:rule=`has(self.peerASN) != has(self.dynamicASN)`,message="write one of peerASN and dynamicASN"
// +kubebuilder:validation:XValidation:rule=`!has(self.localASN) || !has(self.myASN) || self.localASN != self.myASN`,message="localASN is myASN: leave it out"
// +kubebuilder:validation:XValidation:rule=`!has(self.ttlSecurity) || !has(self.ebgpMultiHop) || !self.ebgpMultiHop`,message="ttlSecurity and ebgpMultiHop exclude each other: for a distant peer write ttlSecurity alone with a lower minimumTtl"
// +kubebuilder:validation:XValidation:rule=`!has(self.interface) || !has(self.ebgpMultiHop) || !self.ebgpMultiHop`,message="a peer on an interface is one hop away: remove ebgpMultiHop"
// +kubebuilder:validation:XValidation:rule=`!has(self.sourceAddress) || !has(self.sourceInterface)`,message="write one of sourceAddress and sourceInterface"
// +kubebuilder:validation:XValidation:rule=`!has(self.sourceAddress) || !has(self.peerAddress) || !isIP(self.sourceAddress) || !isIP(self.peerAddress) || ip(self.sourceAddress).family() == ip(self.peerAddress).family()`,message="sourceAddress and peerAddress must be of one family"
// +kubebuilder:validation:XValidation:rule=`!has(self.bfdStrictMode) || !self.bfdStrictMode || has(self.bfdProfile)`,message="bfdStrictMode needs a bfdProfile"
// +kubebuilder:validation:XValidation:rule=`!has(self.holdTime) || !has(self.keepaliveTime) || duration(self.keepaliveTime) + duration(self.keepaliveTime) + duration(self.keepaliveTime) <= duration(self.holdTime)`,message="keepaliveTime must be a third of holdTime or less: leave it out for a third"
type BGPPeerSpec struct {
	// peerAddress is the router's address. An IPv6 link-local address needs interface too.
	//
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`isIP(self)`,message="write an IP address, without zone and not IPv4-mapped; the zone is the field interface"
	// +kubebuilder:validation:XValidation:rule=`!isIP(self) || ip(self).isGlobalUnicast() || ip(self).isLinkLocalUnicast() || ip(self).isLoopback()`,message="write the address of one router: this one is multicast, broadcast or unspecified"
	// +optional
	PeerAddress string `json:"peerAddress,omitempty"`

	// peerAddressFrom says where each node finds the address of its own router, so that one BGPPeer serves many racks.
	//
	// +optional
	PeerAddressFrom *NodeAnnotationSource `json:"peerAddressFrom,omitempty"`

	// interface is the node's interface to the router. Alone, without an address, the peer is unnumbered: it is found by
	// its IPv6 router advertisements.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[^/\s]+$')`,message="write the name of an interface, without spaces and slashes"
	// +optional
	Interface string `json:"interface,omitempty"`

	// peerPort is the TCP port of the router.
	//
	// +kubebuilder:default=179
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	PeerPort *int32 `json:"peerPort,omitempty"`

	// peerASN is the router's AS number. The session is internal when it is myASN.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967294
	// +optional
	PeerASN *int64 `json:"peerASN,omitempty"`

	// dynamicASN takes whatever AS number the router has, as long as it is the own one (internal) or another
	// (external).
	//
	// +optional
	DynamicASN DynamicASN `json:"dynamicASN,omitempty"`

	// myASN is the AS number of the nodes.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967294
	// +optional
	MyASN *int64 `json:"myASN,omitempty"`

	// myASNFrom says where each node finds its own AS number.
	//
	// +optional
	MyASNFrom *NodeValueSource `json:"myASNFrom,omitempty"`

	// localASN is the AS number shown to this peer in place of the nodes' own, in the path of the routes too.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967294
	// +optional
	LocalASN *int64 `json:"localASN,omitempty"`

	// sourceAddress is the address of the node that the session comes from. Left out, the kernel chooses.
	//
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`isIP(self) && (ip(self).isGlobalUnicast() || ip(self).isLinkLocalUnicast() || ip(self).isLoopback())`,message="write an IP address of the node, without zone and not IPv4-mapped"
	// +optional
	SourceAddress string `json:"sourceAddress,omitempty"`

	// sourceInterface is the interface of the node whose address the session comes from.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[^/\s]+$')`,message="write the name of an interface, without spaces and slashes"
	// +optional
	SourceInterface string `json:"sourceInterface,omitempty"`

	// routerID is the BGP identifier of the nodes, written as an IPv4 address. Left out, each node derives its own; set
	// it only where nodeSelectors choose a single node.
	//
	// +kubebuilder:validation:MinLength=7
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule=`isIP(self) && ip(self).family() == 4 && !ip(self).isUnspecified()`,message="write the router ID as an IPv4 address other than 0.0.0.0"
	// +optional
	RouterID string `json:"routerID,omitempty"`

	// holdTime is how long the session stays up without a word from the router, in whole seconds: 0s for ever, or 3s to
	// 65535s. The lower of the two sides' counts.
	//
	// +kubebuilder:default="90s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,8}s)?$`
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:XValidation:rule=`duration(self) == duration('0s') || duration(self) >= duration('3s') && duration(self) <= duration('65535s')`,message="holdTime is 0s, or from 3s to 65535s"
	// +optional
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`

	// keepaliveTime is the time between two keepalives, in whole seconds, at most a third of holdTime. Left out, it is a
	// third.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,8}s)?$`
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:XValidation:rule=`duration(self) >= duration('1s')`,message="keepaliveTime is 1s at least"
	// +optional
	KeepaliveTime *metav1.Duration `json:"keepaliveTime,omitempty"`

	// connectTime is the time between two attempts to connect, in whole seconds from 1s to 65535s.
	//
	// +kubebuilder:default="10s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,8}s)?$`
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:XValidation:rule=`duration(self) >= duration('1s') && duration(self) <= duration('65535s')`,message="connectTime is from 1s to 65535s"
	// +optional
	ConnectTime *metav1.Duration `json:"connectTime,omitempty"`

	// passwordSecret names the Secret in Herald's own namespace whose key "password" authenticates the session (TCP MD5,
	// RFC 2385).
	//
	// +optional
	PasswordSecret *SecretReference `json:"passwordSecret,omitempty"`

	// ebgpMultiHop lets an external peer be more than one hop away.
	//
	// +optional
	EBGPMultiHop bool `json:"ebgpMultiHop,omitempty"`

	// ttlSecurity takes only packets that come from near (GTSM, RFC 5082).
	//
	// +optional
	TTLSecurity *TTLSecurity `json:"ttlSecurity,omitempty"`

	// gracefulRestart keeps the routes at the router while a speaker restarts (RFC 4724). Left out, it is off: without
	// BFD a router would keep the routes of a dead node just as long.
	//
	// +optional
	GracefulRestart *GracefulRestart `json:"gracefulRestart,omitempty"`

	// nodeSelectors: a node talks to the peer when at least one of these matches its labels. Left out, every node does;
	// a selector that matches no node lets none.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// bfdProfile names the BFDProfile with which the path to the peer is watched. Left out, BFD is off.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	BFDProfile string `json:"bfdProfile,omitempty"`

	// bfdStrictMode holds the BGP session back until BFD is up, and again after BFD found the path broken. The router
	// must then start BFD by itself, without a BGP session.
	//
	// +optional
	BFDStrictMode bool `json:"bfdStrictMode,omitempty"`

	// families are the address families of the routes that the peer is told. Left out, it is that of the peer's
	// address, and both for an unnumbered peer.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +listType=set
	// +optional
	Families []IPFamily `json:"families,omitempty"`

	// passive waits for the router to connect.
	//
	// +optional
	Passive bool `json:"passive,omitempty"`

	// disabled closes the session and keeps it closed.
	//
	// +optional
	Disabled bool `json:"disabled,omitempty"`
}

// IPFamily is an address family, written as in a Service.
//
// +kubebuilder:validation:Enum=IPv4;IPv6
type IPFamily string

// The values of IPFamily.
const (
	IPv4 IPFamily = "IPv4"
	IPv6 IPFamily = "IPv6"
)

// DynamicASN is what is known of a peer's AS number.
//
// +kubebuilder:validation:Enum=internal;external
type DynamicASN string

// The values of dynamicASN.
const (
	DynamicASNInternal DynamicASN = "internal"
	DynamicASNExternal DynamicASN = "external"
)

// NodeAnnotationSource is a value that each node carries.
type NodeAnnotationSource struct {
	// nodeAnnotation is the key of the Node's annotation that holds the value.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:XValidation:rule=`self.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')`,message="write the key of a label or annotation, such as example.com/rack-router"
	NodeAnnotation string `json:"nodeAnnotation"`
}

// NodeValueSource is a value that each node carries.
//
// +kubebuilder:validation:XValidation:rule=`has(self.nodeAnnotation) != has(self.nodeLabel)`,message="write one of nodeAnnotation and nodeLabel"
type NodeValueSource struct {
	// nodeAnnotation is the key of the Node's annotation that holds the value.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:XValidation:rule=`self.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')`,message="write the key of a label or annotation, such as example.com/rack-router"
	// +optional
	NodeAnnotation string `json:"nodeAnnotation,omitempty"`

	// nodeLabel is the key of the Node's label that holds the value.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:XValidation:rule=`self.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')`,message="write the key of a label or annotation, such as example.com/rack-router"
	// +optional
	NodeLabel string `json:"nodeLabel,omitempty"`
}

// SecretReference names a Secret in Herald's own namespace.
type SecretReference struct {
	// name of the Secret.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// TTLSecurity says how near a packet must come from.
type TTLSecurity struct {
	// minimumTtl is the lowest TTL at which a packet is taken: 255 for a peer on the link, one less for each router in
	// between.
	//
	// +kubebuilder:default=255
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=255
	// +optional
	MinimumTTL *int32 `json:"minimumTtl,omitempty"`
}

// GracefulRestart says how long a router keeps the routes of a speaker that restarts.
//
// +kubebuilder:validation:XValidation:rule=`!has(self.longLivedStaleTime) || !has(self.enabled) || self.enabled`,message="longLivedStaleTime needs graceful restart to be enabled"
type GracefulRestart struct {
	// enabled: whether graceful restart is offered to the router.
	//
	// +kubebuilder:default=true
	// +optional
	Enabled *bool `json:"enabled,omitempty"`

	// restartTime is how long the router waits for the session to come back, in whole seconds from 1s to 4095s.
	//
	// +kubebuilder:default="120s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,8}s)?$`
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:XValidation:rule=`duration(self) >= duration('1s') && duration(self) <= duration('4095s')`,message="restartTime is from 1s to 4095s"
	// +optional
	RestartTime *metav1.Duration `json:"restartTime,omitempty"`

	// longLivedStaleTime is how long after that the router may use the routes for want of better ones (RFC 9494), in
	// whole seconds from 1s to 16777215s. Left out, not at all.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,8}s)?$`
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:XValidation:rule=`duration(self) >= duration('1s') && duration(self) <= duration('16777215s')`,message="longLivedStaleTime is from 1s to 16777215s"
	// +optional
	LongLivedStaleTime *metav1.Duration `json:"longLivedStaleTime,omitempty"`
}

// BGPPeerList is a list of peers.
//
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []BGPPeer `json:"items"`
}
