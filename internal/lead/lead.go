// Package lead has one of several processes work at a time: the one that holds a Lease.
//
// It is apart from package kube because the library that it uses brings every type of Kubernetes' API with it, which is a third
// of a program, and of what that keeps in memory. The speaker, of which there are many, does without.
package lead

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// The times of the leader's Lease.
const (
	// leaseDuration: so long after a leader died without a word another one leads. New Services wait so long for an
	// address in the worst case; addresses in use do not depend on it.
	leaseDuration = 10 * time.Second
	// renewDeadline: so long a leader tries in vain to renew before it stops. What is left until leaseDuration must
	// be more than kube.WriteTimeout, so that its last write has ended before another one leads.
	renewDeadline = 6 * time.Second
	// renewPeriod between renewals, and between a follower's looks.
	renewPeriod = 2 * time.Second
)

// Lease is the object by which one of several processes leads.
type Lease struct {
	Namespace, Name string
	// Identity differs from that of every other process.
	Identity string

	duration, renewDeadline, renewPeriod time.Duration // zero: the constants above
}

// errLeaseLost ends what a leader does when its Lease could not be renewed in time.
var errLeaseLost = errors.New("the leader's Lease could not be renewed in time")

// Run waits until this process holds the Lease, and then calls run; when the Lease is lost, run is told to end by its
// context, and Run waits again. It returns when ctx is done, or with run's error.
//
// When ctx is done, the Lease is given up only after run has returned, so that two leaders never write at the same
// time and the next one need not wait for the Lease to expire.
func Run(ctx context.Context, cfg *rest.Config, lease Lease, logger log.Logger, run func(context.Context) error) error {
	client, err := coordinationv1.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("make a client of Leases for %s: %w", cfg.Host, err)
	}
	for {
		err := lead(ctx, client, lease, run)
		if !errors.Is(err, errLeaseLost) || ctx.Err() != nil {
			return err
		}
		level.Warn(logger).Log("msg", "another controller may lead now", "lease", lease.Namespace+"/"+lease.Name, "err", err)
	}
}

// lead leads once, until ctx is done, run has returned or the Lease is lost.
func lead(ctx context.Context, client coordinationv1.LeasesGetter, lease Lease, run func(context.Context) error) error {
	won := make(chan context.Context, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: lease.Namespace, Name: lease.Name},
			Client:     client,
			LockConfig: resourcelock.ResourceLockConfig{Identity: lease.Identity},
		},
		LeaseDuration:   or(lease.duration, leaseDuration),
		RenewDeadline:   or(lease.renewDeadline, renewDeadline),
		RetryPeriod:     or(lease.renewPeriod, renewPeriod),
		ReleaseOnCancel: true,
		Name:            lease.Name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(held context.Context) { won <- held },
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("set up the Lease %s/%s: %w", lease.Namespace, lease.Name, err)
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

	var held context.Context
	select {
	case held = <-won:
	case <-ctx.Done():
		return nil
	}
	leading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	context.AfterFunc(held, func() { stop(errLeaseLost) })
	err = run(leading)
	if errors.Is(context.Cause(leading), errLeaseLost) {
		return errLeaseLost
	}
	return err
}

func or(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}
