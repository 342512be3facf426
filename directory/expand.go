package directory

import (
	"slices"

	"dirpost/internal/envelope"
)

// Expansion is what becomes of the recipients of one message: every mailbox
// and every address elsewhere once, whatever the graph of lists and forwards.
type Expansion struct {
	Local   []LocalRecipient
	Remote  []RemoteRecipient
	Held    []HeldRecipient
	Refused []RefusedRecipient
	// Expanded are lists whose sender wants to hear of success: that they have
	// the message is all there is to hear (RFC 3461 §5.2.7), for their members do
	// not report it.
	Expanded []ExpandedRecipient
}

// LocalRecipient is one copy for a mailbox of ours.
type LocalRecipient struct {
	Entry     *Entry
	Recipient envelope.Recipient // as the client gave it; Address may be a list
	Detail    string             // subaddress, when the mailbox itself was addressed
	Path      []Key              // lists and forwarders on the way, outermost first
	List      *Entry             // the outermost list on the way, nil for none
	Quota     int64              // of the mailbox, see Limits; octets, 0 none
}

// RemoteRecipient is one copy that leaves. Recipient.Address is where it goes,
// Recipient.Original how the sender knew it.
type RemoteRecipient struct {
	Entry     *Entry // whose mailbox is elsewhere; nil for an address that is no entry's
	Recipient envelope.Recipient
	NextHop   string // host[:port], "" by MX
	Path      []Key
	List      *Entry // the outermost list on the way, nil for none
}

// HeldRecipient waits for a decision: of the administrator for a mailbox whose
// delivery is held, of Moderators for a list. It belongs into the queue, on
// hold, with Recipient as it is; released, it is expanded again.
type HeldRecipient struct {
	Entry      *Entry
	Recipient  envelope.Recipient
	Moderators []*Entry
	Path       []Key
	List       *Entry // the outermost list on the way to a mailbox, nil for none
}

// ExpandedRecipient is a list that the message reached, as it was addressed.
type ExpandedRecipient struct {
	Entry     *Entry
	Recipient envelope.Recipient
}

// RefusedRecipient gets nothing, and Status says why.
type RefusedRecipient struct {
	Recipient envelope.Recipient
	Status    envelope.Status
}

// Terms are what matters to an expansion besides the recipients.
type Terms struct {
	// Sender is the authenticated person, nil for mail from outside.
	Sender *Entry
	// Released says that the lists which are addressed may be used, whoever
	// sends: somebody has decided that, or we write ourselves.
	Released bool
	// From is the reverse-path. A message from outside that comes from the owner
	// address of the list it is for was sent by that list: it comes back.
	From envelope.ReversePath
	// Been are the addresses that the message has been delivered to before
	// (Delivered-To). A list among them is not expanded again.
	Been []envelope.Address
}

// Expand follows lists and forwards from rcpts to mailboxes.
//
// A mailbox addressed itself wins over one reached by a list, and the first
// address given wins over the next. Lists and forwards that lead round in a
// circle end there. A forward that leads nowhere keeps the mail in the mailbox
// of who forwards: no setting of a person loses a message.
//
// Whether a list may be used is asked of the list that was addressed, not of
// those inside it: who put a list into another one meant it to get the mail.
func (s *Snapshot) Expand(rcpts []envelope.Recipient, terms Terms) Expansion {
	x := expander{s: s, terms: terms, seen: map[Key]progress{}, sent: map[string]struct{}{}}
	for _, a := range terms.Been {
		if x.been == nil {
			x.been = map[string]struct{}{}
		}
		x.been[a.Key()] = struct{}{}
	}
	resolved := make([]Resolution, len(rcpts))
	for i, r := range rcpts {
		resolved[i] = s.Resolve(r.Address)
	}
	for i, r := range resolved {
		if r.Home != HomeList {
			x.recipient(rcpts[i], r)
		}
	}
	for i, r := range resolved {
		if r.Home == HomeList {
			x.recipient(rcpts[i], r)
		}
	}
	return x.out
}

// progress is how far an entry has been followed.
type progress uint8

const (
	open     progress = iota + 1 // on the way down from it: meeting it again is a circle
	reached                      // the message arrives by it
	deadEnd                      // nothing arrives by it
	deferred                     // nothing arrives by it now
)

type expander struct {
	s     *Snapshot
	terms Terms
	been  map[string]struct{} // of terms, by Key
	seen  map[Key]progress
	sent  map[string]struct{} // remote addresses
	list  *Entry              // the outermost list on the way, nil outside of any
	out   Expansion
}

func (x *expander) refuse(r envelope.Recipient, st envelope.Status) {
	x.out.Refused = append(x.out.Refused, RefusedRecipient{r, st})
}

// recipient follows one address of the envelope.
func (x *expander) recipient(rcpt envelope.Recipient, r Resolution) {
	if rcpt.Original == "" {
		rcpt.Original = rcpt.Address.String()
	}
	switch {
	case !r.OK():
		x.refuse(rcpt, r.Status)
	case r.Home == HomeNotOurs:
		x.send(nil, rcpt, rcpt.Address, "", nil)
	case r.Home == HomeContact, r.Home == HomeElsewhere:
		if r.Entry != nil {
			x.seen[r.Entry.Key] = reached
		}
		x.send(r.Entry, rcpt, r.Target, r.NextHop, nil)
	case r.Home == HomeList:
		x.addressed(rcpt, r.Entry)
	case r.Home == HomeOwners:
		x.owners(rcpt, r.Entry)
	case r.Home == HomeDecision: // the caller's business: nobody gets the message
	case x.isBarred(r.Entry):
		x.refuse(rcpt, statusBarred)
	default:
		if x.visit(rcpt, r.Entry, r.Detail, nil) == deadEnd {
			x.refuse(rcpt, statusRouting)
		}
	}
}

// addressed follows a list that was addressed itself.
func (x *expander) addressed(rcpt envelope.Recipient, l *Entry) {
	if x.loops(l) {
		x.refuse(rcpt, envelope.StatusLoop)
		return
	}
	post := PostAllowed
	if !x.terms.Released {
		post = x.s.MayPost(l, x.terms.Sender)
	}
	switch post {
	case PostRefused:
		x.refuse(rcpt, statusMayNot)
		return
	case PostHeld:
		x.out.Held = append(x.out.Held, HeldRecipient{Entry: l, Recipient: rcpt, Moderators: x.s.people(l.Directory, l.moderators())})
		return
	}
	before := x.seen[l.Key]
	switch x.visit(rcpt, l, "", nil) {
	case reached:
		if before == reached { // by another recipient
			x.expanded(rcpt, l)
		}
	case deadEnd:
		if !x.again(rcpt, l) {
			x.refuse(rcpt, statusListEmpty)
		}
	case deferred:
		x.refuse(rcpt, statusListAway)
	}
}

// isBarred reports whether the sender may not write to the mailbox e, which was
// addressed itself: it takes mail of some only, or not of this one. Who sends from
// outside cannot be told, and is none of those who are named.
func (x *expander) isBarred(e *Entry) bool {
	sender := x.terms.Sender
	switch {
	case x.terms.Released || e == nil || len(e.Barred)+len(e.Allowed) == 0 && !e.NoStrangers:
		return false
	case sender == nil:
		return e.NoStrangers || len(e.Allowed) > 0
	case sender.Key == e.Key:
		return false
	}
	of := x.s.memberships(sender)
	return of.any(e.Directory, e.Barred) || len(e.Allowed) > 0 && !of.any(e.Directory, e.Allowed)
}

// loops reports whether the message has been sent by the list l before.
func (x *expander) loops(l *Entry) bool {
	if x.hasBeen(l) {
		return true
	}
	from, ok := x.terms.From.Address()
	if !ok || x.terms.Sender != nil || x.terms.Released {
		return false
	}
	owner, ok := x.s.OwnerAddress(l)
	return ok && owner.Key() == from.Key()
}

// hasBeen reports whether the message was delivered to the list l before.
func (x *expander) hasBeen(l *Entry) bool {
	if len(x.been) == 0 {
		return false
	}
	a, ok := x.s.ListAddress(l)
	if !ok {
		return false
	}
	_, ok = x.been[a.Key()]
	return ok
}

// owners delivers to the owners of a list. They are people: a list among them is
// followed to the people in it, and is not sent to as a list.
func (x *expander) owners(rcpt envelope.Recipient, l *Entry) {
	result := deadEnd
	for _, e := range x.s.people(l.Directory, l.Owners) {
		if p := x.visit(rcpt, e, "", nil); p == reached || result == deadEnd {
			result = p
		}
	}
	switch result {
	case deadEnd:
		x.refuse(rcpt, statusRouting)
	case deferred:
		x.refuse(rcpt, statusListAway)
	}
}

// expanded records that the list l leads on.
func (x *expander) expanded(rcpt envelope.Recipient, l *Entry) {
	if rcpt.Notify&envelope.NotifySuccess != 0 {
		x.out.Expanded = append(x.out.Expanded, ExpandedRecipient{Entry: l, Recipient: rcpt})
	}
}

// again reports whether l leads somewhere when it is followed alone. It was a
// dead end, but perhaps only since it was met within a circle of lists that
// has been followed from another one; then its members have been reached.
func (x *expander) again(rcpt envelope.Recipient, l *Entry) bool {
	alone := expander{s: x.s, terms: x.terms, been: x.been, seen: map[Key]progress{}, sent: map[string]struct{}{}}
	return alone.visit(rcpt, l, "", nil) == reached
}

// visit delivers to e, or to where e leads. path is not changed; it may be
// shared by all members of a list.
func (x *expander) visit(rcpt envelope.Recipient, e *Entry, detail string, path []Key) progress {
	if p := x.seen[e.Key]; p != 0 {
		return p
	}
	x.seen[e.Key] = open
	p := x.follow(rcpt, e, detail, path)
	x.seen[e.Key] = p
	return p
}

func (x *expander) follow(rcpt envelope.Recipient, e *Entry, detail string, path []Key) progress {
	delivery := x.s.deliveryOf(e)
	if !x.s.mayReceive(e, delivery) {
		return deadEnd
	}
	switch {
	case e.Kind == KindList:
		p := x.members(rcpt, e, path)
		if p == reached {
			x.expanded(rcpt, e)
		}
		return p
	case e.Kind == KindContact, e.Kind == KindElsewhere:
		return x.away(rcpt, e, path)
	case !e.HasMailbox(), e.Primary.IsZero():
		return deadEnd
	case x.s.homeDomain(e) == "":
		return x.send(e, rcpt, e.Primary, "", path)
	case !x.s.isHere(e):
		return x.away(rcpt, e, path)
	case delivery == StateHeld:
		x.out.Held = append(x.out.Held, HeldRecipient{Entry: e, Recipient: rcpt, Path: path, List: x.list})
		return reached
	}
	if len(e.Forward)+len(e.ForwardTo) > 0 {
		arrived := false
		onward := append(slices.Clip(path), e.Key)
		// One copy answers for the delivery (RFC 3461 §5.2.7.3, §5.2.7.4 (b)): the
		// one that is kept, else the first.
		copied := rcpt
		if e.KeepCopy {
			copied.Notify = copied.Notify.Onward()
		}
		for _, a := range e.Forward {
			if x.address(copied, a, onward) == reached {
				arrived = true
				copied.Notify = copied.Notify.Onward()
			}
		}
		for _, name := range e.ForwardTo {
			to := x.s.named(e.Directory, name)
			if to != nil && x.visit(copied, to, "", onward) == reached {
				arrived = true
				copied.Notify = copied.Notify.Onward()
			}
		}
		if arrived && !e.KeepCopy {
			return reached
		}
	}
	x.out.Local = append(x.out.Local, LocalRecipient{Entry: e, Recipient: rcpt, Detail: detail, Path: path, List: x.list, Quota: x.s.Limits(e).Quota})
	return reached
}

// away sends to e, whose mailbox another system has.
func (x *expander) away(rcpt envelope.Recipient, e *Entry, path []Key) progress {
	r := Resolution{Entry: e}
	if e.HasMailbox() && x.s.place(e) != PlaceElsewhere {
		return deadEnd
	}
	if x.s.route(&r, e.Primary); !r.OK() {
		return deferred
	}
	return x.send(e, rcpt, r.Target, r.NextHop, path)
}

// members follows the members of a list.
func (x *expander) members(rcpt envelope.Recipient, l *Entry, path []Key) progress {
	if x.hasBeen(l) {
		return deadEnd
	}
	if x.list == nil {
		x.list = l
		defer func() { x.list = nil }()
	}
	path = append(slices.Clip(path), l.Key)
	rcpt.Notify = rcpt.Notify.Onward()
	result := deadEnd
	note := func(p progress) {
		if p == reached || p == deferred && result == deadEnd {
			result = p
		}
	}
	for e := range x.s.members(l) {
		if e != nil {
			note(x.visit(rcpt, e, "", path))
		} else if x.s.Stale() {
			note(deferred) // perhaps one that has not been heard of yet
		}
	}
	for _, a := range l.ExternalMembers {
		note(x.address(rcpt, a, path))
	}
	return result
}

// address follows the target of a forward or a member given by address.
func (x *expander) address(rcpt envelope.Recipient, a envelope.Address, path []Key) progress {
	r := x.s.Resolve(a)
	switch {
	case !r.OK() && r.Status.IsTemporary():
		return deferred
	case !r.OK():
		return deadEnd
	case r.Home == HomeNotOurs:
		return x.send(nil, rcpt, a, "", path)
	case r.Entry == nil:
		return x.send(nil, rcpt, r.Target, r.NextHop, path)
	}
	return x.visit(rcpt, r.Entry, r.Detail, path)
}

// send adds one copy that leaves, for e if it is an entry's. Local-parts of other domains may differ in
// case only, so addresses are compared as they are (RFC 5321 §2.4).
func (x *expander) send(e *Entry, rcpt envelope.Recipient, to envelope.Address, nextHop string, path []Key) progress {
	key := to.Local + "@" + to.Domain
	if _, ok := x.sent[key]; ok {
		return reached
	}
	x.sent[key] = struct{}{}
	rcpt.Address = to
	x.out.Remote = append(x.out.Remote, RemoteRecipient{Entry: e, Recipient: rcpt, NextHop: nextHop, Path: path, List: x.list})
	return reached
}
