package layer2

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-kit/log/level"
	"github.com/vishvananda/netlink"
)

// watch asks for a reconciliation at each change of an interface or an address, until ctx is done. The kernel
// drops events when they come faster than they are read; the subscription then ends, and a new one starts with a
// fresh look.
func (a *Announcer) watch(ctx context.Context) {
	failing := false
	for ctx.Err() == nil {
		err := a.subscribe(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			level.Warn(a.logger).Log("msg", "lost the kernel's events of interfaces; subscribing again", "err", err)
		}
		failing = err != nil
		a.reconcileSoon()
		select {
		case <-ctx.Done():
		case <-time.After(retryFirst):
		}
	}
}

// subscribe relays events until one of the two subscriptions ends.
func (a *Announcer) subscribe(ctx context.Context) error {
	done := make(chan struct{})
	var receivers sync.WaitGroup
	defer receivers.Wait()
	defer close(done)

	failed := make(chan error, 2)
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	links := make(chan netlink.LinkUpdate)
	if err := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{ErrorCallback: fail}); err != nil {
		return fmt.Errorf("subscribe to links: %w", err)
	}
	receivers.Go(func() {
		for range links {
			a.reconcileSoon()
		}
		fail(fmt.Errorf("the subscription to links ended"))
	})
	addrs := make(chan netlink.AddrUpdate)
	if err := netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{ErrorCallback: fail}); err != nil {
		return fmt.Errorf("subscribe to addresses: %w", err)
	}
	receivers.Go(func() {
		for range addrs {
			a.reconcileSoon()
		}
		fail(fmt.Errorf("the subscription to addresses ended"))
	})

	a.reconcileSoon() // what changed before the subscription
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}
