package store

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/emersion/go-imap/v2"
)

var errUnfinished = errors.New("not yet")

const defaultViewCache = 64 << 20

type viewCache struct{}

func (c *viewCache) init(int64)      {}
func (c *viewCache) drop(MailboxKey) {}

// View is a mailbox at one moment: UID, modseq and flags of its messages in UID
// order. It is immutable.
type View struct{}

func (s *Store) Open(ctx context.Context, a AccountID, mb MailboxID) (*View, error) {
	return nil, errUnfinished
}
func (v *View) Len() int                            { return 0 }
func (v *View) UIDAt(i int) imap.UID                { return 0 }
func (v *View) Index(uid imap.UID) (i int, ok bool) { return 0, false }
func (v *View) Search(uid imap.UID) int             { return 0 } // index of the first message with at least uid
func (v *View) Flags(i int) Flags                   { return 0 }
func (v *View) ModSeq(i int) ModSeq                 { return 0 }
func (v *View) HighestModSeq() ModSeq               { return 0 }
func (v *View) UIDNext() imap.UID                   { return 0 }
func (v *View) UIDValidity() uint32                 { return 0 }
func (v *View) Unseen() int                         { return 0 }
func (v *View) FirstUnseen() (i int, ok bool)       { return 0, false }
func (v *View) Diff(old *View) Diff                 { return Diff{} }
func (v *View) All() iter.Seq2[imap.UID, Flags]     { return nil }

// Diff is what happened to a mailbox between two views. Each list ascends.
type Diff struct {
	Vanished, New, Changed []imap.UID
}

// Vanished returns the UIDs that vanished after since, ascending; all is false
// if the log does not reach back so far (RFC 7162 §3.2.10: then the
// complement of the UIDs that are there).
func (s *Store) Vanished(ctx context.Context, a AccountID, mb MailboxID, since ModSeq) (uids []imap.UID, all bool, err error) {
	return nil, false, errUnfinished
}

func (s *Store) ClaimRecent(ctx context.Context, a AccountID, mb MailboxID) (first imap.UID, err error) {
	return 0, errUnfinished
}

// Messages yields the messages of uids, ascending, without those expunged. uids
// must ascend; nil is all. It holds nothing while the caller handles one.
func (s *Store) Messages(ctx context.Context, a AccountID, mb MailboxID, uids []imap.UID, items Items) iter.Seq2[*Message, error] {
	return nil
}

// Reader is a whole message, header and body.
type Reader interface {
	io.ReaderAt
	io.WriterTo
	io.Closer
	Size() int64
	HeaderSize() int64
}

func (s *Store) OpenMessage(ctx context.Context, a AccountID, m *Message) (Reader, error) {
	return nil, errUnfinished
}

func (s *Store) StoreFlags(ctx context.Context, a AccountID, mb MailboxID, uids []imap.UID, c FlagChange) (StoreResult, error) {
	return StoreResult{}, errUnfinished
}

// Copy copies to a mailbox of the same or another account. quota is the limit of
// the other account, 0 for none.
func (s *Store) Copy(ctx context.Context, src MailboxKey, uids []imap.UID, dst MailboxKey, quota int64) (CopyResult, error) {
	return CopyResult{}, errUnfinished
}
func (s *Store) Move(ctx context.Context, src MailboxKey, uids []imap.UID, dst MailboxKey, quota int64) (CopyResult, error) {
	return CopyResult{}, errUnfinished
}

// Expunge removes the messages of uids (nil: all) that have \Deleted.
func (s *Store) Expunge(ctx context.Context, a AccountID, mb MailboxID, uids []imap.UID) (ExpungeResult, error) {
	return ExpungeResult{}, errUnfinished
}

// Remove removes the messages of uids whatever their flags are: POP3's QUIT.
func (s *Store) Remove(ctx context.Context, a AccountID, mb MailboxID, uids []imap.UID) (ExpungeResult, error) {
	return ExpungeResult{}, errUnfinished
}

// Appended is one message of an APPEND.
type Appended struct {
	Content *Content // its InternalDate is the message's
	Flags   []imap.Flag
}

// Append adds messages to a mailbox, all or none (RFC 3502). quota is the
// account's limit, 0 for none.
func (s *Store) Append(ctx context.Context, a AccountID, mb MailboxID, messages []Appended, quota int64) ([]Copy, error) {
	return nil, errUnfinished
}

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

// Poll returns the modseq of those mailboxes that have one above that of known.
func (s *Store) Poll(ctx context.Context, known map[MailboxKey]ModSeq) (map[MailboxKey]ModSeq, error) {
	return nil, errUnfinished
}
