package directory

import (
	"slices"
	"time"

	"dirpost/internal/envelope"
)

// maxFormer bounds the addresses that an entry had.
const maxFormer = 64

// life is what the feeder goes by when it merges what a source says of an entry
// with what is known of it.
type life struct {
	now   time.Time
	first bool // the directory has never been read to its end, and no other has
	s     *Snapshot
}

// merge returns what becomes of the entry old, nil for one that is new, when a
// source says next, nil for one that is gone: values that cannot be read stay as
// they were, addresses that were replaced are kept for a time, and who leaves is
// kept as long as the mail. It is nil where nothing remains. Merging what it
// returned with the same next changes nothing.
func (l life) merge(old, next *Entry) *Entry {
	if next == nil {
		return l.leave(old)
	}
	e := *next
	e.packed = ""
	if old != nil {
		for _, field := range e.Unreadable {
			keep(&e, old, field)
		}
	}
	e.Claims = l.claims(old, &e)
	e.Former = l.former(old, &e)
	return &e
}

// leave returns what is kept of somebody who is gone: the key, so that the mail is
// theirs again when the entry comes back, and the addresses, for the mail that still
// comes. Lists and contacts just go.
func (l life) leave(old *Entry) *Entry {
	if old == nil || !old.HasMailbox() {
		return nil
	}
	if old.IsGone() {
		return old
	}
	e := *old
	e.packed = ""
	e.Gone, e.Login = l.now, StateGrace
	e.Place = l.s.place(old) // its groups will not say so any more
	if e.Delivery == 0 || e.Delivery == StateActive {
		e.Delivery = StateGrace
	}
	return &e
}

// claims says since when e has its addresses. Who comes back to an address that
// somebody was given meanwhile has it anew.
func (l life) claims(old, e *Entry) []Claim {
	var out []Claim
	for a := range e.addresses() {
		key := a.Key()
		if old == nil || !old.hasAddress(key) || old.IsGone() && l.taken(key, old.Key) {
			if !l.first {
				out = append(out, Claim{a, l.now})
			}
		} else if since := old.claimed(key); !since.IsZero() {
			out = append(out, Claim{a, since})
		}
	}
	return out
}

// taken reports whether an entry other than that with the key own has an address.
func (l life) taken(address string, own Key) bool {
	return slices.ContainsFunc(l.s.all(byAddress, address), func(e *Entry) bool { return e.Key != own })
}

// former returns the addresses that e had and that still are its own. What is
// replaced is kept: the primary address by another one, and with it, or with the
// name of the entry, the further ones. An address that is taken away without any in
// its place is gone at once: somebody wanted that.
func (l life) former(old, e *Entry) []Former {
	if old == nil {
		return nil
	}
	var out []Former
	for _, f := range old.Former {
		if l.now.Before(f.Until) && !e.hasAddress(f.Address.Key()) {
			out = append(out, f)
		}
	}
	span := l.s.rules.KeepFormer
	if span <= 0 || e.Primary.IsZero() || !e.HasMailbox() && e.Kind != KindList {
		return out
	}
	replaced := old.Primary.Key() != e.Primary.Key()
	if !replaced && old.normalDN() == NormalizeDN(e.DN) {
		return out
	}
	for a := range old.addresses() {
		key := a.Key()
		if e.hasAddress(key) || slices.ContainsFunc(out, func(f Former) bool { return f.Address.Key() == key }) {
			continue
		}
		out = append(out, Former{Address: a, Until: l.now.Add(span), Lost: l.now})
	}
	if len(out) > maxFormer { // the oldest go
		out = out[len(out)-maxFormer:]
	}
	return out
}

// keep gives e the value that old has in a logical field which could not be read.
// Where several values make up a field, those that can be read count, and the old
// ones only when there are none.
func keep(e, old *Entry, field string) {
	switch field {
	case "name":
		e.DisplayName = old.DisplayName
	case "primary":
		keepPrimary(e, old)
	case "alias":
		keepList(&e.Aliases, old.Aliases)
	case "login":
		keepList(&e.Logins, old.Logins)
	case "login_state":
		keepState(&e.Login, old.Login, old)
	case "expires":
		e.Expires = old.Expires
	case "delivery_state":
		keepState(&e.Delivery, old.Delivery, old)
	case "quota_default":
		e.Quota, e.QuotaSend, e.QuotaWarn = old.Quota, old.QuotaSend, old.QuotaWarn
	case "quota":
		e.Quota = old.Quota
	case "quota_send":
		e.QuotaSend = old.QuotaSend
	case "quota_warn":
		e.QuotaWarn = old.QuotaWarn
	case "max_receive":
		e.MaxReceive = old.MaxReceive
	case "max_send":
		e.MaxSend = old.MaxSend
	case "forward", "forward_state":
		keepList(&e.Forward, old.Forward)
	case "forward_to":
		keepList(&e.ForwardTo, old.ForwardTo)
	case "place":
		e.Place = old.Place
	case "keep_copy":
		e.KeepCopy = old.KeepCopy
	case "next_hop":
		e.NextHop = old.NextHop
	case "service":
		keepList(&e.Services, old.Services)
	case "service_off": // less is allowed than what can be read
		e.Services = old.Services
	case "hidden":
		e.Hidden = old.Hidden
	case "domain":
		keepList(&e.Domains, old.Domains)
	case "sid":
		e.SID = old.SID
	case "primary_group":
		e.PrimaryGroup = old.PrimaryGroup
	case "certificate": // one that was taken away must not go on opening a mailbox
	case "x500":
		keepList(&e.X500, old.X500)
	default:
		keepOfList(e, old, field)
	}
}

// keepOfList is keep for what lists and shared mailboxes have.
func keepOfList(e, old *Entry, field string) {
	switch field {
	case "member":
		keepList(&e.Members, old.Members)
	case "external_member":
		keepList(&e.ExternalMembers, old.ExternalMembers)
	case "member_login":
		keepList(&e.MemberLogins, old.MemberLogins)
	case "query", "query_base":
		keepList(&e.Queries, old.Queries)
	case "list_policy":
		e.Policy = old.Policy
	case "list_allowed":
		e.Policy, e.Senders, e.Allowed = old.Policy, old.Senders, old.Allowed
	case "require_login":
		e.NoStrangers = old.NoStrangers
	case "owner":
		keepList(&e.Owners, old.Owners)
	case "moderator":
		keepList(&e.Moderators, old.Moderators)
	case "list_sender":
		keepList(&e.Senders, old.Senders)
	case "list_barred":
		keepList(&e.Barred, old.Barred)
	case "access":
		keepList(&e.Access, old.Access)
	case "send_as":
		keepList(&e.SendAs, old.SendAs)
	case "on_behalf":
		keepList(&e.OnBehalf, old.OnBehalf)
	}
}

func keepList[T any](list *[]T, old []T) {
	if len(*list) == 0 {
		*list = old
	}
}

// keepState keeps a state, unless another source takes something away.
func keepState(state *State, was State, old *Entry) {
	if (*state == 0 || *state == StateActive) && !old.IsGone() {
		*state = was
	}
}

// keepPrimary keeps the primary address, with the login name that comes of it. What
// was found in its place is a further address.
func keepPrimary(e, old *Entry) {
	if old.Primary.IsZero() || e.Primary.Key() == old.Primary.Key() {
		return
	}
	instead := e.Primary
	e.Primary = old.Primary
	e.Aliases = slices.DeleteFunc(slices.Clone(e.Aliases), func(a envelope.Address) bool { return a.Key() == e.Primary.Key() })
	if !instead.IsZero() && !e.hasAddress(instead.Key()) {
		e.Aliases = append(e.Aliases, instead)
	}
	if name := FoldLogin(old.Primary.String()); slices.Contains(old.Logins, name) && !slices.Contains(e.Logins, name) {
		e.Logins = append(slices.Clone(e.Logins), name)
		slices.Sort(e.Logins)
	}
}
