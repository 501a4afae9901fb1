package gossip

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// minSecret is the least number of bytes that a secret must have. It catches the empty file and the word someone
// typed for a test; the Secret that Herald makes has more.
const minSecret = 16

// readKey derives the ring's key from the bytes of a file. All of them count, a newline at the end too.
func readKey(file string) ([]byte, error) {
	secret, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("gossip key file %s is not there; it is mounted from the Secret, which the controller creates when there is none", file)
	}
	if err != nil {
		return nil, fmt.Errorf("gossip key: %w", err)
	}
	if len(secret) < minSecret {
		return nil, fmt.Errorf("gossip key file %s has %d bytes: put at least %d random bytes into the Secret", file, len(secret), minSecret)
	}
	// The info string separates this use of the secret from any later one.
	return hkdf.Key(sha256.New, secret, nil, "herald gossip v1", 32)
}
