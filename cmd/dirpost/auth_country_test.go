package main

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dirpost/auth/country"
	"dirpost/auth/history"
	"dirpost/internal/event"
	"dirpost/internal/testenv"
)

// TestCountries: a person is told where a new network is, and that the country is a new
// one where that can be told.
func TestCountries(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "country.mmdb")
	if err := os.WriteFile(path, testenv.Countries(map[string][2]string{"192.0.2.0/24": {"DE", "Germany"}, "198.51.100.0/24": {"DE", "Germany"}, "203.0.113.0/24": {"BR", "Brazil"}}), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := country.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	n := &node{log: log}
	n.history = history.NewRecorder(testenv.Database(t), log)
	if got := n.where(t.Context(), "corp:alice", netip.MustParseAddr("192.0.2.1")); got != "" {
		t.Errorf("without a file: %q", got)
	}
	n.countries = db
	for _, login := range []struct{ client, want string }{
		{"10.1.2.3", ""},
		{"192.0.2.1", " in Germany"}, // of the network before nothing is known
		{"198.51.100.1", " in Germany"},
		{"203.0.113.1", " in Brazil, a country from which you have not logged in before"},
		{"203.0.113.9", " in Brazil, a country from which you have not logged in before"}, // that network is the new one
		{"2001:db8::1", ""},
	} {
		n.history.Emit(t.Context(), event.Event{Room: "auth", Msg: "login", Attrs: []slog.Attr{slog.String("client", login.client), slog.String("protocol", "imap"), slog.String("mech", "PLAIN"), slog.String("person", "corp:alice")}})
		if err := n.history.Flush(context.WithoutCancel(t.Context())); err != nil {
			t.Fatal(err)
		}
		if got := n.where(t.Context(), "corp:alice", netip.MustParseAddr(login.client)); got != login.want {
			t.Errorf("%s: %q, want %q", login.client, got, login.want)
		}
	}
	if err := (PageSection{SecondFactor: factorOptional, Countries: "GeoIP.mmdb"}).validate(); err == nil || !strings.Contains(err.Error(), "no absolute path") {
		t.Errorf("a path that is not absolute: %v", err)
	}
}
