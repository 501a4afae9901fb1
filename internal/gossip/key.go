package gossip

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"os"
)

// minSecret is the least number of bytes that a secret must have. It catches an empty one and the word someone
// typed for a test; the Secret that Herald makes has more.
const minSecret = 16

// SecretFile returns how to read the secret from a file. All of its bytes count, a newline at the end too.
func SecretFile(file string) func() ([]byte, error) {
	return func() ([]byte, error) {
		secret, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%w (--gossip-key-file)", err)
		}
		return secret, nil
	}
}

// deriveKey makes the ring's key from the secret.
func deriveKey(secret []byte) ([]byte, error) {
	if len(secret) < minSecret {
		return nil, fmt.Errorf("it has %d bytes: put at least %d random ones there", len(secret), minSecret)
	}
	// The info string separates this use of the secret from any later one.
	return hkdf.Key(sha256.New, secret, nil, "herald gossip v1", 32)
}
