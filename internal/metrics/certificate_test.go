package metrics

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
)

// write puts a new certificate into dir, as of a time, and returns it.
func write(t *testing.T, dir string, at time.Time) []byte {
	t.Helper()
	pair, err := selfSigned(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "tls.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), at)
	put(t, filepath.Join(dir, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), at)
	return pair.Certificate[0]
}

func put(t *testing.T, file string, data []byte, at time.Time) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, at, at); err != nil {
		t.Fatal(err)
	}
}

// shown is the certificate that a client of the configuration sees.
func shown(t *testing.T, cfg *tls.Config) []byte {
	t.Helper()
	us, them := net.Pipe()
	defer us.Close()
	defer them.Close()
	go tls.Server(us, cfg).Handshake()
	client := tls.Client(them, &tls.Config{InsecureSkipVerify: true})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	return client.ConnectionState().PeerCertificates[0].Raw
}

func TestTheCertificateFollowsItsFiles(t *testing.T) {
	dir, begin := t.TempDir(), time.Now().Truncate(time.Second)
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if _, err := tlsConfig(cert, key, log.NewNopLogger()); err == nil || !strings.Contains(err.Error(), cert) {
		t.Errorf("without files: %v, want an error that names the file", err)
	}
	first := write(t, dir, begin)
	cfg, err := tlsConfig(cert, key, log.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	is := func(when string, want []byte) {
		t.Helper()
		if got := shown(t, cfg); string(got) != string(want) {
			t.Errorf("%s another certificate is shown", when)
		}
	}
	is("at first", first)
	second := write(t, dir, begin.Add(time.Second))
	is("after it was renewed", second)
	put(t, cert, []byte("half a certificate"), begin.Add(2*time.Second))
	is("while the files are at fault", second)
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	is("while one is not there", second)
	third := write(t, dir, begin.Add(3*time.Second))
	is("when they are right again", third)
}

func TestACertificateOfOurOwn(t *testing.T) {
	cfg, err := tlsConfig("", "", log.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	got, err := x509.ParseCertificate(shown(t, cfg))
	if err != nil {
		t.Fatal(err)
	}
	if err := got.VerifyHostname("herald-metrics"); err != nil || time.Until(got.NotAfter) < 5*365*24*time.Hour {
		t.Errorf("the certificate is for %v until %v", got.DNSNames, got.NotAfter)
	}
}
