package config

import (
	"time"

	"heraldlb.io/herald/api/v1beta1"
)

// BFDProfile says how the path to a peer is watched.
type BFDProfile struct {
	Name             string
	ReceiveInterval  time.Duration
	TransmitInterval time.Duration
	DetectMultiplier int
	PassiveMode      bool
	MinimumTTL       int // of multihop sessions
}

// bfdProfile judges a profile and puts it in force.
func (b *builder) bfdProfile(p *v1beta1.BFDProfile) {
	v := b.judge(KindBFDProfile, p)
	number := func(field string, n *int32, otherwise, least, most int64) int64 {
		if n == nil {
			return otherwise
		}
		v.within("spec."+field, int64(*n), least, most)
		return int64(*n)
	}
	out := BFDProfile{
		Name:             p.Name,
		ReceiveInterval:  time.Duration(number("receiveInterval", p.Spec.ReceiveInterval, 300, 10, 60_000)) * time.Millisecond,
		TransmitInterval: time.Duration(number("transmitInterval", p.Spec.TransmitInterval, 300, 10, 60_000)) * time.Millisecond,
		DetectMultiplier: int(number("detectMultiplier", p.Spec.DetectMultiplier, 3, 2, 255)),
		PassiveMode:      p.Spec.PassiveMode,
		MinimumTTL:       int(number("minimumTtl", p.Spec.MinimumTTL, 254, 1, 254)),
	}
	if !v.refused {
		b.config.BFDProfiles = append(b.config.BFDProfiles, out)
	}
}
