package kube

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// The first and the longest wait before an API server that cannot be reached is tried again. An informer by itself
// waits for up to 30 s, which is how long, after an outage, a new Service would wait for its address.
const (
	reconnectFirst = 250 * time.Millisecond
	reconnectMost  = 4 * time.Second
)

// reconnecting makes lists and watches try again while there is no answer from an API server. What a server answers is
// left to the informer, an error too.
func reconnecting(lw *cache.ListWatch, resource string) *cache.ListWatch {
	return &cache.ListWatch{
		ListWithContextFunc:  untilAnswered(resource, lw.ListWithContextFunc),
		WatchFuncWithContext: untilAnswered(resource, lw.WatchFuncWithContext),
	}
}

func untilAnswered[T any](resource string, call func(context.Context, metav1.ListOptions) (T, error)) func(context.Context, metav1.ListOptions) (T, error) {
	return func(ctx context.Context, o metav1.ListOptions) (T, error) {
		for wait := reconnectFirst; ; wait = min(2*wait, reconnectMost) {
			got, err := call(ctx, o)
			if err == nil || answered(err) {
				return got, err
			}
			if wait == reconnectFirst {
				klog.FromContext(ctx).Error(err, "no answer from the API server; trying again until there is one", "resource", resource)
			}
			select {
			case <-ctx.Done():
				return got, err
			case <-time.After(wait/2 + rand.N(wait)): // not all clients at once
			}
		}
	}
}

// answered tells whether an error is what a server said, and not that there was none.
func answered(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status)
}
