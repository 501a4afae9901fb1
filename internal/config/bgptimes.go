package config

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
)

// times reads the timers of a session. On the wire they are whole seconds.
func (v *verdict) times(s v1beta1.BGPPeerSpec, out *BGPPeer) {
	out.HoldTime = v.seconds("spec.holdTime", s.HoldTime, defaultHoldTime, 0, 65535)
	if out.HoldTime > 0 && out.HoldTime < 3*time.Second {
		v.refuse("spec.holdTime", ReasonInvalidValue, "holdTime is 0s, or from 3s to 65535s")
	}
	third := (out.HoldTime / 3).Truncate(time.Second)
	out.KeepaliveTime = v.seconds("spec.keepaliveTime", s.KeepaliveTime, third, 1, 65535)
	if s.KeepaliveTime != nil && 3*out.KeepaliveTime > out.HoldTime {
		v.refuse("spec.keepaliveTime", ReasonConflictingFields, "keepaliveTime must be a third of holdTime (%v) or less: leave it out for a third", out.HoldTime)
	}
	out.ConnectTime = v.seconds("spec.connectTime", s.ConnectTime, defaultConnectTime, 1, 65535)
	g := s.GracefulRestart
	if g == nil {
		return
	}
	restart := GracefulRestart{
		RestartTime:        v.seconds("spec.gracefulRestart.restartTime", g.RestartTime, defaultRestartTime, 1, 4095),
		LongLivedStaleTime: v.seconds("spec.gracefulRestart.longLivedStaleTime", g.LongLivedStaleTime, 0, 1, 16777215),
	}
	if g.Enabled == nil || *g.Enabled {
		out.GracefulRestart = &restart
	} else if g.LongLivedStaleTime != nil {
		v.refuse("spec.gracefulRestart.longLivedStaleTime", ReasonConflictingFields, "longLivedStaleTime needs graceful restart to be enabled")
	}
}

// seconds reads a time in whole seconds within bounds; left out it is what otherwise says.
func (v *verdict) seconds(field string, d *metav1.Duration, otherwise time.Duration, least, most int64) time.Duration {
	if d == nil {
		return otherwise
	}
	if d.Duration < time.Duration(least)*time.Second || d.Duration > time.Duration(most)*time.Second || d.Duration%time.Second != 0 {
		v.refuse(field, ReasonInvalidValue, "%v: write whole seconds from %ds to %ds", d.Duration, least, most)
		return otherwise
	}
	return d.Duration
}
