package store

import (
	"errors"
	"fmt"
	"strconv"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
)

// Errors that callers branch on.
var (
	// ErrNotFound is wrapped for an account, a mailbox or a message that is
	// not there.
	ErrNotFound = errors.New("not found")
	// ErrExists reports that there is a mailbox, or an account, already.
	ErrExists = errors.New("exists already")
	// ErrName reports a mailbox name that cannot be: an empty level, a
	// control character, too long, too deep.
	ErrName = errors.New("not a mailbox name")
	// ErrInbox reports what cannot be done to INBOX.
	ErrInbox = errors.New("not possible with INBOX")
	// ErrKeywords reports that an account has no room for another keyword.
	ErrKeywords = errors.New("too many keywords")
)

// OverQuotaError says whose quota would be passed. errors.Is finds
// envelope.ErrOverQuota in it.
type OverQuotaError struct{ Account AccountID }

// Error says it.
func (e *OverQuotaError) Error() string {
	return "account " + strconv.FormatInt(int64(e.Account), 10) + " is over quota"
}

// Unwrap gives the public status.
func (e *OverQuotaError) Unwrap() error { return envelope.ErrOverQuota }

// SQLSTATEs of 0003_store_functions.sql.
const (
	stateNotFound  = "DP404"
	stateOverQuota = "DP452"
)

// wrap says what was being done when err happened, and turns our own SQLSTATEs
// into errors of this package.
func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	switch code, detail := postgres.State(err); code {
	case stateNotFound:
		return envelope.Because(envelope.StatusNotFound, fmt.Errorf("%s: %w", doing, ErrNotFound))
	case stateOverQuota:
		id, _ := strconv.ParseInt(detail, 10, 64) // written by over_quota
		return fmt.Errorf("%s: %w", doing, &OverQuotaError{AccountID(id)})
	}
	return postgres.Classify(fmt.Errorf("%s: %w", doing, err))
}
