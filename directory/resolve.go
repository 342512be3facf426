package directory

import (
	"strings"
	"time"

	"dirpost/internal/envelope"
)

// Home says where an address leads.
type Home uint8

// The homes of an address.
const (
	HomeUnknown   Home = iota // not known now: defer
	HomeHere                  // a mailbox of ours
	HomeElsewhere             // a mailbox that another system holds: send to Target by NextHop
	HomeList                  // a list: its members, see Expand
	HomeContact               // an address elsewhere: send to Target
	HomeNobody                // the domain is ours, the address is nobody's
	HomeNotOurs               // the domain is not ours
	HomeOwners                // the owners of a list, LIST-owner@: Entry is the list
	HomeDecision              // what a moderator answers to: Detail is the token
)

// String returns the word for h in logs and explanations.
func (h Home) String() string {
	return [...]string{"unknown", "here", "elsewhere", "list", "contact", "nobody", "not ours", "owners of a list", "decision of a moderator"}[h]
}

// Resolution is what the directory says about one address.
type Resolution struct {
	Home   Home
	Entry  *Entry // nil for HomeNobody, HomeNotOurs and HomeUnknown, and for a postmaster outside
	Detail string // subaddress: what stands behind the delimiter
	// Target and NextHop say where to send what is elsewhere or a contact.
	// NextHop "" means by MX.
	Target  envelope.Address
	NextHop string
	// Status is the answer to a sender that may not send there: no such
	// mailbox, mailbox disabled, not known now. The zero Status means that the
	// address may receive; who may send to a list is MayPost's question, and
	// who may relay to HomeNotOurs the caller's.
	Status envelope.Status
	// Claims are the keys of all entries that claim the address, when there is
	// more than one.
	Claims []Key
}

// OK reports whether the address may receive.
func (r Resolution) OK() bool { return r.Status.Code == 0 }

// The answers about addresses that stand in no other room.
var (
	// statusAmbiguous: an address that two entries claim must reach neither,
	// lest it reach the wrong person, and nobody may lose mail over it.
	statusAmbiguous = envelope.Status{Code: 451, Enhanced: "4.3.5", Text: "Address not unique in the directory, please try again later", IMAP: "UNAVAILABLE", POP3: "SYS/TEMP"}
	// statusRouting: the directory sends the address round in a circle.
	statusRouting   = envelope.Status{Code: 451, Enhanced: "4.3.5", Text: "Address has no destination, please try again later", IMAP: "UNAVAILABLE", POP3: "SYS/TEMP"}
	statusListEmpty = envelope.Status{Code: 550, Enhanced: "5.2.4", Text: "Mailing list has no members", IMAP: "CANNOT", POP3: "SYS/PERM"}
	statusListAway  = envelope.Status{Code: 451, Enhanced: "4.2.4", Text: "Mailing list cannot be expanded now, please try again later", IMAP: "UNAVAILABLE", POP3: "SYS/TEMP"}
	statusBarred    = envelope.Status{Code: 550, Enhanced: "5.7.1", Text: "You may not send to this recipient", IMAP: "NOPERM", POP3: "SYS/PERM"}
	statusMayNot    = envelope.Status{Code: 550, Enhanced: "5.7.2", Text: "You may not send to this mailing list", IMAP: "NOPERM", POP3: "SYS/PERM"}
)

// resolve is Resolve for an address of a domain that is ours.
func (s *Snapshot) resolve(a envelope.Address) Resolution {
	if e, claims := s.owner(a); e != nil || claims != nil {
		return s.resolution(a, "", e, claims)
	}
	if base, detail, ok := s.subaddress(a); ok {
		if e, claims := s.owner(base); e != nil || claims != nil {
			return s.resolution(base, detail, e, claims)
		}
	}
	if isRole(a.Local) {
		return s.postmaster()
	}
	if _, ruled := s.rules.Roles[s.roleOf(a)]; ruled {
		return Resolution{Status: statusRouting} // whom the rules name is not there
	}
	if l := s.listOfOwner(a); l != nil {
		return s.ownersOf(l)
	}
	if token, ok := DecisionToken(a); ok {
		return Resolution{Home: HomeDecision, Detail: token}
	}
	if x500, ok := decodeIMCEAEX(a.Local); ok {
		if e := s.ByX500(x500); e != nil {
			if own := s.ownAddress(e); !own.IsZero() {
				a = own
			}
			return s.resolution(a, "", e, nil)
		}
	}
	if s.Stale() {
		return Resolution{Status: envelope.StatusDirectory}
	}
	if s.rules.UnknownElsewhere && s.rules.NextHop != "" {
		return s.elsewhere(a)
	}
	return Resolution{Home: HomeNobody, Status: envelope.StatusNotFound}
}

// MayMissDomains reports whether there may be domains of ours that s does not know
// of, since the directory names some and was not heard of lately. Then
// HomeNotOurs is no reason to refuse mail for good.
func (s *Snapshot) MayMissDomains() bool { return !s.ready || s.Stale() }

// owner returns whose an address is, or the keys of all that claim it where that
// cannot be told. An address of a role is whose the rules say.
func (s *Snapshot) owner(a envelope.Address) (*Entry, []Key) {
	if role := s.roleOf(a); role != "" {
		e, claims, _ := s.roleOwner(a, role)
		return e, claims
	}
	return s.holder(a.Key())
}

// holder returns who has an address by what the entries say: the one that has it; of
// several, the one of the directory that comes first for its domain, and of several
// there who has had it first; and where nobody has it now, who had it last.
func (s *Snapshot) holder(name string) (*Entry, []Key) {
	var first *Entry
	var all []*Entry
	for _, c := range s.candidates(byAddress, name) {
		e := s.entry(c)
		switch {
		case !e.has(byAddress, name):
		case first == nil:
			first = e
		case all == nil:
			all = []*Entry{first, e}
		default:
			all = append(all, e)
		}
	}
	switch {
	case all != nil:
		return firstOf(s.preferred(all, domainOf(name)), name)
	case first != nil:
		return first, nil
	}
	return s.last(name)
}

// firstOf returns which of several entries has had an address first, or the keys
// of all where two may have been it.
func firstOf(all []*Entry, name string) (*Entry, []Key) {
	first, tie := all[0], false
	for _, e := range all[1:] {
		switch c := e.claimed(name).Compare(first.claimed(name)); {
		case c < 0:
			first, tie = e, false
		case c == 0:
			tie = true
		}
	}
	if tie {
		return nil, keysOf(all)
	}
	return first, nil
}

func keysOf(all []*Entry) []Key {
	keys := make([]Key, len(all))
	for i, e := range all {
		keys[i] = e.Key
	}
	return keys
}

// last returns who had an address last that nobody has now: somebody who has left
// and whose mail is still taken, or who has another address instead of it.
func (s *Snapshot) last(name string) (*Entry, []Key) {
	now := s.now()
	var best []*Entry
	var at time.Time // when best lost it
	for _, c := range s.candidates(byFormer, name) {
		e := s.entry(c)
		when, ok := s.lost(e, name, now)
		switch {
		case !ok:
		case best == nil, when.After(at):
			best, at = []*Entry{e}, when
		case when.Equal(at):
			best = append(best, e)
		}
	}
	switch len(best) {
	case 0:
		return nil, nil
	case 1:
		return best[0], nil
	}
	return nil, keysOf(best)
}

// lost returns when e lost an address whose mail it still gets, by leaving or for
// another one; false when it gets none, or no more.
func (s *Snapshot) lost(e *Entry, name string, now time.Time) (when time.Time, ok bool) {
	if e.IsGone() && s.Left(e) {
		return time.Time{}, false
	}
	if e.IsGone() && e.hasAddress(name) {
		return e.Gone, true
	}
	for _, f := range e.Former {
		if f.Address.Key() == name && now.Before(f.Until) {
			return f.Lost, true
		}
	}
	return time.Time{}, false
}

// Left reports whether e has left the directory for so long that it gets no mail
// any more.
func (s *Snapshot) Left(e *Entry) bool {
	return e.IsGone() && !s.now().Before(e.Gone.Add(s.rules.goneReceive()))
}

// now is the time by which addresses, accounts and graces end.
func (s *Snapshot) now() time.Time {
	if s.fresh == nil {
		return time.Now()
	}
	return s.fresh.now()
}

// subaddress splits local+detail@domain (RFC 5233).
func (s *Snapshot) subaddress(a envelope.Address) (base envelope.Address, detail string, ok bool) {
	if s.rules.Delimiter == "" {
		return a, "", false
	}
	i := strings.Index(a.Local, s.rules.Delimiter)
	if i <= 0 {
		return a, "", false
	}
	detail = a.Local[i+len(s.rules.Delimiter):]
	a.Local = a.Local[:i]
	return a, detail, true
}

// isRole reports whether a local-part is one that every domain must have
// (RFC 5321 §4.5.1, RFC 2142 §4).
func isRole(local string) bool {
	return strings.EqualFold(local, "postmaster") || strings.EqualFold(local, "abuse")
}

// postmaster resolves the configured postmaster. Mail to a postmaster is never
// refused, so whatever goes wrong defers.
func (s *Snapshot) postmaster() Resolution {
	p := s.rules.Postmaster
	if p.IsZero() {
		return Resolution{Status: statusRouting}
	}
	if !s.IsLocalDomain(p.Domain) {
		return Resolution{Home: HomeContact, Target: p}
	}
	e, claims := s.owner(p)
	if e == nil && claims == nil {
		return Resolution{Status: statusRouting}
	}
	r := s.resolution(p, "", e, claims)
	if !r.OK() && !r.Status.IsTemporary() {
		r.Status = statusRouting
	}
	return r
}

// resolution is the answer for an address of ours that e owns.
func (s *Snapshot) resolution(a envelope.Address, detail string, e *Entry, claims []Key) Resolution {
	if claims != nil {
		return Resolution{Status: statusAmbiguous, Claims: claims}
	}
	r := Resolution{Entry: e, Detail: detail}
	if !s.mayReceive(e, s.deliveryOf(e)) {
		r.Status = envelope.StatusDisabled
	}
	switch e.Kind {
	case KindPerson, KindShared, KindRoom:
		switch s.place(e) {
		case PlaceHere:
			r.Home = HomeHere
		case PlaceElsewhere:
			s.route(&r, a)
		default:
			r = Resolution{Home: HomeNobody, Entry: e, Status: envelope.StatusNotFound}
		}
	case KindList:
		r.Home = HomeList
	case KindContact, KindElsewhere:
		s.route(&r, a)
	default:
		r = Resolution{Home: HomeNobody, Status: envelope.StatusNotFound}
	}
	return r
}

// mayReceive reports whether mail for e is taken at all in this state of its delivery. What is
// locked, must change its password, or is in its grace after leaving the directory, goes on
// receiving, an account past its end for the time that the rules say; what is held
// receives into the hold.
func (s *Snapshot) mayReceive(e *Entry, delivery State) bool {
	if delivery == StateDisabled || delivery == StateExpired || s.Left(e) {
		return false
	}
	grace := s.rules.ExpiredReceive
	return grace <= 0 || e.Expires.IsZero() || s.now().Before(e.Expires.Add(grace))
}

// route fills in where the mail of a contact, or of a mailbox elsewhere, goes
// that was addressed as a.
func (s *Snapshot) route(r *Resolution, a envelope.Address) {
	e := r.Entry
	r.Home, r.Target = HomeContact, e.Primary
	if len(e.Forward) > 0 {
		r.Target = e.Forward[0]
	}
	if e.Kind != KindContact {
		r.Home = HomeElsewhere
		// The other system knows it under the same address, and forwards of its
		// people are its own business. But who is placed elsewhere by a target
		// outside is reached at that.
		if len(e.Forward) == 0 || e.HasMailbox() && (e.Place != PlaceElsewhere || s.IsLocalDomain(e.Forward[0].Domain)) {
			r.Target = a
		}
		r.NextHop = e.NextHop
		// Who has a target of its own outside is reached there.
		if r.NextHop == "" && s.IsLocalDomain(r.Target.Domain) {
			r.NextHop = s.rules.NextHop
		}
	}
	// By MX an address of ours comes back to us.
	if r.Target.IsZero() || r.NextHop == "" && s.IsLocalDomain(r.Target.Domain) {
		*r = Resolution{Entry: e, Status: statusRouting}
	}
}

// Keeps reports whether mail for e is kept in a mailbox of ours: it is of such
// a kind, and one of its addresses is ours.
func (s *Snapshot) Keeps(e *Entry) bool { return e != nil && e.HasMailbox() && s.isHere(e) }

// isHere reports whether the mailbox of e is ours: one of its addresses is, and
// no other system has it. A person that the directory lists with an address of
// somebody else's domain only is a contact.
func (s *Snapshot) isHere(e *Entry) bool { return s.homeDomain(e) != "" && s.place(e) == PlaceHere }

// ownAddress is the address under which e is known here, its first of ours; zero
// for none.
func (s *Snapshot) ownAddress(e *Entry) envelope.Address {
	for _, a := range append([]envelope.Address{e.Primary}, e.Aliases...) {
		if s.IsLocalDomain(a.Domain) {
			return a
		}
	}
	return envelope.Address{}
}
