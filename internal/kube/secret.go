package kube

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// The Secret with which the speakers encrypt and authenticate their gossip.
const (
	GossipSecret    = "herald-gossip"
	GossipSecretKey = "key"
)

// EnsureGossipSecret creates the speakers' Secret in a namespace when there is none, so that applying the manifests
// is a complete install, and tells whether it did. It never changes one that exists: a speaker that starts later
// must find the key that the others use.
//
// The value is 32 random bytes as base64 text (44 characters), which a person can copy from one cluster's Secret
// into another file unharmed. Speakers derive their key from the text as it is.
func (c *Client) EnsureGossipSecret(ctx context.Context, namespace string) (created bool, err error) {
	secrets := c.secretsOf(namespace)
	_, err = secrets.Get(ctx, GossipSecret, metav1.GetOptions{})
	if err == nil {
		return false, nil
	}
	if !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("look for Secret %s/%s: %w", namespace, GossipSecret, err)
	}
	var key [32]byte
	rand.Read(key[:]) // never fails
	_, err = secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:   GossipSecret,
			Labels: map[string]string{"app.kubernetes.io/name": "herald", "app.kubernetes.io/managed-by": fieldManager},
		},
		Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{GossipSecretKey: []byte(base64.StdEncoding.EncodeToString(key[:]))},
	}, metav1.CreateOptions{FieldManager: fieldManager})
	if apierrors.IsAlreadyExists(err) {
		return false, nil // another controller was faster
	}
	if err != nil {
		return false, fmt.Errorf("create Secret %s/%s: %w", namespace, GossipSecret, err)
	}
	return true, nil
}

// ReadGossipSecret returns what the Secret that an informer of GossipSecret watches holds.
func ReadGossipSecret(informer cache.SharedIndexInformer) ([]byte, error) {
	if !informer.HasSynced() {
		return nil, fmt.Errorf("secret %s has not been read yet", GossipSecret)
	}
	for _, obj := range informer.GetStore().List() {
		secret, ok := obj.(*corev1.Secret)
		if !ok {
			continue
		}
		key, ok := secret.Data[GossipSecretKey]
		if !ok {
			return nil, fmt.Errorf("secret %s/%s has no %q: delete it and restart the controller, which then makes a new one", secret.Namespace, secret.Name, GossipSecretKey)
		}
		return key, nil
	}
	return nil, fmt.Errorf("secret %s is not there; the controller creates it when it starts", GossipSecret)
}

// secretPause parts the attempts of ProvideGossipSecret.
const secretPause = 2 * time.Second

// ProvideGossipSecret calls EnsureGossipSecret until it succeeds or ctx is done.
func (c *Client) ProvideGossipSecret(ctx context.Context, namespace string, logger log.Logger) {
	said := ""
	for {
		created, err := c.EnsureGossipSecret(ctx, namespace)
		if created {
			level.Info(logger).Log("msg", "created the speakers' gossip key", "secret", namespace+"/"+GossipSecret)
		}
		if err == nil || ctx.Err() != nil {
			return
		}
		if err.Error() != said {
			said = err.Error()
			level.Warn(logger).Log("msg", "speakers without a gossip key have to wait", "err", err)
		}
		select {
		case <-time.After(secretPause):
		case <-ctx.Done():
			return
		}
	}
}
