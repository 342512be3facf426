package postgres

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// connectError is why the database could not be connected to, for the
// administrator: one line that says what to do. The driver's own text has one
// line for each address that it has tried.
type connectError struct {
	text string
	err  error
}

// Error implements error.
func (e *connectError) Error() string { return e.text }

// Unwrap returns the driver's error.
func (e *connectError) Unwrap() error { return e.err }

// explainConnect returns the first error of a connection with what to do about
// it, and any other as it is.
func (c Config) explainConnect(err error) error {
	var ce *pgconn.ConnectError
	if !errors.As(err, &ce) {
		return err
	}
	p, perr := c.parse()
	if perr != nil {
		return err
	}
	to := p.ConnConfig
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		text := fmt.Sprintf("connect as %s: %s", to.User, pe.Message)
		switch pe.Code {
		case "28P01": // invalid_password
			text += ": correct its password in the file of passwords (PGPASSFILE) or in database.url"
		case "28000": // invalid_authorization_specification, a missing role among them
			text += ": correct database.url, or make the role ('dirpost migrate' does) and let pg_hba.conf admit it"
		case "3D000": // invalid_catalog_name
			text += ": correct database.url, or make the database (createdb)"
		case "42501": // insufficient_privilege
			text += ": grant connect on the database to it"
		}
		return &connectError{text, err}
	}
	cause := strings.Join(strings.Fields(ce.Error()), " ")
	var op *net.OpError
	if errors.As(err, &op) {
		cause = op.Err.Error()
	}
	return &connectError{fmt.Sprintf("connect to %s: %s: is PostgreSQL running, and is database.url right?", to.Host, cause), err}
}
