package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Speaker is how the speaker of one node stands. It has the node's name, belongs to the Node object and goes with it. The
// speaker alone writes it, when something changes.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Members",type=integer,JSONPath=`.status.gossip.members`
// +kubebuilder:printcolumn:name="Draining",type=boolean,JSONPath=`.status.draining`
// +kubebuilder:printcolumn:name="Service path",type=string,JSONPath=`.status.conditions[?(@.type=="ServicePathHealthy")].status`
// +kubebuilder:printcolumn:name="BGP",type=string,JSONPath=`.status.sessions[*].state`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Speaker struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Status SpeakerStatus `json:"status,omitempty"`
}

// The types of a Speaker's conditions.
const (
	// SpeakerReady: the speaker takes part in elections and announces what it is to.
	SpeakerReady = "Ready"
	// SpeakerServicePathHealthy: the node brings traffic to pods, as far as its service proxy says.
	SpeakerServicePathHealthy = "ServicePathHealthy"
	// SpeakerReversePathFiltered: the node's kernel drops what some clients send. There is none while it does not.
	SpeakerReversePathFiltered = "ReversePathFiltered"
)

// SpeakerStatus is what a speaker says of itself.
type SpeakerStatus struct {
	// conditions: "Ready" says whether the speaker announces, and if not why; "ServicePathHealthy" whether the node's
	// service proxy works; "ReversePathFiltered", which is there only when it is true, that the node's kernel drops what
	// some clients send.
	//
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// version of the speaker.
	//
	// +optional
	Version string `json:"version,omitempty"`

	// observing: the speaker only shows what it would do, and announces nothing.
	//
	// +optional
	Observing bool `json:"observing,omitempty"`

	// draining: the node is being emptied, and is given addresses only when nobody else can have them.
	//
	// +optional
	Draining bool `json:"draining,omitempty"`

	// gossip is what the speaker sees of the others.
	//
	// +optional
	Gossip GossipStatus `json:"gossip,omitempty"`

	// interfaces are those on which the speaker can announce with ARP and NDP.
	//
	// +kubebuilder:validation:MaxItems=256
	// +listType=map
	// +listMapKey=name
	// +optional
	Interfaces []SpeakerInterface `json:"interfaces,omitempty"`

	// sessions with the BGPPeers of the node, by name.
	//
	// +kubebuilder:validation:MaxItems=256
	// +listType=map
	// +listMapKey=peer
	// +optional
	Sessions []BGPSession `json:"sessions,omitempty"`

	// conflicts are addresses of the speaker's that a host outside of the cluster uses too; the first 100.
	//
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	// +optional
	Conflicts []AddressConflict `json:"conflicts,omitempty"`

	// kernelAddresses are addresses of Services for which the kernel of this node answers by itself, whoever owns them;
	// the first 100.
	//
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	// +optional
	KernelAddresses []KernelAddress `json:"kernelAddresses,omitempty"`
}

// GossipStatus is what a speaker sees of the others.
type GossipStatus struct {
	// members is how many speakers it sees, itself and those that are away included.
	Members int32 `json:"members"`

	// away are the nodes whose speaker is being restarted; the first 100.
	//
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	// +optional
	Away []string `json:"away,omitempty"`

	// missing are the nodes that it sees no speaker of; the first 100.
	//
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	// +optional
	Missing []string `json:"missing,omitempty"`
}

// SpeakerInterface is an interface on which a speaker can announce.
type SpeakerInterface struct {
	// name of the interface.
	Name string `json:"name"`

	// mac is its hardware address.
	//
	// +optional
	MAC string `json:"mac,omitempty"`

	// arp: IPv4 addresses can be announced.
	//
	// +optional
	ARP bool `json:"arp,omitempty"`

	// ndp: IPv6 addresses can be announced.
	//
	// +optional
	NDP bool `json:"ndp,omitempty"`

	// subnets that are on the link.
	//
	// +kubebuilder:validation:MaxItems=256
	// +listType=atomic
	// +optional
	Subnets []string `json:"subnets,omitempty"`
}

// BGPSession is the session with one peer.
type BGPSession struct {
	// peer is the name of the BGPPeer.
	Peer string `json:"peer"`

	// address of the router, while it is known.
	//
	// +optional
	Address string `json:"address,omitempty"`

	// state of the session: "Established"; "Idle" while it is attempted again and again, in whatever state of RFC 4271 that
	// is; "Waiting" when something is missing before it can be attempted; or "Disabled".
	State string `json:"state"`

	// since is when the session came into this state.
	Since metav1.Time `json:"since"`

	// reason why the session waits, in one CamelCase word.
	//
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Reason string `json:"reason,omitempty"`

	// lastError is why there is no session or why the last one ended, with what the router said in a NOTIFICATION.
	//
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	LastError string `json:"lastError,omitempty"`

	// families of the routes.
	//
	// +listType=set
	// +optional
	Families []IPFamily `json:"families,omitempty"`

	// prefixesSent is how many prefixes the router has been told.
	//
	// +optional
	PrefixesSent int32 `json:"prefixesSent,omitempty"`

	// prefixLimit is how many prefixes of a family the router may send before the session is closed. None are used.
	//
	// +optional
	PrefixLimit int32 `json:"prefixLimit,omitempty"`

	// bfd is the state of the BFD session: Up, Down, Init or AdminDown; left out when the peer has no BFDProfile.
	//
	// +optional
	BFD string `json:"bfd,omitempty"`
}

// AddressConflict is the use of an address by a stranger.
type AddressConflict struct {
	// address that both use.
	Address string `json:"address"`

	// mac is the stranger's hardware address.
	MAC string `json:"mac"`

	// interface on which it was heard.
	Interface string `json:"interface"`

	// held: the stranger had the address first, and the speaker leaves it alone until it is gone.
	//
	// +optional
	Held bool `json:"held,omitempty"`
}

// KernelAddress is an address of a Service that is bound to an interface of the node.
type KernelAddress struct {
	// address for which the kernel answers.
	Address string `json:"address"`

	// bound is the interface that has the address.
	Bound string `json:"bound"`

	// interface on which the kernel answers.
	Interface string `json:"interface"`
}

// SpeakerList is a list of speakers.
//
// +kubebuilder:object:root=true
type SpeakerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Speaker `json:"items"`
}
