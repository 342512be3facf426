package directory

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"dirpost/internal/envelope"
)

// Rules are the decisions about addresses that stand in the configuration and
// not in the directory.
type Rules struct {
	// Domains are the mail domains that are ours, beside the domain objects of
	// the directory.
	Domains []string
	// Postmaster gets the mail to postmaster@ and abuse@ of each domain that no
	// entry claims (RFC 5321 §4.5.1, RFC 2142). Without it, or while it does not
	// resolve, such mail is deferred.
	Postmaster envelope.Address
	// Delimiter begins the detail of a subaddress, alice+detail@ (RFC 5233). ""
	// means that there are none.
	Delimiter string
	// Directories say which directory counts first for a mail domain, where an
	// address of it is claimed by entries of several: domain, or AnyDomain for all
	// that are not named -> names of directories in order. Those that are not named
	// come last. Without an order such an address is that of who had it first.
	Directories map[string][]string
	// ListPolicy is for lists whose entry says nothing. The default is
	// ListInternal: a group made for its rights must not be open to the world
	// because somebody gave it an address.
	ListPolicy ListPolicy
	// NextHop is the host[:port] of the system that holds the mailboxes which
	// are elsewhere, where their entry names none.
	NextHop string
	// UnknownElsewhere sends mail for addresses of ours that nobody has here to
	// NextHop, which may know them, instead of refusing it.
	UnknownElsewhere bool
	// Mailboxes say who has a mailbox here, where another system has the others.
	Mailboxes []MailboxRule
	// Confirm asks that an administrator has confirmed a domain, seeing whose
	// mailboxes are here, before mail for it is taken; see Confirmed.
	Confirm bool
	// Roles name the entries that have role addresses in all our domains, role in
	// lower case -> DN, SID or address; see RoleNames. What nobody is named for is
	// nobody's, postmaster@ and abuse@ aside.
	Roles map[string]string
	// Policies are what groups give their members, see Policy.
	Policies []Policy
	// StaleAfter is how long the snapshot is trusted to know everybody after
	// the directory was last heard of. The default is 15 s.
	StaleAfter time.Duration
	// KeepFormer is how long mail for an address arrives that was replaced by
	// another: by a new name, a new surname, another login. 0: not at all.
	KeepFormer time.Duration
	// ExpiredReceive is how long after the end of an account mail for it is still
	// taken. 0: without end.
	ExpiredReceive time.Duration
	// KeepGone is how long what is known of somebody is kept who has left the
	// directory, as long as the mail. The default is 30 days.
	KeepGone time.Duration
	// GoneReceive is how long mail is still taken for somebody who has left. 0,
	// and more than KeepGone, mean as long as KeepGone.
	GoneReceive time.Duration
	// Brakes are, by directory, when too much vanishes at once to be believed;
	// DefaultBrake for those that are not in it.
	Brakes map[string]Brake
}

const defaultKeepGone = 30 * 24 * time.Hour

// goneReceive is how long mail is taken for somebody who has left.
func (r *Rules) goneReceive() time.Duration {
	if r.GoneReceive <= 0 || r.GoneReceive > r.KeepGone {
		return r.KeepGone
	}
	return r.GoneReceive
}

// brake is when too much of a directory vanishes at once.
func (r *Rules) brake(directory string) Brake {
	if b, ok := r.Brakes[directory]; ok {
		return b
	}
	return DefaultBrake()
}

const defaultStaleAfter = 15 * time.Second

func (r Rules) withDefaults() Rules {
	if r.ListPolicy == 0 {
		r.ListPolicy = ListInternal
	}
	if r.StaleAfter == 0 {
		r.StaleAfter = defaultStaleAfter
	}
	if r.KeepGone == 0 {
		r.KeepGone = defaultKeepGone
	}
	r.Mailboxes = slices.Clone(r.Mailboxes)
	for i := range r.Mailboxes {
		_ = r.Mailboxes[i].compile() // Validate has said what is wrong
	}
	return r
}

// Validate reports what is wrong with r, in the words of the configuration.
func (r Rules) Validate() error {
	var errs []error
	for _, d := range r.Domains {
		if _, err := envelope.ParseDomain(d); err != nil {
			errs = append(errs, fmt.Errorf("domains: %q is not a domain", d))
		}
	}
	if r.ListPolicy > ListModerated {
		errs = append(errs, errors.New("list_policy: want open, internal, members, owners or moderated"))
	}
	if err := validateDirectories(r.Directories); err != nil {
		errs = append(errs, err)
	}
	if len(r.Delimiter) > 1 || r.Delimiter == "@" || r.Delimiter == "." {
		errs = append(errs, fmt.Errorf("delimiter: %q is not one character, or would split every address", r.Delimiter))
	}
	for _, m := range r.Mailboxes {
		if err := m.compile(); err != nil {
			errs = append(errs, fmt.Errorf("mailboxes of directory %q: %w", m.Directory, err))
		}
	}
	if r.UnknownElsewhere && r.NextHop == "" {
		errs = append(errs, errors.New("unknown: there is no other system to send to"))
	}
	errs = append(errs, r.validateRoles()...)
	for i := range r.Policies {
		if err := r.Policies[i].Validate(); err != nil {
			errs = append(errs, fmt.Errorf("policy %d (%s): %w", i+1, r.Policies[i].Group, err))
		}
	}
	if r.StaleAfter < 0 {
		errs = append(errs, errors.New("stale_after: must not be negative"))
	}
	for _, d := range []struct {
		key  string
		span time.Duration
	}{{"keep_former", r.KeepFormer}, {"expired_receive", r.ExpiredReceive}, {"gone_receive", r.GoneReceive}, {"closed", r.KeepGone}} {
		if d.span < 0 {
			errs = append(errs, fmt.Errorf("%s: must not be negative", d.key))
		}
	}
	for name, b := range r.Brakes {
		if err := b.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("directory.%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// ParseListPolicy reads the word of a list policy as directories and the
// configuration write it, false for any other.
func ParseListPolicy(word string) (ListPolicy, bool) {
	switch word {
	case "open", "openlist", "public":
		return ListOpen, true
	case "internal", "internallist", "domain":
		return ListInternal, true
	case "members", "memberrestrictedlist", "membersonly":
		return ListMembers, true
	case "owners", "ownerrestrictedlist":
		return ListOwners, true
	case "moderated", "moderatorsonly":
		return ListModerated, true
	}
	return 0, false
}
