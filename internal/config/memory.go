package config

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Memory judges configuration as New does, and remembers: while the newest version of an object is refused, the one
// that was accepted last stays in force, so that a mistake in an edit takes no announcement away. The problems are those
// of the newest version. Pools are judged without it: one that is refused keeps its holders and serves nobody new (see
// HasPool).
//
// The zero value remembers nothing; a process begins with that. A Memory is for one goroutine.
type Memory struct {
	accepted map[identity]metav1.Object
}

// named is an object by its name; identity tells it from another one made later under that name.
type named struct{ kind, name string }

type identity struct {
	named
	uid types.UID
}

// New judges the resources.
func (m *Memory) New(r Resources) (*Config, []Problem) {
	recalled := map[named]bool{}
	var told []Problem
	for {
		c, problems := New(r)
		refused := map[named]bool{}
		for _, p := range problems {
			if p.Condition == ConditionAccepted {
				refused[named{p.Kind, p.Name}] = true
			}
		}
		// With an older version in the place of a newer one, others may be judged differently: judge again. It ends,
		// because each object is recalled once at most.
		fresh := m.recall(&r, refused, recalled)
		for _, p := range problems {
			n := named{p.Kind, p.Name}
			if fresh[n] || len(fresh) == 0 && !recalled[n] {
				told = append(told, p)
			}
			recalled[n] = recalled[n] || fresh[n]
		}
		if len(fresh) == 0 {
			m.remember(r, refused)
			sortProblems(told)
			return c, told
		}
	}
}

// recall puts the remembered versions of refused objects into the resources, and returns which. It passes over those
// that were recalled before.
func (m *Memory) recall(r *Resources, refused, recalled map[named]bool) map[named]bool {
	fresh := map[named]bool{}
	r.replace(func(id identity, o metav1.Object) metav1.Object {
		older := m.accepted[id]
		if !refused[id.named] || recalled[id.named] || older == nil {
			return o
		}
		fresh[id.named] = true
		return older
	})
	return fresh
}

// remember keeps what is in force, and of what is refused the version that was; it forgets what exists no more.
func (m *Memory) remember(r Resources, refused map[named]bool) {
	next := map[identity]metav1.Object{}
	r.replace(func(id identity, o metav1.Object) metav1.Object {
		if !refused[id.named] {
			next[id] = o
		} else if older := m.accepted[id]; older != nil {
			next[id] = older
		}
		return o
	})
	m.accepted = next
}

// replace replaces every object but the pools by what pick returns. The lists are new ones.
func (r *Resources) replace(pick func(identity, metav1.Object) metav1.Object) {
	r.L2Advertisements = replaced(KindL2Advertisement, r.L2Advertisements, pick)
	r.BGPAdvertisements = replaced(KindBGPAdvertisement, r.BGPAdvertisements, pick)
	r.BGPPeers = replaced(KindBGPPeer, r.BGPPeers, pick)
	r.BFDProfiles = replaced(KindBFDProfile, r.BFDProfiles, pick)
	r.Communities = replaced(KindCommunity, r.Communities, pick)
}

func replaced[T metav1.Object](kind string, list []T, pick func(identity, metav1.Object) metav1.Object) []T {
	out := make([]T, len(list))
	for i, o := range list {
		out[i] = pick(identity{named{kind, o.GetName()}, o.GetUID()}, o).(T)
	}
	return out
}
