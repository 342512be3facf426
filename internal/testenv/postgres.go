package testenv

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dirpost/internal/child"
)

// settings of a test server: nothing here may change what a statement does,
// only what survives the loss of the machine.
var settings = map[string]string{
	"max_connections":    "300",
	"shared_buffers":     "64MB",
	"fsync":              "off",
	"synchronous_commit": "on",
	"full_page_writes":   "off",
	"max_wal_size":       "512MB",
	"checkpoint_timeout": "30min",
	"timezone":           "UTC",
	"log_min_messages":   "warning",
}

// durable are the settings of a server on which 250 means on disk.
var durable = map[string]string{"fsync": "on", "full_page_writes": "on"}

// A server is a private Postgres, started once.
type server struct {
	name  string
	once  sync.Once
	extra map[string]string
	cfg   child.PostgresConfig
	pg    *child.Postgres
	err   error
	next  atomic.Int64
}

var (
	fastServer    = &server{name: "pg"}
	durableServer = &server{name: "pgd", extra: durable}
)

// PostgresURL returns the URL of a fresh empty database on a private server
// that the tests of this binary share. The database is dropped after the test.
// The server does not wait for the disk; see DurablePostgresURL.
func PostgresURL(t testing.TB) string {
	t.Helper()
	return fastServer.database(t, "template0")
}

// DurablePostgresURL is PostgresURL on a server that waits for the disk, as
// serving demands: for tests that start the whole program or measure it.
func DurablePostgresURL(t testing.TB) string {
	t.Helper()
	return durableServer.database(t, "template0")
}

// database makes a database from a template.
func (s *server) database(t testing.TB, template string) string {
	t.Helper()
	s.once.Do(func() { s.pg, s.err = s.start() })
	if s.err != nil {
		t.Fatalf("private Postgres: %v (deploy/install-packages.sh run test installs what is missing)", s.err)
	}
	name := fmt.Sprintf("t%d", s.next.Add(1))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := s.pg.Exec(ctx, "postgres", "create database "+name+" template "+template); err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := s.pg.Exec(ctx, "postgres", "drop database "+name+" with (force)"); err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
	return s.pg.URL(name, child.Superuser)
}

// start starts the server on a copy of a cluster that initdb has made once for
// all runs: that takes 0.2 instead of 0.8 seconds.
func (s *server) start() (*child.Postgres, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	programs, err := child.FindPostgres(0)
	if err != nil {
		return nil, err
	}
	user, err := child.Unprivileged("postgres")
	if err != nil {
		return nil, err
	}
	base, err := scratch()
	if err != nil {
		return nil, err
	}
	pristine, err := cluster(ctx, base, programs, user)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(base, s.name)
	if err := child.MakeDir(dir, user); err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if _, err := (child.Command{Path: "/bin/cp", Args: []string{"-a", "--reflink=auto", pristine, data}}).Output(ctx); err != nil {
		return nil, err
	}
	if user != (child.User{}) {
		if _, err := (child.Command{Path: "/bin/chown", Args: []string{"-R", fmt.Sprintf("%d:%d", user.UID, user.GID), data}}).Output(ctx); err != nil {
			return nil, err
		}
	}
	all := make(map[string]string)
	for _, m := range []map[string]string{settings, s.extra} {
		for k, v := range m {
			all[k] = v
		}
	}
	s.cfg = child.PostgresConfig{
		Programs: programs, User: user, Dir: data, Socket: dir, Log: filepath.Join(dir, "log"), Settings: all,
	}
	return child.StartPostgres(ctx, s.cfg)
}

// cluster returns a directory with a fresh cluster, from the cache if one is
// there. Test binaries that run at the same time wait for the one that makes it.
func cluster(ctx context.Context, base string, programs child.PostgresPrograms, user child.User) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	cache = filepath.Join(cache, "dirpost")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return "", err
	}
	dir := filepath.Join(cache, fmt.Sprintf("initdb-%d-1", programs.Version))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	lock, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	fresh := filepath.Join(base, "initdb")
	if err := child.MakeDir(fresh, user); err != nil {
		return "", err
	}
	if err := child.InitPostgres(ctx, programs, user, fresh); err != nil {
		return "", err
	}
	// The cache may lie on another file system, so copy and rename there.
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return "", err
	}
	if _, err := (child.Command{Path: "/bin/cp", Args: []string{"-a", fresh, part}}).Output(ctx); err != nil {
		return "", err
	}
	return dir, os.Rename(part, dir)
}
