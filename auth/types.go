package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/netip"
	"time"
	"unicode/utf8"

	"dirpost/auth/apppassword"
	"dirpost/auth/permit"
	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/gssapi"

	"golang.org/x/text/secure/precis"
)

// Identity is an authenticated person.
type Identity struct {
	Person  directory.Key    // whose mailbox, rights and limits apply (authzid)
	Address envelope.Address // primary address of Person
	Name    string           // display name
	Authcid string           // who proved who they are, as typed
	// Actor proved who they are: Person, unless a master or somebody with a right to
	// the mailbox acts as Person.
	Actor directory.Key
	// Mechanism is the SASL mechanism, "LOGIN" for IMAP LOGIN, "USER" for
	// POP3 USER/PASS.
	Mechanism string
	Proof     Proof // of what kind the proof was
	// AppPassword is the one that was used, 0 for any other proof: the session ends
	// with it.
	AppPassword apppassword.ID
	// Until is when the proof ends and the session with it; zero: never.
	Until time.Time
	// Notice is what the directory said of the password, nil for nothing.
	Notice *directory.Notice
	// Protocol is that of the connection (Conn.Protocol): a session ends when the
	// person may not use it any more. "" is none in particular.
	Protocol string
	// Client is the connected side.
	Client netip.Addr
	// Active is when the client last said something. Who has the session sets it before
	// Watch; nil: that is not known. It is called from other goroutines.
	Active func() time.Time
}

// Conn is what the bridge must know of a connection.
type Conn struct {
	Protocol string     // "smtp", "imap", "pop3", "managesieve", "http"
	Client   netip.Addr // the connected side
	TLS      bool
	Session  string // id of the session in the log
	// State is the TLS connection: what channel bindings are made of and the
	// client's certificate. nil in clear, and where TLS ends before us.
	State *tls.ConnectionState
	// Certificate is the one that the client was shown, for channel bindings of
	// type tls-server-end-point (RFC 5929 §4). nil where State is.
	Certificate *x509.Certificate
	// Negotiation is what NegotiateHTTP knows of the connection from one request to the
	// next; nil: one request must do.
	Negotiation *Negotiation
	// Device is what the client has of an earlier connection: a mark of familiarity,
	// never a proof.
	Device Device
}

// Negotiation is the state of SPNEGO with one client.
type Negotiation = gssapi.Negotiation

// Device is what a client has of an earlier connection.
type Device = permit.Device

// TLSDevice is the device of a client by the name of its TLS session (tlsconf.Recognizer),
// which it has resumed if returned.
func TLSDevice(session string, returned bool) Device {
	if session == "" {
		return Device{}
	}
	return Device{ID: "tls:" + session, Returned: returned}
}

// Verifier judges a password by the directory itself (LDAP bind with the
// entry's DN). nil means right. A *directory.Refusal in the chain of the error
// means that the directory said no, and why; any other error that the password
// was not judged. An empty password is always refused and never sent
// (RFC 4513 §5.1.2).
type Verifier interface {
	Verify(ctx context.Context, e *directory.Entry, password string) error
}

// Noticer is a Verifier that also tells what the directory says of a right
// password, such as that it expires soon. The Notice may be nil.
type Noticer interface {
	VerifyWithNotice(ctx context.Context, e *directory.Entry, password string) (*directory.Notice, error)
}

// Exchange is one SASL exchange, for all protocols alike.
type Exchange interface {
	// Next takes the client's response, nil when the client sent no initial
	// response, and returns the next challenge or done. Errors are those of
	// Login, or ErrMalformed (RFC 4954 §4: 501; IMAP: BAD).
	Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error)
	// Identity is who was authenticated once Next has returned done.
	Identity() *Identity
}

// The public answers to a login. All are *envelope.Error; envelope.StatusOf
// gives their words in each protocol. An error that is none of them is
// temporary: the password was not judged.
var (
	// ErrCredentials is the one neutral answer: no such person, wrong password,
	// locked, or not judged since the client guesses too much.
	ErrCredentials = &envelope.Error{Status: envelope.StatusCredentials}
	// ErrMalformed: the response could not be read (RFC 4954 §4).
	ErrMalformed = &envelope.Error{Status: envelope.Status{Code: 501, Enhanced: "5.5.2", Text: "Cannot read the response", IMAP: "CLIENTBUG", POP3: "AUTH"}}
	// ErrPolicy: passwords are not taken on a connection in clear
	// (RFC 4954 §6, RFC 5530 §3).
	ErrPolicy = &envelope.Error{Status: envelope.Status{Code: 538, Enhanced: "5.7.11", Text: "Encryption required for authentication", IMAP: "PRIVACYREQUIRED", POP3: "AUTH"}}
	// ErrMechanism: no such mechanism here (RFC 4954 §4).
	ErrMechanism = &envelope.Error{Status: envelope.Status{Code: 504, Enhanced: "5.5.4", Text: "Unrecognized authentication type", IMAP: "CANNOT", POP3: "AUTH"}}
	// ErrAuthorization: the password was right, but not for acting as that
	// person or for this protocol.
	ErrAuthorization = &envelope.Error{Status: envelope.Status{Code: 535, Enhanced: "5.7.0", Text: "Not authorized", IMAP: "AUTHORIZATIONFAILED", POP3: "AUTH"}}
	// ErrHours: the password was right, at a time when the person may not log in. It
	// passes by itself, so that clients should not ask for another password.
	ErrHours = &envelope.Error{Status: envelope.Status{Code: 454, Enhanced: "4.7.0", Text: "Logins are not allowed at this time", IMAP: "UNAVAILABLE", POP3: "SYS/TEMP"}}
	// ErrDisabled and ErrExpired: the password was right and its owner may
	// know why it does not help (RFC 5248, RFC 5530 §3).
	ErrDisabled = &envelope.Error{Status: envelope.Status{Code: 535, Enhanced: "5.7.13", Text: "Account disabled, ask your administrator", IMAP: "CONTACTADMIN", POP3: "AUTH"}}
	ErrExpired  = &envelope.Error{Status: envelope.Status{Code: 535, Enhanced: "5.7.12", Text: "Password expired, change it first", IMAP: "EXPIRED", POP3: "AUTH"}}
)

// password is what a person typed. It never reaches a log.
type password string

// prepared returns p in the form in which passwords are compared, which is that of
// the standard (RFC 8265 §4.2, OpaqueString): with the same characters for what
// keyboards of different systems send. What the standard has no form for stays as
// it was typed. There is one form only, so that a login is one question to the
// directory and counts as one.
func (p password) prepared() password {
	for i := 0; i < len(p); i++ {
		if p[i] >= utf8.RuneSelf {
			if s, err := precis.OpaqueString.String(string(p)); err == nil && utf8.ValidString(string(p)) {
				return password(s)
			}
			return p
		}
	}
	return p
}

// LogValue implements slog.LogValuer.
func (password) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// String implements fmt.Stringer.
func (password) String() string { return "[redacted]" }

// GoString implements fmt.GoStringer.
func (password) GoString() string { return "[redacted]" }
