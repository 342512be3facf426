package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"net"
	"testing"

	"dirpost/internal/seal"
	"dirpost/internal/testenv"
)

// recognized is a connection that is told who comes back.
type recognized struct {
	net.Conn
	session  string
	returned bool
	calls    int
}

func (r *recognized) Recognize(session string, returned bool) {
	r.session, r.returned = session, returned
	r.calls++
}

// talk lets a client come to a server, up to the tickets.
func talk(t *testing.T, server, client *tls.Config) (*recognized, tls.ConnectionState) {
	t.Helper()
	a, b := wire(t)
	defer a.Close()
	defer b.Close()
	below := &recognized{Conn: b}
	secure := tls.Server(below, server)
	served := make(chan error, 1)
	go func() {
		_, err := secure.Write([]byte("x")) // with it come the tickets of TLS 1.3
		served <- err
	}()
	c := tls.Client(a, client)
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	return below, c.ConnectionState()
}

func sealer(t *testing.T, keys ...[]byte) *seal.Sealer {
	t.Helper()
	var text []byte
	for _, k := range keys {
		text = append(text, k...)
	}
	s, err := seal.New(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openWith(t *testing.T, cert testenv.Cert, s Sealer) *Store {
	t.Helper()
	store, err := Open(Config{Pairs: []Pair{{cert.CertFile, cert.KeyFile}}, Sealer: s}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// A client that resumes its session is the same one, however often it does; a new one
// is another.
func TestRecognize(t *testing.T) {
	t.Parallel()
	config := openWith(t, testenv.Certificate(t, "mail.corp.example"), nil).Config()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := &tls.Config{ServerName: "mail.corp.example", InsecureSkipVerify: true, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		first, _ := talk(t, config, client)
		if first.calls != 1 || first.returned || len(first.session) != nameSize {
			t.Fatalf("%s: %+v", tls.VersionName(version), first)
		}
		for range 3 {
			again, state := talk(t, config, client)
			if !state.DidResume || !again.returned || again.session != first.session {
				t.Errorf("%s, resumed %v: %+v, want %x", tls.VersionName(version), state.DidResume, again, first.session)
			}
		}
		other, _ := talk(t, config, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
		if other.returned || other.session == first.session {
			t.Errorf("%s, another client: %+v", tls.VersionName(version), other)
		}
	}
}

// A node knows the clients of another one with the same key by TLS 1.3, also after the
// key was followed by another. The keys of TLS 1.2 are never shared.
func TestSharedTickets(t *testing.T) {
	t.Parallel()
	cert, key := testenv.Certificate(t, "mail.corp.example"), seal.GenerateKey()
	one := openWith(t, cert, sealer(t, key)).Config()
	for name, tt := range map[string]struct {
		two  *tls.Config
		want bool
	}{
		"the same key":      {openWith(t, cert, sealer(t, key)).Config(), true},
		"a newer key first": {openWith(t, cert, sealer(t, seal.GenerateKey(), key)).Config(), true},
		"another key":       {openWith(t, cert, sealer(t, seal.GenerateKey())).Config(), false},
		"no key":            {openWith(t, cert, nil).Config(), false},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			client := &tls.Config{ServerName: "mail.corp.example", InsecureSkipVerify: true, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			first, _ := talk(t, one, client)
			again, state := talk(t, tt.two, client)
			want := tt.want && version == tls.VersionTLS13
			if again.returned != want || state.DidResume != want || (again.session == first.session) != want {
				t.Errorf("%s, %s: resumed %v, %+v, want %v", name, tls.VersionName(version), state.DidResume, again, want)
			}
		}
	}
}

// A session that began where nobody asks for a certificate is not resumed where
// somebody does, at any node.
func TestTicketsOfOtherListeners(t *testing.T) {
	t.Parallel()
	s := openWith(t, testenv.Certificate(t, "mail.corp.example"), sealer(t, seal.GenerateKey()))
	ca := testenv.NewPeopleCA(t, pkix.Name{CommonName: "CORP-CA"})
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate)
	client := &tls.Config{ServerName: "mail.corp.example", InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1), Certificates: []tls.Certificate{ca.Issue("alice", nil).TLS}}
	talk(t, s.Config(), client)
	if again, state := talk(t, s.Asking(func() *x509.CertPool { return pool }), client); state.DidResume || again.returned {
		t.Errorf("resumed: %+v", again)
	}
}

// The names of a session are the ones of a listener's protocols alone, whoever makes
// the configuration of a handshake (RFC 7301 §3.2).
func TestSpeak(t *testing.T) {
	t.Parallel()
	s := openWith(t, testenv.Certificate(t, "mail.corp.example"), nil)
	for name, config := range map[string]*tls.Config{"not asking": s.Config(), "asking": s.Asking(x509.NewCertPool)} {
		config = Speak(config, "imap")
		if _, state := talk(t, config, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"imap"}}); state.NegotiatedProtocol != "imap" {
			t.Errorf("%s: speaks %q", name, state.NegotiatedProtocol)
		}
		a, b := wire(t)
		server := make(chan error, 1)
		go func() { server <- tls.Server(&recognized{Conn: b}, config).Handshake() }()
		if err := tls.Client(a, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}).Handshake(); err == nil {
			t.Errorf("%s: a browser gets a handshake", name)
		}
		if err := <-server; err == nil {
			t.Errorf("%s: a browser is served", name)
		}
		a.Close()
		b.Close()
	}
}

// BenchmarkHandshake is what knowing clients again costs.
func BenchmarkHandshake(b *testing.B) {
	cert := testenv.Certificate(b, "mail.corp.example")
	key, err := seal.New(seal.GenerateKey())
	if err != nil {
		b.Fatal(err)
	}
	store, err := Open(Config{Pairs: []Pair{{cert.CertFile, cert.KeyFile}}, Sealer: key}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	config := store.Config()
	for name, below := range map[string]func(net.Conn) net.Conn{
		"unknown":    func(c net.Conn) net.Conn { return c },
		"recognized": func(c net.Conn) net.Conn { return &recognized{Conn: c} },
	} {
		for way, cache := range map[string]tls.ClientSessionCache{"full": nil, "resumed": tls.NewLRUClientSessionCache(1)} {
			b.Run(name+" "+way, func(b *testing.B) {
				client := &tls.Config{ServerName: "mail.corp.example", InsecureSkipVerify: true, ClientSessionCache: cache}
				for b.Loop() {
					x, y := net.Pipe()
					server := tls.Server(below(y), config)
					go func() { _, _ = server.Write([]byte("x")) }()
					c := tls.Client(x, client)
					if _, err := c.Read(make([]byte, 1)); err != nil {
						b.Fatal(err)
					}
					_ = x.Close()
					_ = y.Close()
				}
			})
		}
	}
}
