package testenv

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"dirpost/internal/child"
	"dirpost/internal/postgres"
)

// template is the database with all migrations that those of the tests are
// copied from.
const template = "dirpost_template"

// templates are the servers that have one.
var templates = map[*server]func() error{
	fastServer:    sync.OnceValue(func() error { return fastServer.migrate() }),
	durableServer: sync.OnceValue(func() error { return durableServer.migrate() }),
}

// Database returns a fresh database with all migrations applied, on the server
// of PostgresURL. It is closed and dropped after the test.
func Database(t testing.TB) *postgres.DB {
	t.Helper()
	return OpenDatabase(t, DatabaseURL(t))
}

// DatabaseURL is the URL of a fresh database with all migrations applied.
func DatabaseURL(t testing.TB) string {
	t.Helper()
	return fastServer.migrated(t)
}

// DurableDatabaseURL is DatabaseURL on the server that waits for the disk.
func DurableDatabaseURL(t testing.TB) string {
	t.Helper()
	return durableServer.migrated(t)
}

// OpenDatabase opens a database with small pools, as one node of several.
func OpenDatabase(t testing.TB, url string) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Config{URL: url, AllowUnsafe: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// migrated makes a database from the template.
func (s *server) migrated(t testing.TB) string {
	t.Helper()
	s.once.Do(func() { s.pg, s.err = s.start() })
	if s.err == nil {
		if err := templates[s](); err != nil {
			t.Fatalf("migrate the template database: %v", err)
		}
	}
	return s.database(t, template)
}

// migrate makes the template.
func (s *server) migrate() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := s.pg.Exec(ctx, "postgres", fmt.Sprintf("create database %s template template0", template)); err != nil {
		return err
	}
	return postgres.Migrate(ctx, s.pg.URL(template, child.Superuser), postgres.Roles{}, slog.New(slog.DiscardHandler))
}
