package child

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// MinPostgres is the oldest major version that Dirpost runs on.
const MinPostgres = 15

// maxSocketPath is the longest path of a Unix socket, sun_path without its NUL
// (unix(7)).
const maxSocketPath = 107

// ErrNotInstalled reports that a program is missing; the text says which.
var ErrNotInstalled = errors.New("not installed")

// PostgresPrograms are the server binaries of one major version.
type PostgresPrograms struct {
	Bin     string // directory
	Version int    // major
}

// FindPostgres returns the newest installed server binaries, or those of one
// major version unless it is 0. They are not on the PATH of Debian.
func FindPostgres(version int) (PostgresPrograms, error) {
	var found []PostgresPrograms
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/lib/postgresql*/bin", "/usr/pgsql-*/bin", "/usr/libexec/postgresql*"} {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return PostgresPrograms{}, err
		}
		for _, dir := range dirs {
			v := strings.TrimLeft(strings.TrimPrefix(strings.TrimSuffix(dir, "/bin"), "/usr/"), "abcdefghijklmnopqrstuvwxyz-/")
			major, err := strconv.Atoi(v)
			if err != nil || !isProgram(dir+"/postgres") || !isProgram(dir+"/initdb") || !isProgram(dir+"/psql") {
				continue
			}
			found = append(found, PostgresPrograms{dir, major})
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].Version > found[j].Version })
	for _, p := range found {
		if version == 0 && p.Version >= MinPostgres || version == p.Version {
			return p, nil
		}
	}
	if version != 0 {
		return PostgresPrograms{}, fmt.Errorf("PostgreSQL %d %w: install the package postgresql-%d", version, ErrNotInstalled, version)
	}
	return PostgresPrograms{}, fmt.Errorf("PostgreSQL %d or newer %w: install the package postgresql", MinPostgres, ErrNotInstalled)
}

func isProgram(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

// PostgresConfig is a private server.
type PostgresConfig struct {
	Programs PostgresPrograms
	User     User
	Dir      string            // data directory; parents must be open to User
	Socket   string            // directory of the Unix socket, for User alone
	Log      string            // file
	Settings map[string]string // postgresql.conf settings, on the command line
}

// Superuser is the role that owns a private cluster.
const Superuser = "postgres"

// InitPostgres makes a new cluster in dir, which must be empty and belong to u:
// UTF-8, the C.UTF-8 locale, checksums. It does not sync: before it was ever
// started there is nothing to lose.
func InitPostgres(ctx context.Context, p PostgresPrograms, u User, dir string) error {
	_, err := Command{Path: p.Bin + "/initdb", User: u, Args: []string{
		"--pgdata=" + dir, "--username=" + Superuser, "--auth=trust", "--encoding=UTF8",
		"--locale=C.UTF-8", "--data-checksums", "--no-sync", "--no-instructions",
	}}.Output(ctx)
	return err
}

// PostgresVersion returns the major version of the cluster in dir, 0 if there is
// none. A cluster starts with the binaries of its own version only.
func PostgresVersion(dir string) (int, error) {
	b, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("%s/PG_VERSION: %w", dir, err)
	}
	return v, nil
}

// Postgres is a running private server.
type Postgres struct {
	*Process
	cfg PostgresConfig
}

// StartPostgres starts the cluster and returns when it answers queries.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	if n := len(cfg.Socket) + len("/.s.PGSQL.5432"); n > maxSocketPath {
		return nil, fmt.Errorf("directory %s is too long for a Unix socket (%d octets, %d are possible): choose a shorter one", cfg.Socket, n, maxSocketPath)
	}
	args := []string{"-D", cfg.Dir, "-k", cfg.Socket, "-c", "listen_addresses=", "-c", "port=5432", "-c", "logging_collector=off"}
	for name, value := range cfg.Settings {
		args = append(args, "-c", name+"="+value)
	}
	// SIGINT is the fast shutdown; SIGQUIT, the immediate one, needs no
	// parent to wait for it, and the next start recovers.
	proc, err := Start(Command{Path: cfg.Programs.Bin + "/postgres", Args: args, User: cfg.User, Log: cfg.Log, Stop: syscall.SIGINT, Kill: syscall.SIGQUIT})
	if err != nil {
		return nil, err
	}
	p := &Postgres{proc, cfg}
	if err := p.await(ctx, time.Minute, p.ready); err != nil {
		p.Stop(time.Second)
		return nil, err
	}
	return p, nil
}

// ready reads the state that the postmaster writes into its pid file: it is
// "ready" only once recovery is over and connections are taken.
func (p *Postgres) ready(context.Context) error {
	b, err := os.ReadFile(filepath.Join(p.cfg.Dir, "postmaster.pid"))
	if err != nil {
		return err
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) < 8 || strings.TrimSpace(lines[7]) != "ready" || strings.TrimSpace(lines[0]) != strconv.Itoa(p.PID()) {
		return errors.New("not ready yet")
	}
	return nil
}

// URL returns the connection URL of a database for a role.
func (p *Postgres) URL(database, role string) string {
	return PostgresURL(p.cfg.Socket, database, role)
}

// PostgresURL returns the connection URL of a database behind the socket in a
// directory.
func PostgresURL(socket, database, role string) string {
	u := url.URL{Scheme: "postgres", User: url.User(role), Path: "/" + database,
		// libpq takes a plus for itself, not for a space.
		RawQuery: strings.ReplaceAll(url.Values{"host": {socket}, "port": {"5432"}}.Encode(), "+", "%20")}
	return u.String()
}

// Exec runs SQL in a database as the superuser, by psql, and returns what it
// printed, unaligned and without heads.
func (p *Postgres) Exec(ctx context.Context, database, sql string) (string, error) {
	out, err := Command{Path: p.cfg.Programs.Bin + "/psql", User: p.cfg.User, Args: []string{
		"--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1",
		"--dbname=" + p.URL(database, Superuser), "--command=" + sql,
	}}.Output(ctx)
	return strings.TrimSpace(string(out)), err
}
