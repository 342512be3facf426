package notice

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
)

func address(t *testing.T, a string) envelope.Address {
	t.Helper()
	out, err := envelope.ParseAddress(a)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// door lets messages in: it keeps them where the transaction is committed.
type door struct {
	db   *postgres.DB
	err  error // of letting in
	sent []string
}

// Send implements Sender.
func (d *door) Send(ctx context.Context, to envelope.Address, m *Message, done func(context.Context, postgres.Tx) error) error {
	if d.err != nil {
		return d.err
	}
	var b bytes.Buffer
	if _, err := m.WriteTo(&b); err != nil {
		return err
	}
	if err := d.db.InTx(ctx, postgres.Background, done); err != nil {
		return err
	}
	d.sent = append(d.sent, to.String()+"\n"+b.String())
	return nil
}

// world is a box with a person in the directory.
func world(t *testing.T) (*Box, *door, *directory.Live, Config) {
	t.Helper()
	db := testenv.Database(t)
	live := directory.Open(directory.Rules{Domains: []string{"corp.example"}})
	quiet := slog.New(slog.DiscardHandler)
	people := &people{[]*directory.Entry{
		{Key: "corp:1", Directory: "corp", DN: "uid=wei,dc=corp", Kind: directory.KindPerson, Primary: address(t, "wei@corp.example"), DisplayName: "王伟\r\nBcc: x@evil.example", Login: directory.StateActive, Delivery: directory.StateActive},
	}}
	f := directory.NewFeeder(db, live, []directory.Source{people}, nobody{}, "test", quiet)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	changed := make(chan struct{}, 1)
	live.Watch(func(*directory.Snapshot, []directory.Key) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	go func() {
		defer close(over)
		_ = f.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-over
	})
	for live.Snapshot().ByKey("corp:1") == nil {
		<-changed
	}
	return New(db, quiet), &door{db: db}, live, Config{Host: "mail.corp.example", Postmaster: address(t, "postmaster@corp.example"), Page: "https://mail.corp.example/account/"}
}

type nobody struct{}

func (nobody) Publish(string, string)                       {}
func (nobody) Subscribe(string, func(string)) (stop func()) { return func() {} }

// people are a directory that does not change.
type people struct{ all []*directory.Entry }

func (p *people) Name() string       { return "corp" }
func (p *people) Lag() time.Duration { return 0 }

// Follow implements directory.Source.
func (p *people) Follow(ctx context.Context, _ []byte, emit func(context.Context, directory.Batch) error) error {
	b := directory.Batch{Begin: true, Complete: true, At: time.Now()}
	for _, e := range p.all {
		b.Changes = append(b.Changes, directory.Change{Key: e.Key, Entry: e})
	}
	if err := emit(ctx, b); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func TestBox(t *testing.T) {
	t.Parallel()
	b, d, live, cfg := world(t)
	send := func(want int) {
		t.Helper()
		d.sent = nil
		if err := b.send(t.Context(), cfg, live, d); err != nil {
			t.Fatal(err)
		}
		if len(d.sent) != want {
			t.Fatalf("%d mails, want %d", len(d.sent), want)
		}
	}
	add := func(kind Kind, line string) {
		t.Helper()
		if err := b.Add(t.Context(), "corp:1", kind, line); err != nil {
			t.Fatal(err)
		}
	}
	send(0)
	add(AppPassword, "\"phone\" for imap\r\nX-Evil: yes")
	add(Password, "from 192.0.2.1")
	send(2)
	send(0)
	// Within the hour there is no other mail of the kind, and nothing is lost.
	for i := range 50 {
		add(AppPassword, fmt.Sprint("number ", i))
	}
	add(Network, "198.51.100.7")
	send(1)
	if _, err := b.db.Exec(t.Context(), postgres.Interactive, "update auth_notice set sent_at = now() - interval '61 minutes'"); err != nil {
		t.Fatal(err)
	}
	send(1)
	m := d.sent[0]
	if !strings.Contains(m, "number 0") || !strings.Contains(m, fmt.Sprint("number ", maxLines-1)) || strings.Contains(m, fmt.Sprint("number ", maxLines)) || !strings.Contains(m, more) {
		t.Errorf("lines of the mail:\n%s", m)
	}
	if err := b.Add(t.Context(), "corp:1", "other", "x"); err == nil {
		t.Error("a kind without text")
	}
	// Who is gone is told nothing, and the row goes.
	if err := b.Add(t.Context(), "corp:2", Password, "x"); err != nil {
		t.Fatal(err)
	}
	send(0)
	if _, err := b.db.Exec(t.Context(), postgres.Interactive, "update auth_notice set sent_at = now() - interval '3 hours'"); err != nil {
		t.Fatal(err)
	}
	send(0)
	var n int
	if err := b.db.QueryRow(t.Context(), postgres.Interactive, "select count(*) from auth_notice").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows are left, %v", n, err)
	}
}

// A door that is closed for now is tried again, one that is closed for good not.
func TestDoorClosed(t *testing.T) {
	t.Parallel()
	b, d, live, cfg := world(t)
	if err := b.Add(t.Context(), "corp:1", Password, "x"); err != nil {
		t.Fatal(err)
	}
	d.err = errors.New("no disk")
	if err := b.send(t.Context(), cfg, live, d); err == nil {
		t.Error("no error")
	}
	d.err = nil
	if err := b.send(t.Context(), cfg, live, d); err != nil || len(d.sent) != 1 {
		t.Errorf("%d mails, %v", len(d.sent), err)
	}
	if err := b.Add(t.Context(), "corp:1", Network, "x"); err != nil {
		t.Fatal(err)
	}
	d.err = envelope.ErrNotFound
	if err := b.send(t.Context(), cfg, live, d); err != nil {
		t.Error(err)
	}
	d.err = nil
	if err := b.send(t.Context(), cfg, live, d); err != nil || len(d.sent) != 1 {
		t.Errorf("%d mails, %v", len(d.sent), err)
	}
	// What another node has sent in the meantime is not sent.
	if err := b.Add(t.Context(), "corp:1", Factor, "x"); err != nil {
		t.Fatal(err)
	}
	if err := b.sendOne(t.Context(), cfg, live.Snapshot(), d, due{person: "corp:1", kind: Factor, lines: []string{"something else"}}); err != nil || len(d.sent) != 1 {
		t.Errorf("%d mails, %v", len(d.sent), err)
	}
}

// The mail is one that other systems read as what it is, whatever is in it.
func TestMessage(t *testing.T) {
	t.Parallel()
	for kind := range texts {
		m := &Message{
			Config: Config{Host: "mail.corp.example", Postmaster: address(t, "postmaster@corp.example"), Page: "https://mail.corp.example/account/"},
			To:     address(t, "李娜@corp.example"), Name: "王伟\r\nBcc: x@evil.example", Kind: kind, Lines: []string{"phone\r\n\r\n.\r\nX: y", "\xff\u202e" + strings.Repeat("x", 1000)},
		}
		var b bytes.Buffer
		n, err := m.WriteTo(&b)
		if err != nil || int(n) != b.Len() {
			t.Fatal(n, err)
		}
		for _, line := range strings.SplitAfter(b.String(), "\n") {
			if line != "" && !strings.HasSuffix(line, "\r\n") || len(line) > 1000 {
				t.Errorf("line %q", line)
			}
		}
		got, err := mail.ReadMessage(&b)
		if err != nil {
			t.Fatal(err)
		}
		if got.Header.Get("Auto-Submitted") != "auto-generated" || got.Header.Get("Bcc") != "" || got.Header.Get("Subject") != texts[kind].subject {
			t.Errorf("header %v", got.Header)
		}
		if _, err := got.Header.Date(); err != nil {
			t.Error(err)
		}
		if kind, params, err := mime.ParseMediaType(got.Header.Get("Content-Type")); kind != "text/plain" || params["charset"] != "utf-8" || err != nil {
			t.Errorf("type %s %v %v", kind, params, err)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(got.Body))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"Hello 王伟 Bcc: x@evil.example,", "phone . X: y", "https://mail.corp.example/account/", texts[kind].advice} {
			if !strings.Contains(string(body), want) {
				t.Errorf("%s: no %q in\n%s", kind, want, body)
			}
		}
		if strings.ContainsRune(string(body), '\u202e') {
			t.Error("a character that turns the text around")
		}
	}
}
