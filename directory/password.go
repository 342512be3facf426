package directory

import "time"

// PasswordEnd is when the password of an entry expires.
type PasswordEnd struct {
	Key Key
	At  time.Time
}
