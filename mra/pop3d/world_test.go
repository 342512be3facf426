package pop3d

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dirpost/auth"
	"dirpost/directory"
	"dirpost/internal/blob"
	"dirpost/internal/dialog"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/internal/postgres"
	"dirpost/internal/store"
	"dirpost/internal/testenv"
	"dirpost/mra"
)

// world is a POP3 server with a real store and the real SASL bridge, and two
// people: alice and bob, whose password is "secret word".
type world struct {
	*Server
	t     testing.TB
	db    *postgres.DB
	blobs *blob.Store
	live  *directory.Live
	tls   *tls.Config // of clients

	serverTLS *tls.Config
	client    netip.AddrPort // where sessions come from
	away      atomic.Bool    // the directory does not answer
	sessions  sync.WaitGroup
}

const password = "secret word"

// Verify judges passwords, as the directory does.
func (w *world) Verify(_ context.Context, _ *directory.Entry, pass string) error {
	switch {
	case w.away.Load():
		return errors.New("connection refused")
	case pass != password:
		return &directory.Refusal{Reason: directory.ReasonPassword}
	}
	return nil
}

func person(name string) *directory.Entry {
	return &directory.Entry{
		Key: directory.Key("corp:" + name), Directory: "corp", DN: "uid=" + name + ",dc=corp,dc=example", Kind: directory.KindPerson,
		Primary: envelope.Address{Local: name, Domain: "corp.example"}, Logins: []string{name, name + "@corp.example"},
	}
}

func newWorld(t testing.TB) *world { return worldOn(t, testenv.Database(t)) }

func worldOn(t testing.TB, db *postgres.DB) *world {
	cert := testenv.Certificate(t, "pop.corp.example")
	w := &world{
		t: t, db: db, blobs: blob.New(db),
		live:      directory.NewLive(directory.NewSnapshot([]string{"corp.example"}, []*directory.Entry{person("alice"), person("bob")})),
		tls:       &tls.Config{RootCAs: cert.Pool, ServerName: "pop.corp.example"},
		serverTLS: &tls.Config{Certificates: []tls.Certificate{cert.TLS}},
		client:    netip.MustParseAddrPort("127.0.0.1:4711"),
	}
	st := store.New(db, w.blobs, nil, slog.New(slog.DiscardHandler))
	bridge := auth.New(auth.Config{PlaintextLoopback: true, FailureTime: time.Millisecond}, w.live, auth.Parts{Verifiers: map[string]auth.Verifier{"corp": w}}, event.Discard)
	w.Server = New(Config{}, st, echoing{bridge}, event.Discard)
	return w
}

// echoing is the bridge with one mechanism more.
type echoing struct{ *auth.Bridge }

func (e echoing) Start(ctx context.Context, c auth.Conn, mech string) (auth.Exchange, error) {
	if mech == "ECHO" {
		return &echo{}, nil
	}
	return e.Bridge.Start(ctx, c, mech)
}

// echo is a mechanism of two rounds that ends with data of the server, as SCRAM
// does: it wants what it said, and then the length of a large token.
type echo struct{ round int }

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

func (e *echo) Identity() *auth.Identity {
	return &auth.Identity{Person: "corp:alice", Address: person("alice").Primary, Mechanism: "ECHO"}
}

// deliver puts a message, header and body, into somebody's INBOX.
func (w *world) deliver(name string, messages ...string) error {
	ctx := context.Background()
	a, err := w.store.Account(ctx, "corp:"+name, store.KindPerson)
	if err != nil {
		return err
	}
	for _, m := range messages {
		header, body, ok := strings.Cut(m, "\r\n\r\n")
		if !ok {
			return fmt.Errorf("message without an empty line: %q", m)
		}
		bw := w.blobs.NewWriter(ctx)
		if _, err := bw.Write([]byte(body)); err != nil {
			return err
		}
		b, err := bw.Finish(ctx, false)
		if err != nil {
			return err
		}
		c := &store.Content{
			QueueID: envelope.QueueID(w.db.NewID()), InternalDate: time.Now(), Header: []byte(header + "\r\n\r\n"), Body: b,
			Envelope: []byte("(NIL)"), Structure: []byte{1},
		}
		if _, err := w.store.Commit(ctx, store.Unit{Content: c, Deliveries: []store.Delivery{{Account: a, Targets: []store.Target{{Mailbox: "INBOX"}}}}}); err != nil {
			return err
		}
	}
	return nil
}

// serve serves one end of a pipe and returns the other.
func (w *world) serve() net.Conn {
	client, server := net.Pipe()
	mc := mra.NewConn(server, w.serverTLS, "s1", slog.New(slog.DiscardHandler))
	mc.Client = w.client
	w.sessions.Go(func() {
		defer mc.Close()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		w.ServeConn(ctx, mc)
	})
	return client
}

// do carries out the lines of a dialogue that speak of the world:
//
//	alice has N messages          of ten lines each
//	alice has message TEXT        TEXT with \r\n for line ends
//	alice has a message of N octets
//	a client from ADDRESS
//	remove UID of alice           by another session
//	unseen of alice is N          checks
//	stop the directory, start the directory, stop the database
//	disable alice
func (w *world) do(text string) error {
	ctx := context.Background()
	if text, ok := strings.CutPrefix(text, "alice has message "); ok {
		return w.deliver("alice", strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\xe9`, "\xe9").Replace(text))
	}
	var n int64
	var name, addr string
	switch {
	case scan(text, "alice has %d messages", &n):
		for i := range n {
			if err := w.deliver("alice", fmt.Sprintf("Subject: %d\r\n\r\n%s", i+1, strings.Repeat("line\r\n", 10))); err != nil {
				return err
			}
		}
		return nil
	case scan(text, "alice has a message of %d octets", &n):
		return w.deliver("alice", large(n))
	case scan(text, "a client from %s", &addr):
		w.client = netip.AddrPortFrom(netip.MustParseAddr(addr), 4711)
		return nil
	case scan(text, "unseen of alice is %d", &n):
		a, err := w.store.Account(ctx, "corp:alice", store.KindPerson)
		if err != nil {
			return err
		}
		v, err := w.store.Open(ctx, a.ID, store.Inbox)
		if err != nil || int64(v.Unseen()) != n {
			return fmt.Errorf("%d of %d are unseen, %w", v.Unseen(), v.Len(), err)
		}
		return nil
	case scan(text, "remove %d of alice", &n):
		a, err := w.store.Account(ctx, "corp:alice", store.KindPerson)
		if err != nil {
			return err
		}
		d, err := w.store.Drop(ctx, a.ID, store.Inbox)
		if err != nil {
			return err
		}
		_, err = w.store.Remove(ctx, a.ID, store.Inbox, d.UIDs[n-1:n])
		return err
	case scan(text, "disable %s", &name):
		e := person(name)
		e.Login = directory.StateDisabled
		w.live.Apply(2, []directory.Change{{Key: e.Key, Entry: e}})
		return nil
	case text == "stop the directory", text == "start the directory":
		w.away.Store(text == "stop the directory")
		return nil
	case text == "stop the database":
		w.db.Close()
		return nil
	}
	return errors.New("not understood")
}

func scan(text, format string, v any) bool {
	n, err := fmt.Sscanf(text, format, v)
	return err == nil && n == 1 && fmt.Sprintf(format, deref(v)) == text
}

func deref(v any) any {
	switch v := v.(type) {
	case *int64:
		return *v
	case *string:
		return *v
	}
	return nil
}

// large makes a message of n octets, with dots and long lines in it.
func large(n int64) string {
	var b strings.Builder
	b.WriteString("Subject: large\r\n\r\n")
	for i := 0; int64(b.Len()) < n-100; i++ {
		b.WriteString(strings.Repeat(".", i%3) + strconv.Itoa(i*7919) + "\r\n")
	}
	b.WriteString(strings.Repeat("x", int(n)-b.Len()-2) + "\r\n")
	return b.String()
}

func (w *world) runner() *dialog.Runner {
	return &dialog.Runner{
		Dial:  func(int) (net.Conn, error) { return w.serve(), nil },
		Given: w.do, Do: w.do, TLS: w.tls,
	}
}
