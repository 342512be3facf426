package directory

import (
	"slices"
	"strings"

	"dirpost/internal/envelope"
)

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
	if owner.Key == e.Key {
		return UsageOwn
	}
	if len(owner.SendAs) == 0 && len(owner.OnBehalf) == 0 {
		return UsageNone
	}
	of := s.memberships(e)
	switch {
	case of.any(owner.SendAs):
		return UsageSendAs
	case of.any(owner.OnBehalf):
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
	for dn := range s.memberships(e) {
		for _, m := range s.all(byAccess, dn) {
			if m.HasMailbox() && m.Key != e.Key && s.isHere(m) {
				found = append(found, m)
			}
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

// MayOpen reports whether e may open the mailbox m of somebody else.
func (s *Snapshot) MayOpen(e, m *Entry) bool {
	return e != nil && m != nil && len(m.Access) > 0 && s.memberships(e).any(m.Access)
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
// list l.
func (s *Snapshot) MayPost(l, sender *Entry) Post {
	policy := l.Policy
	if policy == 0 {
		policy = s.rules.ListPolicy
	}
	switch {
	case policy == ListOpen:
		return PostAllowed
	case sender != nil && policy == ListInternal:
		return PostAllowed
	}
	if sender != nil {
		of := s.memberships(sender)
		if of.any(l.Owners) || of.any(l.Moderators) || of.any(l.Senders) {
			return PostAllowed
		}
		if _, ok := of[l.normalDN()]; ok && policy == ListMembers {
			return PostAllowed
		}
	}
	if policy == ListModerated && len(l.moderators()) > 0 {
		return PostHeld
	}
	return PostRefused
}

// moderators names those whom a moderated list asks.
func (e *Entry) moderators() []string {
	if len(e.Moderators) > 0 {
		return e.Moderators
	}
	return e.Owners
}

// memberships is the DN of an entry and those of every group that it is in,
// directly or not, and its addresses by MailName.
type memberships map[string]struct{}

func (s *Snapshot) memberships(e *Entry) memberships {
	own := e.normalDN()
	of := memberships{}
	if own == "" {
		return of
	}
	of[own] = struct{}{}
	if !e.Primary.IsZero() {
		of[MailName(e.Primary)] = struct{}{}
	}
	for _, a := range e.Aliases {
		of[MailName(a)] = struct{}{}
	}
	for todo := []string{own}; len(todo) > 0; {
		dn := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, g := range s.all(byMember, dn) {
			name := g.normalDN()
			if _, seen := of[name]; seen || name == "" {
				continue
			}
			of[name] = struct{}{}
			todo = append(todo, name)
		}
	}
	return of
}

// any reports whether one of list is among them.
func (of memberships) any(list []string) bool {
	for _, dn := range list {
		if _, ok := of[dn]; ok {
			return true
		}
	}
	return false
}

// people returns the entries behind DNs and names of MailName, groups resolved
// to the people in them.
func (s *Snapshot) people(dns []string) []*Entry {
	var found []*Entry
	seen := map[Key]struct{}{}
	var add func(dns []string)
	add = func(dns []string) {
		for _, dn := range dns {
			var e *Entry
			if address, ok := strings.CutPrefix(dn, mailScheme); ok {
				e = s.only(byAddress, address)
			} else {
				e = s.only(byDN, dn)
			}
			if e == nil {
				continue
			}
			if _, ok := seen[e.Key]; ok {
				continue
			}
			seen[e.Key] = struct{}{}
			if e.Kind == KindList {
				add(e.Members)
			} else {
				found = append(found, e)
			}
		}
	}
	add(dns)
	return found
}
