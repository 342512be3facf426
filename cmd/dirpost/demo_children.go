package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"dirpost/internal/child"
	"dirpost/internal/postgres"
	"dirpost/schema/ldap"
)

// demoChildren are the programs of others that a demo runs.
type demoChildren struct {
	postgres *child.Postgres
	slapd    *child.Slapd
}

// startChildren starts Postgres and slapd, makes what is missing in them, and
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
	if c.slapd, err = d.startSlapd(ctx); err != nil {
		return nil, fmt.Errorf("private directory: %w", err)
	}
	ok = true
	return c, nil
}

// stop ends the children, the last started first.
func (c *demoChildren) stop() {
	if c.slapd != nil {
		c.slapd.Stop(10 * time.Second)
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
	d.step(begin, "database %s, %d migrations applied", demoDB, len(todo))
	return nil
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

func (d *demo) slapdConfig() (child.SlapdConfig, error) {
	programs, err := child.FindSlapd()
	if err != nil {
		return child.SlapdConfig{}, err
	}
	who, err := child.Unprivileged("openldap")
	if err != nil {
		return child.SlapdConfig{}, err
	}
	dir := d.path("ldap")
	return child.SlapdConfig{
		Programs: programs, User: who, Dir: dir,
		Suffix: ldap.Base, RootDN: demoAdminDN, RootPassword: d.secrets.ldapAdmin, Schema: []string{ldap.Schema},
		Addresses:   []string{net.JoinHostPort(d.host, strconv.Itoa(d.portBase+389))},
		Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), CA: filepath.Join(dir, "ca.pem"),
		Log: d.path("slapd.log"),
	}, nil
}

// demoAdminDN may change everything in the private directory.
const demoAdminDN = "cn=admin," + ldap.Base

func (d *demo) startSlapd(ctx context.Context) (*child.Slapd, error) {
	begin := time.Now()
	cfg, err := d.slapdConfig()
	if err != nil {
		return nil, err
	}
	loaded, err := d.loadDirectory(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s, err := child.StartSlapd(ctx, cfg)
	if err != nil {
		return nil, err
	}
	d.step(begin, "OpenLDAP, private, on %s, %s", cfg.Addresses[0], loaded)
	if err := d.syncPasswords(cfg); err != nil {
		s.Stop(10 * time.Second)
		return nil, err
	}
	return s, nil
}

// loadDirectory writes the configuration of slapd and loads Example Corp, once,
// and the people of --users that are not there yet.
func (d *demo) loadDirectory(ctx context.Context, cfg child.SlapdConfig) (string, error) {
	count := d.path("ldap", "users") // exists once everything is loaded: how many of --users
	have, err := readCount(count)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.RemoveAll(cfg.Dir); err != nil {
			return "", err
		}
		if err := child.MakeDir(cfg.Dir, cfg.User); err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	for from, to := range map[string]string{d.path("cert.pem"): cfg.Certificate, d.path("secrets", "key.pem"): cfg.Key, d.path("ca.pem"): cfg.CA} {
		if err := child.CopyFile(from, to, cfg.User); err != nil {
			return "", err
		}
	}
	if err := cfg.Configure(); err != nil {
		return "", err
	}
	hash, err := child.SSHA(d.password)
	if err != nil {
		return "", err
	}
	said := "as it was left"
	if have < 0 {
		service, err := child.SSHA(d.secrets.ldapService)
		if err != nil {
			return "", err
		}
		if err := cfg.Load(ctx, ldap.Demo(hash, service)); err != nil {
			return "", err
		}
		have, said = 0, "with Example Corp"
	}
	if d.users > have {
		if err := cfg.Load(ctx, loadPeople(have+1, d.users, hash)); err != nil {
			return "", err
		}
		said += fmt.Sprintf(" and %d more people", d.users-have)
		have = d.users
	}
	return said, os.WriteFile(count, []byte(strconv.Itoa(have)), 0o600)
}

// readCount reads how many people of --users were loaded, -1 with
// os.ErrNotExist when nothing was.
func readCount(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return -1, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// loadPeople is the LDIF of the people u00001, … that load is made with.
func loadPeople(first, last int, hash string) string {
	var b strings.Builder
	for i := first; i <= last; i++ {
		fmt.Fprintf(&b, `dn: uid=u%05[1]d,ou=people,%[2]s
objectClass: inetOrgPerson
objectClass: dirpostMailbox
uid: u%05[1]d
cn: Load User %[1]d
sn: User %[1]d
mail: u%05[1]d@%[3]s
userPassword: %[4]s

`, i, ldap.Base, demoDomain, hash)
	}
	return b.String()
}

// awaitChildren waits for the children of a run that was killed: they have got
// their signal, but need a moment.
func awaitChildren(dir string) error {
	deadline := time.Now().Add(10 * time.Second)
	for _, file := range []string{filepath.Join(dir, "pg", "data", "postmaster.pid"), filepath.Join(dir, "ldap", "slapd.pid")} {
		for child.OwnsPIDFile(file, dir) {
			if time.Now().After(deadline) {
				return fmt.Errorf("a process of an earlier demo does not end: see %s", file)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}
