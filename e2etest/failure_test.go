package e2etest

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/e2etest/install"
)

// restartGrace is what these tests give speakers instead of half a minute: longer than a restart takes on a busy machine.
const restartGrace = 8 * time.Second

// A speaker's absence is not its node's death. While it is away for less than the restart grace nothing moves: new
// connections and established ones go on through the same node, and whoever asks is told that node's MAC. When it stays
// away the addresses move, and no new connection fails.
func TestASpeakerThatIsAway(t *testing.T) {
	const node = "n1"
	addrs := placed(t, "away", 61, node)

	t.Run("a key is added, and then all are restarted one after the other", func(t *testing.T) {
		u := use(t, addrs, 20)
		addKey(t)
		for _, n := range cluster.Nodes() {
			shows(t, n, "herald_gossip_keys 2")
		}
		restartSpeakers(t, restartGrace)
		ringed(t)
		u.goesOn(t, 50)
		stays(t, u.end(t), node)
	})
	// Not of the subtest: the ones that follow need the short grace.
	t.Cleanup(func() { restartSpeakers(t, 0); ringed(t) })

	t.Run("the owner's is killed and comes back", func(t *testing.T) {
		pod, err := speakerPod(t.Context(), node)
		if err != nil {
			t.Fatal(err)
		}
		pid, err := processOf(pod)
		if err != nil {
			t.Fatal(err)
		}
		u := use(t, addrs, 20)
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		within(t, time.Minute, func(ctx context.Context) error {
			pod, err := speakerPod(ctx, node)
			if err == nil && pod.Status.ContainerStatuses[0].RestartCount != 1 {
				err = fmt.Errorf("speaker %s was restarted %d times, want once", pod.Name, pod.Status.ContainerStatuses[0].RestartCount)
			}
			return err
		})
		ringed(t)
		u.goesOn(t, 50)
		stays(t, u.end(t), node)
	})

	t.Run("the owner's hangs for longer than the grace", func(t *testing.T) {
		u := use(t, addrs, 0)
		frozen(t, node+"/speaker")
		u.movesFrom(t, node)
		u.goesOn(t, 50)
		u.woke = time.Now()
		thawed(t, node+"/speaker")
		ringed(t)
		u.goesOn(t, 50)
		// When it wakes it first answers the questions that have waited for it, and only then hears that it has lost.
		at := owners(t, addrs)
		for i, who := range u.end(t) {
			if who[0] != node || at[i] == node || len(who) > 3 || who[1] != at[i] {
				t.Errorf("%s was answered for by %v and is at %s, want %s and then one other", addrs[i], who, at[i], node)
			}
		}
		moves(t, "away", addrs, node, at, "NotAlive")
	})
}

// addKey puts a new key before the one that the speakers share. It stays there: a key that some speak with is not to be
// taken away.
func addKey(t *testing.T) {
	t.Helper()
	secrets := kube.CoreV1().Secrets(install.Namespace)
	secret, err := secrets.Get(t.Context(), "herald-gossip", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secret.Data["key"] = slices.Concat([]byte(rand.Text()+"\n"), secret.Data["key"])
	if _, err := secrets.Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// restartSpeakers replaces all speakers in a rolling update, after which they have this restart grace; 0 is the default.
func restartSpeakers(t *testing.T, grace time.Duration) {
	t.Helper()
	env := `{"name":"HERALD_RESTART_GRACE","$patch":"delete"}`
	if grace > 0 {
		env = fmt.Sprintf(`{"name":"HERALD_RESTART_GRACE","value":%q}`, grace)
	}
	_, err := kube.AppsV1().DaemonSets(install.Namespace).Patch(context.Background(), install.Speaker, types.StrategicMergePatchType,
		fmt.Appendf(nil, `{"spec":{"template":{"spec":{"containers":[{"name":"speaker","env":[%s]}]}}}}`, env), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, func(ctx context.Context) error { return install.Ready(ctx, kube, nodes) })
}

// restartSpeaker deletes a node's speaker and waits until it has another one.
func restartSpeaker(t *testing.T, node string) {
	t.Helper()
	old, err := speakerPod(t.Context(), node)
	if err == nil {
		err = kube.CoreV1().Pods(install.Namespace).Delete(t.Context(), old.Name, metav1.DeleteOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, func(ctx context.Context) error {
		pod, err := speakerPod(ctx, node)
		if err == nil && pod.UID == old.UID {
			err = fmt.Errorf("speaker %s is still there", old.Name)
		}
		return err
	})
}

// frozen stops a process as if it hung, until the test is over at the latest.
func frozen(t *testing.T, process string) {
	t.Helper()
	t.Cleanup(func() {
		if err := cluster.Thaw(context.Background(), process); err != nil {
			t.Error(err)
		}
	})
	if err := cluster.Freeze(t.Context(), process); err != nil {
		t.Fatal(err)
	}
}

// thawed lets it go on.
func thawed(t *testing.T, process string) {
	t.Helper()
	if err := cluster.Thaw(t.Context(), process); err != nil {
		t.Fatal(err)
	}
}
