package directory

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"dirpost/internal/envelope"
)

// MailboxRule says which entries of one directory have their mailbox here, while
// another system has those of the others. Whoever matches any part of it is here,
// whatever the entry's own attributes say.
//
// Where a directory has no rule, everybody with an address of ours is here but
// those whom their attributes place elsewhere (Entry.Place).
type MailboxRule struct {
	Directory string
	Filter    string   // RFC 4515, on the attributes that are kept as facts
	Under     []string // DNs: units whose people are here
	Groups    []string // DNs: groups, members of members too

	queries []*Query
	groups  []string // by NormalizeDN
}

// compile reads the texts of r.
func (r *MailboxRule) compile() error {
	r.queries, r.groups = nil, nil
	var errs []error
	add := func(base, filter string) {
		text, err := FilterQuery(base, filter)
		if err == nil {
			var q *Query
			if q, err = ParseQuery(text); err == nil {
				r.queries = append(r.queries, q)
			}
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if r.Filter != "" {
		add("", r.Filter)
	}
	for _, dn := range r.Under {
		add(dn, "(&)") // true of everything (RFC 4526 §2)
	}
	for _, dn := range r.Groups {
		r.groups = append(r.groups, NormalizeDN(dn))
	}
	if len(r.queries)+len(r.groups) == 0 && len(errs) == 0 {
		errs = append(errs, errors.New("want filter, under or groups"))
	}
	return errors.Join(errs...)
}

// Facts are the attributes that Filter asks for, which must be kept.
func (r *MailboxRule) Facts() ([]string, error) {
	var names []string
	if err := r.compile(); err != nil {
		return nil, err
	}
	for _, q := range r.queries {
		names = append(names, q.Attributes()...)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// PlacesByGroup reports whether it depends on groups whose mailbox is here.
func (s *Snapshot) PlacesByGroup() bool {
	return slices.ContainsFunc(s.rules.Mailboxes, func(r MailboxRule) bool { return len(r.groups) > 0 })
}

// names reports whether r names e.
func (r *MailboxRule) names(s *Snapshot, e *Entry) bool {
	for _, q := range r.queries {
		if s.Matches(q, e) {
			return true
		}
	}
	return len(r.groups) > 0 && s.memberships(e).any(r.Directory, r.groups)
}

// place says where the mailbox of e is: here, elsewhere, or PlaceUnsaid for
// nowhere: the rule does not name e, and there is no other system.
func (s *Snapshot) place(e *Entry) Place {
	ruled := false
	for i := range s.rules.Mailboxes {
		r := &s.rules.Mailboxes[i]
		if r.Directory != e.Directory {
			continue
		}
		if ruled = true; r.names(s, e) {
			return PlaceHere
		}
	}
	switch {
	case e.Place != PlaceUnsaid:
		return e.Place
	case !ruled:
		return PlaceHere
	case s.rules.NextHop != "":
		return PlaceElsewhere
	}
	return PlaceUnsaid
}

// Placement is a name for everything in r that decides whose mailbox is where.
// Another one must be confirmed anew before it takes anybody's mail away.
func (r *Rules) Placement() string {
	h := sha256.New()
	for _, m := range r.Mailboxes {
		fmt.Fprintf(h, "%q %q %q %q\n", m.Directory, m.Filter, m.Under, m.Groups)
	}
	fmt.Fprintf(h, "%q %t\n", r.NextHop, r.UnknownElsewhere)
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Confirmed is which of our domains an administrator has looked at, each with the
// Placement that was confirmed. While Rules.Confirm is set no others take mail.
type Confirmed map[string]string

// anyDomain stands, in a system that took mail before there was anything to
// confirm, for all domains that nobody has confirmed since.
const anyDomain = "*"

// confirmation says how far mail for a domain is taken.
type confirmation uint8

const (
	confirmed     confirmation = iota
	confirmedOnce              // by other rules: those go on receiving who are here
	unconfirmed
)

func (s *Snapshot) confirmation(domain string) confirmation {
	if !s.rules.Confirm {
		return confirmed
	}
	placement, ok := s.confirmed[domain]
	if !ok {
		if _, ok = s.confirmed[anyDomain]; ok {
			return confirmed
		}
		return unconfirmed
	}
	if placement != s.placement {
		return confirmedOnce
	}
	return confirmed
}

// Unconfirmed are our domains that take no mail yet, or not all of it, since
// nobody has confirmed whose mailboxes are here.
func (s *Snapshot) Unconfirmed() []string {
	return slices.DeleteFunc(s.Domains(), func(d string) bool { return s.confirmation(d) == confirmed })
}

// statusUnconfirmed is the answer for a domain that nobody has confirmed: mail
// waits at its sender, and none is returned.
var statusUnconfirmed = envelope.Status{Code: 451, Enhanced: "4.3.5", Text: "Domain is not served yet, please try again later", IMAP: "UNAVAILABLE", POP3: "SYS/TEMP"}

// Resolve says where a leads. An exact match wins over a subaddress, and that
// over what another system may know.
func (s *Snapshot) Resolve(a envelope.Address) Resolution {
	if !s.ready { // not even our domains are known
		return Resolution{Status: envelope.StatusDirectory}
	}
	if !s.IsLocalDomain(a.Domain) {
		return Resolution{Home: HomeNotOurs, Target: a}
	}
	far := s.confirmation(a.Domain)
	if far == unconfirmed {
		return Resolution{Status: statusUnconfirmed}
	}
	r := s.resolve(a)
	if far == confirmedOnce && (r.Home == HomeNobody || r.Home == HomeElsewhere) {
		return Resolution{Entry: r.Entry, Status: statusUnconfirmed}
	}
	return r
}

// Awaited says where a message goes that waits for the mailbox of the entry k and
// was addressed as a, which may be the address of a list that leads to k: into the
// mailbox as long as it is ours (HomeHere), whatever addresses k has by now; after k
// where it has gone; and for who has left what Resolve says of nobody.
func (s *Snapshot) Awaited(k Key, a envelope.Address) Resolution {
	e := s.ByKey(k)
	switch {
	case (e == nil || s.Left(e)) && s.MayMissDomains():
		return Resolution{Status: envelope.StatusDirectory}
	case e == nil || s.Left(e):
		return Resolution{Home: HomeNobody, Entry: e, Status: envelope.StatusNotFound}
	case e.HasMailbox() && s.place(e) == PlaceHere:
		return Resolution{Home: HomeHere, Entry: e}
	}
	for _, known := range []envelope.Address{a, s.ownAddress(e)} {
		r := s.Resolve(known)
		if r.Entry != nil && r.Entry.Key == k && (!r.OK() || r.Home == HomeElsewhere || r.Home == HomeContact) {
			return r
		}
	}
	// None of its addresses leads to it any more.
	if e.HasMailbox() && s.place(e) == PlaceUnsaid || e.Kind == KindList || e.Kind == KindDomain {
		return Resolution{Home: HomeNobody, Entry: e, Status: envelope.StatusNotFound}
	}
	r := Resolution{Entry: e}
	s.route(&r, e.Primary)
	return r
}

// Moved says for whom a message is to be decided anew, by Awaited, that waits for another
// system, nextHop, addressed as a: whose mailbox is ours by now, or with a third system,
// or has that address no longer. k is whose mailbox it waits for, or "" where nobody
// had the address here. It is "" where the message goes on as it was said to, also for
// who has left, since that is the other system's to say.
func (s *Snapshot) Moved(k Key, a envelope.Address, nextHop string) Key {
	switch {
	case !s.ready:
		return ""
	case k == "":
		if r := s.Resolve(a); r.OK() && r.Home == HomeHere {
			return r.Entry.Key
		}
		return ""
	}
	if e := s.ByKey(k); e == nil || e.IsGone() {
		return ""
	}
	r := s.Awaited(k, a)
	if !r.OK() || r.Home != HomeHere && r.NextHop == nextHop && r.Target.Key() == a.Key() {
		return ""
	}
	return k
}

// OtherSystem is the host[:port] of the system that has some of our mailboxes, ""
// where there is none.
func (s *Snapshot) OtherSystem() string { return s.rules.NextHop }

// elsewhere is the resolution of an address that nobody has here, where another
// system may know it.
func (s *Snapshot) elsewhere(a envelope.Address) Resolution {
	return Resolution{Home: HomeElsewhere, Target: a, NextHop: s.rules.NextHop}
}

// Census counts what there is to mail in one domain.
type Census struct {
	Domain    string `json:"domain"`
	Here      int    `json:"here"`      // mailboxes
	Elsewhere int    `json:"elsewhere"` // mailboxes that another system has
	Nowhere   int    `json:"nowhere"`   // people with an address, whom the mailbox rule does not name
	Lists     int    `json:"lists"`
	Contacts  int    `json:"contacts"`
}

// Census counts the entries by the domain of their primary address, our domains
// in order, and the entries that have none: accounts of services, and groups that
// only carry rights.
func (s *Snapshot) Census() (domains []Census, without int) {
	at := make(map[string]int)
	for _, d := range s.Domains() {
		at[d] = len(domains)
		domains = append(domains, Census{Domain: d})
	}
	for e := range s.All() {
		i, ok := at[s.homeDomain(e)]
		if !ok {
			if e.Kind != KindDomain && e.Kind != KindContact {
				without++
			}
			continue
		}
		c := &domains[i]
		switch {
		case e.Kind == KindList:
			c.Lists++
		case e.Kind == KindContact:
			c.Contacts++
		case e.Kind == KindElsewhere, e.HasMailbox() && s.place(e) == PlaceElsewhere:
			c.Elsewhere++
		case e.HasMailbox() && s.place(e) == PlaceHere:
			c.Here++
		case e.HasMailbox():
			c.Nowhere++
		}
	}
	return domains, without
}

// homeDomain is the domain of ours in which e has its first address, "" for none.
func (s *Snapshot) homeDomain(e *Entry) string {
	if s.IsLocalDomain(e.Primary.Domain) {
		return e.Primary.Domain
	}
	for _, a := range e.Aliases {
		if s.IsLocalDomain(a.Domain) {
			return a.Domain
		}
	}
	return ""
}
