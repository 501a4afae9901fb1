package metrics

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"os"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// tlsConfig serves the certificate of two files, whatever is in them at the time, or one of its own making when none are
// named: then the transport is encrypted, and the reader has to take our word for who we are.
func tlsConfig(certFile, keyFile string, logger log.Logger) (*tls.Config, error) {
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"}, // readers are few; the attacks on HTTP/2 are many
	}
	if certFile == "" {
		own, err := selfSigned(time.Now())
		cfg.Certificates = []tls.Certificate{own}
		return cfg, err
	}
	f := &certificateFiles{cert: certFile, key: keyFile, logger: logger}
	if _, err := f.get(nil); err != nil {
		return nil, err
	}
	cfg.GetCertificate = f.get
	return cfg, nil
}

// certificateFiles is a certificate that follows its files. A kubelet that brings a renewed Secret replaces both.
type certificateFiles struct {
	cert, key string
	logger    log.Logger

	mu      sync.Mutex
	changed [2]time.Time // of the files as they were last read
	pair    *tls.Certificate
}

// get returns the newest certificate, the one before while the files are at fault.
func (f *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	changed, err := modified(f.cert, f.key)
	if err == nil && f.pair != nil && changed == f.changed {
		return f.pair, nil
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.LoadX509KeyPair(f.cert, f.key)
	}
	if err != nil {
		err = fmt.Errorf("certificate of the metrics: %w (--metrics-tls-cert-file, --metrics-tls-key-file)", err)
		if f.pair == nil {
			return nil, err
		}
		if changed != f.changed {
			level.Warn(f.logger).Log("msg", "the metrics' certificate stays the one before", "err", err)
		}
		f.changed = changed
		return f.pair, nil
	}
	f.pair, f.changed = &pair, changed
	return f.pair, nil
}

func modified(files ...string) (at [2]time.Time, err error) {
	for i, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return [2]time.Time{}, err
		}
		at[i] = info.ModTime()
	}
	return at, nil
}

// selfSigned makes a certificate that lives longer than the process.
func selfSigned(now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate for the metrics: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: "herald-metrics"},
		DNSNames:     []string{"herald-metrics"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(10, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate for the metrics: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
