package resolver

import (
	"errors"
	"fmt"

	"dirpost/internal/envelope"
)

// What a question can come to besides an answer.
var (
	// ErrNotFound says for sure that the name does not exist (NXDOMAIN).
	ErrNotFound = errors.New("no such name")
	// ErrNoData says for sure that the name exists without such a record.
	ErrNoData = errors.New("no such record")
	// ErrInvalid says that the answer is there and unusable: an alias loop,
	// or nothing but host names that are none.
	ErrInvalid = errors.New("unusable answer")
	// ErrUnavailable says that nobody could tell: no server answered, or
	// none could find out. It may be different later.
	ErrUnavailable = errors.New("DNS not available")
)

// Error is what every failed question returns; errors.Is finds one of the
// errors above in it. ErrUnavailable carries the temporary status 451 4.4.3.
type Error struct {
	Name, Type string
	Err        error
	Authentic  bool // the absence was authenticated
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%s of %s: %v", e.Type, e.Name, e.Err) }

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

// statusDNS is temporary: our not knowing is never the recipient's fault.
var statusDNS = envelope.Status{Code: 451, Enhanced: "4.4.3", Text: "DNS lookup failed, please try again later", IMAP: "UNAVAILABLE", POP3: "SYS/TEMP"}

// unavailable makes an ErrUnavailable with its status and cause.
func unavailable(cause error) error {
	return envelope.Because(statusDNS, fmt.Errorf("%w: %w", ErrUnavailable, cause))
}

// IsAbsent reports whether err says for sure that there is no such record.
func IsAbsent(err error) bool { return errors.Is(err, ErrNotFound) || errors.Is(err, ErrNoData) }
