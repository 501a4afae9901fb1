package assign

import (
	"maps"
	"slices"

	"go4.org/netipx"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/kube"
)

// configuration is the configuration in force, and the objects it was made from.
type configuration struct {
	memory   config.Memory
	objects  map[subject]configObject // nil before the first one is known
	problems map[subject][]config.Problem
	pools    []config.Pool // in force
}

// configObject is one configuration object as it is known.
type configObject struct {
	metav1.Object
	kind string
	// shown is its status; that of other kinds than pools has no counts.
	shown v1beta1.IPAddressPoolStatus
}

// same tells whether two versions of an object ask for the same: only the status differs. Labels count, because pools
// are selected by them.
func (o configObject) same(other configObject) bool {
	if o.Object == nil || other.Object == nil {
		return false
	}
	return o.Object == other.Object || o.GetUID() != "" && o.GetUID() == other.GetUID() &&
		o.GetGeneration() == other.GetGeneration() && maps.Equal(o.GetLabels(), other.GetLabels())
}

// resources are the names of the kinds' resources.
var resources = map[string]string{
	config.KindIPAddressPool:    kube.ResourceIPAddressPools,
	config.KindL2Advertisement:  kube.ResourceL2Advertisements,
	config.KindBGPAdvertisement: kube.ResourceBGPAdvertisements,
	config.KindBGPPeer:          kube.ResourceBGPPeers,
	config.KindBFDProfile:       kube.ResourceBFDProfiles,
	config.KindCommunity:        kube.ResourceCommunities,
}

func configSubject(kind, name string) subject {
	return subject{resources[kind], types.NamespacedName{Name: name}}
}

// known makes a configObject of an object of any kind.
func known(obj metav1.Object) configObject {
	switch o := obj.(type) {
	case *v1beta1.IPAddressPool:
		return configObject{o, config.KindIPAddressPool, o.Status}
	case *v1beta1.L2Advertisement:
		return configObject{o, config.KindL2Advertisement, withoutCounts(o.Status)}
	case *v1beta1.BGPAdvertisement:
		return configObject{o, config.KindBGPAdvertisement, withoutCounts(o.Status)}
	case *v1beta1.BGPPeer:
		return configObject{o, config.KindBGPPeer, withoutCounts(o.Status)}
	case *v1beta1.BFDProfile:
		return configObject{o, config.KindBFDProfile, withoutCounts(o.Status)}
	case *v1beta1.Community:
		return configObject{o, config.KindCommunity, withoutCounts(o.Status)}
	}
	return configObject{Object: obj}
}

func withoutCounts(s v1beta1.ConfigurationStatus) v1beta1.IPAddressPoolStatus {
	return v1beta1.IPAddressPoolStatus{Conditions: s.Conditions}
}

func objectsOf(r config.Resources) map[subject]configObject {
	objects := map[subject]configObject{}
	collect(objects, r.Pools)
	collect(objects, r.L2Advertisements)
	collect(objects, r.BGPAdvertisements)
	collect(objects, r.BGPPeers)
	collect(objects, r.BFDProfiles)
	collect(objects, r.Communities)
	return objects
}

func collect[T metav1.Object](into map[subject]configObject, objects []T) {
	for _, obj := range objects {
		o := known(obj)
		into[configSubject(o.kind, o.GetName())] = o
	}
}

// configure reads the configuration from its source. If it asks for anything else than before, it is put in force.
func (c *Controller) configure() (changed bool) {
	r := c.source.Resources()
	objects := objectsOf(r)
	changed = c.config.objects == nil || len(objects) != len(c.config.objects)
	for s, o := range objects {
		before := c.config.objects[s]
		changed = changed || !o.same(before)
		if o.same(before) && kube.Newer(before.Object, o.Object) {
			objects[s] = before // our own write, which the source does not show yet
		}
	}
	c.config.objects = objects
	if !changed {
		return false
	}
	cfg, problems := c.config.memory.New(r)
	c.config.problems = map[subject][]config.Problem{}
	for _, p := range problems {
		s := configSubject(p.Kind, p.Name)
		c.config.problems[s] = append(c.config.problems[s], p)
	}
	c.config.pools = poolsInForce(cfg, r.Pools)
	c.book.configure(c.config.pools)
	return true
}

// objectCount is what configuration objects are counted by.
type objectCount struct{ kind, state string }

// count counts the objects of each kind; none of any before the configuration is known.
func (c *configuration) count() map[objectCount]int {
	out := map[objectCount]int{}
	if c.objects == nil {
		return out
	}
	for kind := range resources {
		out[objectCount{kind, "accepted"}], out[objectCount{kind, "refused"}] = 0, 0
	}
	for s, o := range c.objects {
		state := "accepted"
		if slices.ContainsFunc(c.problems[s], func(p config.Problem) bool { return p.Condition == config.ConditionAccepted }) {
			state = "refused"
		}
		out[objectCount{o.kind, state}]++
	}
	return out
}

// poolsInForce are the accepted pools, and, without addresses, those that exist and are not accepted: a mistake in an
// edit takes no address away from anybody.
func poolsInForce(cfg *config.Config, all []*v1beta1.IPAddressPool) []config.Pool {
	pools := slices.Clone(cfg.Pools)
	for _, p := range all {
		if _, ok := cfg.Pool(p.Name); !ok {
			pools = append(pools, config.Pool{Name: p.Name, Addresses: &netipx.IPSet{}})
		}
	}
	return pools
}
