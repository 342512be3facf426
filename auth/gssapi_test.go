package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"dirpost/auth/krb5"
	"dirpost/auth/replay"
	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/gssapi"
	"dirpost/internal/testenv"
)

// kerberos is a bridge that takes the tickets of a real KDC, for all people of
// newBridge and some more.
type kerberos struct {
	*Bridge
	log   *events
	realm *testenv.Realm
}

// everywhere is inside.
var everywhere = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

func newKerberos(t testing.TB, cfg Config, change func(*krb5.Config)) *kerberos {
	t.Helper()
	r := testenv.StartRealm(t, "CORP.EXAMPLE")
	c := krb5.Config{Realms: []krb5.Realm{{Name: r.Name, Login: krb5.LoginName, Directory: "corp"}}}
	change(&c)
	a := krb5.New(c)
	if err := a.SetKeytab("", r.Keytab(t, "imap/mail.corp.example", "HTTP/mail.corp.example")); err != nil {
		t.Fatal(err)
	}
	cfg.FailureTime = time.Nanosecond
	b, _, _, log := newBridge(cfg)
	b.parts.Tickets = a
	return &kerberos{b, log, r}
}

// begin makes a token of somebody who is in the realm.
func (k *kerberos) begin(t testing.TB, who, service string) *gssapi.Exchange {
	t.Helper()
	i, err := gssapi.NewInitiator(gssapi.Account{Principal: who, Realm: k.realm.Name, Password: who, KDCs: []string{k.realm.KDC}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	x, err := i.Initiate(ctx, service, "mail.corp.example")
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// login is the client of RFC 4752.
func (k *kerberos) login(t testing.TB, c Conn, e *gssapi.Exchange, authzid string) (*Identity, error) {
	t.Helper()
	x, err := k.Start(t.Context(), c, "gssapi")
	if err != nil {
		return nil, err
	}
	reply, _, err := x.Next(t.Context(), e.Token)
	if err != nil {
		return nil, err
	}
	mine, err := e.Complete(reply)
	if err != nil {
		t.Fatal(err)
	}
	offer, _, err := x.Next(t.Context(), []byte{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := mine.Open(offer); err != nil {
		t.Fatal(err)
	}
	choice, err := mine.Sign(append([]byte{1, 0, 0, 0}, authzid...))
	if err != nil {
		t.Fatal(err)
	}
	challenge, done, err := x.Next(t.Context(), choice)
	if challenge != nil || done != (err == nil) {
		t.Errorf("%q, %v, %v", challenge, done, err)
	}
	return x.Identity(), err
}

// TestGSSAPI: who has a ticket is asked all that everybody is asked.
func TestGSSAPI(t *testing.T) {
	t.Parallel()
	k := newKerberos(t, Config{Inside: everywhere}, func(*krb5.Config) {})
	for _, who := range []string{"alice", "dave", "web", "office", "stranger", "strange"} {
		k.realm.AddPerson(t, who)
	}
	if got := k.Mechanisms(client); !slices.Equal(got, []string{"GSSAPI", "PLAIN", "LOGIN"}) {
		t.Fatalf("offered: %v", got)
	}
	for _, tt := range []struct {
		who, authzid string
		want         error
		reason       string
	}{
		{"alice", "", nil, ""},
		{"alice", "alice@corp.example", nil, ""},
		{"alice", `CORP\alice`, nil, ""},
		{"alice", "bob", ErrAuthorization, "reason=authzid"},
		{"dave", "", ErrDisabled, "reason=disabled"},
		{"web", "", ErrAuthorization, "reason=service"},
		{"office", "", ErrCredentials, "reason=no-mailbox"},
		{"stranger", "", ErrCredentials, "reason=unknown"},
		{"strange", "", ErrCredentials, "reason=unknown"}, // of another directory than the realm
	} {
		k.log.lines = nil
		id, err := k.login(t, client, k.begin(t, tt.who, "imap"), tt.authzid)
		if !sameAnswer(err, tt.want) {
			t.Errorf("%s as %q: %v, want %v", tt.who, tt.authzid, err, tt.want)
		}
		if (id != nil) != (tt.want == nil) || id != nil && (id.Person != "corp:alice" || id.Authcid != "alice@CORP.EXAMPLE" || id.Mechanism != "GSSAPI" || id.Proof != ProofTicket) {
			t.Errorf("%s as %q: %+v", tt.who, tt.authzid, id)
		}
		line := strings.ReplaceAll(strings.Join(k.log.lines, "\n"), `"`, "")
		if len(k.log.lines) != 1 || !strings.Contains(line, "authcid="+tt.who+"@CORP.EXAMPLE") || !strings.Contains(line, tt.reason) {
			t.Errorf("%s as %q: audit %q", tt.who, tt.authzid, k.log.lines)
		}
	}
	// A person who is not known is not told from one whom the directory has not told
	// of yet.
	away := directory.Open(directory.Rules{Domains: []string{"corp.example"}}) // never confirmed
	var changes []directory.Change
	for _, e := range people() {
		changes = append(changes, directory.Change{Key: e.Key, Entry: e})
	}
	away.Apply(1, changes)
	k.live = away
	if _, err := k.login(t, client, k.begin(t, "stranger", "imap"), ""); !errors.Is(err, directory.ErrStale) {
		t.Errorf("the directory is away: %v", err)
	}
	if _, err := k.login(t, client, k.begin(t, "alice", "imap"), ""); err != nil {
		t.Errorf("the directory is away, and the person known: %v", err)
	}
}

// TestGSSAPIRefuses: what is wrong with a ticket only the audit says.
func TestGSSAPIRefuses(t *testing.T) {
	t.Parallel()
	k := newKerberos(t, Config{Inside: everywhere}, func(*krb5.Config) {})
	k.realm.AddPerson(t, "alice")
	e := k.begin(t, "alice", "HTTP")
	for _, tt := range []struct {
		name   string
		token  []byte
		want   error
		reason string
	}{
		{"another service", e.Token, ErrCredentials, "ticket-service"},
		{"nonsense", []byte("nonsense"), ErrMalformed, "malformed"},
		{"NTLM", []byte("NTLMSSP\x00\x01\x00\x00\x00"), ErrMalformed, "malformed"},
		{"too long", make([]byte, 100<<10), ErrMalformed, "malformed"},
	} {
		k.log.lines = nil
		x, err := k.Start(t.Context(), client, "GSSAPI")
		if err != nil {
			t.Fatal(err)
		}
		if _, done, err := x.Next(t.Context(), tt.token); done || !sameAnswer(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if len(k.log.lines) != 1 || !strings.Contains(k.log.lines[0], "reason="+tt.reason) {
			t.Errorf("%s: audit %q", tt.name, k.log.lines)
		}
	}
	used := k.begin(t, "alice", "imap")
	if _, err := k.login(t, client, used, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := k.login(t, client, used, ""); !sameAnswer(err, ErrCredentials) || !strings.Contains(k.log.lines[len(k.log.lines)-1], "reason=ticket-replay") {
		t.Errorf("twice: %v", err)
	}
	strict := newKerberos(t, Config{Inside: everywhere}, func(c *krb5.Config) { c.RequireBinding = true })
	strict.realm.AddPerson(t, "alice")
	if slices.Contains(strict.Mechanisms(client), "GSSAPI") {
		t.Error("offered where nothing can be bound")
	}
	bound := client
	bound.State, bound.Certificate = connection(t)
	if _, err := strict.login(t, bound, strict.begin(t, "alice", "imap"), ""); !sameAnswer(err, ErrCredentials) || !strings.Contains(strict.log.lines[0], "reason=ticket-binding") {
		t.Errorf("not bound: %v", err)
	}
}

// connection is the server's side of a TLS connection.
func connection(t *testing.T) (state *tls.ConnectionState, shown *x509.Certificate) {
	t.Helper()
	s := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { state = r.TLS }))
	defer s.Close()
	resp, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return state, s.Certificate()
}

// sameAnswer reports whether a client is told the same.
func sameAnswer(err, want error) bool {
	if err == nil || want == nil {
		return err == want
	}
	return envelope.StatusOf(err) == envelope.StatusOf(want)
}

// TestGSSAPIDoors: tickets are asked for inside TLS, at the inside door, where there
// is a key for the protocol.
func TestGSSAPIDoors(t *testing.T) {
	t.Parallel()
	inside := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	at := func(change func(*Conn)) Conn {
		c := client
		c.Client = netip.MustParseAddr("10.1.2.3")
		change(&c)
		return c
	}
	here := netip.MustParseAddr("127.0.0.1")
	for _, tt := range []struct {
		name    string
		inside  []netip.Prefix
		outside bool
		c       Conn
		want    bool
	}{
		{"inside", inside, false, at(func(*Conn) {}), true},
		{"nobody has said what is inside", nil, false, client, false},
		{"nobody has said what is inside, as asked", nil, true, client, true},
		{"outside", inside, false, client, false},
		{"outside, as asked", inside, true, client, true},
		{"no key of the protocol", inside, false, at(func(c *Conn) { c.Protocol = "smtp" }), false},
		{"in clear from this host", nil, true, at(func(c *Conn) { c.TLS, c.Client = false, here }), false},
	} {
		k := newKerberos(t, Config{Inside: tt.inside, PlaintextLoopback: true}, func(c *krb5.Config) { c.Outside = tt.outside })
		if got := slices.Contains(k.Mechanisms(tt.c), "GSSAPI"); got != tt.want {
			t.Errorf("%s: offered %v", tt.name, got)
		}
		if _, err := k.Start(t.Context(), tt.c, "GSSAPI"); (err == nil) != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestNegotiateHTTP: a browser comes in with one header field, and hears who we are.
func TestNegotiateHTTP(t *testing.T) {
	t.Parallel()
	k := newKerberos(t, Config{Inside: everywhere}, func(*krb5.Config) {})
	k.realm.AddPerson(t, "web")
	k.realm.AddPerson(t, "dave")
	c := client
	c.Protocol = "http"
	if !k.OffersNegotiate(c) {
		t.Fatal("not offered")
	}
	e := k.begin(t, "web", "HTTP")
	header := "Negotiate " + base64.StdEncoding.EncodeToString(e.Token)
	id, reply, err := k.NegotiateHTTP(t.Context(), c, header)
	if err != nil || id.Person != "corp:web" || id.Proof != ProofTicket || id.Mechanism != "NEGOTIATE" {
		t.Fatalf("%+v, %v", id, err)
	}
	token, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(reply, "Negotiate "))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Complete(token); err != nil {
		t.Error(err)
	}
	disabled := "Negotiate " + base64.StdEncoding.EncodeToString(k.begin(t, "dave", "HTTP").Token)
	clear := c
	clear.TLS = false
	for name, tt := range map[string]struct {
		c      Conn
		header string
		want   error
	}{
		"twice":    {c, header, ErrCredentials},
		"disabled": {c, disabled, ErrDisabled},
		"nonsense": {c, "Negotiate nonsense", ErrMalformed},
		"NTLM":     {c, "Negotiate TlRMTVNTUAABAAAA", ErrMalformed},
		"Basic":    {c, "Basic YTpi", ErrMalformed},
		"in clear": {clear, header, ErrMechanism},
	} {
		before := len(k.log.lines)
		id, reply, err := k.NegotiateHTTP(t.Context(), tt.c, tt.header)
		if id != nil || reply != "" || !sameAnswer(err, tt.want) {
			t.Errorf("%s: %+v, %q, %v", name, id, reply, err)
		}
		if len(k.log.lines) != before+1 || strings.Contains(k.log.lines[before], "YIIC") {
			t.Errorf("%s: audit %q", name, k.log.lines[before:])
		}
	}
	k.parts.Tickets = nil
	if k.OffersNegotiate(c) || slices.Contains(k.Mechanisms(client), "GSSAPI") {
		t.Error("offered, and off")
	}
}

// TestTicketOnAnotherNode: a token that one node has taken, another does not take, of a
// browser nor of a mail program.
func TestTicketOnAnotherNode(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	one := newKerberos(t, Config{Inside: everywhere}, func(*krb5.Config) {})
	one.realm.AddPerson(t, "alice")
	two := &kerberos{realm: one.realm}
	a := krb5.New(krb5.Config{Realms: []krb5.Realm{{Name: one.realm.Name, Login: krb5.LoginName, Directory: "corp"}}})
	keytab := one.realm.Keytab(t, "imap/mail.corp.example", "HTTP/mail.corp.example")
	if err := errors.Join(a.SetKeytab("", keytab), one.parts.Tickets.SetKeytab("", keytab)); err != nil {
		t.Fatal(err)
	}
	two.Bridge, _, _, two.log = newBridge(Config{Inside: everywhere, FailureTime: time.Nanosecond})
	two.parts.Tickets = a
	for _, k := range []*kerberos{one, two} {
		k.parts.Replays = replay.New(db, slog.New(slog.DiscardHandler))
	}
	c := client
	c.Protocol = "http"
	header := "Negotiate " + base64.StdEncoding.EncodeToString(one.begin(t, "alice", "HTTP").Token)
	if _, _, err := one.NegotiateHTTP(t.Context(), c, header); err != nil {
		t.Fatal(err)
	}
	if _, _, err := two.NegotiateHTTP(t.Context(), c, header); !sameAnswer(err, ErrCredentials) {
		t.Errorf("on another node: %v", err)
	}
	if line := strings.Join(two.log.lines, ""); !strings.Contains(line, "reason=ticket-replay") || !strings.Contains(line, "alice@CORP.EXAMPLE") {
		t.Errorf("audit %q", line)
	}
	if _, err := one.login(t, client, one.begin(t, "alice", "imap"), ""); err != nil {
		t.Error(err)
	}
	if _, err := two.login(t, client, one.begin(t, "alice", "imap"), ""); err != nil {
		t.Errorf("another token: %v", err)
	}
}

// BenchmarkGSSAPI is a whole login, with a ticket that the client has: both sides of
// RFC 4752, the entry of the person, and the audit line. The target of the server's
// side is 2 ms of CPU.
func BenchmarkGSSAPI(b *testing.B) {
	k := newKerberos(b, Config{Inside: everywhere}, func(*krb5.Config) {})
	k.realm.AddPerson(b, "alice")
	k.parts.Replays = replay.New(testenv.Database(b), slog.New(slog.DiscardHandler))
	i, err := gssapi.NewInitiator(gssapi.Account{Principal: "alice", Realm: k.realm.Name, Password: "alice", KDCs: []string{k.realm.KDC}})
	if err != nil {
		b.Fatal(err)
	}
	tokens := make([]*gssapi.Exchange, b.N)
	for n := range tokens {
		if tokens[n], err = i.Initiate(b.Context(), "imap", "mail.corp.example"); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	for _, e := range tokens {
		if _, err := k.login(b, client, e, ""); err != nil {
			b.Fatal(err)
		}
	}
}
