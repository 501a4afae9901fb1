package kube

import "time"

// Fast is the reporter with times that suit a test.
func (r *Reporter) Fast() *Reporter {
	r.soon, r.late = 20*time.Millisecond, 80*time.Millisecond
	return r
}

// Reached is the version up to which the reporter has seen the slices.
func (r *Reporter) Reached() string {
	return r.own.sliceCache.GetStore().LastStoreSyncResourceVersion()
}
