package directory

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"dirpost/internal/envelope"
)

// Rights are what a person may do with another entry. This is the one table of
// rights: what submission, IMAP and explanations ask is answered from it.
type Rights uint8

// The rights. Whose mailbox it is has all of them.
const (
	RightOwn      Rights = 1 << iota // it is the person's own
	RightOpen                        // open the mailbox: Access
	RightSendAs                      // send as it: SendAs
	RightOnBehalf                    // send on its behalf: OnBehalf
)

// Rights returns what e may do with the entry of, by itself or through its groups:
// nested, primary, by login name, of other domains, defined by a filter.
func (s *Snapshot) Rights(e, of *Entry) Rights {
	if e == nil || of == nil {
		return 0
	}
	if e.Key == of.Key {
		return RightOwn | RightOpen | RightSendAs | RightOnBehalf
	}
	if len(of.Access)+len(of.SendAs)+len(of.OnBehalf) == 0 && s.policies == nil {
		return 0
	}
	return s.memberships(e).rights(of)
}

// rights returns what the groups of somebody else allow with of.
func (m *memberships) rights(of *Entry) (r Rights) {
	r = m.policyRights(of)
	for _, x := range [...]struct {
		right Rights
		names []string
	}{{RightOpen, of.Access}, {RightSendAs, of.SendAs}, {RightOnBehalf, of.OnBehalf}} {
		if m.any(of.Directory, x.names) {
			r |= x.right
		}
	}
	return r
}

// ValidateGroup reports what is wrong with the name of a group in the
// configuration: it is a DN, a SID, an address, or Everybody.
func ValidateGroup(name string) error {
	if name != Everybody && nameOf(name) == "" {
		return fmt.Errorf(`%q is neither a DN, a SID, an address nor "*"`, name)
	}
	return nil
}

// InGroups reports whether e is in one of groups, by itself or through its groups,
// or is named itself. Groups are named as ValidateGroup takes them. It costs a walk
// through the groups of e.
func (s *Snapshot) InGroups(e *Entry, groups []string) bool {
	if e == nil || len(groups) == 0 {
		return false
	}
	if slices.Contains(groups, Everybody) {
		return true
	}
	of := s.memberships(e)
	return slices.ContainsFunc(groups, func(g string) bool { return of.holds(nameOf(g)) })
}

// MissingGroups returns those of groups that no entry is, or more than one.
func (s *Snapshot) MissingGroups(groups []string) []string {
	var missing []string
	for _, g := range groups {
		if g != Everybody && s.policyGroup(nameOf(g)) == nil {
			missing = append(missing, g)
		}
	}
	return missing
}

// Usage says as what a person may use a sender address.
type Usage uint8

// The usages of a sender address.
const (
	UsageNone     Usage = iota
	UsageOwn            // an address of the person
	UsageSendAs         // another's, by the right to send as it
	UsageOnBehalf       // another's, by the right to send on its behalf: Sender is needed (RFC 5322 §3.6.2)
)

// MayUse says as what e may use from as RFC5321.MailFrom or RFC5322.From.
// Subaddresses of own addresses are own.
func (s *Snapshot) MayUse(e *Entry, from envelope.Address) Usage {
	if e == nil {
		return UsageNone
	}
	owner, _ := s.owner(from)
	if owner == nil {
		base, _, ok := s.subaddress(from)
		if !ok || !s.IsLocalDomain(from.Domain) {
			return UsageNone
		}
		if owner, _ = s.owner(base); owner == nil {
			return UsageNone
		}
	}
	if owner.IsGone() {
		return UsageNone
	}
	switch r := s.Rights(e, owner); {
	case r&RightOwn != 0:
		return UsageOwn
	case r&RightSendAs != 0:
		return UsageSendAs
	case r&RightOnBehalf != 0:
		return UsageOnBehalf
	}
	return UsageNone
}

// MailboxesOf returns the mailboxes of others that e may open, by itself or
// through its groups, in the order of their keys.
func (s *Snapshot) MailboxesOf(e *Entry) []*Entry {
	if e == nil {
		return nil
	}
	var found []*Entry
	of := s.memberships(e)
	for name := range of.names {
		for _, m := range s.all(byAccess, name) {
			if m.Key != e.Key && s.Keeps(m) && of.rights(m)&RightOpen != 0 {
				found = append(found, m)
			}
		}
	}
	for _, m := range of.opened() {
		if m.Key != e.Key && s.Keeps(m) {
			found = append(found, m)
		}
	}
	slices.SortFunc(found, func(a, b *Entry) int { return compareKeys(a.Key, b.Key) })
	return slices.CompactFunc(found, func(a, b *Entry) bool { return a.Key == b.Key })
}

func compareKeys(a, b Key) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// MayOpen reports whether e may open the mailbox m.
func (s *Snapshot) MayOpen(e, m *Entry) bool {
	return s.Keeps(m) && s.Rights(e, m)&RightOpen != 0
}

// Post is the answer to who sends to a list.
type Post uint8

// The answers of MayPost.
const (
	PostRefused Post = iota
	PostAllowed
	PostHeld // for the moderators to decide
)

// MayPost says whether sender, nil for somebody from outside, may send to the
// list l. Whoever is barred may not, whatever else holds; the owners, moderators and
// senders of the list may, whatever its policy is.
func (s *Snapshot) MayPost(l, sender *Entry) Post {
	policy := l.Policy
	if policy == 0 {
		policy = s.rules.ListPolicy
	}
	var of *memberships
	if sender != nil && len(l.Barred)+len(l.Owners)+len(l.Moderators)+len(l.Senders)+len(l.Allowed) > 0 || policy == ListMembers {
		of = s.memberships(sender)
	}
	switch {
	case of.any(l.Directory, l.Barred):
		return PostRefused
	case of.any(l.Directory, l.Owners), of.any(l.Directory, l.Moderators), of.any(l.Directory, l.Senders):
		return PostAllowed
	case sender == nil && l.NoStrangers, len(l.Allowed) > 0 && !of.any(l.Directory, l.Allowed):
		return PostRefused // nor do the moderators see it
	}
	switch policy {
	case ListOpen:
		return PostAllowed
	case ListInternal:
		if sender != nil {
			return PostAllowed
		}
	case ListMembers:
		if of.has(l) {
			return PostAllowed
		}
	case ListModerated:
		if len(s.people(l.Directory, l.moderators())) > 0 {
			return PostHeld
		}
	}
	return PostRefused
}

// Moderates reports whether e decides about messages to the list l: its moderators
// do, and its owners, who could make themselves moderators.
func (s *Snapshot) Moderates(l, e *Entry) bool {
	of := s.memberships(e)
	return of.any(l.Directory, l.Moderators) || of.any(l.Directory, l.Owners)
}

// ModeratesFrom reports whether an address is that of a moderator of l whose mailbox
// is not ours. Ours log in.
func (s *Snapshot) ModeratesFrom(l *Entry, from envelope.Address) bool {
	for _, e := range s.people(l.Directory, l.moderators()) {
		if !s.Keeps(e) && slices.Contains(e.mailNames(), MailName(from)) {
			return true
		}
	}
	return false
}

// moderators names those whom a moderated list asks.
func (e *Entry) moderators() []string {
	if len(e.Moderators) > 0 {
		return e.Moderators
	}
	return e.Owners
}

// memberships is an entry and every group that it is in, directly or not. nil is
// nobody.
type memberships struct {
	s     *Snapshot
	keys  map[Key]struct{}
	names map[string]struct{} // their DNs and SIDs, and the addresses of the entry by MailName
}

func (s *Snapshot) memberships(e *Entry) *memberships {
	if e == nil || e.Key == "" {
		return nil
	}
	m := &memberships{s: s, keys: map[Key]struct{}{}, names: map[string]struct{}{}}
	for _, name := range e.mailNames() {
		m.names[name] = struct{}{}
	}
	todo := []*Entry{e}
	add := func(g *Entry) {
		if _, seen := m.keys[g.Key]; seen {
			return
		}
		m.keys[g.Key] = struct{}{}
		if dn := g.normalDN(); dn != "" {
			m.names[dn] = struct{}{}
		}
		if g.SID != "" {
			m.names[g.SID] = struct{}{}
		}
		todo = append(todo, g)
	}
	for add(e); len(todo) > 0; {
		last := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for g := range s.groups(last) {
			add(g)
		}
	}
	return m
}

// groups yields the groups that e is a member of, not those that these are in: the
// reverse of members.
func (s *Snapshot) groups(e *Entry) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		if dn := e.normalDN(); dn != "" {
			unique := s.only(byDN, dn) != nil
			for _, g := range s.all(byMember, dn) {
				if (unique || s.means(g.Directory, dn, e)) && !yield(g) {
					return
				}
			}
		}
		for _, name := range e.mailNames() {
			for _, g := range s.all(byMember, name) {
				if s.means(g.Directory, name, e) && !yield(g) {
					return
				}
			}
		}
		if e.SID != "" && s.BySID(e.SID) != nil {
			for _, g := range s.all(byMember, e.SID) {
				if !yield(g) {
					return
				}
			}
		}
		for _, login := range e.Logins {
			for _, g := range s.all(byMemberLogin, login) {
				if p := s.loggedIn(g.Directory, login); p != nil && p.Key == e.Key && !yield(g) {
					return
				}
			}
		}
		if g := s.BySID(e.PrimaryGroup); g != nil && !yield(g) {
			return
		}
		for _, d := range s.dynamic {
			if d.matches(s, e) && !yield(d.group) {
				return
			}
		}
	}
}

// mailNames returns the addresses of e by MailName.
func (e *Entry) mailNames() []string {
	out := make([]string, 0, 1+len(e.Aliases))
	if !e.Primary.IsZero() {
		out = append(out, MailName(e.Primary))
	}
	for _, a := range e.Aliases {
		out = append(out, MailName(a))
	}
	return out
}

// means reports whether a name in the directory dir means e.
func (s *Snapshot) means(dir, name string, e *Entry) bool {
	found := s.named(dir, name)
	return found != nil && found.Key == e.Key
}

// has reports whether g is the entry or one of its groups.
func (m *memberships) has(g *Entry) bool {
	if m == nil {
		return false
	}
	_, ok := m.keys[g.Key]
	return ok
}

// any reports whether one of the names that the directory dir gives is among them.
func (m *memberships) any(dir string, names []string) bool {
	if m == nil {
		return false
	}
	for _, name := range names {
		if _, ok := m.names[name]; !ok {
			sid := foreignSID(name)
			if _, ok = m.names[sid]; !ok || sid == "" {
				continue
			}
		}
		if e := m.s.named(dir, name); e != nil && m.has(e) {
			return true
		}
	}
	return false
}

// people returns the entries that the directory dir names, groups resolved to the
// people in them.
func (s *Snapshot) people(dir string, names []string) []*Entry {
	var found []*Entry
	seen := map[Key]struct{}{}
	var add func(e *Entry)
	add = func(e *Entry) {
		if e == nil {
			return
		}
		if _, ok := seen[e.Key]; ok {
			return
		}
		seen[e.Key] = struct{}{}
		if e.Kind != KindList {
			found = append(found, e)
			return
		}
		for m := range s.members(e) {
			add(m)
		}
		for _, a := range e.ExternalMembers {
			add(s.named(e.Directory, MailName(a)))
		}
	}
	for _, name := range names {
		e := s.named(dir, name)
		if e == nil {
			e = s.outsider(name)
		}
		add(e)
	}
	return found
}

// outsider returns a contact for somebody whom a directory names by an address of
// others that has no entry, nil for any other name.
func (s *Snapshot) outsider(name string) *Entry {
	text, ok := strings.CutPrefix(name, mailScheme)
	if !ok {
		return nil
	}
	a, err := envelope.ParseAddress(text)
	if err != nil || s.IsLocalDomain(a.Domain) || len(s.Owners(a)) > 0 {
		return nil
	}
	return &Entry{Key: Key(name), Kind: KindContact, Primary: a}
}
