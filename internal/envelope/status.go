package envelope

import (
	"context"
	"errors"
	"fmt"
)

// Status is a public answer: SMTP code, enhanced code (RFC 3463) and words for
// the client, and what IMAP and POP3 say for the same thing. It never holds a
// cause of ours.
type Status struct {
	Code     int    // SMTP reply code
	Enhanced string // enhanced status code, "5.1.1"
	Text     string // one line, ASCII
	IMAP     string // IMAP response code without brackets (RFC 5530, RFC 9051 §7.1), "" for none
	POP3     string // POP3 response code without brackets (RFC 2449 §8, RFC 3206), "" for none
}

// IsTemporary reports whether the same attempt may succeed later.
func (s Status) IsTemporary() bool { return s.Code >= 400 && s.Code < 500 }

// WithText returns s with other words.
func (s Status) WithText(text string) Status { s.Text = text; return s }

// String returns "550 5.1.1 No such mailbox".
func (s Status) String() string { return fmt.Sprintf("%d %s %s", s.Code, s.Enhanced, s.Text) }

// The table of outcomes: one place where an error gets its public face.
var (
	LocalError = Status{451, "4.3.0", "Temporary local problem, please try again later", "UNAVAILABLE", "SYS/TEMP"}

	StatusOverQuota      = Status{452, "4.2.2", "Mailbox full", "OVERQUOTA", "SYS/PERM"}
	StatusOverQuotaFinal = Status{552, "5.2.2", "Mailbox full", "OVERQUOTA", "SYS/PERM"}
	StatusNotFound       = Status{550, "5.1.1", "No such mailbox here", "NONEXISTENT", "SYS/PERM"}
	StatusDisabled       = Status{550, "5.2.1", "Mailbox disabled, not accepting messages", "CONTACTADMIN", "SYS/PERM"}
	StatusTooBig         = Status{552, "5.3.4", "Message too big", "TOOBIG", "SYS/PERM"}
	StatusBusy           = Status{451, "4.3.2", "System busy, please try again later", "INUSE", "IN-USE"}
	StatusDirectory      = Status{451, "4.4.3", "Directory not available, please try again later", "UNAVAILABLE", "SYS/TEMP"}
	StatusDatabase       = Status{451, "4.3.0", "Database not available, please try again later", "UNAVAILABLE", "SYS/TEMP"}
	StatusDiskFull       = Status{452, "4.3.1", "Insufficient system storage", "UNAVAILABLE", "SYS/TEMP"}
	StatusShutdown       = Status{421, "4.3.2", "Service shutting down", "UNAVAILABLE", "SYS/TEMP"}
	StatusRelay          = Status{550, "5.7.1", "Relaying denied", "NOPERM", "SYS/PERM"}
	StatusRefused        = Status{550, "5.7.1", "Message refused", "NOPERM", "SYS/PERM"}
	StatusLoop           = Status{554, "5.4.6", "Mail loop detected", "CANNOT", "SYS/PERM"}
	StatusBadAddress     = Status{501, "5.1.3", "Bad address syntax", "CANNOT", "SYS/PERM"}
	StatusCredentials    = Status{535, "5.7.8", "Authentication credentials invalid", "AUTHENTICATIONFAILED", "AUTH"}
	StatusAuthAway       = Status{454, "4.7.0", "Temporary authentication failure", "UNAVAILABLE", "SYS/TEMP"}
	StatusNotYours       = Status{553, "5.7.1", "Sender address not yours", "NOPERM", "SYS/PERM"}
)

// Error pairs the public status with the private cause.
type Error struct {
	Status Status
	Err    error // may be nil
}

// Error returns the status and the cause, for the log.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Status.String()
	}
	return e.Status.String() + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is makes two Errors with the same codes equal to errors.Is, so that the
// sentinels below match whatever their cause and words are.
func (e *Error) Is(target error) bool {
	var t *Error
	return errors.As(target, &t) && t.Err == nil && t.Status.Code == e.Status.Code && t.Status.Enhanced == e.Status.Enhanced
}

// Sentinels of what more than one room branches on. Wrap a cause with
// Because; errors.Is finds the sentinel again.
var (
	ErrOverQuota = &Error{Status: StatusOverQuota}
	ErrNotFound  = &Error{Status: StatusNotFound}
	ErrTooBig    = &Error{Status: StatusTooBig}
	ErrBusy      = &Error{Status: StatusBusy}
	ErrDirectory = &Error{Status: StatusDirectory}
	ErrDatabase  = &Error{Status: StatusDatabase}
	ErrDiskFull  = &Error{Status: StatusDiskFull}
	ErrShutdown  = &Error{Status: StatusShutdown}
)

// Because returns an Error of status st whose private cause is err.
func Because(st Status, err error) *Error { return &Error{Status: st, Err: err} }

// StatusOf returns the status to report for err. An error nobody classified is
// a local error and therefore temporary: the client keeps the message and tries
// again, so a bug of ours delays mail instead of losing it.
func StatusOf(err error) Status {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return StatusBusy
	}
	return LocalError
}
