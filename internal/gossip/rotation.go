package gossip

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/go-kit/log/level"
	"github.com/hashicorp/memberlist"
)

const (
	// keyInterval is how often the secret is read again.
	keyInterval = 5 * time.Second

	// keyDelay is how long a key must have been understood here before this member speaks with it, and how long one that
	// is wanted no more is understood still. Members learn of a change at different times: within seconds by the API
	// server, within a minute or so from a file that the kubelet brings.
	keyDelay = 2 * time.Minute
)

// rotation is which keys a member has, and since when. What is to be done with them follows from the clock and from
// which are wanted: a new one is understood at once, spoken with when everybody has had time to understand it, and the
// old one is understood until everybody has had time to speak with the new one. So whichever way the secret is edited,
// members that see the change within keyDelay of each other always understand each other.
type rotation struct {
	keys []heldKey // the first is spoken with
}

type heldKey struct {
	key      []byte
	since    time.Time // it was first wanted
	unwanted time.Time // since when it is neither wanted nor spoken with, zero while it is
}

// update takes in which keys are wanted now, the one to speak with first, and tells whether anything changed.
func (r *rotation) update(now time.Time, wanted [][]byte) (changed bool) {
	for _, key := range wanted {
		if r.index(key) < 0 {
			r.keys = append(r.keys, heldKey{key: key, since: now})
			changed = true
		}
	}
	if i := r.index(wanted[0]); i > 0 && now.Sub(r.keys[i].since) >= keyDelay {
		primary := r.keys[i]
		r.keys = slices.Insert(slices.Delete(r.keys, i, i+1), 0, primary)
		changed = true
	}
	for i := len(r.keys) - 1; i > 0; i-- {
		k := &r.keys[i]
		switch {
		case slices.ContainsFunc(wanted, func(w []byte) bool { return bytes.Equal(w, k.key) }):
			k.unwanted = time.Time{}
		case k.unwanted.IsZero():
			k.unwanted = now
		case now.Sub(k.unwanted) >= keyDelay:
			r.keys = slices.Delete(r.keys, i, i+1)
			changed = true
		}
	}
	return changed
}

func (r *rotation) index(key []byte) int {
	return slices.IndexFunc(r.keys, func(k heldKey) bool { return bytes.Equal(k.key, key) })
}

// keychain is a rotation and memberlist's keyring that follows it.
type keychain struct {
	rotation
	ring *memberlist.Keyring
}

// newKeychain holds the keys that are wanted when a member starts. How long others have had them it cannot know.
func newKeychain(now time.Time, wanted [][]byte) (*keychain, error) {
	ring, err := memberlist.NewKeyring(wanted, wanted[0])
	k := &keychain{ring: ring}
	k.update(now, wanted)
	return k, err
}

// install makes the keyring follow.
func (k *keychain) install() error {
	for _, held := range k.keys {
		if err := k.ring.AddKey(held.key); err != nil {
			return err
		}
	}
	if err := k.ring.UseKey(k.keys[0].key); err != nil {
		return err
	}
	// From the end: the keyring closes a gap in place, under the eyes of whoever reads it.
	for _, key := range slices.Backward(slices.Clone(k.ring.GetKeys())) {
		if k.index(key) < 0 {
			if err := k.ring.RemoveKey(key); err != nil {
				return err
			}
		}
	}
	return nil
}

// readKeys reads the secret and makes the keys of it.
func (r *Ring) readKeys() ([][]byte, error) {
	secret, err := r.cfg.Secret()
	if err != nil {
		return nil, fmt.Errorf("gossip key: %w", err)
	}
	keys, err := deriveKeys(secret)
	if err != nil {
		return nil, fmt.Errorf("gossip key: %w", err)
	}
	return keys, nil
}

// keepKeys follows the secret until ctx is done. One that cannot be read or used changes nothing.
func (r *Ring) keepKeys(ctx context.Context) {
	tick := time.NewTicker(keyInterval)
	defer tick.Stop()
	for said := ""; ; {
		r.metrics.keys.Set(float64(len(r.keys.keys)))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		wanted, err := r.readKeys()
		if err == nil && r.keys.update(time.Now(), wanted) {
			err = r.keys.install()
			level.Info(r.logger).Log("msg", "gossip keys changed", "keys", len(r.keys.keys), "wanted", len(wanted), "speaks_with_first", bytes.Equal(r.keys.keys[0].key, wanted[0]))
		}
		switch {
		case err == nil:
			said = ""
		case err.Error() != said:
			said = err.Error()
			level.Warn(r.logger).Log("msg", "gossip goes on with the keys it has", "err", err)
		}
	}
}
