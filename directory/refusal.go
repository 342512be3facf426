package directory

import (
	"errors"
	"time"
)

// Notice is what a directory says of a right password beside that it is right.
type Notice struct {
	// ExpiresIn is how long the password goes on, 0 when nothing was said.
	ExpiresIn time.Duration
	// Grace is how many logins are left with a password that has expired, -1 when
	// nothing was said.
	Grace int
}

// Reason is why a directory refused a login.
type Reason uint8

// The reasons of a refusal.
const (
	ReasonPassword        Reason = iota + 1 // wrong password, or no such person
	ReasonDisabled                          // account disabled
	ReasonExpired                           // account past its end
	ReasonPasswordExpired                   // password too old
	ReasonMustChange                        // password must be changed first
	ReasonLocked                            // too many wrong passwords
	ReasonHours                             // not at this time
	ReasonWorkstation                       // not from this host
)

// String returns the word for r in the log.
func (r Reason) String() string {
	switch r {
	case ReasonPassword:
		return "password"
	case ReasonDisabled:
		return "disabled"
	case ReasonExpired:
		return "expired"
	case ReasonPasswordExpired:
		return "password-expired"
	case ReasonMustChange:
		return "must-change"
	case ReasonLocked:
		return "locked"
	case ReasonHours:
		return "hours"
	case ReasonWorkstation:
		return "workstation"
	}
	return "unknown"
}

// ErrUnanswered reports a password that was sent to the directory, and to which no
// answer came: it may have been judged, and counted.
var ErrUnanswered = errors.New("the directory has not answered")

// Refusal is the judgement of a directory that a password does not let in.
type Refusal struct {
	Reason Reason
	// Right says that the password itself was right, so that whoever sent it
	// may be told the reason. Anybody else gets one neutral answer.
	Right      bool
	Diagnostic string // what the server said, for the log
}

// Error describes the refusal for the log.
func (r *Refusal) Error() string {
	if r.Diagnostic == "" {
		return "login refused by the directory: " + r.Reason.String()
	}
	return "login refused by the directory: " + r.Reason.String() + " (" + r.Diagnostic + ")"
}
