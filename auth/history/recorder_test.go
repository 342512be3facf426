package history

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dirpost/directory"
	"dirpost/internal/event"
	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
)

func login(r *Recorder, person, protocol, client string) {
	r.Emit(context.Background(), event.Event{Room: "auth", Msg: "login", Attrs: []slog.Attr{
		slog.String("client", client), slog.String("protocol", protocol), slog.String("mech", "PLAIN"), slog.String("person", person),
	}})
}

func TestRecorder(t *testing.T) {
	t.Parallel()
	r := NewRecorder(testenv.Database(t), slog.New(slog.DiscardHandler))
	var news []string
	r.Inside = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	r.New = func(_ context.Context, person directory.Key, client netip.Addr, protocol string) {
		news = append(news, fmt.Sprint(person, " ", client, " ", protocol))
	}
	flush := func(want ...string) {
		t.Helper()
		news = nil
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		slices.Sort(news)
		if !slices.Equal(news, want) {
			t.Errorf("new: %q, want %q", news, want)
		}
	}
	flush()
	for range 5 {
		login(r, "corp:1", "imap", "192.0.2.1")
	}
	flush() // the first network of somebody is not news
	login(r, "corp:1", "imap", "192.0.2.77")
	login(r, "corp:1", "submission", "::ffff:192.0.2.1")
	flush()
	login(r, "corp:1", "imap", "198.51.100.9")
	login(r, "corp:1", "imap", "2001:db8:1:2::3")
	login(r, "corp:1", "imap", "10.9.8.7")
	login(r, "corp:1", "imap", "127.0.0.1")
	login(r, "corp:2", "pop3", "203.0.113.5")
	login(r, "corp:2", "pop3", "203.0.114.5")
	flush("corp:1 198.51.100.9 imap", "corp:1 2001:db8:1:2::3 imap")
	login(r, "corp:1", "imap", "198.51.100.200")
	login(r, "corp:1", "imap", "2001:db8:1:ffff::1")
	flush()

	// What is no login of somebody is not taken down.
	r.Emit(t.Context(), event.Event{Room: "auth", Msg: "login refused", Attrs: []slog.Attr{slog.String("client", "192.0.2.9"), slog.String("person", "corp:3")}})
	r.Emit(t.Context(), event.Event{Room: "mra", Msg: "login"})
	login(r, "", "imap", "192.0.2.9")
	login(r, "corp:3", "imap", "a name")
	login(r, "corp:3", strings.Repeat("x", 1000), "192.0.2.9")
	flush()

	all, err := r.List(t.Context(), "corp:1", 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 9 {
		t.Errorf("%d rows: %+v", len(all), all)
	}
	i := slices.IndexFunc(all, func(l Login) bool { return l.Client == netip.MustParseAddr("192.0.2.1") && l.Protocol == "imap" })
	if i < 0 || all[i].Count != 5 || all[i].Mechanism != "PLAIN" {
		t.Errorf("%+v", all)
	}
	if all, err = r.List(t.Context(), "corp:3", 100); err != nil || len(all) != 1 || len(all[0].Protocol) != maxWord {
		t.Errorf("%+v, %v", all, err)
	}

	// Nobody fills the table, and what is old goes.
	for i := range maxRows + 50 {
		login(r, "corp:2", "imap", fmt.Sprintf("198.18.%d.1", i))
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all, err = r.List(t.Context(), "corp:2", 1000); err != nil || len(all) != maxRows {
		t.Errorf("%d rows, %v", len(all), err)
	}
	for _, table := range []string{"auth_login", "auth_network"} {
		if _, err := r.db.Exec(t.Context(), postgres.Background, "update "+table+" set last_at = now() - interval '181 days'"); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := r.db.QueryRow(t.Context(), postgres.Background, "select (select count(*) from auth_login) + (select count(*) from auth_network)").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows, %v", n, err)
	}
}

// What cannot be written now is written later, and memory has an end.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	r := NewRecorder(db, slog.New(slog.DiscardHandler))
	login(r, "corp:1", "imap", "192.0.2.1")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Flush(gone); err == nil {
		t.Error("written after the end")
	}
	login(r, "corp:1", "imap", "192.0.2.1")
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all, err := r.List(t.Context(), "corp:1", 10); err != nil || len(all) != 1 || all[0].Count != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	for i := range maxWaiting + 100 {
		login(r, fmt.Sprint("corp:", i), "imap", "192.0.2.1")
	}
	if len(r.waiting) != maxWaiting {
		t.Errorf("%d notes wait", len(r.waiting))
	}
}
