package lead

import "time"

// Fast is the Lease with times that suit a test.
func (l Lease) Fast() Lease {
	l.duration, l.renewDeadline, l.renewPeriod = 1200*time.Millisecond, 600*time.Millisecond, 50*time.Millisecond
	return l
}
