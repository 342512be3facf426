package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
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

// A client is asked for a certificate and need not have one; what it shows is not
// judged here, but that it has the key is.
func TestAsking(t *testing.T) {
	t.Parallel()
	s := open(t, testenv.Certificate(t, "mail.corp.example"))
	ca := testenv.NewPeopleCA(t, pkix.Name{CommonName: "CORP-CA"})
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate)
	ours, stranger := ca.Issue("alice", nil), testenv.NewPeopleCA(t, pkix.Name{CommonName: "OTHER"}).Issue("mallory", nil)
	stolen := ours.TLS
	stolen.PrivateKey = stranger.TLS.PrivateKey
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, tt := range map[string]struct {
			cert *tls.Certificate
			want int // certificates that the server sees, -1: the handshake fails
		}{"none": {nil, 0}, "ours": {&ours.TLS, 1}, "a stranger's": {&stranger.TLS, 1}, "without its key": {&stolen, -1}} {
			a, b := wire(t)
			server := tls.Server(b, s.Asking(func() *x509.CertPool { return pool }))
			done := make(chan error, 1)
			go func() { done <- server.Handshake() }()
			told := 0
			client := tls.Client(a, &tls.Config{InsecureSkipVerify: true, MaxVersion: version, GetClientCertificate: func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
				told = len(info.AcceptableCAs)
				if tt.cert == nil {
					return &tls.Certificate{}, nil
				}
				return tt.cert, nil
			}})
			go func() { // reads what the server says after its part
				_ = client.Handshake()
				_, _ = client.Read(make([]byte, 1))
			}()
			err := <-done
			if got := len(server.ConnectionState().PeerCertificates); (err == nil) != (tt.want >= 0) || err == nil && got != tt.want {
				t.Errorf("%x %s: %d certificates, %v", version, name, got, err)
			}
			if told != 1 {
				t.Errorf("%x %s: told of %d authorities", version, name, told)
			}
			b.Close()
			a.Close()
		}
	}
}

// A session is resumed with the certificate that the client has shown in the first
// handshake.
func TestAskingResumes(t *testing.T) {
	t.Parallel()
	s := open(t, testenv.Certificate(t, "mail.corp.example"))
	ca := testenv.NewPeopleCA(t, pkix.Name{CommonName: "CORP-CA"})
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate)
	config := s.Asking(func() *x509.CertPool { return pool })
	client := &tls.Config{InsecureSkipVerify: true, ServerName: "mail.corp.example", ClientSessionCache: tls.NewLRUClientSessionCache(1), Certificates: []tls.Certificate{ca.Issue("alice", nil).TLS}}
	for n := range 3 {
		a, b := wire(t)
		server := tls.Server(b, config)
		go func() { _, _ = server.Write([]byte("x")) }()
		c := tls.Client(a, client)
		if _, err := c.Read(make([]byte, 1)); err != nil { // which takes the ticket too
			t.Fatal(err)
		}
		st := server.ConnectionState()
		if st.DidResume != (n > 0) || len(st.PeerCertificates) != 1 {
			t.Errorf("%d: resumed %v, %d certificates", n, st.DidResume, len(st.PeerCertificates))
		}
		a.Close()
		b.Close()
	}
}

// wire returns the two ends of a connection that, other than net.Pipe, holds what
// nobody reads yet: both sides of a handshake that fails write at once.
func wire(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}
