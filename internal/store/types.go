package store

import (
	"time"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"

	"github.com/emersion/go-imap/v2"
)

// AccountID names the owner of mailboxes: the row that a directory entry's key
// leads to. It is random and never reused.
type AccountID int64

// MailboxID names a mailbox within its account; it survives renames.
type MailboxID int64

// MessageID names an immutable message within its account. Copies of a message
// in several mailboxes of one account share it. A delivered message has its
// QueueID as MessageID, so that delivering it twice is recognised.
type MessageID int64

// ModSeq is a modification sequence of a mailbox (RFC 7162 §3.1), at most 63
// bits.
type ModSeq int64

// Flags is a set of flags: bits 0-7 are system flags, bits 8-62 the keywords
// of the account by their bit (see Keywords).
type Flags int64

// The system flags (RFC 9051 §2.3.2). \Recent is a matter of the session.
const (
	FlagSeen Flags = 1 << iota
	FlagAnswered
	FlagFlagged
	FlagDeleted
	FlagDraft
)

// AccountKind says whose mailboxes these are.
type AccountKind uint8

// The kinds of account.
const (
	KindPerson AccountKind = iota + 1
	KindShared             // shared mailbox, room, outbound@: no login of its own
)

// Account is the owner of mailboxes in the message store.
type Account struct {
	ID   AccountID
	Key  string // directory key "<directory>:<uuid>", for ever
	Kind AccountKind
}

// Usage is what an account holds now.
type Usage struct {
	Bytes    int64 // RFC822.SIZE of every message in every mailbox
	Messages int64
}

// Mailbox is one row of LIST and STATUS.
type Mailbox struct {
	ID          MailboxID
	Name        string // NFC, "/" between levels, "INBOX" in capitals
	UIDValidity uint32
	UIDNext     imap.UID
	ModSeq      ModSeq // HIGHESTMODSEQ
	Messages    int64
	Unseen      int64
	Deleted     int64
	Bytes       int64
	SpecialUse  imap.MailboxAttr // "" or one of RFC 6154
	Subscribed  bool
}

// Content is an accepted message without what differs between its copies. It
// is made once, by intake or APPEND, and shared by all deliveries.
type Content struct {
	QueueID      envelope.QueueID
	InternalDate time.Time
	Header       []byte    // common header with its empty line; the fields of a copy stand before it
	Body         blob.Body // the octets after the empty line
	Envelope     []byte    // rendered IMAP ENVELOPE
	Structure    []byte    // message.Part, encoded
	Index        Index
}

// Index is what search, sort and thread need of the header, normalised as
// message.Normalize does it.
type Index struct {
	Subject, From, Recipients string
	MessageIDHash, ThreadID   int64
}

// Delivery says what becomes of a message for one account. It is a value: made
// by planning, carried out by DeliverTx.
type Delivery struct {
	Account Account
	// Targets are the mailboxes that get the message; none discards it.
	Targets []Target
	// Prepend are the header fields of this copy, complete lines with CRLF:
	// Return-Path, Delivered-To.
	Prepend []byte
	// Quota is the limit in octets, 0 for none.
	Quota int64
	// Repeat recognises the same message sent again within 24 h (hash of
	// reverse-path, Message-ID and body); the zero value does not look.
	Repeat [16]byte
	// Refuse is not nil when the recipient's own rules refuse the message.
	Refuse *envelope.Status
	// Recipient is the address that led here, for log and trace.
	Recipient envelope.Address
}

// Target is one mailbox and the flags that the message gets there.
type Target struct {
	Mailbox string // name; INBOX stands in for a name that does not exist unless Create
	Create  bool
	Flags   []imap.Flag
}

// Delivered is the outcome of one Delivery.
type Delivered struct {
	Account AccountID
	Copies  []Copy
	Repeat  bool // recognised as a repeat: nothing was stored
}

// Copy is where one copy of a message went.
type Copy struct {
	Mailbox     MailboxID
	UIDValidity uint32
	UID         imap.UID
	ModSeq      ModSeq
}

// Inbox is the id of INBOX in every account. INBOX cannot be deleted, and
// renaming it moves its messages away (RFC 9051 §6.3.6), so the id stays.
const Inbox MailboxID = 1

// MailboxKey names a mailbox in the whole store.
type MailboxKey struct {
	Account AccountID
	Mailbox MailboxID
}

// Message is one message of a mailbox with what was asked for of it.
type Message struct {
	UID          imap.UID
	Flags        Flags
	ModSeq       ModSeq
	ID           MessageID
	Size         int64 // RFC822.SIZE
	HeaderSize   int64 // octets of the header with its empty line
	InternalDate time.Time
	SavedAt      time.Time // SAVEDATE (RFC 8514)
	Envelope     []byte    // rendered, ItemEnvelope
	Structure    []byte    // message.Part, encoded, ItemStructure
	Header       []byte    // with its empty line, ItemHeader
	Body         blob.Body // ItemBody
}

// Items says which parts of messages to read. Size, dates, flags and ids are
// always there.
type Items uint8

// The parts of a Message that cost something.
const (
	ItemEnvelope Items = 1 << iota
	ItemStructure
	ItemHeader
	ItemBody // where the body is, with the octets of a small one
)

// FlagChange is one STORE command (RFC 9051 §6.4.6, RFC 7162 §3.1.3).
type FlagChange struct {
	Add, Remove Flags
	// Replace sets the flags to exactly Add.
	Replace bool
	// UnchangedSince leaves alone what has a higher modseq, and reports it;
	// 0 does not look. UNCHANGEDSINCE 0 of the protocol is -1.
	UnchangedSince ModSeq
}

// StoreResult is the outcome of a FlagChange.
type StoreResult struct {
	ModSeq   ModSeq     // of the messages that changed; 0 if none did
	UIDs     []imap.UID // that changed, ascending
	Modified []imap.UID // that failed UNCHANGEDSINCE, ascending
}

// CopyResult is the outcome of COPY and MOVE (RFC 9051 §7.1, COPYUID): the
// message Source[i] became Dest[i]. Both ascend; messages that were expunged in
// the meantime are missing.
type CopyResult struct {
	UIDValidity uint32
	Source      []imap.UID
	Dest        []imap.UID
}

// ExpungeResult is the outcome of EXPUNGE: the UIDs that vanished, ascending,
// and the modseq of their vanishing, 0 if there were none.
type ExpungeResult struct {
	UIDs   []imap.UID
	ModSeq ModSeq
}
