package sasl

import (
	"bytes"
	"errors"

	"github.com/emersion/go-sasl"
)

// The mechanisms that take a password.
const (
	Plain = "PLAIN"
	Login = "LOGIN"
)

// MaxResponse bounds one response of a client, in octets after base64. A
// Kerberos token of a member of many groups has 12 KiB and more, and 48,000 octets
// are what Windows allows one; a name and a password are far below.
const MaxResponse = 48000

// ErrMalformed reports a response that the mechanism cannot read.
var ErrMalformed = errors.New("malformed SASL response")

// Authenticate judges an identity and a password. authzid is "" when the
// client does not ask to act as somebody else.
type Authenticate func(authzid, authcid, password string) error

// Mechanisms returns the names of the password mechanisms, the better first.
func Mechanisms() []string { return []string{Plain, Login} }

// Server is the server's side of one exchange. Errors are ErrMalformed, or what
// Authenticate returned. After an error, or when it is done, it is used up.
type Server struct {
	mech sasl.Server
	used bool
}

// NewServer returns the server of a mechanism, nil for one that is not known.
func NewServer(mech string, authenticate Authenticate) *Server {
	switch mech {
	case Plain:
		return &Server{mech: sasl.NewPlainServer(func(authzid, authcid, password string) error {
			return judged{authenticate(authzid, authcid, password)}
		})}
	case Login:
		return &Server{mech: &login{authenticate: authenticate}}
	}
	return nil
}

// judged marks what Authenticate returned, so that it can be told from a
// complaint of the mechanism.
type judged struct{ error }

// Next takes a response of the client, nil for no initial response, and
// returns the next challenge, or that the exchange has succeeded.
func (s *Server) Next(response []byte) (challenge []byte, done bool, err error) {
	if s.used || len(response) > MaxResponse {
		s.used = true
		return nil, false, ErrMalformed
	}
	challenge, done, err = s.mech.Next(response)
	s.used = done || err != nil
	var j judged
	switch {
	case errors.As(err, &j):
		return nil, j.error == nil, j.error
	case err != nil:
		return nil, false, errors.Join(ErrMalformed, err)
	}
	return challenge, done, nil
}

// login is the server of LOGIN, which no standard describes and many clients
// speak. The name may come as initial response. The challenges are those that
// every client knows; some compare them.
type login struct {
	authenticate Authenticate
	name         []byte
	asked        bool
}

// Next implements sasl.Server.
func (l *login) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case response == nil && !l.asked:
		l.asked = true
		return []byte("Username:"), false, nil
	case bytes.IndexByte(response, 0) >= 0:
		return nil, false, ErrMalformed
	case l.name == nil:
		l.asked = true
		l.name = append([]byte{}, response...)
		return []byte("Password:"), false, nil
	}
	return nil, true, judged{l.authenticate("", string(l.name), string(response))}
}
