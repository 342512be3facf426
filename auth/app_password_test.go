package auth

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"dirpost/auth/apppassword"
	"dirpost/auth/sasl"
	"dirpost/directory"
	"dirpost/internal/bus"
	"dirpost/internal/event"
	"dirpost/internal/postgres"
	"dirpost/internal/store"
	"dirpost/internal/testenv"

	"github.com/xdg-go/scram"
)

// appWorld is a bridge with app passwords in a real database.
type appWorld struct {
	t     testing.TB
	db    *postgres.DB
	b     *Bridge
	v     *verifier
	live  *directory.Live
	log   *events
	store *apppassword.Store
}

// outside is somebody in the world.
var outside = Conn{Protocol: "imap", Client: netip.MustParseAddr("198.51.100.7"), TLS: true, Session: "s2"}

func newAppWorld(t testing.TB) *appWorld {
	t.Helper()
	return newAppWorldOn(t, testenv.Database(t), nil)
}

func newAppWorldOn(t testing.TB, db *postgres.DB, hints apppassword.Hinter) *appWorld {
	t.Helper()
	w := &appWorld{t: t, db: db, v: &verifier{}, log: &events{}, live: directory.NewLive(directory.NewSnapshot([]string{"corp.example"}, people()))}
	w.store = apppassword.New(apppassword.Config{}, db, hints, event.Discard, slog.New(slog.DiscardHandler))
	w.b = New(Config{FailureTime: time.Nanosecond, Inside: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, w.live,
		Parts{Verifiers: map[string]Verifier{"corp": w.v}, AppPasswords: w.store}, w.log)
	return w
}

func (w *appWorld) issue(person directory.Key, name string, services ...string) (string, apppassword.ID) {
	w.t.Helper()
	secret, p, err := w.store.Issue(w.t.Context(), apppassword.Request{Person: person, Name: name, Services: services})
	if err != nil {
		w.t.Fatal(err)
	}
	return string(secret), p.ID
}

// plain logs in by PLAIN.
func (w *appWorld) plain(c Conn, name, pass string) (*Identity, error) {
	w.t.Helper()
	x, err := w.b.Start(w.t.Context(), c, "PLAIN")
	if err != nil {
		w.t.Fatal(err)
	}
	_, _, err = x.Next(w.t.Context(), []byte("\x00"+name+"\x00"+pass))
	return x.Identity(), err
}

// An app password is taken for what it is for, from everywhere, while the account
// is in order; and whatever has its form is never shown to the directory.
func TestAppPassword(t *testing.T) {
	t.Parallel()
	w := newAppWorld(t)
	all, id := w.issue("corp:alice", "all")
	mail, _ := w.issue("corp:alice", "mail", "imap", "submission")
	disabled, _ := w.issue("corp:dave", "phone")
	mustChange, _ := w.issue("corp:mia", "phone")
	strange, _ := w.issue("corp:bob", "somebody else's")
	for _, tt := range []struct {
		name, user, pass, protocol string
		want                       error
	}{
		{"imap", "alice", all, "imap", nil},
		{"submission", "alice@corp.example", all, "smtp", nil},
		{"sieve", `CORP\alice`, strings.ToUpper(all), "managesieve", nil},
		{"pop3", "alice", strings.ReplaceAll(all, "-", " "), "pop3", nil},
		{"the page", "alice", all, "http", ErrAuthorization},
		{"restricted", "alice", mail, "imap", nil},
		{"restricted, submission", "alice", mail, "smtp", nil},
		{"restricted, pop3", "alice", mail, "pop3", ErrAuthorization},
		{"disabled", "dave", disabled, "imap", ErrDisabled},
		{"whose password must be changed", "mia", mustChange, "imap", nil},
		{"of somebody else", "alice", strange, "imap", ErrCredentials},
		{"of nobody", "nobody", all, "imap", ErrCredentials},
	} {
		for _, from := range []Conn{client, outside} {
			from.Protocol = tt.protocol
			id, err := w.plain(from, tt.user, tt.pass)
			if !errors.Is(err, tt.want) || (id != nil) != (tt.want == nil) {
				t.Errorf("%s from %s: %v, %v, want %v", tt.name, from.Client, id, err, tt.want)
			}
			if id != nil && (id.Proof != ProofAppPassword || id.AppPassword == 0) {
				t.Errorf("%s: %+v", tt.name, id)
			}
			if id, err := w.b.Login(t.Context(), from, tt.user, tt.pass); !errors.Is(err, tt.want) || (id != nil) != (tt.want == nil) {
				t.Errorf("%s from %s, LOGIN: %v, %v, want %v", tt.name, from.Client, id, err, tt.want)
			}
		}
	}
	if w.v.binds != 0 {
		t.Errorf("the directory was asked %d times about app passwords", w.v.binds)
	}
	lines := strings.Join(w.log.lines, "")
	if strings.Contains(lines, all) || strings.Contains(lines, strings.ReplaceAll(all, "-", "")) {
		t.Error("the audit has a password")
	}
	if !strings.Contains(lines, "app_password="+id.String()) {
		t.Errorf("the audit does not say which app password it was: %s", lines)
	}
	if _, err := w.plain(client, "alice", "right"); err != nil || w.v.binds != 1 {
		t.Errorf("the password of the domain: %v, %d binds", err, w.v.binds)
	}
}

// A client that has guessed too often gets no password of the domain judged, and an
// app password still works; a wrong one of those counts for the client too.
func TestAppPasswordOfAThrottledClient(t *testing.T) {
	t.Parallel()
	w := newAppWorld(t)
	right, _ := w.issue("corp:alice", "phone")
	wrong, _ := w.issue("corp:bob", "phone")
	for range 31 {
		if _, err := w.plain(outside, "alice", wrong); !errors.Is(err, ErrCredentials) {
			t.Fatal(err)
		}
	}
	if w.b.guesses.Allow(t.Context(), outside.Client, "corp:alice") {
		t.Error("wrong app passwords do not count for the client")
	}
	if _, err := w.plain(outside, "alice", right); err != nil {
		t.Errorf("the right one: %v", err)
	}
}

// scramClient is a client of SCRAM, on a TLS connection or none.
func scramClient(t testing.TB, name, pass string, state *tls.ConnectionState, kind scram.ChannelBindingType) *scram.ClientConversation {
	t.Helper()
	c, err := scram.SHA256.NewClient(name, pass, "")
	if err != nil {
		t.Fatal(err)
	}
	var cb scram.ChannelBinding
	switch kind {
	case scram.ChannelBindingTLSExporter:
		cb, err = scram.NewTLSExporterBinding(state)
	case scram.ChannelBindingTLSServerEndpoint:
		cb, err = scram.NewTLSServerEndpointBinding(state)
	case scram.ChannelBindingTLSUnique:
		cb = scram.NewTLSUniqueBinding(state.TLSUnique)
	default:
		return c.NewConversation()
	}
	if err != nil {
		t.Fatal(err)
	}
	return c.NewConversationWithChannelBinding(cb)
}

// scramLogin lets conv log in.
func scramLogin(t testing.TB, b *Bridge, c Conn, mech string, conv *scram.ClientConversation) (*Identity, error) {
	t.Helper()
	x, err := b.Start(t.Context(), c, mech)
	if err != nil {
		return nil, err
	}
	message := ""
	for done := false; !done; {
		response, err := conv.Step(message)
		if err != nil {
			t.Fatal(err)
		}
		var challenge []byte
		if challenge, done, err = x.Next(t.Context(), []byte(response)); err != nil {
			return nil, err
		}
		message = string(challenge)
	}
	if _, err := conv.Step(message); err != nil || !conv.Valid() {
		t.Errorf("the client does not believe the server: %v", err)
	}
	return x.Identity(), nil
}

// handshake makes a TLS connection, and returns the states of both ends.
func handshake(t *testing.T, version uint16) (server Conn, client tls.ConnectionState) {
	t.Helper()
	cert := testenv.Certificate(t)
	pair, err := tls.LoadX509KeyPair(cert.CertFile, cert.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	srv := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{pair}, MaxVersion: version, SessionTicketsDisabled: true})
	cli := tls.Client(near, &tls.Config{RootCAs: cert.Pool, ServerName: "localhost", MaxVersion: version})
	t.Cleanup(func() { near.Close(); far.Close() })
	failed := make(chan error, 1)
	go func() { failed <- srv.HandshakeContext(t.Context()) }()
	if err := errors.Join(cli.HandshakeContext(t.Context()), <-failed); err != nil {
		t.Fatal(err)
	}
	server = outside
	state := srv.ConnectionState()
	server.State, server.Certificate = &state, pair.Leaf
	return server, cli.ConnectionState()
}

// SCRAM, with each channel binding that a TLS connection has, and each password of a
// person in both spellings.
func TestScramLogin(t *testing.T) {
	t.Parallel()
	w := newAppWorld(t)
	first, firstID := w.issue("corp:alice", "first")
	second, secondID := w.issue("corp:alice", "second", "imap")
	disabled, _ := w.issue("corp:dave", "phone")
	revoked, revokedID := w.issue("corp:alice", "revoked")
	if err := w.store.Revoke(t.Context(), "corp:alice", "", revokedID); err != nil {
		t.Fatal(err)
	}
	tls13, client13 := handshake(t, tls.VersionTLS13)
	tls12, client12 := handshake(t, tls.VersionTLS12)
	pop := tls13
	pop.Protocol = "pop3"
	const exporter, endPoint, unique = scram.ChannelBindingTLSExporter, scram.ChannelBindingTLSServerEndpoint, scram.ChannelBindingTLSUnique
	for _, tt := range []struct {
		name       string
		c          Conn
		state      *tls.ConnectionState // of the client
		kind       scram.ChannelBindingType
		user, pass string
		want       apppassword.ID
		err        error
	}{
		{"no binding", outside, nil, "", "alice", first, firstID, nil},
		{"without dashes", outside, nil, "", "alice@corp.example", strings.ReplaceAll(second, "-", ""), secondID, nil},
		{"exporter", tls13, &client13, exporter, "alice", second, secondID, nil},
		{"end point", tls13, &client13, endPoint, "alice", first, firstID, nil},
		{"exporter of TLS 1.2", tls12, &client12, exporter, "alice", first, firstID, nil},
		{"unique of TLS 1.2", tls12, &client12, unique, "alice", first, firstID, nil},
		{"unique, which TLS 1.3 has not", tls13, &client12, unique, "alice", first, 0, ErrCredentials},
		{"another connection", tls13, &client12, exporter, "alice", first, 0, ErrCredentials},
		{"another certificate", tls13, &client12, endPoint, "alice", first, 0, ErrCredentials},
		{"wrong", tls13, &client13, exporter, "alice", "right", 0, ErrCredentials},
		{"revoked", outside, nil, "", "alice", revoked, 0, ErrCredentials},
		{"nobody", outside, nil, "", "zoe", first, 0, ErrCredentials},
		{"no mailbox", outside, nil, "", "office", first, 0, ErrCredentials},
		{"somebody else", outside, nil, "", "bob", first, 0, ErrCredentials},
		{"disabled", outside, nil, "", "dave", disabled, 0, ErrDisabled},
		{"another protocol", pop, nil, "", "alice", second, 0, ErrAuthorization},
	} {
		mech := sasl.ScramSHA256
		if tt.kind != "" {
			mech = sasl.ScramSHA256Plus
		}
		id, err := scramLogin(t, w.b, tt.c, mech, scramClient(t, tt.user, tt.pass, tt.state, tt.kind))
		if !errors.Is(err, tt.err) || err == nil && (id.AppPassword != tt.want || id.Proof != ProofAppPassword || id.Person != "corp:alice" || id.Mechanism != mech) {
			t.Errorf("%s: %+v, %v, want %v, %v", tt.name, id, err, tt.want, tt.err)
		}
	}
	if w.v.binds != 0 {
		t.Errorf("%d binds", w.v.binds)
	}
	for _, line := range w.log.lines {
		if strings.Contains(line, first) || strings.Contains(line, second) {
			t.Errorf("the audit has a password: %s", line)
		}
	}
}

// SCRAM is offered where a client that takes it succeeds, and a client that was told
// otherwise is not let in (RFC 5802 §6).
func TestScramOffered(t *testing.T) {
	t.Parallel()
	w := newAppWorld(t)
	secured, _ := handshake(t, tls.VersionTLS13)
	for _, tt := range []struct {
		c    Conn
		want []string
	}{
		{client, []string{"PLAIN", "LOGIN"}},
		{outside, []string{"SCRAM-SHA-256", "PLAIN", "LOGIN"}},
		{secured, []string{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"}},
	} {
		got := w.b.Mechanisms(tt.c)
		got = slices.DeleteFunc(got, func(m string) bool { return !strings.HasPrefix(m, "SCRAM") && m != "PLAIN" && m != "LOGIN" })
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.c.Client, got, tt.want)
		}
	}
	if _, err := w.b.Start(t.Context(), client, sasl.ScramSHA256); !errors.Is(err, ErrMechanism) {
		t.Errorf("inside: %v, want %v", err, ErrMechanism)
	}
	pass, _ := w.issue("corp:alice", "phone")
	for c, want := range map[*Conn]error{&outside: nil, &secured: ErrCredentials} {
		cl, err := scram.SHA256.NewClient("alice", pass, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := scramLogin(t, w.b, *c, sasl.ScramSHA256, cl.NewConversationAdvertisingChannelBinding()); !errors.Is(err, want) {
			t.Errorf("a client that believes we have no PLUS: %v, want %v", err, want)
		}
	}
	w.b.parts.AppPasswords = nil
	if got := w.b.Mechanisms(secured); slices.Contains(got, sasl.ScramSHA256) {
		t.Errorf("without app passwords: %v", got)
	}
}

// What SCRAM says before the proof is the same for somebody and for nobody, and
// whatever was said before.
func TestScramTellsNothing(t *testing.T) {
	t.Parallel()
	w := newAppWorld(t)
	w.issue("corp:alice", "phone")
	f, err := w.store.Factors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice", "ALICE", "alice@corp.example", `CORP\\alice`, "bob", "dave", "office", "nobody", ""} {
		x, err := w.b.Start(t.Context(), outside, sasl.ScramSHA256)
		if err != nil {
			t.Fatal(err)
		}
		challenge, done, err := x.Next(t.Context(), []byte("n,,n="+name+",r=clientnonce"))
		if done || err != nil {
			t.Fatal(err)
		}
		nonce, rest, _ := strings.Cut(string(challenge), ",")
		if want := fmt.Sprintf("s=%s,i=%d", base64.StdEncoding.EncodeToString(f.Salt), f.Iterations); rest != want || !strings.HasPrefix(nonce, "r=clientnonce") {
			t.Errorf("%q: challenge %q, want %q", name, challenge, want)
		}
	}
}

// The sessions of an app password end when it is revoked, on all nodes, and no other
// sessions do.
func TestRevokedSessionsEnd(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	node := func() *appWorld {
		hints := bus.New(db, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- hints.Run(ctx, func(context.Context, map[store.MailboxKey]store.ModSeq) (map[store.MailboxKey]store.ModSeq, error) {
				return nil, nil
			})
		}()
		t.Cleanup(func() { cancel(); <-ended })
		listening := make(chan struct{}, 100)
		hints.Subscribe("test-listening", func(string) { listening <- struct{}{} }) // told when LISTEN works
		<-listening
		return newAppWorldOn(t, db, hints)
	}
	here, there := node(), node()
	lost, lostID := here.issue("corp:alice", "lost")
	kept, _ := here.issue("corp:alice", "kept")
	login := func(w *appWorld, pass string) *Identity {
		t.Helper()
		id, err := w.plain(client, "alice", pass)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	ended := make(chan string, 10)
	watch := func(w *appWorld, name, pass string) {
		t.Cleanup(w.b.Watch(login(w, pass), func(reason string) { ended <- name + ": " + reason }))
	}
	watch(here, "here", lost)
	watch(there, "there", lost)
	watch(here, "kept", kept)
	watch(there, "domain", "right")
	if err := here.store.Revoke(t.Context(), "corp:alice", "", lostID); err != nil {
		t.Fatal(err)
	}
	var got []string
	for range 2 {
		select {
		case who := <-ended:
			got = append(got, who)
		case <-time.After(30 * time.Second):
			t.Fatalf("only %q ended", got)
		}
	}
	slices.Sort(got)
	if want := []string{"here: app password revoked or expired", "there: app password revoked or expired"}; !slices.Equal(got, want) {
		t.Errorf("ended %q, want %q", got, want)
	}
	for _, w := range []*appWorld{here, there} {
		if _, err := w.plain(outside, "alice", lost); !errors.Is(err, ErrCredentials) {
			t.Errorf("revoked: %v", err)
		}
	}
	select {
	case who := <-ended:
		t.Errorf("%s ended too", who)
	default:
	}
}

// A password that is revoked between the login and the session ends the session
// too.
func TestRevokedBeforeWatch(t *testing.T) {
	t.Parallel()
	w := newAppWorld(t)
	pass, appID := w.issue("corp:alice", "phone")
	id, err := w.plain(outside, "alice", pass)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.store.Revoke(t.Context(), "corp:alice", "", appID); err != nil {
		t.Fatal(err)
	}
	ended := make(chan string, 1)
	defer w.b.Watch(id, func(reason string) { ended <- reason })()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	running := make(chan error, 1)
	go func() { running <- w.store.Run(ctx, nil) }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("the session goes on")
	}
	cancel()
	<-running
}

// Thousands of exchanges that are begun and not finished leave nothing behind.
func TestHalfFinishedScram(t *testing.T) {
	t.Parallel()
	w := newAppWorld(t)
	pass, _ := w.issue("corp:alice", "phone")
	before := runtime.NumGoroutine()
	for i := range 5000 {
		x, err := w.b.Start(t.Context(), outside, sasl.ScramSHA256)
		if err != nil {
			t.Fatal(err)
		}
		name := "alice"
		if i%2 == 0 {
			name = fmt.Sprint("somebody", i%500)
		}
		if _, done, err := x.Next(t.Context(), []byte("n,,n="+name+",r=x")); done || err != nil {
			t.Fatal(done, err)
		}
	}
	if n := runtime.NumGoroutine(); n > before+50 { // other tests run beside it
		t.Errorf("%d goroutines, %d before", n, before)
	}
	if len(w.log.lines) != 0 {
		t.Errorf("%d lines for logins that were not", len(w.log.lines))
	}
	if _, err := scramLogin(t, w.b, outside, sasl.ScramSHA256, scramClient(t, "alice", pass, nil, "")); err != nil {
		t.Error(err)
	}
}

// A database that is away is no wrong password.
func TestAppPasswordsAway(t *testing.T) {
	t.Parallel()
	w := newAppWorld(t)
	pass, _ := w.issue("corp:alice", "phone")
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // no connection can be had
	for name, f := range map[string]func() error{
		"PLAIN": func() error { _, err := w.b.Login(ctx, outside, "alice", pass); return err },
		"SCRAM": func() error {
			x, err := w.b.Start(ctx, outside, sasl.ScramSHA256)
			if err != nil {
				return err
			}
			conv, message := scramClient(t, "bob", pass, nil, ""), ""
			for range 2 {
				var challenge []byte
				response, stepped := conv.Step(message)
				if stepped != nil {
					t.Fatal(stepped)
				}
				if challenge, _, err = x.Next(ctx, []byte(response)); err != nil {
					return err
				}
				message = string(challenge)
			}
			return nil
		},
	} {
		if err := f(); err == nil || errors.Is(err, ErrCredentials) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkAppPasswordLogin(b *testing.B) {
	w := newAppWorld(b)
	pass, _ := w.issue("corp:alice", "phone")
	for i := range 9 {
		w.issue("corp:alice", fmt.Sprint("device ", i))
	}
	cl, err := scram.SHA256.NewClient("alice", pass, "") // remembers the keys that it has derived
	if err != nil {
		b.Fatal(err)
	}
	b.Run("SCRAM-SHA-256", func(b *testing.B) {
		for b.Loop() {
			if _, err := scramLogin(b, w.b, outside, sasl.ScramSHA256, cl.NewConversation()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("PLAIN", func(b *testing.B) {
		for b.Loop() {
			if _, err := w.plain(outside, "alice", pass); err != nil {
				b.Fatal(err)
			}
		}
	})
}
