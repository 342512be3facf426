package directory

import "time"

// ChangeReason is why a directory does not take a new password.
type ChangeReason uint8

// The reasons not to take a new password.
const (
	ChangePolicy     ChangeReason = iota + 1 // against the rules; which one is not said
	ChangeTooShort                           // too few characters
	ChangeTooSimple                          // complexity, or another check of its quality
	ChangeUsedBefore                         // among those remembered
	ChangeTooSoon                            // the last change was too short a time ago
	ChangeForbidden                          // this person may not change it
	ChangeOldWrong                           // the old password is not right (any more)
	ChangeNoWay                              // the directory takes no change from somebody who cannot log in
)

// String returns the word for r in the log.
func (r ChangeReason) String() string {
	switch r {
	case ChangePolicy:
		return "policy"
	case ChangeTooShort:
		return "too-short"
	case ChangeTooSimple:
		return "too-simple"
	case ChangeUsedBefore:
		return "used-before"
	case ChangeTooSoon:
		return "too-soon"
	case ChangeForbidden:
		return "forbidden"
	case ChangeOldWrong:
		return "old-wrong"
	case ChangeNoWay:
		return "no-way"
	}
	return "unknown"
}

// PasswordRules are what a directory says of the passwords that it takes. A zero
// field is not said, or no rule.
type PasswordRules struct {
	MinLength int           // characters
	History   int           // how many former passwords are refused
	MinAge    time.Duration // between two changes
	Complex   bool          // of three kinds of characters, without the person's name (Active Directory)
}

// ChangeRefusal is a directory's no to a new password. Neither password is in it.
type ChangeRefusal struct {
	Reason     ChangeReason
	Rules      PasswordRules // as far as they could be read
	Diagnostic string        // what the server said, for the log
}

// Error describes the refusal for the log.
func (r *ChangeRefusal) Error() string {
	if r.Diagnostic == "" {
		return "new password refused by the directory: " + r.Reason.String()
	}
	return "new password refused by the directory: " + r.Reason.String() + " (" + r.Diagnostic + ")"
}
