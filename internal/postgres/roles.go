package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ErrRole reports a role that does not exist and that we may not create.
var ErrRole = errors.New("role does not exist")

// grantAll makes the roles and gives them what the migrations say, and takes
// away what they do not.
func grantAll(ctx context.Context, conn *pgx.Conn, files []Migration, roles Roles) error {
	var all []Grant
	for _, m := range files {
		grants, err := Grants(m.SQL)
		if err != nil {
			return fmt.Errorf("migration %s: %w", m.Name, err)
		}
		all = append(all, grants...)
	}
	for _, r := range []struct{ kind, name string }{{"serve", roles.Serve}, {"read", roles.Read}} {
		if r.name == "" {
			continue
		}
		if err := ensureRole(ctx, conn, r.name); err != nil {
			return Classify(fmt.Errorf("role %s: %w", r.name, err))
		}
		if err := grantRole(ctx, conn, r.kind, r.name, all); err != nil {
			return Classify(fmt.Errorf("grant to %s: %w", r.name, err))
		}
	}
	return nil
}

const roleSQL = `
select exists (select from pg_roles where rolname = $1),
       (select rolsuper or rolcreaterole from pg_roles where rolname = current_user)`

// ensureRole creates a role without login and password: how the server proves
// who it is belongs to the administrator.
func ensureRole(ctx context.Context, conn *pgx.Conn, name string) error {
	var exists, mayCreate bool
	if err := conn.QueryRow(ctx, roleSQL, name).Scan(&exists, &mayCreate); err != nil {
		return err
	}
	if exists {
		return nil
	}
	id := pgx.Identifier{name}.Sanitize()
	if !mayCreate {
		return fmt.Errorf("%w, and %q may not create it: run 'create role %s login' as a superuser", ErrRole, conn.Config().User, id)
	}
	_, err := conn.Exec(ctx, "create role "+id+" login")
	if code, _ := State(err); code == "42710" || code == UniqueViolation {
		return nil // another database of the same server was migrated in this moment
	}
	return err
}

// grantRole sets the privileges of one role in one transaction, so that a
// running server never sees them missing. Names are quoted, the privileges
// were checked by Grants.
func grantRole(ctx context.Context, conn *pgx.Conn, kind, name string, all []Grant) error {
	id := pgx.Identifier{name}.Sanitize()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	var schema string
	if err := tx.QueryRow(ctx, `select current_schema()`).Scan(&schema); err != nil {
		return err
	}
	place := pgx.Identifier{schema}.Sanitize()
	statements := []string{
		"grant usage on schema " + place + " to " + id,
		"revoke all on all tables in schema " + place + " from " + id,
		"grant select on schema_migration to " + id,
	}
	for _, g := range all {
		if g.Role == kind {
			statements = append(statements, "grant "+g.Privileges+" on "+pgx.Identifier{g.Table}.Sanitize()+" to "+id)
		}
	}
	for _, s := range statements {
		if _, err := tx.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return tx.Commit(ctx)
}
