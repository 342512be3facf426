package imapd

import (
	"errors"

	"dirpost/auth"
	"dirpost/internal/envelope"
	"dirpost/internal/store"
	"dirpost/mra"
	"dirpost/mra/imapd/wire"
)

// problem is an answer to a command that failed.
type problem struct {
	status string // NO or BAD
	code   string // response code without brackets (RFC 5530, RFC 9051 §7.1), "" for none
	text   string
	ours   bool // somebody of ours has to look
}

// Error implements error.
func (p *problem) Error() string { return p.text }

// no is the user's problem.
func no(code, text string) error { return &problem{status: "NO", code: code, text: text} }

// bad is the client's.
func bad(text string) error { return &problem{status: "BAD", text: text} }

// Problems that more than one command meets.
var (
	errReadOnly    = no("NOPERM", "Mailbox is read-only")
	errNoMailbox   = no("NONEXISTENT", "No such mailbox")
	errTryCreate   = no("TRYCREATE", "No such mailbox")
	errMailboxGone = no("NONEXISTENT", "Selected mailbox is no longer there")
)

// problemOf classifies err.
func (c *conn) problemOf(err error) *problem {
	var (
		p        *problem
		syntax   *wire.SyntaxError
		panicked *panicError
		public   *envelope.Error
	)
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &syntax):
		return &problem{status: "BAD", text: "Syntax: " + syntax.Text}
	case errors.As(err, &panicked):
		return &problem{status: "NO", code: "SERVERBUG", text: "Internal error, session " + c.mc.Session, ours: true}
	case errors.Is(err, wire.ErrLiteralTooBig):
		return &problem{status: "BAD", code: "TOOBIG", text: "Literal too big"}
	case errors.Is(err, wire.ErrMailboxName), errors.Is(err, store.ErrName):
		return &problem{status: "NO", code: "CANNOT", text: "Invalid mailbox name"}
	case errors.Is(err, store.ErrExists):
		return &problem{status: "NO", code: "ALREADYEXISTS", text: "Mailbox exists already"}
	case errors.Is(err, store.ErrInbox):
		return &problem{status: "NO", code: "CANNOT", text: "This cannot be done to INBOX"}
	case errors.Is(err, store.ErrNotFound):
		return errNoMailbox.(*problem)
	case errors.Is(err, mra.ErrTooManySessions):
		return &problem{status: "NO", code: "LIMIT", text: "Too many sessions of yours"}
	case errors.As(err, &public) && public.Status.Code == 501:
		return &problem{status: "BAD", text: public.Status.Text} // a SASL response that cannot be read
	case errors.As(err, &public) && (!public.Status.IsTemporary() || errors.Is(err, auth.ErrHours)):
		return &problem{status: "NO", code: public.Status.IMAP, text: public.Status.Text}
	}
	return ourProblem(err, c.mc.Session)
}

// ourProblem is what went wrong on our side: temporary, with the id by which the
// cause is found in the log and nothing more.
func ourProblem(err error, session string) *problem {
	st := envelope.StatusOf(err)
	if errors.Is(err, envelope.ErrOverQuota) {
		return &problem{status: "NO", code: st.IMAP, text: st.Text}
	}
	return &problem{status: "NO", code: st.IMAP, text: st.Text + " (session " + session + ")", ours: true}
}

// errAnswered says that a command has sent its tagged response itself.
var errAnswered = errors.New("answered already")

// leaving ends the session at once, without a word.
type leaving struct{ err error }

// Error implements error.
func (l *leaving) Error() string { return l.err.Error() }

// Unwrap returns why.
func (l *leaving) Unwrap() error { return l.err }
