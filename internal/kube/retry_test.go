package kube

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAnAPIServerThatIsBackIsNoticedWithinSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		const outage = time.Minute
		list := untilAnswered("services", func(context.Context, metav1.ListOptions) (string, error) {
			if time.Since(start) < outage {
				return "", errors.New("connection refused")
			}
			return "all", nil
		})
		got, err := list(t.Context(), metav1.ListOptions{})
		if late := time.Since(start) - outage; got != "all" || err != nil || late > 3*reconnectMost/2 {
			t.Errorf("%q, %v, %v after the server was back", got, err, late)
		}
	})
}

func TestWhatAServerAnswersIsLeftToTheCaller(t *testing.T) {
	calls := 0
	list := untilAnswered("services", func(context.Context, metav1.ListOptions) (string, error) {
		calls++
		return "", apierrors.NewForbidden(metav1.Unversioned.WithResource("services").GroupResource(), "", nil)
	})
	if _, err := list(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

func TestTryingAgainEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		refused := errors.New("connection refused")
		watch := untilAnswered("services", func(context.Context, metav1.ListOptions) (int, error) { return 0, refused })
		if _, err := watch(ctx, metav1.ListOptions{}); err != refused {
			t.Errorf("%v, want the last error", err)
		}
	})
}
