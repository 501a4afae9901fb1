package pki

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// A server that asks for client certificates of the authority, as the API server does.
func TestServerAndClientTrustEachOther(t *testing.T) {
	ca, err := NewAuthority("lab")
	if err != nil {
		t.Fatal(err)
	}
	server, err := ca.Server("server", []string{"localhost"}, []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")})
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca.Cert) {
		t.Fatal("the authority's certificate is unreadable")
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		subject := r.TLS.PeerCertificates[0].Subject
		io.WriteString(w, subject.CommonName+" in "+strings.Join(subject.Organization, ","))
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{load(t, server)}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	srv.StartTLS()
	defer srv.Close()

	get := func(pair Pair, trust *x509.CertPool) (string, error) {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
			TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{load(t, pair)}, RootCAs: trust}}}
		_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Get("https://127.0.0.1:" + port)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	node, err := ca.Client("system:node:n1", "system:nodes")
	if err != nil {
		t.Fatal(err)
	}
	if who, err := get(node, pool); err != nil || who != "system:node:n1 in system:nodes" {
		t.Errorf("the server sees %q, %v", who, err)
	}
	if _, err := get(server, pool); err == nil {
		t.Error("a serving certificate passes for a client's")
	}
	other, err := NewAuthority("lab")
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.Client("system:node:n1", "system:nodes")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(foreign, pool); err == nil {
		t.Error("another lab's certificate is accepted")
	}
	if _, err := get(node, x509.NewCertPool()); err == nil {
		t.Error("the server is trusted without its authority")
	}
}

func load(t *testing.T, p Pair) tls.Certificate {
	t.Helper()
	c, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
