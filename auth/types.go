package auth

import (
	"context"
	"net/netip"

	"dirpost/directory"
	"dirpost/internal/envelope"
)

// Identity is an authenticated person.
type Identity struct {
	Person  directory.Key    // whose mailbox, rights and limits apply (authzid)
	Address envelope.Address // primary address of Person
	Name    string           // display name
	Authcid string           // who proved who they are, as typed
	// Mechanism is the SASL mechanism, "LOGIN" for IMAP LOGIN, "USER" for
	// POP3 USER/PASS.
	Mechanism string
}

// Conn is what the bridge must know of a connection.
type Conn struct {
	Protocol string     // "smtp", "imap", "pop3", "managesieve", "http"
	Client   netip.Addr // the connected side
	TLS      bool
	Session  string // id of the session in the log
}

// Verifier judges a password by the directory itself (LDAP bind with the
// entry's DN). nil means right, ErrCredentials wrong; any other error that it
// was not judged. An empty password is always ErrCredentials (RFC 4513 §5.1.2).
type Verifier interface {
	Verify(ctx context.Context, e *directory.Entry, password string) error
}

// Exchange is one SASL exchange, for all protocols alike.
type Exchange interface {
	// Next takes the client's response, nil when the client sent no initial
	// response, and returns the next challenge or done. Errors are
	// ErrCredentials, ErrMalformed (RFC 4954: 501, IMAP: BAD), ErrPolicy or
	// an envelope.Error that is temporary.
	Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error)
	// Identity is who was authenticated once Next has returned done.
	Identity() *Identity
}
