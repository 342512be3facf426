package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dirpost/internal/child"
	"dirpost/internal/postgres"
)

// The roles of a private database, and its name.
const (
	ownOwner    = "dirpost"
	ownServe    = "dirpost_serve"
	ownRead     = "dirpost_read"
	ownDatabase = "dirpost"
)

// tryDatabase looks whether the database is there, keeps what it commits, and lets
// its roles do what they have to.
func (s *setup) tryDatabase(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	d := &s.a.Database
	switch d.Kind {
	case databasePrivate:
		return s.tryPrivate(ctx)
	case databaseGiven:
		return s.tryGiven(ctx)
	case "":
		return errors.New("database.kind: missing: private (made on this host) or given, with database.url; or --database-kind")
	}
	return fmt.Errorf("database.kind: %q is neither private nor given", d.Kind)
}

// tryPrivate looks whether a database of our own can be made, or is there.
func (s *setup) tryPrivate(ctx context.Context) error {
	if was := s.presentDatabase(); was != "" && was != s.private.url(ownServe) {
		return fmt.Errorf("database.kind: the mail is in the database of %s, and would stay there: move it, or take database.url out of %s if there is none", s.path, s.path)
	}
	if err := s.private.check(ctx); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	s.databaseURL, s.ownerURL = s.private.url(ownServe), s.private.url(ownOwner)
	s.ok("%s", s.private.describe())
	return nil
}

// presentDatabase is the URL of the configuration that is there.
func (s *setup) presentDatabase() string {
	if s.present == nil {
		return ""
	}
	return s.present.Database.URL
}

// tryGiven connects to a database as its owner and as the role that serves.
func (s *setup) tryGiven(ctx context.Context) error {
	if s.a.Database.URL == "" {
		return errors.New(`database.url: missing: where is it? As in url = "postgres://dirpost_serve@db.example.com/dirpost?sslmode=verify-full&passfile=/root/pgpass", or --database-url`)
	}
	owner := s.a.Database.OwnerURL
	if owner == "" {
		owner = s.a.Database.URL
	}
	s.databaseURL, s.ownerURL = s.a.Database.URL, owner
	mayMake, err := s.tryOwner(ctx, owner)
	if err != nil {
		return fmt.Errorf("database, as its owner: %w", err)
	}
	if owner == s.a.Database.URL {
		s.note("The server is the owner of its database: whoever breaks into it could change the schema. See docs/install.md for the roles.")
		return nil
	}
	db, err := postgres.Open(ctx, postgres.Config{URL: s.a.Database.URL, Interactive: 1, Delivery: 1, Background: 1}, slog.New(slog.DiscardHandler))
	if code, _ := postgres.State(err); code == "28000" && mayMake { // no such role
		s.ok("the role that serves will be made")
		return nil
	}
	if err != nil {
		return fmt.Errorf("database, as the role that serves: %w", err)
	}
	db.Close()
	s.ok("the role that serves may connect")
	return nil
}

const rightsSQL = `
select current_user, current_setting('server_version'), current_database(),
       has_schema_privilege(current_user, coalesce(current_schema(), 'public'), 'create'),
       (select rolsuper or rolcreaterole from pg_roles where rolname = current_user)`

// tryOwner connects as the owner of the schema, and reports whether that may make
// roles.
func (s *setup) tryOwner(ctx context.Context, url string) (mayMake bool, err error) {
	db, err := postgres.Open(ctx, postgres.Config{URL: url, Interactive: 1, Delivery: 1, Background: 1}, slog.New(slog.DiscardHandler))
	if err != nil {
		return false, err
	}
	defer db.Close()
	var user, version, name string
	var mayCreate bool
	if err := db.QueryRow(ctx, postgres.Interactive, rightsSQL).Scan(&user, &version, &name, &mayCreate, &mayMake); err != nil {
		return false, err
	}
	if !mayCreate {
		return false, fmt.Errorf("%s may make no tables in %s: 'alter database %s owner to %s' as a superuser, or name its owner by database.owner_url", user, name, name, user)
	}
	plan, err := postgres.MigratePlan(ctx, url)
	if err != nil {
		return false, err
	}
	state := "its schema is up to date"
	if len(plan) > 0 {
		state = fmt.Sprintf("%d migrations to apply", len(plan))
	}
	s.ok("PostgreSQL %s, database %s, keeps what it commits, %s", version, name, state)
	return mayMake, nil
}

// configURL is a URL as the configuration has it: without a password, which goes into
// a file that the account who may read it owns.
func (s *setup) configURL(text, file string, who account) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		if strings.Contains(text, "password=") {
			return "", errors.New("a password never stands in the configuration: write the URL as postgres://ROLE@HOST/DATABASE?passfile=/PATH")
		}
		return text, nil
	}
	query := u.Query()
	path := filepath.Join(filepath.Dir(s.path), file)
	var line string
	password, has := u.User.Password()
	if query.Get("password") != "" {
		password, has = query.Get("password"), true
	}
	switch passfile := query.Get("passfile"); {
	case has:
		line = "*:*:*:*:" + strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace(password) + "\n"
		u.User = url.User(u.User.Username())
		query.Del("password")
	case passfile != "" && passfile != path:
		b, err := os.ReadFile(passfile)
		if err != nil {
			return "", fmt.Errorf("passfile: %w", err)
		}
		line = string(b)
	default:
		return text, nil
	}
	query.Set("passfile", path)
	u.RawQuery = query.Encode()
	s.stage(stagedFile{path: path, content: []byte(line), mode: 0o600, owner: who})
	return u.String(), nil
}

// A privateDatabase is one that setup makes.
type privateDatabase interface {
	// describe says what there is, or what will be made.
	describe() string
	// url is how a role connects, without a password.
	url(role string) string
	// check looks whether it can be made, and changes nothing.
	check(ctx context.Context) error
	// make makes what is missing, starts it, and makes roles and database.
	make(ctx context.Context) error
	// start is a command that starts it after a start of the host, "" where that
	// happens by itself.
	start() string
}

// privateDatabase is the one for this configuration: with the package a cluster as
// Debian manages them, in a directory of one's own one there.
func (s *setup) privateDatabase() privateDatabase {
	if s.packaged {
		return findDebianCluster()
	}
	return newOwnCluster(filepath.Join(filepath.Dir(s.path), "postgres"))
}

// prepareDatabase makes the roles and the database of a cluster, as far as they are
// missing. query runs SQL as the superuser.
func prepareDatabase(query func(database, sql string) (string, error)) error {
	for _, s := range []struct{ database, exists, create string }{
		{"postgres", "select 1 from pg_roles where rolname = '" + ownOwner + "'", "create role " + ownOwner + " login"},
		{"postgres", "select 1 from pg_roles where rolname = '" + ownServe + "'", "create role " + ownServe + " login"},
		{"postgres", "select 1 from pg_roles where rolname = '" + ownRead + "'", "create role " + ownRead + " login"},
		{"postgres", "select 1 from pg_database where datname = '" + ownDatabase + "'", "create database " + ownDatabase + " owner " + ownOwner + " encoding 'UTF8' template template0 locale 'C.UTF-8'"},
	} {
		out, err := query(s.database, s.exists)
		if err != nil {
			return err
		}
		if strings.TrimSpace(out) != "" {
			continue
		}
		if _, err := query(s.database, s.create); err != nil {
			return err
		}
	}
	return nil
}

// psql runs SQL in a database of a cluster as its superuser.
func psql(ctx context.Context, p child.PostgresPrograms, who child.User, host, port, database, sql string) (string, error) {
	out, err := child.Command{Path: p.Bin + "/psql", User: who, Args: []string{
		"--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1",
		"--host=" + host, "--port=" + port, "--username=" + child.Superuser, "--dbname=" + database, "--command=" + sql,
	}}.Output(ctx)
	return string(out), err
}

// clusterSettings are those of a cluster for mail on this host.
func clusterSettings() [][2]string {
	shared := min(max(hostMemory()/4, 128<<20), 8<<30) >> 20
	return [][2]string{
		{"listen_addresses", ""},
		{"max_connections", "200"},
		{"shared_buffers", fmt.Sprintf("%dMB", shared)},
		{"effective_cache_size", fmt.Sprintf("%dMB", 2*shared)},
		{"max_wal_size", "4GB"},
		{"wal_compression", "on"},
		{"timezone", "UTC"},
	}
}

// hostMemory is what this host has, or this container may have, in octets.
func hostMemory() int64 {
	total := int64(1 << 30)
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kib int64
		if _, err := fmt.Sscanf(string(b), "MemTotal: %d kB", &kib); err == nil {
			total = kib << 10
		}
	}
	if b, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		var limit int64
		if _, err := fmt.Sscanf(string(b), "%d", &limit); err == nil && limit > 0 {
			total = min(total, limit)
		}
	}
	return total
}
