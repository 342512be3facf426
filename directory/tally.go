package directory

import (
	"iter"
	"maps"
	"slices"
)

// Tally counts the entries of one directory by what they are to mail.
type Tally struct {
	Kinds [KindDomain + 1]int // by Kind, of those that are there
	Gone  int                 // have left, and their mail is kept
}

// Of returns how many entries of these kinds there are.
func (t Tally) Of(kinds ...Kind) int {
	n := 0
	for _, k := range kinds {
		n += t.Kinds[k]
	}
	return n
}

// There returns how many entries there are of all kinds.
func (t Tally) There() int {
	n := 0
	for _, k := range t.Kinds {
		n += k
	}
	return n
}

// Tallies returns the counts by directory. The map is the caller's.
func (s *Snapshot) Tallies() map[string]Tally { return maps.Clone(s.tally) }

// count adds n to what s counts of the like of e.
func (b *builder) count(e *Entry, n int) {
	b.s.count += n
	dir := e.Key.Directory()
	t := b.s.tally[dir]
	switch {
	case e.IsGone():
		t.Gone += n
	case int(e.Kind) < len(t.Kinds):
		t.Kinds[e.Kind] += n
	}
	if t == (Tally{}) {
		delete(b.s.tally, dir)
		return
	}
	b.s.tally[dir] = t
}

// The names that one entry alone may have.
const (
	contestedAddresses = iota
	contestedLogins
)

// question remembers a name for contest when least slots or more have its hash:
// with fewer there is nobody to share it with, or it was not shared before.
func (b *builder) question(i index, name string, least int) {
	which := contestedAddresses
	switch i {
	case byAddress:
	case byLogin:
		which = contestedLogins
	default:
		return
	}
	if len(b.s.candidates(i, name)) >= least {
		b.doubt[which] = append(b.doubt[which], name)
	}
}

// contest brings up to date which names more than one entry has.
func (b *builder) contest() {
	for which, i := range [...]index{contestedAddresses: byAddress, contestedLogins: byLogin} {
		old := b.s.contested[which]
		next, copied := old, false
		for _, name := range b.doubt[which] {
			_, was := next[name]
			is := len(b.s.all(i, name)) > 1
			if is == was {
				continue
			}
			if !copied {
				next, copied = maps.Clone(old), true
				if next == nil {
					next = map[string]struct{}{}
				}
			}
			if is {
				next[name] = struct{}{}
			} else {
				delete(next, name)
			}
			b.s.doubts = b.s.version
		}
		b.s.contested[which] = next
	}
}

// Contest is an address that more than one entry has: a mistake in the directory.
type Contest struct {
	Address string   // by envelope.Address.Key
	Owner   *Entry   // who gets the mail; nil: nobody can tell, it is deferred
	ByOrder bool     // Owner, or who may be it, is of the directory that comes first
	Entries []*Entry // all that have it, in the order of their keys
}

// Contested yields the addresses that more than one entry has, in no order.
func (s *Snapshot) Contested() iter.Seq[Contest] {
	return func(yield func(Contest) bool) {
		for name := range s.contested[contestedAddresses] {
			if !yield(s.contest(name)) {
				return
			}
		}
	}
}

func (s *Snapshot) contest(name string) Contest {
	all := s.all(byAddress, name)
	slices.SortFunc(all, func(a, b *Entry) int { return compareKeys(a.Key, b.Key) })
	best := s.preferred(all, domainOf(name))
	owner, _ := firstOf(best, name)
	return Contest{Address: name, Owner: owner, ByOrder: len(best) < len(all), Entries: all}
}

// AmbiguousAddresses returns how many addresses belong to nobody since it cannot be
// told who of several entries had them first.
func (s *Snapshot) AmbiguousAddresses() int {
	n := 0
	for c := range s.Contested() {
		if c.Owner == nil {
			n++
		}
	}
	return n
}

// AmbiguousLogins returns how many login names let nobody in since several entries
// have them.
func (s *Snapshot) AmbiguousLogins() int {
	n := 0
	for name := range s.contested[contestedLogins] {
		if s.ByLogin(name) == nil {
			n++
		}
	}
	return n
}

// maxAlarms bounds the lines about names that are not unique.
const maxAlarms = 20

// alarm says once of each name that more than one entry has it.
func (f *Feeder) alarm() {
	s := f.live.Snapshot()
	f.alarms.Lock()
	defer f.alarms.Unlock()
	if s.doubts == f.doubts && f.told != nil {
		return
	}
	f.doubts = s.doubts
	told := map[string]struct{}{}
	lines := 0
	tell := func(name string, say func()) {
		told[name] = struct{}{}
		if _, ok := f.told[name]; ok {
			return
		}
		if lines++; lines <= maxAlarms {
			say()
		}
	}
	for c := range s.Contested() {
		tell("address "+c.Address, func() { f.alarmAddress(c) })
	}
	for name := range s.contested[contestedLogins] {
		if s.ByLogin(name) != nil {
			continue // the order of directories says whose it is
		}
		tell("login "+name, func() {
			f.log.Warn("a login name belongs to more than one entry; it lets nobody in", "login", name, "dn", dnsOf(s.all(byLogin, name)))
		})
	}
	if lines > maxAlarms {
		f.log.Error("there are more addresses and login names that belong to more than one entry: see 'dirpost directory check'", "count", lines-maxAlarms)
	}
	f.told = told
}

func (f *Feeder) alarmAddress(c Contest) {
	if c.Owner != nil && c.ByOrder {
		f.log.Warn("an address belongs to entries of several directories; the directory that comes first keeps it", "address", c.Address, "dn", dnsOf(c.Entries), "owner", c.Owner.DN)
		return
	}
	if c.Owner != nil {
		f.log.Warn("an address belongs to more than one entry; who had it first keeps it", "address", c.Address, "dn", dnsOf(c.Entries), "owner", c.Owner.DN)
		return
	}
	f.log.Error("an address belongs to more than one entry, and nobody can tell who had it first; mail for it is deferred until only one has it", "address", c.Address, "dn", dnsOf(c.Entries))
}

// dnsOf are the names of entries, for people to read.
func dnsOf(all []*Entry) []string {
	names := make([]string, len(all))
	for i, e := range all {
		names[i] = e.DN
	}
	return names
}
