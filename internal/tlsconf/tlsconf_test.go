package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"dirpost/internal/testenv"
)

func open(t *testing.T, certs ...testenv.Cert) *Store {
	t.Helper()
	var c Config
	for _, cert := range certs {
		c.Pairs = append(c.Pairs, Pair{cert.CertFile, cert.KeyFile})
	}
	s, err := Open(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// shake returns what a client sees of the server of s.
func shake(t *testing.T, s *Store, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	server := tls.Server(b, s.Config())
	go server.Handshake()
	c := tls.Client(a, client)
	err := c.Handshake()
	return c.ConnectionState(), err
}

func TestChoice(t *testing.T) {
	t.Parallel()
	first, second := testenv.Certificate(t, "mail.corp.example"), testenv.Certificate(t, "imap.corp.example", "*.pop.corp.example")
	s := open(t, first, second)
	for name, want := range map[string]string{
		"mail.corp.example":  "mail.corp.example",
		"imap.corp.example":  "imap.corp.example",
		"IMAP.corp.example":  "imap.corp.example",
		"a.pop.corp.example": "imap.corp.example",
		"other.example":      "mail.corp.example",
		"":                   "mail.corp.example",
	} {
		st, err := shake(t, s, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if got := st.PeerCertificates[0].DNSNames[0]; got != want {
			t.Errorf("%q: got the certificate of %s, want that of %s", name, got, want)
		}
	}
}

// RFC 8996 §2: TLS 1.0 and 1.1 are not spoken. RFC 9325 §4.1: nor are suites
// without forward secrecy.
func TestOldClients(t *testing.T) {
	t.Parallel()
	s := open(t, testenv.Certificate(t))
	for name, c := range map[string]*tls.Config{
		"TLS 1.1":    {MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"CBC":        {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}},
		"no secrecy": {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}},
	} {
		c.InsecureSkipVerify = true
		if _, err := shake(t, s, c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	st, err := shake(t, s, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err != nil || st.Version != tls.VersionTLS12 {
		t.Errorf("TLS 1.2: %v", err)
	}
}

// A changed file is seen, a broken one leaves the old certificate in use.
func TestReload(t *testing.T) {
	old, next := testenv.Certificate(t, "old.example"), testenv.Certificate(t, "new.example")
	synctest.Test(t, func(t *testing.T) {
		s := open(t, old)
		go s.Run(t.Context())
		serial := func() string {
			return s.set.Load().certs[0].Leaf.DNSNames[0]
		}
		copyFile(t, next.CertFile, old.CertFile) // the key of another
		time.Sleep(2 * lookEvery)
		if serial() != "old.example" {
			t.Errorf("half a pair is in use")
		}
		copyFile(t, next.KeyFile, old.KeyFile)
		time.Sleep(2 * lookEvery)
		if serial() != "new.example" {
			t.Errorf("the new pair is not in use")
		}
		if err := os.Remove(old.KeyFile); err != nil {
			t.Fatal(err)
		}
		if err := s.Reload(); !errors.Is(err, os.ErrNotExist) || serial() != "new.example" {
			t.Errorf("after the key is gone: %v, %s", err, serial())
		}
	})
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, append(b, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{}, {Pairs: []Pair{{CertFile: "a"}}}, {Pairs: []Pair{{KeyFile: "a"}}}} {
		if c.Validate() == nil {
			t.Errorf("%+v accepted", c)
		}
	}
	if _, err := Open(Config{Pairs: []Pair{{"/nowhere/cert", "/nowhere/key"}}}, slog.New(slog.DiscardHandler)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

// shown is a connection that is told what its client is shown.
type shown struct {
	net.Conn
	leaf *x509.Certificate
}

func (s *shown) Present(leaf *x509.Certificate) { s.leaf = leaf }

// A connection learns its certificate, in a session that is resumed too.
func TestPresent(t *testing.T) {
	t.Parallel()
	s := open(t, testenv.Certificate(t, "mail.corp.example"), testenv.Certificate(t, "imap.corp.example"))
	config := s.Config()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := &tls.Config{ServerName: "imap.corp.example", InsecureSkipVerify: true, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		for resumed := range 2 {
			a, b := net.Pipe()
			below := &shown{Conn: b}
			server := tls.Server(below, config)
			go func() {
				_, _ = server.Write([]byte("x")) // with it come the tickets of TLS 1.3
			}()
			c := tls.Client(a, client)
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if st := c.ConnectionState(); st.DidResume != (resumed == 1) || below.leaf == nil || !below.leaf.Equal(st.PeerCertificates[0]) {
				t.Errorf("%s, resumed %v: shown %v", tls.VersionName(version), st.DidResume, below.leaf)
			}
			a.Close()
			b.Close()
		}
	}
}
