package postgres

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	schema "dirpost/schema/postgres"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrVersion reports a database whose schema is not that of this program.
var ErrVersion = errors.New("database schema does not fit this program")

// Roles names the roles that the migrations grant to. An empty name grants
// nothing.
type Roles struct {
	Serve string // the server: no DDL
	Read  string // reports
}

// Migration is one file of the schema.
type Migration struct {
	Number   int
	Name     string // file name
	SQL      string
	Checksum string // of SQL, hex
	// Additive says that programs that do not know the migration go on working after
	// it: a line "-- Additive" in the file. So nodes of two versions run side by side
	// while they are upgraded one after the other.
	Additive bool
}

// additiveLine is what an additive migration says of itself.
var additiveLine = regexp.MustCompile(`(?m)^-- Additive\b`)

// Migrations returns the files of schema/postgres in order.
func Migrations() ([]Migration, error) { return readMigrations(schema.FS) }

func readMigrations(files fs.FS) ([]Migration, error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	var all []Migration
	for _, name := range names {
		digits, _, ok := strings.Cut(name, "_")
		n, err := strconv.Atoi(digits)
		if !ok || err != nil || len(digits) != 4 {
			return nil, fmt.Errorf("migration %s: the name must be NNNN_words.sql", name)
		}
		if len(all) > 0 && all[len(all)-1].Number == n {
			return nil, fmt.Errorf("migration %s: number %d is taken", name, n)
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(text)
		all = append(all, Migration{n, name, string(text), hex.EncodeToString(sum[:]), additiveLine.Match(text)})
	}
	return all, nil
}

// migrationLock is the key of the advisory lock that one migrating process
// holds: "DIRP".
const migrationLock = 0x44495250

const migrationTableSQL = `
create table if not exists schema_migration (
  number     int         primary key,
  name       text        not null,
  checksum   text        not null,          -- SHA-256 of the file, hex
  applied_at timestamptz not null default now()
);
alter table schema_migration
  add column if not exists additive boolean not null default false -- programs that do not know it go on working`

// Migrate brings the schema of the database at url up to this program's, each
// file in a transaction of its own, and grants what the files say to roles. It
// waits for another process that does the same. Roles that do not exist are
// created if the user of url may do that, else ErrRole says what to do.
func Migrate(ctx context.Context, url string, roles Roles, log *slog.Logger) error {
	files, err := Migrations()
	if err != nil {
		return err
	}
	return MigrateTo(ctx, url, files, roles, log)
}

// MigrateTo is Migrate to the schema of another version, whose files these are.
func MigrateTo(ctx context.Context, url string, files []Migration, roles Roles, log *slog.Logger) error {
	conn, err := connect(ctx, url)
	if err != nil {
		return err
	}
	defer closeSoon(conn)
	if _, err := conn.Exec(ctx, `select pg_advisory_lock($1)`, migrationLock); err != nil {
		return Classify(fmt.Errorf("lock the schema: %w", err))
	}
	// The lock ends with the connection.
	if _, err := conn.Exec(ctx, migrationTableSQL); err != nil {
		return Classify(fmt.Errorf("create schema_migration: %w", err))
	}
	plan, newer, err := pending(ctx, conn, files)
	if err != nil {
		return err
	}
	if newer {
		log.WarnContext(ctx, "the schema is that of a newer version: what it grants stays as it is")
	}
	for _, m := range plan {
		start := time.Now()
		if err := apply(ctx, conn, m); err != nil {
			return Classify(fmt.Errorf("migration %s: %w", m.Name, err))
		}
		log.InfoContext(ctx, "migration applied", "migration", m.Name, "delay", time.Since(start))
	}
	if newer {
		return nil // else nodes of that version would lose what they need
	}
	return grantAll(ctx, conn, files, roles)
}

// MigratePlan returns the migrations that Migrate would apply, and changes
// nothing.
func MigratePlan(ctx context.Context, url string) ([]Migration, error) {
	conn, err := connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer closeSoon(conn)
	files, err := Migrations()
	if err != nil {
		return nil, err
	}
	plan, _, err := pending(ctx, conn, files)
	return plan, err
}

// connect opens a connection for the schema's owner: no statement timeout,
// since a migration may rewrite a table.
func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	c := Config{URL: url, Name: "dirpost", AllowInsecure: false}
	p, err := c.parse()
	if err != nil {
		return nil, err
	}
	p.ConnConfig.RuntimeParams["application_name"] = "dirpost migrate"
	p.ConnConfig.ConnectTimeout = 10 * time.Second
	conn, err := pgx.ConnectConfig(ctx, p.ConnConfig)
	if err != nil {
		return nil, c.explainConnect(Classify(err))
	}
	return conn, nil
}

// A database of an older version has no column additive.
const appliedSQL = `
select m.number, m.name, m.checksum, coalesce((to_jsonb(m) ->> 'additive')::boolean, false) as additive
  from schema_migration m
 order by m.number`

// pending compares the database with the files: what is to be applied, and whether a
// newer version has added to it.
func pending(ctx context.Context, q interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, files []Migration) (plan []Migration, newer bool, err error) {
	byNumber := make(map[int]Migration, len(files))
	for _, m := range files {
		byNumber[m.Number] = m
	}
	rows, err := q.Query(ctx, appliedSQL)
	if code, _ := State(err); code == "42P01" { // undefined_table
		return files, false, nil
	}
	if err != nil {
		return nil, false, Classify(fmt.Errorf("read schema_migration: %w", err))
	}
	type row struct {
		Number         int
		Name, Checksum string
		Additive       bool
	}
	applied, err := CollectRows[row](rows)
	if code, _ := State(err); code == "42P01" { // undefined_table
		return files, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read schema_migration: %w", err)
	}
	for _, a := range applied {
		m, known := byNumber[a.Number]
		switch {
		case !known && a.Additive:
			newer = true
		case !known:
			return nil, false, fmt.Errorf("%w: it has migration %s, which this program does not know: use a newer program", ErrVersion, a.Name)
		case m.Checksum != a.Checksum:
			return nil, false, fmt.Errorf("%w: migration %s was applied with another content: use the program that made it", ErrVersion, a.Name)
		}
		delete(byNumber, a.Number)
	}
	for _, m := range files {
		if _, ok := byNumber[m.Number]; ok {
			plan = append(plan, m)
		}
	}
	return plan, newer, nil
}

// apply runs one file and records it.
func apply(ctx context.Context, conn *pgx.Conn, m Migration) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	// Without arguments the simple protocol takes a whole file.
	if _, err := tx.Conn().PgConn().Exec(ctx, m.SQL).ReadAll(); err != nil {
		return withLine(err, m.SQL)
	}
	if _, err := tx.Exec(ctx, `insert into schema_migration (number, name, checksum, additive) values ($1, $2, $3, $4)`, m.Number, m.Name, m.Checksum, m.Additive); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// withLine adds the line of the file to an error of the database.
func withLine(err error, text string) error {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Position <= 0 {
		return err
	}
	head := []rune(text)
	head = head[:min(len(head), int(pe.Position))]
	return fmt.Errorf("line %d: %w", 1+strings.Count(string(head), "\n"), err)
}

// CheckSchema returns ErrVersion unless the schema is this program's, or one that a
// later version has added to.
func (db *DB) CheckSchema(ctx context.Context) error {
	files, err := Migrations()
	if err != nil {
		return err
	}
	plan, _, err := pending(ctx, db.pools[Interactive], files)
	if err != nil {
		return err
	}
	if len(plan) > 0 {
		return fmt.Errorf("%w: migration %s is not applied: run 'dirpost migrate'", ErrVersion, plan[0].Name)
	}
	return nil
}

// Grant is one "-- Grant:" comment: the privileges that a role gets on a table.
type Grant struct {
	Role       string // "serve" or "read"
	Table      string
	Privileges string // "select, insert"
}

var (
	createTable = regexp.MustCompile(`(?i)^\s*(?:create\s+(?:unlogged\s+)?|comment\s+on\s+)table\s+(?:if\s+not\s+exists\s+)?([a-z_0-9]+)`)
	grantLine   = regexp.MustCompile(`--\s*Grant(?:\s+(serve|read))?:\s*([a-z, ]+?)\s*$`)
	privileges  = regexp.MustCompile(`^(select|insert|update|delete)(\s*,\s*(select|insert|update|delete))*$`)
)

// Grants reads the grants of a migration. A comment "-- Grant: select, insert"
// gives these privileges to the server's role, "-- Grant read: select" to the
// reading role. It stands inside the CREATE TABLE statement that it is about,
// or before it; what a later migration gives in addition, behind a COMMENT ON TABLE.
func Grants(sql string) ([]Grant, error) {
	var (
		all     []Grant
		waiting []Grant // before their table
		table   string
	)
	lines := bufio.NewScanner(strings.NewReader(sql))
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if m := createTable.FindStringSubmatch(line); m != nil {
			table = strings.ToLower(m[1])
			for _, g := range waiting {
				g.Table = table
				all = append(all, g)
			}
			waiting = nil
		}
		if m := grantLine.FindStringSubmatch(line); m != nil {
			if !privileges.MatchString(m[2]) {
				return nil, fmt.Errorf("line %d: grant %q: want select, insert, update, delete", n, m[2])
			}
			g := Grant{Role: m[1], Table: table, Privileges: m[2]}
			if g.Role == "" {
				g.Role = "serve"
			}
			if table == "" {
				waiting = append(waiting, g)
			} else {
				all = append(all, g)
			}
		}
		code, _, _ := strings.Cut(line, "--")
		if strings.Contains(code, ";") {
			table = ""
		}
	}
	if len(waiting) > 0 {
		return nil, errors.New("a grant stands behind the last table")
	}
	return all, lines.Err()
}
