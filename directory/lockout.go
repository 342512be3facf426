package directory

import "time"

// Lockout is what a directory says about locking a person out after wrong
// passwords: its rule for that person, and how far it has counted.
type Lockout struct {
	// Threshold is how many wrong passwords lock the account. 0: none ever does.
	Threshold int
	// Window is after how long without a further wrong password the directory
	// begins to count anew. 0: only a right password makes it.
	Window time.Duration
	// Hidden says that a rule may apply that we cannot read, stricter than
	// Threshold, which is then the part that we can.
	Hidden bool

	// Wrong is how many wrong passwords the directory counts now, ours and those
	// that the person or anybody else has tried elsewhere; 0 where that cannot be
	// read. It is what one server knows: the others may know of more.
	Wrong int
	// Locked says that the account is locked: no password is judged.
	Locked bool
	// PasswordSet is when the password was set last, zero where that cannot be read.
	PasswordSet time.Time
}
