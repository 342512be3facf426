package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"dirpost/directory"
	"dirpost/internal/child"
	"dirpost/internal/postgres"
	"dirpost/mta/queue"
)

// demoChildren are the programs of others that a demo runs.
type demoChildren struct {
	postgres  *child.Postgres
	directory demoProcess
}

// demoProcess is a running child.
type demoProcess interface {
	Done() <-chan struct{}
	Err() error
	Stop(grace time.Duration)
}

// demoDirectory is the private directory of a demo: slapd, or a domain controller
// of Active Directory.
type demoDirectory interface {
	// check reports what is in the way of a start, before anything is started.
	check() error
	// start makes what is missing and starts it.
	start(ctx context.Context) (demoProcess, error)
	// url is where programs of others reach it.
	url() string
	// section is [directory.corp] of the configuration.
	section() string
	// env are further values of demo.env, as pairs.
	env() []string
	// people are accounts that only this kind of directory has: login name,
	// address, and what there is to say.
	people() [][3]string
	// alias is a command that gives bob another address.
	alias() string
	// log is the file in which it says what is wrong.
	log() string
}

// startChildren starts Postgres and the directory, makes what is missing in them, and
// brings the schema up to date.
func (d *demo) startChildren(ctx context.Context) (*demoChildren, error) {
	c := &demoChildren{}
	ok := false
	defer func() {
		if !ok {
			c.stop()
		}
	}()
	var err error
	if c.postgres, err = d.startPostgres(ctx); err != nil {
		return nil, fmt.Errorf("private PostgreSQL: %w", err)
	}
	if c.directory, err = d.directory.start(ctx); err != nil {
		return nil, fmt.Errorf("private directory: %w", err)
	}
	ok = true
	return c, nil
}

// stop ends the children, the last started first.
func (c *demoChildren) stop() {
	if c.directory != nil {
		c.directory.Stop(10 * time.Second)
	}
	if c.postgres != nil {
		c.postgres.Stop(30 * time.Second)
	}
}

// The roles of the private database: who owns the schema, who serves, who reads.
const (
	demoOwner = "dirpost"
	demoServe = "dirpost_serve"
	demoRead  = "dirpost_read"
	demoDB    = "dirpost"
)

func (d *demo) startPostgres(ctx context.Context) (*child.Postgres, error) {
	begin := time.Now()
	who, err := child.Unprivileged("postgres")
	if err != nil {
		return nil, err
	}
	dir, data := d.path("pg"), d.path("pg", "data")
	version, err := child.PostgresVersion(data)
	if err != nil {
		return nil, err
	}
	programs, err := child.FindPostgres(version)
	if err != nil {
		return nil, err
	}
	if err := mayEnter(d.dir, who); err != nil {
		return nil, err
	}
	if version == 0 { // also after a first start that did not get far
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
		if err := child.MakeDir(dir, who); err != nil {
			return nil, err
		}
		part := data + ".part"
		if err := child.MakeDir(part, who); err != nil {
			return nil, err
		}
		if err := child.InitPostgres(ctx, programs, who, part); err != nil {
			return nil, err
		}
		if err := os.Rename(part, data); err != nil {
			return nil, err
		}
	}
	pg, err := child.StartPostgres(ctx, child.PostgresConfig{
		Programs: programs, User: who, Dir: data, Socket: dir, Log: d.path("postgres.log"),
		Settings: map[string]string{
			"max_connections": "100", "shared_buffers": "128MB", "max_wal_size": "1GB",
			"timezone": "UTC", "log_min_messages": "warning", "wal_compression": "lz4",
		},
	})
	if err != nil {
		return nil, err
	}
	d.step(begin, "PostgreSQL %d, private, in %s", programs.Version, dir)
	if err := d.prepareDatabase(ctx, pg); err != nil {
		pg.Stop(10 * time.Second)
		return nil, err
	}
	return pg, nil
}

// prepareDatabase makes owner and database once, and migrates each time.
func (d *demo) prepareDatabase(ctx context.Context, pg *child.Postgres) error {
	begin := time.Now()
	for _, s := range []struct{ exists, create string }{
		{"select 1 from pg_roles where rolname = '" + demoOwner + "'", "create role " + demoOwner + " login createrole"},
		{"select 1 from pg_database where datname = '" + demoDB + "'", "create database " + demoDB + " owner " + demoOwner},
	} {
		out, err := pg.Exec(ctx, child.Superuser, s.exists)
		if err != nil {
			return err
		}
		if out != "" {
			continue
		}
		if _, err := pg.Exec(ctx, child.Superuser, s.create); err != nil {
			return err
		}
	}
	log, done, err := d.logger()
	if err != nil {
		return err
	}
	defer done()
	url := pg.URL(demoDB, demoOwner)
	todo, err := postgres.MigratePlan(ctx, url)
	if err != nil {
		return err
	}
	if err := postgres.Migrate(ctx, url, postgres.Roles{Serve: demoServe, Read: demoRead}, log); err != nil {
		return fmt.Errorf("%w (--fresh begins with an empty system)", err)
	}
	if err := freeLeases(ctx, url, log); err != nil {
		return err
	}
	d.step(begin, "database %s, %d migrations applied", demoDB, len(todo))
	return nil
}

// freeLeases lets the server follow the directory and work on the queue at once, also
// after a run that was killed: nobody else uses the database yet.
func freeLeases(ctx context.Context, url string, log *slog.Logger) error {
	db, err := postgres.Open(ctx, postgres.Config{URL: url}, log)
	if err != nil {
		return err
	}
	defer db.Close()
	return errors.Join(directory.FreeLease(ctx, db), queue.Free(ctx, db))
}

// mayEnter checks that the child's user can reach the directory: every directory
// above it must be searchable.
func mayEnter(dir string, who child.User) error {
	if who == (child.User{}) {
		return nil
	}
	for p := dir; ; p = filepath.Dir(p) {
		st, err := os.Stat(p)
		if err != nil {
			return err
		}
		if st.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("the user %s cannot enter %s: choose a directory with --dir that it can, such as /var/lib/dirpost-demo", who.Name, p)
		}
		if p == "/" {
			return nil
		}
	}
}

// awaitChildren waits for the children of a run that was killed: they have got
// their signal, but need a moment.
func awaitChildren(dir string) error {
	deadline := time.Now().Add(10 * time.Second)
	for _, file := range []string{filepath.Join(dir, "pg", "data", "postmaster.pid"), filepath.Join(dir, "ldap", "slapd.pid"), filepath.Join(dir, "ad", "run", "samba.pid")} {
		for child.OwnsPIDFile(file, dir) {
			if time.Now().After(deadline) {
				return fmt.Errorf("a process of an earlier demo does not end: see %s", file)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}
