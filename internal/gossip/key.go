package gossip

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
)

const (
	// minSecret is the least number of bytes that a secret must have. It catches an empty one and the word someone
	// typed for a test; the Secret that Herald makes has more.
	minSecret = 16

	// maxSecrets is how many there may be: each is tried in turn with a packet that none fits.
	maxSecrets = 8
)

// SecretFile returns how to read the secrets from a file.
func SecretFile(file string) func() ([]byte, error) {
	return func() ([]byte, error) {
		secret, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%w (--gossip-key-file)", err)
		}
		return secret, nil
	}
}

// deriveKeys makes the ring's keys from the secrets: one on each line, the first of which is the one to speak with.
// Space around a line does not count, nor do empty lines.
func deriveKeys(secrets []byte) (keys [][]byte, err error) {
	for line := range bytes.Lines(secrets) {
		secret := bytes.TrimSpace(line)
		if len(secret) == 0 {
			continue
		}
		if len(secret) < minSecret {
			return nil, fmt.Errorf("line %d has %d bytes: put at least %d random ones there", len(keys)+1, len(secret), minSecret)
		}
		// The info string separates this use of the secret from any later one.
		key, err := hkdf.Key(sha256.New, secret, nil, "herald gossip v1", 32)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) }) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("it is empty: put at least one line of random text there")
	}
	if len(keys) > maxSecrets {
		return nil, fmt.Errorf("it has %d lines: %d are the most that there may be", len(keys), maxSecrets)
	}
	return keys, nil
}
