package testenv

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"dirpost/internal/child"
)

// CrashPostgres is a server of one test alone, which waits for the disk and
// which the test may break.
type CrashPostgres struct {
	s *server
}

// NewCrashPostgres starts a server with a database that has all migrations.
func NewCrashPostgres(t testing.TB) *CrashPostgres {
	t.Helper()
	s := &server{name: fmt.Sprintf("pgc%d", durableServer.next.Add(1)), extra: durable}
	var err error
	if s.pg, err = s.start(); err == nil {
		err = s.migrate()
	}
	if err != nil {
		t.Fatalf("private Postgres: %v (deploy/install-packages.sh run test installs what is missing)", err)
	}
	t.Cleanup(func() { s.pg.Stop(10 * time.Second) })
	return &CrashPostgres{s}
}

// URL is the URL of the database.
func (p *CrashPostgres) URL() string { return p.s.pg.URL(template, child.Superuser) }

// Crash ends all processes of the server at once, without a checkpoint, and
// starts it again: it recovers from its log.
func (p *CrashPostgres) Crash(t testing.TB) {
	t.Helper()
	p.s.pg.Signal(syscall.SIGQUIT)
	<-p.s.pg.Done()
	p.Start(t)
}

// Stop shuts the server down, as for an upgrade: sessions are cut off.
func (p *CrashPostgres) Stop() { p.s.pg.Stop(10 * time.Second) }

// Start starts it again.
func (p *CrashPostgres) Start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pg, err := child.StartPostgres(ctx, p.s.cfg)
	if err != nil {
		t.Fatalf("start Postgres again: %v", err)
	}
	p.s.pg = pg
}
