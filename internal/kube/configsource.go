package kube

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
)

// ConfigSource is where a process reads the configuration objects from. Its methods are safe for concurrent use.
type ConfigSource interface {
	// Run starts to follow the source, until ctx is done, and returns when all that is there has been read once. That
	// need not be a configuration: see Ready. An error is ctx's.
	Run(ctx context.Context) error
	// Ready says why no configuration is known yet; nil once one is, and for ever after.
	Ready() error
	// Resources returns the newest configuration; nothing while none is known. Nobody may change it.
	Resources() config.Resources
	// OnChange has changed called after Ready, Resources, or only the status of an object became other ones, until stop
	// is called. It must not block.
	OnChange(changed func()) (stop func(), err error)
}

// The values of the flag --config-source.
const (
	ConfigFromCRD       = "crd"
	ConfigFromConfigMap = "configmap"
)

// ConfigSource returns the source of this kind. key is for the one that reads a ConfigMap.
func (c *Client) ConfigSource(kind string, key types.NamespacedName, logger log.Logger, reg prometheus.Registerer) (ConfigSource, error) {
	switch kind {
	case ConfigFromCRD:
		return c.ConfigObjects(), nil
	case ConfigFromConfigMap:
		if key.Name == "" {
			return nil, errors.New("--config-map: the name of the ConfigMap is needed")
		}
		return c.ConfigMapSource(key, logger, reg), nil
	}
	return nil, fmt.Errorf("--config-source=%s: write %s or %s", kind, ConfigFromCRD, ConfigFromConfigMap)
}

// AwaitConfig returns when a configuration is known. An error is ctx's.
func AwaitConfig(ctx context.Context, source ConfigSource) error {
	again := make(chan struct{}, 1)
	stop, err := source.OnChange(func() {
		select {
		case again <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	defer stop()
	for {
		why := source.Ready()
		if why == nil {
			return nil
		}
		select {
		case <-again:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", why, context.Cause(ctx))
		}
	}
}

// ConfigObjects is the source that reads API objects: the informers of the six kinds.
type ConfigObjects struct {
	IPAddressPools, L2Advertisements, BGPAdvertisements, BGPPeers, BFDProfiles, Communities cache.SharedIndexInformer
}

var _ ConfigSource = ConfigObjects{}

// The resources of group heraldlb.io, whose objects all have a status.
const (
	ResourceIPAddressPools    = "ipaddresspools"
	ResourceL2Advertisements  = "l2advertisements"
	ResourceBGPAdvertisements = "bgpadvertisements"
	ResourceBGPPeers          = "bgppeers"
	ResourceBFDProfiles       = "bfdprofiles"
	ResourceCommunities       = "communities"
)

// ConfigObjects returns the source that watches the configuration objects of the API server.
func (c *Client) ConfigObjects() ConfigObjects {
	return ConfigObjects{
		IPAddressPools:    informer(c.Herald, ResourceIPAddressPools, "", &v1beta1.IPAddressPool{}, everything),
		L2Advertisements:  informer(c.Herald, ResourceL2Advertisements, "", &v1beta1.L2Advertisement{}, everything),
		BGPAdvertisements: informer(c.Herald, ResourceBGPAdvertisements, "", &v1beta1.BGPAdvertisement{}, everything),
		BGPPeers:          informer(c.Herald, ResourceBGPPeers, "", &v1beta1.BGPPeer{}, everything),
		BFDProfiles:       informer(c.Herald, ResourceBFDProfiles, "", &v1beta1.BFDProfile{}, everything),
		Communities:       informer(c.Herald, ResourceCommunities, "", &v1beta1.Community{}, everything),
	}
}

// watched are the informers, with the names of their resources.
func (o ConfigObjects) watched() []watched {
	return []watched{
		{ResourceIPAddressPools, o.IPAddressPools},
		{ResourceL2Advertisements, o.L2Advertisements},
		{ResourceBGPAdvertisements, o.BGPAdvertisements},
		{ResourceBGPPeers, o.BGPPeers},
		{ResourceBFDProfiles, o.BFDProfiles},
		{ResourceCommunities, o.Communities},
	}
}

type watched struct {
	resource string
	informer cache.SharedIndexInformer
}

// Run implements ConfigSource.
func (o ConfigObjects) Run(ctx context.Context) error {
	var informers []cache.SharedIndexInformer
	for _, w := range o.watched() {
		informers = append(informers, w.informer)
	}
	return Run(ctx, informers...)
}

// Ready implements ConfigSource: a configuration is known once every kind has been read.
func (o ConfigObjects) Ready() error {
	var errs []error
	for _, w := range o.watched() {
		if !w.informer.HasSynced() {
			errs = append(errs, fmt.Errorf("%s have not been read from the API server yet: are the CustomResourceDefinitions installed?", w.resource))
		}
	}
	return errors.Join(errs...)
}

// Resources implements ConfigSource.
func (o ConfigObjects) Resources() config.Resources {
	return config.Resources{
		Pools:             listed[*v1beta1.IPAddressPool](o.IPAddressPools),
		L2Advertisements:  listed[*v1beta1.L2Advertisement](o.L2Advertisements),
		BGPAdvertisements: listed[*v1beta1.BGPAdvertisement](o.BGPAdvertisements),
		BGPPeers:          listed[*v1beta1.BGPPeer](o.BGPPeers),
		BFDProfiles:       listed[*v1beta1.BFDProfile](o.BFDProfiles),
		Communities:       listed[*v1beta1.Community](o.Communities),
	}
}

// OnChange implements ConfigSource.
func (o ConfigObjects) OnChange(changed func()) (stop func(), err error) {
	var undo []func()
	stop = func() {
		for _, f := range undo {
			f()
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { changed() },
		UpdateFunc: func(any, any) { changed() },
		DeleteFunc: func(any) { changed() },
	}
	for _, w := range o.watched() {
		registration, err := w.informer.AddEventHandler(handler)
		if err != nil {
			stop()
			return nil, fmt.Errorf("watch %s: %w", w.resource, err)
		}
		undo = append(undo, func() { _ = w.informer.RemoveEventHandler(registration) }) // no error of a registration of its own
	}
	return stop, nil
}

func listed[T any](informer cache.SharedIndexInformer) []T {
	objs := informer.GetStore().List()
	all := make([]T, 0, len(objs))
	for _, obj := range objs {
		if t, ok := obj.(T); ok {
			all = append(all, t)
		}
	}
	return all
}
