package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// The times of the leader's Lease.
const (
	// leaseDuration: so long after a leader died without a word another one leads. New Services wait so long for an
	// address in the worst case; addresses in use do not depend on it.
	leaseDuration = 10 * time.Second
	// renewDeadline: so long a leader tries in vain to renew before it stops. What is left until leaseDuration must
	// be more than WriteTimeout, so that its last write has ended before another one leads.
	renewDeadline = 6 * time.Second
	// renewPeriod between renewals, and between a follower's looks.
	renewPeriod = 2 * time.Second
	// WriteTimeout bounds one write of a leader.
	WriteTimeout = 3 * time.Second
)

// ErrLeaseLost is what Lead returns when the lease could not be renewed.
var ErrLeaseLost = errors.New("the leader's Lease could not be renewed in time")

// Lead waits until this process holds the Lease namespace/name, and then calls run. identity must differ from that of
// every other process. When ctx is done, run is told to end by its context, and the Lease is given up only after
// it has returned, so that two leaders never write at the same time and the next one need not wait. When the
// Lease is lost, run is told to end and Lead returns ErrLeaseLost: the process should end too.
func (c *Client) Lead(ctx context.Context, namespace, name, identity string, run func(context.Context) error) error {
	won := make(chan context.Context, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: namespace, Name: name},
			Client:     c.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
		},
		LeaseDuration:   leaseDuration,
		RenewDeadline:   renewDeadline,
		RetryPeriod:     renewPeriod,
		ReleaseOnCancel: true,
		Name:            name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(lease context.Context) { won <- lease },
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("set up the Lease %s/%s: %w", namespace, name, err)
	}
	// The elector outlives ctx: it must hold the Lease until run has returned.
	electing, release := context.WithCancel(context.WithoutCancel(ctx))
	released := make(chan struct{})
	go func() {
		defer close(released)
		elector.Run(electing)
	}()
	defer func() {
		release()
		<-released
	}()

	var lease context.Context
	select {
	case lease = <-won:
	case <-ctx.Done():
		return nil
	}
	leading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	context.AfterFunc(lease, func() { stop(ErrLeaseLost) })
	err = run(leading)
	if errors.Is(context.Cause(leading), ErrLeaseLost) {
		return fmt.Errorf("lead as %s: %w", identity, ErrLeaseLost)
	}
	return err
}
