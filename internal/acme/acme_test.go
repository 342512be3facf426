package acme

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"dirpost/internal/postgres"
	"dirpost/internal/seal"
	"dirpost/internal/testenv"
	"dirpost/internal/tlsconf"
)

// A world is an authority and two nodes on one database. The authority reaches the
// second node; the first one does the asking.
type world struct {
	t         *testing.T
	db        *postgres.DB
	authority *testenv.ACMEServer
	asking    *Manager
	reached   *Manager
	tls       *tlsconf.Store // of the second node
	tlsAddr   string
}

func newWorld(t *testing.T, kind string, names []string, change func(*Config, *testenv.ACMEOptions)) *world {
	t.Helper()
	w := &world{t: t, db: testenv.Database(t)}
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	clear, secure := listen(), listen()
	w.tlsAddr = secure.Addr().String()
	options := testenv.ACMEOptions{HTTPPort: clear.Addr().(*net.TCPAddr).Port, TLSPort: secure.Addr().(*net.TCPAddr).Port}
	c := Config{Contact: "postmaster@corp.example", Names: names, Kind: kind}
	if change != nil {
		change(&c, &options)
	}
	var records []string
	for _, n := range names {
		if !strings.HasPrefix(n, "nowhere.") {
			records = append(records, n+". IN A 127.0.0.1")
		}
	}
	w.authority = testenv.ACME(t, testenv.DNS(t, records...), options)
	c.Directory, c.Roots = w.authority.URL, w.authority.Roots
	sealer, err := seal.New(seal.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	node := func(name string) *Manager {
		m, err := New(t.Context(), c, w.db, sealer, nil, name, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	w.asking, w.reached = node("one"), node("two")
	if w.tls, err = tlsconf.Open(tlsconf.Config{Issuer: w.reached}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	plain := &http.Server{Handler: w.reached}
	go plain.Serve(clear)
	encrypted := &http.Server{Handler: http.NotFoundHandler(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go encrypted.Serve(tls.NewListener(secure, w.tls.Config()))
	t.Cleanup(func() { plain.Close(); encrypted.Close() })
	return w
}

// shown is the certificate that the second node shows for a name.
func (w *world) shown(name string) *x509.Certificate {
	w.t.Helper()
	if err := w.reached.load(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", w.tlsAddr, &tls.Config{ServerName: name, RootCAs: w.authority.Issuer})
	if err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// One node gets a certificate for each name and the other one shows it; a renewal
// keeps the key, which DNS may name.
func TestIssueAndRenew(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{HTTP01, TLSALPN01} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			names := []string{"mail.corp.example", "autoconfig.corp.example"}
			w := newWorld(t, kind, names, nil)
			if c := w.reached.Issued(); len(c) != 1 || w.reached.Expiry() != (time.Time{}) || c[0].Leaf.Subject.CommonName != "not yet certified" {
				t.Errorf("before there is one it is %v", c)
			}
			if err := w.asking.work(t.Context()); err != nil {
				t.Fatal(err)
			}
			var first []*x509.Certificate
			for _, name := range names {
				first = append(first, w.shown(name))
			}
			if got := w.reached.Issued()[0].Leaf.DNSNames; len(got) != 1 || got[0] != names[0] {
				t.Errorf("the first one is for %v, and not for the server", got)
			}
			states, err := States(t.Context(), w.db)
			if err != nil || len(states) != 2 || states[0].Failures != 0 || !states[0].Next.Before(states[0].Expires) || states[0].Next.Before(time.Now()) {
				t.Errorf("states are %+v, %v", states, err)
			}

			if n, err := Renew(t.Context(), w.db, names[0]); n != 1 || err != nil {
				t.Fatalf("Renew: %d, %v", n, err)
			}
			if err := w.reached.work(t.Context()); err != nil { // the other node this time
				t.Fatal(err)
			}
			next := w.shown(names[0])
			if next.SerialNumber.Cmp(first[0].SerialNumber) == 0 {
				t.Error("the certificate is not another one after the renewal")
			}
			if !next.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(first[0].PublicKey) {
				t.Error("the renewal has another key")
			}
			if again := w.shown(names[1]); again.SerialNumber.Cmp(first[1].SerialNumber) != 0 {
				t.Error("the other name was renewed too")
			}
			left := 0
			if err := w.db.QueryRow(t.Context(), postgres.Background, "select count(*) from acme_challenge").Scan(&left); err != nil || left != 0 {
				t.Errorf("%d challenges are left, %v", left, err)
			}
		})
	}
}

// A name that the authority cannot reach keeps no other from its certificate, is
// tried again later, and says why.
func TestOneNameFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, HTTP01, []string{"nowhere.corp.example", "mail.corp.example"}, nil)
	if err := w.asking.work(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.shown("mail.corp.example")
	states, err := States(t.Context(), w.db)
	if err != nil || len(states) != 2 {
		t.Fatalf("states are %+v, %v", states, err)
	}
	failed := states[1]
	if wait := time.Until(failed.Next); failed.Failures != 1 || !failed.Expires.IsZero() || wait < 50*time.Minute || wait > time.Hour+time.Minute || !strings.Contains(failed.Problem, "nowhere.corp.example") {
		t.Errorf("the state is %+v", failed)
	}
	if err := w.asking.work(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again, _ := States(t.Context(), w.db); again[1].Failures != 1 {
		t.Errorf("it is tried again at once: %+v", again[1])
	}
}

// Some authorities want an account that they have made.
func TestExternalAccount(t *testing.T) {
	t.Parallel()
	mac := []byte("0123456789abcdef0123456789abcdef")
	for _, known := range []bool{true, false} {
		w := newWorld(t, HTTP01, []string{"mail.corp.example"}, func(c *Config, o *testenv.ACMEOptions) {
			o.KeyID, o.MACKey = "kid-1", base64.RawURLEncoding.EncodeToString(mac)
			if known {
				c.KeyID, c.MAC = "kid-1", mac
			}
		})
		if err := w.asking.work(t.Context()); err != nil {
			t.Fatal(err)
		}
		states, err := States(t.Context(), w.db)
		if err != nil || len(states) != 1 || (states[0].Failures == 0) != known {
			t.Errorf("with the account %v: %+v, %v", known, states, err)
		}
	}
}

// Strangers ask for challenges: they get nothing, and no certificate of a validation.
func TestStrangersAsk(t *testing.T) {
	t.Parallel()
	w := newWorld(t, TLSALPN01, []string{"mail.corp.example"}, nil)
	for _, path := range []string{"", "x", "../../etc/passwd", "a/b", strings.Repeat("a", 1000), "%00", "x?y"} {
		answer := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path = ChallengePath + path
		w.reached.ServeHTTP(answer, r)
		if answer.Code != http.StatusNotFound {
			t.Errorf("%q is answered with %d", path, answer.Code)
		}
	}
	for _, name := range []string{"mail.corp.example", "", "other.example"} {
		if conn, err := tls.Dial("tcp", w.tlsAddr, &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{Protocol}}); err == nil {
			conn.Close()
			t.Errorf("a validation of %q that nobody has begun is answered", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.asking.Run(ctx); err != nil {
		t.Errorf("Run ends with %v", err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := Config{Directory: "https://acme.example/dir", Names: []string{"mail.corp.example"}, Kind: HTTP01}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"clear": func(c *Config) { c.Directory = "http://acme.example/dir" }, "no names": func(c *Config) { c.Names = nil },
		"wildcard": func(c *Config) { c.Names = []string{"*.corp.example"} }, "kind": func(c *Config) { c.Kind = "dns-01" },
	} {
		c := good
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
