package postgres_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
)

// A node goes on, and starts, with the schema of the next version as long as that
// has only added to it, and refuses one that has changed more.
func TestVersionsSideBySide(t *testing.T) {
	t.Parallel()
	all, err := postgres.Migrations()
	if err != nil {
		t.Fatal(err)
	}
	roles := postgres.Roles{Serve: "dirpost_upgrade_serve"}
	later := func(number int, additive bool) postgres.Migration {
		return postgres.Migration{Number: number, Name: "9999_later.sql", SQL: "create table later (\n  n int\n  -- Grant: select\n)", Checksum: "x", Additive: additive}
	}
	for _, additive := range []bool{true, false} {
		url := testenv.PostgresURL(t)
		if err := postgres.MigrateTo(t.Context(), url, append(all[:len(all):len(all)], later(9999, additive)), roles, quiet); err != nil {
			t.Fatal(err)
		}
		db := testenv.OpenDatabase(t, url)
		if err := db.CheckSchema(t.Context()); errors.Is(err, postgres.ErrVersion) == additive {
			t.Errorf("with a migration of the next version that is additive (%v): %v", additive, err)
		}
		if err := postgres.Migrate(t.Context(), url, roles, quiet); (err == nil) != additive {
			t.Errorf("migrate with a migration of the next version that is additive (%v): %v", additive, err)
		}
		// Nodes of the next version run already, and keep what they may do.
		var may bool
		if err := db.QueryRow(t.Context(), postgres.Background, `select has_table_privilege($1, 'later', 'select')`, roles.Serve).Scan(&may); err != nil || !may {
			t.Errorf("the next version may read its table: %v, %v", may, err)
		}
	}
}

// A database of a program that did not know additive migrations yet.
func TestMigrateOldTable(t *testing.T) {
	t.Parallel()
	url := testenv.DatabaseURL(t)
	db := testenv.OpenDatabase(t, url)
	if _, err := db.Exec(t.Context(), postgres.Background, "alter table schema_migration drop column additive"); err != nil {
		t.Fatal(err)
	}
	if err := db.CheckSchema(t.Context()); err != nil {
		t.Errorf("CheckSchema: %v", err)
	}
	if err := postgres.Migrate(t.Context(), url, postgres.Roles{}, quiet); err != nil {
		t.Errorf("Migrate: %v", err)
	}
}

// What calls itself additive takes nothing away.
func TestAdditive(t *testing.T) {
	t.Parallel()
	all, err := postgres.Migrations()
	if err != nil {
		t.Fatal(err)
	}
	takes := regexp.MustCompile(`(?i)\b(drop|rename|truncate|set\s+not\s+null|add\s+constraint)\b`)
	for _, m := range all {
		if !m.Additive {
			continue
		}
		for line := range strings.Lines(m.SQL) {
			code, _, _ := strings.Cut(line, "--")
			if f := takes.FindString(code); f != "" {
				t.Errorf("%s is additive and says %q", m.Name, f)
			}
		}
	}
}
