package ctl

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/kube"
)

// errNotTold is why what speakers say of themselves cannot be read in a cluster without Herald's kinds.
var errNotTold = errors.New("where the configuration is a ConfigMap speakers write none, since there need be none of Herald's kinds: " +
	"what they do is told by events (heraldctl events) and metrics")

func groupResource(resource string) schema.GroupResource {
	return v1beta1.GroupVersion.WithResource(resource).GroupResource()
}

// The parts of a cluster.
var (
	configuration = part{"the configuration", func(ctx context.Context, r *reader) error {
		if r.source == kube.ConfigFromConfigMap {
			return r.documents(ctx)
		}
		r.out.Source = "objects of group " + v1beta1.GroupVersion.Group
		return r.configObjects(ctx)
	}}
	speakers = part{"Speakers", func(ctx context.Context, r *reader) error {
		if r.out.FromConfigMap {
			return errNotTold
		}
		var l v1beta1.SpeakerList
		err := objects(ctx, r, "speakers", &l)
		r.out.Speakers = l.Items
		return err
	}}
	// standing is how speakers stand: as they say, and where they cannot as their pods say.
	standing = part{"Speakers", func(ctx context.Context, r *reader) error {
		if r.out.FromConfigMap {
			return pods.read(ctx, r)
		}
		return speakers.read(ctx, r)
	}}
	announcementSlices = part{"AnnouncementSlices", func(ctx context.Context, r *reader) error {
		if r.out.FromConfigMap {
			return errNotTold
		}
		var l v1beta1.AnnouncementSliceList
		err := objects(ctx, r, "announcementslices", &l)
		r.out.AnnouncementSlices = l.Items
		return err
	}}
	services = part{"Services", func(ctx context.Context, r *reader) error {
		o := metav1.ListOptions{FieldSelector: "spec.type=" + string(corev1.ServiceTypeLoadBalancer)}
		return pages(ctx, r.CoreV1().Services(everywhere).List, o, func(l *corev1.ServiceList) { r.out.Services = append(r.out.Services, l.Items...) })
	}}
	endpointSlices = part{"EndpointSlices", func(ctx context.Context, r *reader) error {
		return pages(ctx, r.DiscoveryV1().EndpointSlices(everywhere).List, metav1.ListOptions{}, func(l *discoveryv1.EndpointSliceList) {
			r.out.EndpointSlices = append(r.out.EndpointSlices, l.Items...)
		})
	}}
	nodes = part{"Nodes", func(ctx context.Context, r *reader) error {
		return pages(ctx, r.CoreV1().Nodes().List, metav1.ListOptions{}, func(l *corev1.NodeList) { r.out.Nodes = append(r.out.Nodes, l.Items...) })
	}}
	namespaces = part{"Namespaces", func(ctx context.Context, r *reader) error {
		return pages(ctx, r.CoreV1().Namespaces().List, metav1.ListOptions{}, func(l *corev1.NamespaceList) { r.out.Namespaces = append(r.out.Namespaces, l.Items...) })
	}}
	events = part{"Events", func(ctx context.Context, r *reader) error {
		return pages(ctx, r.EventsV1().Events(everywhere).List, metav1.ListOptions{}, func(l *eventsv1.EventList) { r.out.Events = append(r.out.Events, l.Items...) })
	}}
	pods = part{"Herald's pods", func(ctx context.Context, r *reader) error {
		l, err := r.CoreV1().Pods(r.herald).List(ctx, metav1.ListOptions{LabelSelector: heraldPods})
		if err == nil {
			r.out.Pods = l.Items
		}
		return err
	}}
	daemonSet = part{"the speakers' DaemonSet", func(ctx context.Context, r *reader) (err error) {
		r.out.DaemonSet, err = r.AppsV1().DaemonSets(r.herald).Get(ctx, speakerName, metav1.GetOptions{})
		return err
	}}
	lease = part{"the controllers' Lease", func(ctx context.Context, r *reader) error {
		l, err := r.CoordinationV1().Leases(r.herald).Get(ctx, controllerName, metav1.GetOptions{})
		if err == nil {
			r.out.Lease = l
		}
		return err
	}}
)

// configObjects reads the configuration from its objects.
func (r *reader) configObjects(ctx context.Context) error {
	var (
		pools             v1beta1.IPAddressPoolList
		l2Advertisements  v1beta1.L2AdvertisementList
		bgpAdvertisements v1beta1.BGPAdvertisementList
		bgpPeers          v1beta1.BGPPeerList
		bfdProfiles       v1beta1.BFDProfileList
		communities       v1beta1.CommunityList
	)
	for _, read := range []error{
		objects(ctx, r, kube.ResourceIPAddressPools, &pools),
		objects(ctx, r, kube.ResourceL2Advertisements, &l2Advertisements),
		objects(ctx, r, kube.ResourceBGPAdvertisements, &bgpAdvertisements),
		objects(ctx, r, kube.ResourceBGPPeers, &bgpPeers),
		objects(ctx, r, kube.ResourceBFDProfiles, &bfdProfiles),
		objects(ctx, r, kube.ResourceCommunities, &communities),
	} {
		if read != nil {
			return read
		}
	}
	r.out.Resources = config.Resources{
		Pools: pointers(pools.Items), L2Advertisements: pointers(l2Advertisements.Items), BGPAdvertisements: pointers(bgpAdvertisements.Items),
		BGPPeers: pointers(bgpPeers.Items), BFDProfiles: pointers(bfdProfiles.Items), Communities: pointers(communities.Items),
	}
	return nil
}

func pointers[T any](items []T) []*T {
	out := make([]*T, len(items))
	for i := range items {
		out[i] = &items[i]
	}
	return out
}

// documents reads the configuration from the ConfigMap of the documents that are in force, and what became of them from
// the one that says so.
func (r *reader) documents(ctx context.Context) error {
	maps := r.CoreV1().ConfigMaps(r.herald)
	accepted, err := maps.Get(ctx, r.configMap+"-accepted", metav1.GetOptions{})
	if err != nil {
		return err
	}
	resources, problems := config.Parse(accepted.Name, accepted.Data)
	if len(problems) > 0 {
		return fmt.Errorf("read the documents in force: %w", problems[0])
	}
	r.out.Source = fmt.Sprintf("ConfigMap %s/%s", r.herald, r.configMap)
	r.out.Resources = resources
	shown, err := maps.Get(ctx, r.configMap+"-status", metav1.GetOptions{})
	if err != nil {
		return err
	}
	var status struct {
		ConfigMap struct {
			Status v1beta1.ConfigurationStatus
		}
		Objects []struct {
			Kind, Name string
			Status     v1beta1.IPAddressPoolStatus
		}
	}
	if err := yaml.Unmarshal([]byte(shown.Data["status.yaml"]), &status); err != nil {
		return fmt.Errorf("read ConfigMap %s/%s: %w", r.herald, shown.Name, err)
	}
	r.out.Documents = status.ConfigMap.Status.Conditions
	for _, o := range status.Objects {
		of := v1beta1.ConfigurationStatus{Conditions: o.Status.Conditions}
		for _, p := range resources.Pools {
			if o.Kind == config.KindIPAddressPool && p.Name == o.Name {
				p.Status = o.Status
			}
		}
		for _, p := range resources.BGPPeers {
			if o.Kind == config.KindBGPPeer && p.Name == o.Name {
				p.Status = of
			}
		}
	}
	return nil
}
