package directory

import (
	"iter"
	"slices"
	"strings"
	"time"

	"dirpost/internal/envelope"
)

// Key names a directory entry for ever: "<directory name>:<uuid>" with the
// entryUUID or objectGUID in canonical lower case. Mailboxes belong to it.
type Key string

// Directory returns the name of the directory that the entry is of.
func (k Key) Directory() string {
	name, _, _ := strings.Cut(string(k), ":")
	return name
}

// Kind says what an entry is to mail.
type Kind uint8

// The kinds of entry.
const (
	KindPerson    Kind = iota + 1 // mailbox with a login
	KindShared                    // mailbox without a login, opened by those in Access
	KindRoom                      // like shared, for rooms and equipment
	KindList                      // distribution list, or a group without address that carries rights
	KindContact                   // an address elsewhere, listed here
	KindElsewhere                 // a person whose mailbox another system holds
	KindDomain                    // adds Domains to our domains
)

// String returns the word for k in explanations.
func (k Kind) String() string {
	words := [...]string{"", "person", "shared mailbox", "room", "list", "contact", "person elsewhere", "domain"}
	if int(k) < len(words) {
		return words[k]
	}
	return "unknown"
}

// State says how far an entry may be used.
type State uint8

// The states, for login and delivery separately. Zero counts as active.
const (
	StateActive     State = iota + 1
	StateDisabled         // by the administrator
	StateExpired          // account past its end
	StateLocked           // too many wrong passwords
	StateMustChange       // password must be changed first
	StateGrace            // gone from the directory, mailbox kept for a time
	StateHeld             // deliver into the hold, see queue
)

// String returns the word for s in explanations.
func (s State) String() string {
	words := [...]string{"active", "active", "disabled", "expired", "locked", "bound to change its password first", "gone", "held"}
	if int(s) < len(words) {
		return words[s]
	}
	return "unknown"
}

// ListPolicy says who may send to a list.
type ListPolicy uint8

// The policies of a list. Zero is the default of the configuration (Rules).
const (
	ListOpen     ListPolicy = iota + 1 // anybody
	ListInternal                       // authenticated people of ours
	ListMembers
	ListOwners
	ListModerated
)

// Entry is one directory entry as mail sees it. It is immutable once it is in a
// Snapshot.
type Entry struct {
	Key         Key
	Directory   string // name of the directory in the configuration
	DN          string // as the server writes it
	Kind        Kind
	DisplayName string
	Primary     envelope.Address // KindContact: the address elsewhere, unless Forward says it
	Aliases     []envelope.Address
	Logins      []string  // login names (uid, addresses, UPN, DOMAIN\user), by FoldLogin
	Login       State     // may this person log in
	Expires     time.Time // end of the account, zero: none; see LoginState
	Delivery    State     // may mail be delivered; a disabled person still gets mail
	Quota       int64     // no more mail above it; octets, 0 none
	QuotaSend   int64     // sending stops above it; octets, 0 none
	QuotaWarn   int64     // warning above it; octets, 0 none
	Forward     []envelope.Address
	KeepCopy    bool     // with Forward: deliver as well
	NextHop     string   // KindElsewhere: host[:port] of the other system, "" by Rules
	Services    []string // protocols the person may use: imap, pop3, submission, sieve; empty: all

	Members         []string // DNs, by NormalizeDN
	ExternalMembers []envelope.Address
	Policy          ListPolicy
	Owners          []string // DNs by NormalizeDN, or addresses by MailName; so Moderators, Senders, Barred, SendAs, OnBehalf
	Senders         []string // DNs by NormalizeDN: people and groups that may send whatever Policy says

	// DNs by NormalizeDN of people and groups that may …
	Access   []string // open this mailbox
	SendAs   []string // send as this entry
	OnBehalf []string // send on its behalf

	Domains  []string // KindDomain: canonical as of envelope.ParseDomain
	Hidden   bool
	Modified time.Time // last change of anything, its password too, as fine as the directory tells it

	SID          string   // objectSid as S-1-5-21-…, "" where the directory has none
	PrimaryGroup string   // SID of the group whose member list does not name the person
	X500         []string // addresses of Exchange (legacyExchangeDN, X500:), by FoldX500
	Place        Place    // whose mailbox it is, as far as the entry itself says

	Moderators   []string // DNs by NormalizeDN: whom a moderated list asks; none: its Owners
	Barred       []string // DNs by NormalizeDN: people and groups that may not send to it
	MemberLogins []string // members by login name (memberUid), by FoldLogin
	Queries      []string // LDAP URLs (RFC 4516): who of the replica matches is a member
	Facts        []string // "attribute=value", what Queries of lists may ask, attribute in lower case

	MaxReceive int64 // largest message that is taken for the entry; octets, 0 none
	MaxSend    int64 // largest message that the person may send; octets, 0 none

	ForwardTo []string // DNs by NormalizeDN, or addresses by MailName: like Forward, by entry

	Certificates []string // certificates that log in as it, by names of CertificateNames

	// Who may send to it at all, whatever Policy says: only who has logged in, and only
	// these, if there are any. Of a list, its owners, moderators and senders may.
	NoStrangers bool
	Allowed     []string // DNs by NormalizeDN, or addresses by MailName

	// What the feeder keeps beside what the directory says now.
	Former []Former  // addresses that the entry had, and has no more
	Claims []Claim   // addresses that it has not always had
	Gone   time.Time // when it left the directory: StateGrace

	Unreadable []string // logical fields whose values could not be read, and were kept as they were
	Origins    []string // "field=attribute", where each field came from

	packed string // what the snapshot holds; "" in an entry of the caller's
}

// Place says whose mailbox an entry's is, as far as the entry itself tells.
type Place uint8

// The places of a mailbox.
const (
	PlaceUnsaid    Place = iota // nothing says so
	PlaceHere                   // the mailbox rule of the configuration names it
	PlaceElsewhere              // its attributes say that another system has it
)

// Former is an address that an entry had. Mail for it arrives until then, unless
// somebody has the address now.
type Former struct {
	Address envelope.Address
	Until   time.Time
	Lost    time.Time // when the entry had it last; who had an address last gets its mail
}

// Claim says since when an entry has an address. What an entry had when the
// directory was first read has no Claim: it was there before, nobody knows since
// when.
type Claim struct {
	Address envelope.Address
	Since   time.Time
}

// IsGone reports whether the entry has left the directory; what is known of it is
// kept as long as its mail.
func (e *Entry) IsGone() bool { return !e.Gone.IsZero() }

// addresses yields what e says its addresses are, the primary one first.
func (e *Entry) addresses() iter.Seq[envelope.Address] {
	return func(yield func(envelope.Address) bool) {
		if !e.Primary.IsZero() && !yield(e.Primary) {
			return
		}
		for _, a := range e.Aliases {
			if !yield(a) {
				return
			}
		}
	}
}

// hasAddress reports whether an address, by its Key, is one of e now.
func (e *Entry) hasAddress(key string) bool {
	if !e.Primary.IsZero() && e.Primary.Key() == key {
		return true
	}
	return slices.ContainsFunc(e.Aliases, func(a envelope.Address) bool { return a.Key() == key })
}

// claimed returns since when e has an address, by its Key; the zero time if it had
// it before anybody looked.
func (e *Entry) claimed(key string) time.Time {
	for _, c := range e.Claims {
		if c.Address.Key() == key {
			return c.Since
		}
	}
	return time.Time{}
}

// LoginState says whether the person may log in at the time now.
func (e *Entry) LoginState(now time.Time) State {
	switch {
	case e.Login == 0 || e.Login == StateActive:
		if !e.Expires.IsZero() && !now.Before(e.Expires) {
			return StateExpired
		}
		return StateActive
	default:
		return e.Login
	}
}

// HasMailbox reports whether e is of a kind that has a mailbox. Whether that is
// ours is a question of its addresses: Snapshot.Keeps.
func (e *Entry) HasMailbox() bool {
	return e.Kind == KindPerson || e.Kind == KindShared || e.Kind == KindRoom
}

// Owns reports whether a is an address of e, exactly.
func (e *Entry) Owns(a envelope.Address) bool { return e.has(byAddress, a.Key()) }

// MayUseService reports whether the person may use a protocol: "imap", "pop3",
// "submission", "sieve".
func (e *Entry) MayUseService(name string) bool {
	for _, s := range e.Services {
		if s == name {
			return true
		}
	}
	return len(e.Services) == 0
}

// Same reports whether e and o are the same entry, unchanged in every field
// that mail looks at. What was concluded from an entry holds as long as it is
// the Same.
func (e *Entry) Same(o *Entry) bool {
	if e == nil || o == nil {
		return e == o
	}
	return e.pack() == o.pack()
}
