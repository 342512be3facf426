package postgres

import (
	"context"
	"errors"
	"io"
	"net"

	"dirpost/internal/envelope"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"
)

// ErrUnknown reports that the connection broke after COMMIT was sent: the
// transaction may have happened or not. It is temporary; whoever tries again
// must first look, or do only what is idempotent.
var ErrUnknown = errors.New("outcome of the transaction is unknown")

// SQLSTATEs that the code branches on. Those that begin with DP are our own
// and raised by functions of the schema.
const (
	UniqueViolation      = "23505"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	lockNotAvailable     = "55P03"
	queryCanceled        = "57014"
	cannotConnectNow     = "57P03"
)

// State returns the SQLSTATE of the database's own error in err, and the text
// of its DETAIL; both are "" for any other error.
func State(err error) (code, detail string) {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.Code, pe.Detail
	}
	return "", ""
}

// Classify gives an error of the database its public status: ErrDiskFull,
// ErrBusy or ErrDatabase, all of them temporary. Errors that are not the
// database's, ErrNoRows, and those already classified are returned as they are.
func Classify(err error) error {
	if err == nil || errors.Is(err, ErrNoRows) || errors.Is(err, context.Canceled) {
		return err
	}
	var classified *envelope.Error
	if errors.As(err, &classified) {
		return err
	}
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return envelope.Because(statusOf(pe.Code), err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return envelope.Because(envelope.StatusBusy, err)
	}
	if errors.Is(err, ErrUnknown) || isConnection(err) {
		return envelope.Because(envelope.StatusDatabase, err)
	}
	return err
}

// statusOf maps a SQLSTATE.
func statusOf(code string) envelope.Status {
	switch {
	case code == "53100": // disk_full
		return envelope.StatusDiskFull
	case code[:2] == "53", code == serializationFailure, code == deadlockDetected, code == lockNotAvailable, code == queryCanceled, code == cannotConnectNow:
		return envelope.StatusBusy
	}
	return envelope.StatusDatabase
}

// isConnection reports whether err means that the connection is gone or could
// not be had.
func isConnection(err error) bool {
	var (
		ce *pgconn.ConnectError
		ne net.Error
	)
	return errors.As(err, &ce) || errors.As(err, &ne) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, puddle.ErrClosedPool) || errors.Is(err, pgx.ErrTxClosed) || pgconn.SafeToRetry(err)
}

// isRepeatable reports whether a transaction that failed with err, and that was
// certainly not committed, may be run again at once.
func isRepeatable(err error) bool {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		switch pe.Code {
		case serializationFailure, deadlockDetected, lockNotAvailable:
			return true
		}
		// 57P01 and its like: the server ends our session.
		return pe.Code[:2] == "08" || pe.Code == "57P01" || pe.Code == "57P02"
	}
	return isConnection(err)
}
