package directory

import (
	"slices"

	"dirpost/internal/envelope"
)

// Affected are those whose waiting mail may be decided in another way by a snapshot
// than by the one before.
type Affected struct {
	// Keys are of entries: people, and mailboxes of other kinds.
	Keys []Key
	// Room are those of Keys whose mailboxes may hold more than before.
	Room []Key
	// Addresses of ours are those that entries have or had which have changed: mail
	// may wait for them at another system as for nobody's whom the directory knows.
	Addresses []envelope.Address
	// Many says that they are more than can be named: everybody may be.
	Many bool
}

// maxAffected is how many entries are named.
const maxAffected = 2000

// Affected compares s with the snapshot before, where the entries with the keys
// changed are not the same: those themselves, and who has come into a group that
// decides whose mailbox is where or how much it holds, or has left it. It costs what has
// changed, whatever the size of the directory.
func (s *Snapshot) Affected(before *Snapshot, changed []Key) Affected {
	if len(changed) > maxAffected || !before.ready {
		return Affected{Many: true}
	}
	a := affecting{now: s, before: before, keys: map[Key]struct{}{}, addresses: map[string]envelope.Address{}}
	for _, k := range changed {
		a.entry(before.ByKey(k), s.ByKey(k))
		if a.many || len(a.keys) > maxAffected || len(a.addresses) > maxAffected {
			return Affected{Many: true}
		}
	}
	return a.result()
}

// affecting collects Affected.
type affecting struct {
	now, before *Snapshot
	keys        map[Key]struct{}
	addresses   map[string]envelope.Address // by Key
	many        bool
}

// entry notes what an entry that was old, and is new, stands for; nil for none.
func (a *affecting) entry(old, new *Entry) {
	if old.Same(new) {
		return
	}
	for _, e := range []*Entry{old, new} {
		if e == nil {
			continue
		}
		if e.Kind != KindList && e.Kind != KindDomain {
			a.keys[e.Key] = struct{}{}
		}
		for address := range e.addresses() {
			if a.now.IsLocalDomain(address.Domain) {
				a.addresses[address.Key()] = address
			}
		}
	}
	if a.before.decides(old) || a.now.decides(new) {
		a.group(old, new)
	}
}

// group notes who is in a group of only one of the snapshots.
func (a *affecting) group(old, new *Entry) {
	if old == nil || new == nil || old.normalDN() != new.normalDN() || old.SID != new.SID || !slices.Equal(old.Queries, new.Queries) {
		a.many = true // everybody who is in it
		return
	}
	seen := map[Key]struct{}{}
	a.difference(seen, old.Directory, old.Members, new.Members, (*Snapshot).named)
	a.difference(seen, old.Directory, old.MemberLogins, new.MemberLogins, (*Snapshot).loggedIn)
}

// difference notes whom names mean in the directory dir that stand in one of two lists.
func (a *affecting) difference(seen map[Key]struct{}, dir string, old, new []string, named func(s *Snapshot, dir, name string) *Entry) {
	had := make(map[string]struct{}, len(old))
	for _, name := range old {
		had[name] = struct{}{}
	}
	note := func(name string) {
		a.member(seen, a.before, named(a.before, dir, name))
		a.member(seen, a.now, named(a.now, dir, name))
	}
	for _, name := range new {
		if _, ok := had[name]; ok {
			delete(had, name)
		} else {
			note(name)
		}
	}
	for name := range had {
		note(name)
	}
}

// member notes a member of a group, and those of a group that is one.
func (a *affecting) member(seen map[Key]struct{}, s *Snapshot, e *Entry) {
	if e == nil || a.many {
		return
	}
	if e.Kind != KindList {
		a.keys[e.Key] = struct{}{}
		a.many = len(a.keys) > maxAffected
		return
	}
	if _, ok := seen[e.Key]; ok {
		return
	}
	seen[e.Key] = struct{}{}
	for m := range s.members(e) {
		a.member(seen, s, m)
	}
}

func (a *affecting) result() Affected {
	var out Affected
	for k := range a.keys {
		out.Keys = append(out.Keys, k)
		e := a.now.ByKey(k)
		was := a.before.Limits(a.before.ByKey(k)).Quota
		if quota := a.now.Limits(e).Quota; e != nil && was > 0 && (quota == 0 || quota > was) {
			out.Room = append(out.Room, k)
		}
	}
	slices.Sort(out.Keys)
	slices.Sort(out.Room)
	for _, address := range a.addresses {
		out.Addresses = append(out.Addresses, address)
	}
	return out
}

// decides reports whether who is in a group, directly or through others, has by it the
// mailbox here, or what a policy gives.
func (s *Snapshot) decides(g *Entry) bool {
	if g == nil || g.Kind != KindList || g.IsGone() || !s.PlacesByGroup() && s.policies == nil {
		return false
	}
	of := s.memberships(g)
	for i := range s.rules.Mailboxes {
		if r := &s.rules.Mailboxes[i]; len(r.groups) > 0 && of.any(r.Directory, r.groups) {
			return true
		}
	}
	return s.policies != nil && slices.ContainsFunc(s.policies.list, func(p policy) bool { return of.holds(p.group) })
}

// Waiting is mail that waits: for the mailbox of K, or for another system, NextHop, as
// which K's was known when it came; K is "" where the directory knew nobody.
type Waiting struct {
	K       Key
	Address envelope.Address // to which it goes
	NextHop string           // "" for a mailbox of ours
	Held    bool             // since delivery to K was held
}

// Reroutes reports whether w is not to wait any longer as it does: the mailbox is
// ours by now, or with another system than the one it waits for, or nobody's, or its
// delivery is no longer held. Where that cannot be told now it goes on waiting.
func (s *Snapshot) Reroutes(w Waiting) bool {
	if !s.ready {
		return false
	}
	if w.NextHop != "" {
		return s.Moved(w.K, w.Address, w.NextHop) != ""
	}
	if e := s.ByKey(w.K); e != nil && e.IsGone() && !s.Left(e) {
		return false // the groups that had the mailbox here have it no more, and may again
	}
	to := s.Awaited(w.K, w.Address)
	switch {
	case !to.OK() && w.Held && to.Entry != nil && !s.Left(to.Entry):
		return false // it may be taken again
	case !to.OK():
		return !to.Status.IsTemporary()
	case w.Held:
		d := s.deliveryOf(to.Entry)
		return d != StateHeld && s.mayReceive(to.Entry, d)
	}
	return to.Home != HomeHere
}

// Subaddresses returns the range of local-parts, in lower case and by their octets, that
// are those of a with a detail, from low to below high; both "" where there are none.
func (s *Snapshot) Subaddresses(a envelope.Address) (low, high string) {
	d := s.rules.Delimiter
	if d == "" {
		return "", ""
	}
	local := a.Key()[:len(a.Key())-len(a.Domain)-1]
	return local + d, local + string(d[0]+1)
}
