package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPAddressPool is a set of addresses that the controller may give to Services of type LoadBalancer.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=pool
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`
// +kubebuilder:printcolumn:name="Auto",type=boolean,JSONPath=`.spec.autoAssign`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Available",type=string,JSONPath=`.status.conditions[?(@.type=="Available")].status`
// +kubebuilder:printcolumn:name="IPv4 used",type=integer,JSONPath=`.status.ipv4.assigned`
// +kubebuilder:printcolumn:name="IPv4 free",type=string,JSONPath=`.status.ipv4.available`
// +kubebuilder:printcolumn:name="IPv6 used",type=integer,JSONPath=`.status.ipv6.assigned`
// +kubebuilder:printcolumn:name="IPv6 free",type=string,JSONPath=`.status.ipv6.available`
// +kubebuilder:printcolumn:name="Drain",type=boolean,JSONPath=`.spec.drain`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IPAddressPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   IPAddressPoolSpec   `json:"spec"`
	Status IPAddressPoolStatus `json:"status,omitempty"`
}

// IPAddressPoolSpec is what the pool's author asks for.
type IPAddressPoolSpec struct {
	// addresses are the pool's addresses, each entry a CIDR prefix (192.0.2.0/24, 2001:db8::/64) or an inclusive
	// range (192.0.2.10-192.0.2.20). IPv4 and IPv6 may be mixed in one pool, not in one entry. Every address of a
	// prefix is used, its first and last too.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MinLength=2
	// +kubebuilder:validation:items:MaxLength=96
	// +kubebuilder:validation:items:XValidation:rule=`isCIDR(self.trim()) || self.matches('^[^-]+-[^-]+$') && isIP(self.split('-')[0].trim()) && isIP(self.split('-')[1].trim())`,message="write a prefix such as 192.0.2.0/24 or a range such as 192.0.2.10-192.0.2.20, without zone and not IPv4-mapped"
	// +kubebuilder:validation:items:XValidation:rule=`!isCIDR(self.trim()) || cidr(self.trim()) == cidr(self.trim()).masked()`,message="the prefix has bits set beyond its length: clear them, or write a range"
	// +kubebuilder:validation:items:XValidation:rule=`self.matches('^[^-:]*(-[^-:]*)?$') || self.matches('^[^-]*:[^-]*(-[^-]*:[^-]*)?$')`,message="the range mixes IPv4 and IPv6: write one range for each"
	// +kubebuilder:validation:items:XValidation:rule=`isCIDR(self.trim()) ? cidr(self.trim()).ip().isGlobalUnicast() : !isIP(self.split('-')[0].trim()) || ip(self.split('-')[0].trim()).isGlobalUnicast()`,message="no Service can have unspecified, loopback, link-local, multicast or broadcast addresses: leave them out"
	// +listType=set
	Addresses []string `json:"addresses"`

	// exclude are addresses that the pool never gives, though addresses holds them: a router's, a host's. The entries
	// are written as in addresses. A Service that already has an excluded address keeps it.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MinLength=2
	// +kubebuilder:validation:items:MaxLength=96
	// +kubebuilder:validation:items:XValidation:rule=`isIP(self.trim()) || isCIDR(self.trim()) || self.matches('^[^-]+-[^-]+$') && isIP(self.split('-')[0].trim()) && isIP(self.split('-')[1].trim())`,message="write an address, a prefix such as 192.0.2.0/24 or a range such as 192.0.2.10-192.0.2.20, without zone and not IPv4-mapped"
	// +kubebuilder:validation:items:XValidation:rule=`!isCIDR(self.trim()) || cidr(self.trim()) == cidr(self.trim()).masked()`,message="the prefix has bits set beyond its length: clear them, or write a range"
	// +kubebuilder:validation:items:XValidation:rule=`self.matches('^[^-:]*(-[^-:]*)?$') || self.matches('^[^-]*:[^-]*(-[^-]*:[^-]*)?$')`,message="the range mixes IPv4 and IPv6: write one range for each"
	// +listType=set
	// +optional
	Exclude []string `json:"exclude,omitempty"`

	// autoAssign: whether Services that name neither this pool nor one of its addresses may be served from it.
	//
	// +kubebuilder:default=true
	// +optional
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// avoidBuggyIPs leaves out the IPv4 addresses that end in .0 and .255, which some old network gear takes for
	// network and broadcast addresses.
	//
	// +optional
	AvoidBuggyIPs bool `json:"avoidBuggyIPs,omitempty"`

	// serviceAllocation says which Services the pool is for, and which pool goes first.
	//
	// +optional
	ServiceAllocation *ServiceAllocation `json:"serviceAllocation,omitempty"`

	// drain closes the pool to new Services. Those that have an address from it keep it.
	//
	// +optional
	Drain bool `json:"drain,omitempty"`

	// namespaceQuota is the most addresses of this pool that the Services of one namespace may have together. Left
	// out, there is no limit.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483647
	// +optional
	NamespaceQuota *int32 `json:"namespaceQuota,omitempty"`
}

// ServiceAllocation says which Services a pool is for. With namespaces, namespaceSelectors or serviceSelectors the
// pool serves only Services that they select: the Service's namespace is named or matched, and the Service itself is
// matched, where either is asked for.
type ServiceAllocation struct {
	// priority: of several pools that could serve a Service the one with the lowest number goes first. 0 goes last.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2147483647
	// +optional
	Priority int32 `json:"priority,omitempty"`

	// namespaces names the namespaces whose Services the pool is for, beside those of namespaceSelectors.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +listType=set
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`

	// namespaceSelectors: the pool is for Services whose namespace's labels at least one of these matches, beside those
	// of namespaces.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	NamespaceSelectors []metav1.LabelSelector `json:"namespaceSelectors,omitempty"`

	// serviceSelectors: the pool is for Services whose labels at least one of these matches.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`
}

// IPAddressPoolStatus is what the controller observed of the pool.
type IPAddressPoolStatus struct {
	// conditions: "Accepted" says whether the pool is in force, and if not why; "Available" says whether it has an
	// address left for a new Service.
	//
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// ipv4 counts the pool's IPv4 addresses. Left out when it has none.
	//
	// +optional
	IPv4 *AddressCounts `json:"ipv4,omitempty"`

	// ipv6 counts the pool's IPv6 addresses. Left out when it has none.
	//
	// +optional
	IPv6 *AddressCounts `json:"ipv6,omitempty"`
}

// AddressCounts counts the addresses of one family. An IPv6 prefix has more addresses than any integer type of JSON
// or Go can count, so total and available are decimal numbers written as strings; what Services hold is always few
// enough for an integer.
type AddressCounts struct {
	// total is the number of addresses that the pool can give, without excluded and avoided ones, as a decimal number.
	//
	// +kubebuilder:validation:Pattern=`^(0|[1-9][0-9]{0,38})$`
	Total string `json:"total"`

	// assigned is the number of addresses that Services have, those outside included.
	//
	// +kubebuilder:validation:Minimum=0
	Assigned int64 `json:"assigned"`

	// available is the number of addresses left for new Services, as a decimal number.
	//
	// +kubebuilder:validation:Pattern=`^(0|[1-9][0-9]{0,38})$`
	Available string `json:"available"`

	// outside is the number of assigned addresses that the pool does not have any more: it was made smaller, and they
	// stay with their Services until these give them back.
	//
	// +kubebuilder:validation:Minimum=0
	Outside int64 `json:"outside"`
}

// IPAddressPoolList is a list of pools.
//
// +kubebuilder:object:root=true
type IPAddressPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []IPAddressPool `json:"items"`
}
