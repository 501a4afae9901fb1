package report

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
)

// late is how old the leader's Lease may be. It is renewed every two seconds.
const late = 30 * time.Second

// lead tells who leads, by the Lease. The leader writes the time of its own clock into it, and the API server notes when it was written: if
// these differ the clocks do, and it is the API server's that counts.
func lead(s *Snapshot, c *Controllers, add func(...Finding)) {
	l := s.Lease
	if l == nil || l.Spec.HolderIdentity == nil || l.Spec.RenewTime == nil {
		return
	}
	object := "Lease/" + s.Namespace + "/" + leaseName
	c.Leader, _, _ = strings.Cut(*l.Spec.HolderIdentity, "_")
	c.Renewed = l.Spec.RenewTime.Time
	if written := renewalWritten(l); !written.IsZero() && written.Sub(c.Renewed).Abs() > late {
		how := Age(written, c.Renewed) + " behind"
		if c.Renewed.After(written) {
			how = Age(c.Renewed, written) + " ahead of"
		}
		add(warning(object, "ClockSkew", fmt.Sprintf("the clock of controller %s is %s the API server's: times and ages are shown wrong, and nothing else depends on them", c.Leader, how),
			"keep the clocks of all machines right, as with NTP"))
		c.Renewed = written
	}
	if s.Now.Sub(c.Renewed) > late {
		add(failure(object, "NoLeader", fmt.Sprintf("no controller leads: the last one said so %s ago", Age(s.Now, c.Renewed)), "kubectl -n "+s.Namespace+" logs -l app.kubernetes.io/component=controller"))
	}
}

// leaseName is that of the Lease that the leader holds.
const leaseName = "herald-controller"

// renewalWritten is when the API server last noted that a Lease was renewed, zero when it did not.
func renewalWritten(l *coordinationv1.Lease) (last time.Time) {
	for _, m := range l.ManagedFields {
		if m.Time != nil && m.FieldsV1 != nil && bytes.Contains(m.FieldsV1.GetRawBytes(), []byte(`"f:renewTime"`)) && m.Time.After(last) {
			last = m.Time.Time
		}
	}
	return last
}
