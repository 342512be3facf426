package store

import (
	"context"
	"errors"
	"time"

	"github.com/emersion/go-imap/v2"
)

var errUnfinished = errors.New("not yet")

// Query is the part of a SEARCH that only the messages themselves can answer;
// all its conditions must hold. Text is compared without case, as substrings
// (RFC 9051 §6.4.4). OR and NOT are the caller's set operations.
type Query struct {
	UIDs                    []imap.UID // candidates, ascending; nil: all
	Header                  []HeaderKey
	Body                    []string  // in the text of the body
	Text                    []string  // in header or body
	Larger, Smaller         int64     // octets, RFC822.SIZE; 0: does not look
	Since, Before           time.Time // of INTERNALDATE, midnight; zero: does not look
	SentSince, SentBefore   time.Time // of the Date field
	SavedSince, SavedBefore time.Time
}

// HeaderKey is HEADER, SUBJECT, FROM, TO, CC, BCC of SEARCH. An empty Value
// matches every message that has the field.
type HeaderKey struct{ Name, Value string }

// Search returns the UIDs of the messages that match q, ascending.
func (s *Store) Search(ctx context.Context, a AccountID, mb MailboxID, q *Query) ([]imap.UID, error) {
	return nil, errUnfinished
}

// PurgeResult counts what vanished for good.
type PurgeResult struct {
	Expunged, Messages, Changes, Repeats, Blobs, Accounts int64
}
