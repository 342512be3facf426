package testenv

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"dirpost/internal/child"
)

// Cert is a server certificate of the test authority.
type Cert struct {
	TLS      tls.Certificate
	Pool     *x509.CertPool // with the authority, for clients
	CertFile string         // PEM
	KeyFile  string
	CAFile   string
}

// authority is one for the test binary.
var authority = sync.OnceValues(func() (*child.Authority, error) {
	return child.NewAuthority("Dirpost test authority")
})

// Certificate returns an ECDSA certificate for host names and IP addresses; with
// none, for localhost, 127.0.0.1 and ::1.
func Certificate(t testing.TB, names ...string) Cert {
	t.Helper()
	return certificate(t, 365*24*time.Hour, names)
}

// ExpiredCertificate is Certificate that was valid until an hour ago.
func ExpiredCertificate(t testing.TB, names ...string) Cert {
	t.Helper()
	return certificate(t, -time.Hour, names)
}

func certificate(t testing.TB, life time.Duration, names []string) Cert {
	t.Helper()
	if len(names) == 0 {
		names = []string{"localhost", "127.0.0.1", "::1"}
	}
	ca, err := authority()
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := ca.IssueFor(life, names...)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := Cert{
		TLS: pair, Pool: x509.NewCertPool(),
		CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), CAFile: filepath.Join(dir, "ca.pem"),
	}
	c.Pool.AddCert(ca.Certificate)
	for path, b := range map[string][]byte{c.CertFile: certPEM, c.KeyFile: keyPEM, c.CAFile: ca.PEM()} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}
