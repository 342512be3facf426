package directory

import (
	"strings"

	"dirpost/internal/envelope"
)

// Lists have addresses for what is not meant for their members. LIST-owner@ and
// owner-LIST@, as Postfix and Sendmail know them, and LIST-request@ (RFC 2142 §6)
// go to the owners. An entry of its own with such an address comes first.

// OwnerAddress returns the address to which what cannot be delivered to a member
// of l goes back: LIST-owner@, or owner-LIST@ where only that is an entry. It is
// false for a list that has neither owners nor such an entry.
func (s *Snapshot) OwnerAddress(l *Entry) (envelope.Address, bool) {
	a, ok := s.ListAddress(l)
	if !ok {
		return a, false
	}
	suffix, prefix := a, a
	suffix.Local, prefix.Local = a.Local+"-owner", "owner-"+a.Local
	if len(suffix.Local) > maxLocalPart {
		return a, false
	}
	for _, own := range []envelope.Address{suffix, prefix} {
		if e, _ := s.owner(own); e != nil && s.resolution(own, "", e, nil).OK() {
			return own, true
		}
	}
	return suffix, len(s.people(l.Directory, l.Owners)) > 0
}

// maxLocalPart is the longest local-part (RFC 5321 §4.5.3.1.1).
const maxLocalPart = 64

// ListAddress returns the address of l at a domain of ours, its primary one if
// that is; false if there is none.
func (s *Snapshot) ListAddress(l *Entry) (envelope.Address, bool) {
	if s.IsLocalDomain(l.Primary.Domain) {
		return l.Primary, true
	}
	for _, a := range l.Aliases {
		if s.IsLocalDomain(a.Domain) {
			return a, true
		}
	}
	return envelope.Address{}, false
}

// listOfOwner returns the list whose owners a is an address of, nil for none.
func (s *Snapshot) listOfOwner(a envelope.Address) *Entry {
	local := strings.ToLower(a.Local)
	for _, affix := range []string{"-owner", "-request", "owner-"} {
		base := a
		switch {
		case affix == "owner-" && strings.HasPrefix(local, affix):
			base.Local = a.Local[len(affix):]
		case affix != "owner-" && strings.HasSuffix(local, affix):
			base.Local = a.Local[:len(a.Local)-len(affix)]
		default:
			continue
		}
		if e, _ := s.owner(base); e != nil && e.Kind == KindList {
			return e
		}
	}
	return nil
}

// ownersOf resolves the owners of l. If it has none that can be reached, the
// postmaster has to see to it: what goes there are mostly complaints.
func (s *Snapshot) ownersOf(l *Entry) Resolution {
	if len(s.people(l.Directory, l.Owners)) == 0 {
		return s.postmaster()
	}
	return Resolution{Home: HomeOwners, Entry: l}
}

// The local-part of an address at which a moderator decides: the prefix and a
// token of that many letters and digits.
const (
	decisionPrefix = "moderate-"
	decisionToken  = 32
)

// DecisionAddress returns the address at domain for a token, which must be one
// that DecisionToken takes.
func DecisionAddress(token, domain string) envelope.Address {
	return envelope.Address{Local: decisionPrefix + token, Domain: domain}
}

// DecisionToken returns the token in the address of a decision: 32 characters of
// a-z and 2-7 (RFC 4648 §6, in lower case).
func DecisionToken(a envelope.Address) (string, bool) {
	token, ok := strings.CutPrefix(strings.ToLower(a.Local), decisionPrefix)
	if !ok || len(token) != decisionToken || strings.Trim(token, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		return "", false
	}
	return token, true
}
