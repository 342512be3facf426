package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	url := testenv.PostgresURL(t)
	db := open(t, url)
	if err := db.CheckSchema(t.Context()); !errors.Is(err, postgres.ErrVersion) || !strings.Contains(err.Error(), "dirpost migrate") {
		t.Errorf("empty database: %v", err)
	}
	plan, err := postgres.MigratePlan(t.Context(), url)
	if err != nil || len(plan) < 3 || plan[0].Name != "0001_store.sql" {
		t.Fatalf("plan of %d files, %v", len(plan), err)
	}
	var wg sync.WaitGroup
	for range 3 { // who comes second finds it done
		wg.Go(func() {
			if err := postgres.Migrate(t.Context(), url, postgres.Roles{}, quiet); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if plan, err = postgres.MigratePlan(t.Context(), url); err != nil || len(plan) != 0 {
		t.Errorf("plan of %d files after migration, %v", len(plan), err)
	}
	if err := db.CheckSchema(t.Context()); err != nil {
		t.Errorf("migrated: %v", err)
	}
	for _, c := range []struct{ sql, want string }{
		{`update schema_migration set checksum = 'x' where number = 2`, "another content"},
		{`insert into schema_migration (number, name, checksum) values (9999, '9999_future.sql', '')`, "newer program"},
	} {
		if _, err := db.Exec(t.Context(), postgres.Interactive, c.sql); err != nil {
			t.Fatal(err)
		}
		if err := postgres.Migrate(t.Context(), url, postgres.Roles{}, quiet); !errors.Is(err, postgres.ErrVersion) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("after %s: %v", c.sql, err)
		}
		if _, err := db.Exec(t.Context(), postgres.Interactive, `delete from schema_migration where checksum in ('', 'x')`); err != nil {
			t.Fatal(err)
		}
	}
}

// The server's role gets what the migrations say, and no DDL.
func TestRoles(t *testing.T) {
	t.Parallel()
	url := testenv.PostgresURL(t)
	db := open(t, url)
	roles := postgres.Roles{Serve: "serve " + databaseOf(t, db), Read: "read_" + databaseOf(t, db)}
	for range 2 {
		if err := postgres.Migrate(t.Context(), url, roles, quiet); err != nil {
			t.Fatal(err)
		}
	}
	may := func(role, table, privilege string) (ok bool) {
		t.Helper()
		if err := db.QueryRow(t.Context(), postgres.Interactive, `select has_table_privilege($1, $2, $3)`, role, table, privilege).Scan(&ok); err != nil {
			t.Fatal(err)
		}
		return ok
	}
	for _, c := range []struct {
		role, table, privilege string
		want                   bool
	}{
		{roles.Serve, "message", "insert", true},
		{roles.Serve, "message", "update", false},
		{roles.Serve, "message", "truncate", false},
		{roles.Serve, "mailbox", "update", true},
		{roles.Serve, "schema_migration", "select", true},
		{roles.Serve, "schema_migration", "insert", false},
		{roles.Read, "mailbox", "select", true},
		{roles.Read, "mailbox", "update", false},
		{roles.Read, "message", "select", false},
	} {
		if got := may(c.role, c.table, c.privilege); got != c.want {
			t.Errorf("%s may %s %s: %v", c.role, c.privilege, c.table, got)
		}
	}
	var tables, granted int
	err := db.QueryRow(t.Context(), postgres.Interactive, `
select count(*), count(*) filter (where has_table_privilege($1, c.oid, 'select'))
  from pg_class c
 where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')`, roles.Serve).Scan(&tables, &granted)
	if err != nil || tables != granted {
		t.Errorf("%d of %d tables are granted to the server (%v): a table lacks its Grant comment", granted, tables, err)
	}
	var create bool
	if err := db.QueryRow(t.Context(), postgres.Interactive, `select has_schema_privilege($1, 'public', 'create')`, roles.Serve).Scan(&create); err != nil || create {
		t.Errorf("the server may create tables (%v)", err)
	}
	if _, err := db.Exec(t.Context(), postgres.Interactive, fmt.Sprintf(`drop owned by %q, %q`, roles.Serve, roles.Read)); err != nil {
		t.Error(err)
	}
	if _, err := db.Exec(t.Context(), postgres.Interactive, fmt.Sprintf(`drop role %q, %q`, roles.Serve, roles.Read)); err != nil {
		t.Error(err)
	}
}

func TestGrants(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ sql, want string }{
		{"create table a (\n  x int -- Grant: select, insert\n);", "serve select, insert a"},
		{"-- Grant: select\n-- Grant read: select\ncreate table a (x int);", "serve select a read select a"},
		{"create unlogged table if not exists b (\n  -- Grant: delete\n);\n-- Grant: select\ncreate table c ();", "serve delete b serve select c"},
		{"create table a (); -- Grant: drop", "error"},
		{"create table a ();\n-- Grant: select", "error"},
		{"-- Grants are below\ncreate table a ();", ""},
	} {
		grants, err := postgres.Grants(c.sql)
		var got []string
		for _, g := range grants {
			got = append(got, g.Role+" "+g.Privileges+" "+g.Table)
		}
		if err != nil {
			got = []string{"error"}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%q: %s (%v), want %s", c.sql, s, err, c.want)
		}
	}
}
