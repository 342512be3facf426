package imapd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/auth"
	"dirpost/directory"
	"dirpost/internal/blob"
	"dirpost/internal/bus"
	"dirpost/internal/envelope"
	"dirpost/internal/message"
	"dirpost/internal/postgres"
	"dirpost/internal/store"
	"dirpost/internal/testenv"
	"dirpost/mra"

	"github.com/emersion/go-imap/v2"
)

const password = "secret"

// people is how many persons the fixture knows: p1 to p200, each with the
// shared mailbox team1 and so on, which the next person may open too.
const people = 200

// fixture is a server on a real database, with a directory in memory.
type fixture struct {
	db     *postgres.DB
	store  *store.Store
	server *Server
	mra    *mra.Server
	addr   string // in clear, STARTTLS
	tls    *tls.Config
	bridge *bridge
}

// bridge judges passwords like the SASL bridge, without a directory behind it.
type bridge struct {
	live     *directory.Live
	clearOK  bool
	mu       sync.Mutex
	watchers map[directory.Key][]func(string)
}

func (b *bridge) Mechanisms(c auth.Conn) []string {
	if !c.TLS && !b.clearOK {
		return nil
	}
	return []string{"PLAIN", "LOGIN"}
}

var errPolicy = &envelope.Error{Status: envelope.Status{Code: 538, Enhanced: "5.7.11", Text: "Encryption required", IMAP: "PRIVACYREQUIRED"}}

func (b *bridge) Login(_ context.Context, c auth.Conn, user, pass string) (*auth.Identity, error) {
	if b.Mechanisms(c) == nil {
		return nil, errPolicy
	}
	e := b.live.Snapshot().ByLogin(user)
	if e == nil || pass != password {
		return nil, envelope.Because(envelope.StatusCredentials, nil)
	}
	return &auth.Identity{Person: e.Key, Address: e.Primary, Authcid: user, Mechanism: "LOGIN"}, nil
}

func (b *bridge) Start(_ context.Context, c auth.Conn, mech string) (auth.Exchange, error) {
	if b.Mechanisms(c) == nil {
		return nil, errPolicy
	}
	if mech == "ECHO" {
		return &echo{id: &auth.Identity{Person: b.live.Snapshot().ByLogin("p1").Key, Mechanism: mech}}, nil
	}
	if mech != "PLAIN" {
		return nil, envelope.Because(envelope.Status{Code: 504, Enhanced: "5.5.4", Text: "Unknown mechanism", IMAP: "CANNOT"}, nil)
	}
	return &plain{b: b, c: c}, nil
}

func (b *bridge) Watch(id *auth.Identity, f func(string)) func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers[id.Person] = append(b.watchers[id.Person], f)
	return func() {}
}

// revoke ends the sessions of a person.
func (b *bridge) revoke(k directory.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.watchers[k] {
		f("test")
	}
}

// echo is a mechanism of two rounds that ends with data of the server, as SCRAM
// does: it wants what it said, and then the length of a large token.
type echo struct {
	id    *auth.Identity
	round int
}

func (e *echo) Next(_ context.Context, response []byte) ([]byte, bool, error) {
	e.round++
	switch {
	case e.round == 1 && response == nil:
		return []byte("say it"), false, nil
	case e.round <= 2 && string(response) == "say it":
		return []byte("now a ticket"), false, nil
	case e.round <= 3 && len(response) == 48_000:
		return []byte("verified"), true, nil
	}
	return nil, false, envelope.Because(envelope.StatusCredentials, nil)
}

func (e *echo) Identity() *auth.Identity { return e.id }

// plain is the mechanism PLAIN (RFC 4616).
type plain struct {
	b  *bridge
	c  auth.Conn
	id *auth.Identity
}

func (p *plain) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	if response == nil {
		return nil, false, nil
	}
	f := bytes.Split(response, []byte{0})
	if len(f) != 3 {
		return nil, false, envelope.Because(envelope.Status{Code: 501, Enhanced: "5.5.2", Text: "Malformed response"}, nil)
	}
	var err error
	p.id, err = p.b.Login(ctx, p.c, string(f[1]), string(f[2]))
	return nil, err == nil, err
}

func (p *plain) Identity() *auth.Identity { return p.id }

func address(local string) envelope.Address {
	return envelope.Address{Local: local, Domain: "corp.example"}
}

// newDirectory has the people of the fixture.
func newDirectory() *directory.Live {
	var entries []*directory.Entry
	for i := 1; i <= people; i++ {
		login := fmt.Sprintf("p%d", i)
		entries = append(entries, &directory.Entry{
			Key: directory.Key(fmt.Sprintf("test:00000000-0000-4000-8000-%012d", i)), Directory: "test", DN: dn(i), Kind: directory.KindPerson,
			DisplayName: login, Primary: address(login), Logins: []string{login},
			Login: directory.StateActive, Delivery: directory.StateActive,
		}, &directory.Entry{
			Key: directory.Key(fmt.Sprintf("test:00000000-0000-4000-9000-%012d", i)), Directory: "test",
			DN: fmt.Sprintf("cn=team%d,dc=corp,dc=example", i), Kind: directory.KindShared,
			Primary: address(fmt.Sprintf("team%d", i)), Login: directory.StateDisabled, Delivery: directory.StateActive,
			Access: []string{dn(i), dn(i + 1)},
		})
	}
	return directory.NewLive(directory.NewSnapshot([]string{"corp.example"}, entries))
}

func dn(i int) string { return fmt.Sprintf("uid=p%d,dc=corp,dc=example", i) }

// newFixture starts a server on a fresh database.
func newFixture(t testing.TB, change func(*Config, *bridge)) *fixture {
	t.Helper()
	db := testenv.Database(t)
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("IMAPD_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	hints, blobs := bus.New(db, log), blob.New(db)
	f := &fixture{db: db, store: store.New(db, blobs, hints, log), bridge: &bridge{live: newDirectory(), clearOK: true, watchers: map[directory.Key][]func(string){}}}
	var config Config
	if change != nil {
		change(&config, f.bridge)
	}
	f.server = New(config, Deps{Store: f.store, Blobs: blobs, Bridge: f.bridge, Live: f.bridge.live, Watch: hints, Clock: db, Log: log})
	cert := testenv.Certificate(t, "localhost")
	f.tls = &tls.Config{RootCAs: cert.Pool, ServerName: "localhost"}
	f.mra = mra.NewServer("imap", mra.Config{}, &tls.Config{Certificates: []tls.Certificate{cert.TLS}}, f.server, log)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.mra.Serve(ctx, l, false) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f
}

// dial connects, and logs in unless user is "".
func (f *fixture) dial(user string) (net.Conn, error) {
	conn, err := net.Dial("tcp", f.addr)
	if err != nil || user == "" {
		return conn, err
	}
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(conn, "login LOGIN %s %s\r\n", user, password); err != nil {
		return nil, err
	}
	// Octet by octet: nothing may be read beyond the answer.
	for r := bufio.NewReaderSize(one{conn}, 16); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(line, "login OK") {
			return conn, conn.SetDeadline(time.Time{})
		}
		if strings.HasPrefix(line, "login ") {
			return nil, errors.New(line)
		}
	}
}

// one reads an octet at a time.
type one struct{ net.Conn }

func (o one) Read(p []byte) (int, error) { return o.Conn.Read(p[:1]) }

// account is the account of person or shared mailbox login.
func (f *fixture) account(ctx context.Context, login string) (store.Account, error) {
	snap := f.bridge.live.Snapshot()
	if e := snap.ByLogin(login); e != nil {
		return f.store.Account(ctx, string(e.Key), store.KindPerson)
	}
	e := snap.ByAddress(address(login))
	if e == nil {
		return store.Account{}, fmt.Errorf("nobody is called %s", login)
	}
	return f.store.Account(ctx, string(e.Key), store.KindShared)
}

// put appends a message to a mailbox.
func (f *fixture) put(ctx context.Context, login, mailbox, raw string, date time.Time, flags ...imap.Flag) error {
	a, err := f.account(ctx, login)
	if err != nil {
		return err
	}
	mb, err := f.store.MailboxByName(ctx, a.ID, mailbox)
	if errors.Is(err, store.ErrNotFound) {
		mb, err = f.store.CreateMailbox(ctx, a.ID, mailbox, "")
	}
	if err != nil {
		return err
	}
	in := &intake{scanner: message.NewScanner(message.DefaultLimits()), body: f.server.blobs.NewWriter(ctx)}
	if _, err := in.Write([]byte(raw)); err != nil {
		return err
	}
	c := &conn{srv: f.server}
	content, err := c.content(ctx, in, date)
	if err != nil {
		return err
	}
	_, err = f.store.Append(ctx, a.ID, mb.ID, []store.Appended{{Content: content, Flags: flags}}, 0)
	return err
}
