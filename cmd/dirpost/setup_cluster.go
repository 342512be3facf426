package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"dirpost/internal/child"
)

// debianCluster is a cluster as postgresql-common of Debian manages it: started with
// the host, upgraded by pg_upgradecluster.
type debianCluster struct {
	programs child.PostgresPrograms
	port     int
	exists   bool
	online   bool
	err      error // why there can be none
}

// clusterName is what `pg_lsclusters` calls it.
const clusterName = "dirpost"

// debianSocket is where clusters of Debian listen.
const debianSocket = "/run/postgresql"

// findDebianCluster looks for ours, and for a port.
func findDebianCluster() *debianCluster {
	c := &debianCluster{port: 5432}
	if _, err := exec.LookPath("pg_createcluster"); err != nil {
		c.err = errors.New("there is no PostgreSQL of Debian on this host: apt-get install postgresql; or give the URL of a database that you make (docs/install.md)")
		return c
	}
	out, err := child.Command{Path: "/usr/bin/pg_lsclusters", Args: []string{"-h"}}.Output(context.Background()) // reads a few files
	if err != nil {
		c.err = err
		return c
	}
	version := 0
	var ports []int
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		port, _ := strconv.Atoi(f[2])
		ports = append(ports, port)
		if f[1] == clusterName {
			version, _ = strconv.Atoi(f[0])
			c.exists, c.online, c.port = true, strings.HasPrefix(f[3], "online"), port
		}
	}
	for !c.exists && slices.Contains(ports, c.port) {
		c.port++
	}
	c.programs, c.err = child.FindPostgres(version)
	return c
}

func (c *debianCluster) url(role string) string {
	return fmt.Sprintf("postgres:///%s?host=%s&port=%d&user=%s", ownDatabase, debianSocket, c.port, role)
}

func (c *debianCluster) describe() string {
	if c.exists {
		return fmt.Sprintf("the cluster %d/%s on port %d", c.programs.Version, clusterName, c.port)
	}
	return fmt.Sprintf("a cluster %d/%s of its own will be made, on port %d of this host's Unix socket", c.programs.Version, clusterName, c.port)
}

func (c *debianCluster) check(context.Context) error { return c.err }

func (c *debianCluster) start() string { return "" }

// hba lets in who serves as the role that serves, root as every role but the
// superuser, and the superuser by its own account.
const (
	hba = `# Made by 'dirpost setup': who may be which role, by the kernel's word.
local   all        postgres                               peer
local   ` + ownDatabase + `    ` + ownOwner + `,` + ownServe + `,` + ownRead + `   peer map=dirpost
`
	ident = `# Made by 'dirpost setup'. MAP  SYSTEM-USER  ROLE
dirpost  root     ` + ownOwner + `
dirpost  root     ` + ownServe + `
dirpost  root     ` + ownRead + `
dirpost  dirpost  ` + ownServe + `
`
)

func (c *debianCluster) make(ctx context.Context) error {
	version := strconv.Itoa(c.programs.Version)
	if !c.exists {
		args := []string{"--port", strconv.Itoa(c.port), "--encoding", "UTF8", "--locale", "C.UTF-8", "--start-conf", "auto"}
		for _, s := range clusterSettings() {
			args = append(args, "--pgoption", s[0]+"="+s[1])
		}
		args = append(args, version, clusterName, "--", "--data-checksums")
		if _, err := (child.Command{Path: "/usr/bin/pg_createcluster", Args: args}).Output(ctx); err != nil {
			return err
		}
		c.exists = true
	}
	admitted, err := c.admit(version)
	if err != nil {
		return err
	}
	if admitted && c.online {
		if _, err := (child.Command{Path: "/usr/bin/pg_ctlcluster", Args: []string{version, clusterName, "reload"}}).Output(ctx); err != nil {
			return err
		}
	}
	if !c.online {
		if _, err := (child.Command{Path: "/usr/bin/pg_ctlcluster", Args: []string{version, clusterName, "start"}}).Output(ctx); err != nil {
			return fmt.Errorf("%w: see /var/log/postgresql/postgresql-%s-%s.log", err, version, clusterName)
		}
		c.online = true
	}
	who, err := child.Unprivileged("postgres")
	if err != nil {
		return err
	}
	return prepareDatabase(func(database, sql string) (string, error) {
		return psql(ctx, c.programs, who, debianSocket, strconv.Itoa(c.port), database, sql)
	})
}

// admit writes who may be which role, unless that was done, by a setup or by somebody
// since. The files exist, with their owner.
func (c *debianCluster) admit(version string) (written bool, err error) {
	dir := filepath.Join("/etc/postgresql", version, clusterName)
	b, err := os.ReadFile(filepath.Join(dir, "pg_hba.conf"))
	if err != nil || bytes.Contains(b, []byte("map=dirpost")) {
		return false, err
	}
	if err := os.WriteFile(filepath.Join(dir, "pg_ident.conf"), []byte(ident), 0o640); err != nil {
		return false, err
	}
	return true, os.WriteFile(filepath.Join(dir, "pg_hba.conf"), []byte(hba), 0o640)
}

// ownCluster is a cluster in a directory of ours. Who may enter that is trusted to be
// any role: it belongs to who runs the server.
type ownCluster struct {
	dir      string // of the socket; the data are in it
	programs child.PostgresPrograms
	who      child.User
	exists   bool
	err      error
}

func newOwnCluster(dir string) *ownCluster {
	c := &ownCluster{dir: dir}
	version, err := child.PostgresVersion(c.data())
	if err == nil {
		c.exists = version != 0
		c.programs, err = child.FindPostgres(version)
	}
	if err == nil {
		c.who, err = child.Unprivileged("postgres")
	}
	c.err = err
	return c
}

func (c *ownCluster) data() string { return filepath.Join(c.dir, "data") }

func (c *ownCluster) url(role string) string { return child.PostgresURL(c.dir, ownDatabase, role) }

func (c *ownCluster) describe() string {
	if c.exists {
		return fmt.Sprintf("PostgreSQL %d in %s", c.programs.Version, c.dir)
	}
	return fmt.Sprintf("PostgreSQL %d will be made in %s", c.programs.Version, c.dir)
}

// maxSocketDir is how long a directory may be for a Unix socket in it (unix(7)).
const maxSocketDir = 107 - len("/.s.PGSQL.5432")

func (c *ownCluster) check(context.Context) error {
	if c.err != nil {
		return c.err
	}
	if len(c.dir) > maxSocketDir {
		return fmt.Errorf("%s is too long for a Unix socket in it: choose a shorter directory", c.dir)
	}
	for dir := filepath.Dir(c.dir); ; dir = filepath.Dir(dir) { // the part of it that is there
		if _, err := os.Stat(dir); err == nil {
			return mayEnter(dir, c.who)
		}
		if dir == "/" {
			return nil
		}
	}
}

func (c *ownCluster) pgctl(args ...string) child.Command {
	return child.Command{Path: c.programs.Bin + "/pg_ctl", User: c.who, Args: append([]string{"--pgdata=" + c.data()}, args...)}
}

func (c *ownCluster) start() string {
	text := fmt.Sprintf("%s/pg_ctl --pgdata=%s --log=%s start", c.programs.Bin, c.data(), filepath.Join(c.dir, "log"))
	if c.who.Name != "" {
		text = "runuser -u " + c.who.Name + " -- " + text
	}
	return text
}

func (c *ownCluster) make(ctx context.Context) error {
	if !c.exists {
		if err := c.init(ctx); err != nil {
			return err
		}
		c.exists = true
	}
	if !child.OwnsPIDFile(filepath.Join(c.data(), "postmaster.pid"), c.dir) {
		if _, err := c.pgctl("--log="+filepath.Join(c.dir, "log"), "--wait", "--silent", "--timeout=300", "start").Output(ctx); err != nil {
			return fmt.Errorf("%w: see %s", err, filepath.Join(c.dir, "log"))
		}
	}
	return prepareDatabase(func(database, sql string) (string, error) {
		return psql(ctx, c.programs, c.who, c.dir, "5432", database, sql)
	})
}

// init makes the cluster. Its directory appears whole, by rename.
func (c *ownCluster) init(ctx context.Context) error {
	if err := child.MakeDir(c.dir, c.who); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	part := c.data() + ".part" // of a setup that did not end
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	if err := child.MakeDir(part, c.who); err != nil {
		return err
	}
	if err := child.InitPostgres(ctx, c.programs, c.who, part); err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString("\n# By 'dirpost setup'\n")
	for _, s := range append(clusterSettings(), [2]string{"unix_socket_directories", c.dir}, [2]string{"port", "5432"}) {
		fmt.Fprintf(&b, "%s = '%s'\n", s[0], s[1])
	}
	f, err := os.OpenFile(filepath.Join(part, "postgresql.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if _, err := (child.Command{Path: c.programs.Bin + "/initdb", User: c.who, Args: []string{"--sync-only", "--pgdata=" + part}}).Output(ctx); err != nil {
		return err
	}
	return os.Rename(part, c.data())
}

// madeWithin is how long a cluster takes to be made, at most.
const madeWithin = 10 * time.Minute
