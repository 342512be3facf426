package directory

import (
	"time"

	"dirpost/internal/envelope"
)

// Key names a directory entry for ever: "<directory name>:<uuid>" with the
// entryUUID or objectGUID in canonical lower case. Mailboxes belong to it.
type Key string

// Kind says what an entry is to mail.
type Kind uint8

// The kinds of entry.
const (
	KindPerson    Kind = iota + 1 // mailbox with a login
	KindShared                    // mailbox without a login, opened by those in Access
	KindRoom                      // like shared, for rooms and equipment
	KindList                      // distribution list
	KindContact                   // an address elsewhere, listed here
	KindElsewhere                 // a person whose mailbox another system holds
)

// State says how far an entry may be used.
type State uint8

// The states, for login and delivery separately.
const (
	StateActive     State = iota + 1
	StateDisabled         // by the administrator
	StateExpired          // account past its end
	StateLocked           // too many wrong passwords
	StateMustChange       // password must be changed first
	StateGrace            // gone from the directory, mailbox kept for a time
	StateHeld             // deliver into the hold, see queue
)

// ListPolicy says who may send to a list.
type ListPolicy uint8

// The policies of a list.
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
	DN          string
	Kind        Kind
	DisplayName string
	Primary     envelope.Address
	Aliases     []envelope.Address
	Logins      []string // folded login names: uid, addresses, UPN, DOMAIN\user
	Login       State    // may this person log in
	Delivery    State    // may mail be delivered; a disabled person still gets mail
	Quota       int64    // octets, 0 none
	Forward     []envelope.Address
	KeepCopy    bool   // with Forward: deliver as well
	NextHop     string // KindElsewhere: host[:port] of the other system, "" by MX

	Members         []string // DNs, normalised
	ExternalMembers []envelope.Address
	Policy          ListPolicy
	Owners          []string // DNs: owners and moderators

	Access   []string // DNs of people and groups that may open this mailbox
	SendAs   []string // DNs that may send as this entry
	OnBehalf []string // DNs that may send on its behalf

	Hidden   bool
	Modified time.Time
}
