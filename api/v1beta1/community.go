package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Community gives BGP communities names that BGPAdvertisements use.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name="Names",type=string,JSONPath=`.spec.communities[*].name`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Community struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   CommunitySpec       `json:"spec"`
	Status ConfigurationStatus `json:"status,omitempty"`
}

// CommunitySpec is the names that the author gives.
type CommunitySpec struct {
	// communities are the names and what they stand for. The names of all Community objects are in one space.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +listType=map
	// +listMapKey=name
	Communities []CommunityAlias `json:"communities"`
}

// CommunityAlias is a name for a community.
type CommunityAlias struct {
	// name begins with a letter; letters, digits, dots, underscores and hyphens may follow. The well-known names are
	// taken.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[A-Za-z][A-Za-z0-9._-]*$')`,message="a name begins with a letter, and letters, digits, dots, underscores and hyphens may follow"
	// +kubebuilder:validation:XValidation:rule=`!(self in ['no-export', 'no-advertise', 'no-export-subconfed', 'no-peer', 'graceful-shutdown', 'accept-own', 'blackhole', 'llgr-stale', 'no-llgr'])`,message="is a well-known community, which BGPAdvertisements can use without this: choose another name"
	Name string `json:"name"`

	// value is a community (64512:100), a large one (large:64512:1:2), a route target (rt:64512:100), a route origin
	// (soo:192.0.2.1:100) or a link bandwidth in bytes a second (lb:64512:125000000).
	//
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self.matches('^([0-9]{1,5}:[0-9]{1,5}|large:[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}|(rt|soo):([0-9]{1,10}|[0-9]{1,3}([.][0-9]{1,3}){3}):[0-9]{1,10}|lb:[0-9]{1,5}:[0-9]{1,10})$')`,message="write a community as 64512:100, a large one as large:64512:1:2, or an extended one as rt:64512:100, soo:64512:100 or lb:64512:125000000"
	// +kubebuilder:validation:XValidation:rule=`!self.matches('^[0-9]{1,5}:[0-9]{1,5}$') || self.split(':').all(n, int(n) <= 65535)`,message="each half of a community is 65535 at most: write larger ones as large:64512:1:2"
	// +kubebuilder:validation:XValidation:rule=`!self.matches('^large(:[0-9]{1,10}){3}$') || self.substring(6).split(':').all(n, int(n) <= 4294967295)`,message="each part of a large community is 4294967295 at most"
	// +kubebuilder:validation:XValidation:rule=`!self.matches('^(rt|soo):[0-9]{1,10}:[0-9]{1,10}$') || (int(self.split(':')[1]) <= 4294967295 && int(self.split(':')[2]) <= (int(self.split(':')[1]) <= 65535 ? 4294967295 : 65535))`,message="the number of an extended community is 65535 at most, and 4294967295 after an AS number up to 65535"
	// +kubebuilder:validation:XValidation:rule=`!self.matches('^(rt|soo):[0-9]{1,3}[.]') || (isIP(self.split(':')[1]) && int(self.split(':')[2]) <= 65535)`,message="the space of an extended community is an AS number or an IPv4 address, and the number after an address is 65535 at most"
	// +kubebuilder:validation:XValidation:rule=`!self.matches('^lb:[0-9]{1,5}:[0-9]{1,10}$') || (int(self.split(':')[1]) <= 65535 && int(self.split(':')[2]) >= 1 && int(self.split(':')[2]) <= 4294967295)`,message="a link bandwidth has an AS number, 65535 at most, and bytes a second, 1 to 4294967295"
	Value string `json:"value"`
}

// CommunityList is a list of Communities.
//
// +kubebuilder:object:root=true
type CommunityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Community `json:"items"`
}
