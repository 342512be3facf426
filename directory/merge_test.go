package directory

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// day0 is when the tests of this file happen.
var day0 = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

// at returns a snapshot of entries whose time is now.
func at(now time.Time, entries ...*Entry) *Snapshot {
	changes := make([]Change, len(entries))
	for i, e := range entries {
		changes[i] = Change{e.Key, e}
	}
	r := Rules{Domains: []string{"corp.example"}, Delimiter: "+", KeepFormer: 90 * day, KeepGone: 30 * day, ExpiredReceive: 10 * day}.withDefaults()
	s := newSnapshot(&r)
	s.fresh = &freshness{limit: time.Hour, now: func() time.Time { return now }}
	s.fresh.at.Store(now.UnixNano())
	return s.with(1, changes)
}

// personBut returns person(name) changed by f.
func personBut(name string, f func(*Entry)) *Entry { return entry(KindPerson, name, f) }

// A value that cannot be read stays as it was: a quota that became "5 GB" is not 0,
// which would be none.
func TestMergeUnreadable(t *testing.T) {
	t.Parallel()
	old := personBut("alice", func(e *Entry) {
		e.Quota, e.QuotaSend, e.Services, e.Login = 5<<30, 4<<30, []string{"imap"}, StateDisabled
		e.Aliases = addrs("a.example@corp.example")
	})
	l := life{now: day0, s: at(day0, old)}
	got := l.merge(old, personBut("alice", func(e *Entry) {
		e.Unreadable = []string{"quota", "service", "login_state", "alias", "primary", "unheard-of"}
		e.Primary = addr("other@corp.example")
	}))
	if got.Quota != 5<<30 || got.QuotaSend != 0 || !slices.Equal(got.Services, []string{"imap"}) || got.Login != StateDisabled {
		t.Errorf("quota %d, to send %d, services %q, login %d", got.Quota, got.QuotaSend, got.Services, got.Login)
	}
	if got.Primary != addr("alice@corp.example") || !got.hasAddress("a.example@corp.example") || len(got.Former) > 0 {
		t.Errorf("primary %s, aliases %v, former %v", got.Primary, got.Aliases, got.Former)
	}
	// Values that can be read count, whatever stands beside them.
	got = l.merge(old, personBut("alice", func(e *Entry) {
		e.Unreadable, e.Aliases = []string{"alias"}, addrs("new@corp.example")
	}))
	if !slices.Equal(got.Aliases, addrs("new@corp.example")) {
		t.Errorf("aliases %v", got.Aliases)
	}
	// What takes access away counts, whatever else cannot be read.
	got = l.merge(personBut("bob", nil), personBut("bob", func(e *Entry) { e.Unreadable, e.Login = []string{"login_state"}, StateDisabled }))
	if got.Login != StateDisabled {
		t.Errorf("login %d", got.Login)
	}
	// For a new entry there is nothing to keep.
	if got := l.merge(nil, personBut("new", func(e *Entry) { e.Unreadable = []string{"quota"} })); got.Quota != 0 {
		t.Errorf("quota %d of a new entry", got.Quota)
	}
}

func TestMergeFormer(t *testing.T) {
	t.Parallel()
	old := personBut("alice", func(e *Entry) { e.Aliases = addrs("a.example@corp.example", "info@corp.example") })
	tests := []struct {
		name   string
		change func(*Entry)
		former []string
	}{
		{"new surname", func(e *Entry) { e.Primary, e.Aliases = addr("alice.new@corp.example"), old.Aliases }, []string{"alice@corp.example"}},
		{"new name and aliases", func(e *Entry) {
			e.DN, e.Primary = dn("alice.new"), addr("alice.new@corp.example")
		}, []string{"alice@corp.example", "a.example@corp.example", "info@corp.example"}},
		{"renamed, alias replaced", func(e *Entry) { e.DN, e.Aliases = dn("alice.new"), addrs("info@corp.example") }, []string{"a.example@corp.example"}},
		{"alias taken away", func(e *Entry) { e.Aliases = addrs("info@corp.example") }, nil},
		{"old primary is alias now", func(e *Entry) {
			e.Primary, e.Aliases = addr("alice.new@corp.example"), addrs("ALICE@corp.example", "a.example@corp.example", "info@corp.example")
		}, nil},
		{"no address any more", func(e *Entry) {
			e.Primary, e.Aliases = addr("x@corp.example"), nil
			e.Primary.Local, e.Primary.Domain = "", ""
		}, nil},
		{"moved to another OU", func(e *Entry) { e.DN, e.Aliases = "cn=alice,ou=new,dc=corp,dc=example", old.Aliases }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := life{now: day0, s: at(day0, old)}
			next := personBut("alice", tt.change)
			got := l.merge(old, next)
			var former []string
			for _, f := range got.Former {
				former = append(former, f.Address.String())
				if !f.Until.Equal(day0.Add(90 * day)) {
					t.Errorf("%s until %v", f.Address, f.Until)
				}
			}
			if !slices.Equal(former, tt.former) {
				t.Errorf("former %q, want %q", former, tt.former)
			}
			s := l.s.with(2, []Change{{got.Key, got}})
			if again := (life{now: day0.Add(time.Hour), s: s}).merge(s.ByKey(got.Key), next); !s.holds(Change{again.Key, again}) {
				t.Errorf("merged again: %+v, want %+v", again, got)
			}
		})
	}
}

// An address that was replaced works like an alias, and is no login name, until its
// time is over, it comes back, or somebody else gets it.
func TestFormerAddress(t *testing.T) {
	t.Parallel()
	old := person("alice")
	l := life{now: day0, s: at(day0, old)}
	alice := l.merge(old, personBut("alice", func(e *Entry) {
		e.Primary, e.Logins = addr("ali@corp.example"), []string{"ali"}
	}))
	bob := person("bob")
	who := func(s *Snapshot) Key {
		r := s.Resolve(addr("alice@corp.example"))
		if r.Entry == nil {
			return Key(fmt.Sprint(r.Status.Code))
		}
		return r.Entry.Key
	}
	s := at(day0.Add(89*day), alice, bob)
	if who(s) != "test:alice" || s.ByLogin("alice@corp.example") != nil || s.ByLogin("alice") != nil {
		t.Errorf("%s gets it; login by it: %v", who(s), s.ByLogin("alice"))
	}
	if r := s.Resolve(addr("alice+x@corp.example")); r.Home != HomeHere || r.Detail != "x" {
		t.Errorf("subaddress of it: %+v", r)
	}
	if s.MayUse(alice, addr("alice@corp.example")) != UsageOwn || s.MayUse(bob, addr("alice@corp.example")) != UsageNone {
		t.Error("not own, or bob's")
	}
	if who(at(day0.Add(90*day), alice)) != "550" {
		t.Error("still there after 90 days")
	}
	taken := personBut("bob", func(e *Entry) { e.Aliases = addrs("alice@corp.example") })
	s = at(day0.Add(day), alice, taken)
	if who(s) != "test:bob" || s.MayUse(alice, addr("alice@corp.example")) != UsageNone || s.MayUse(taken, addr("alice@corp.example")) != UsageOwn {
		t.Errorf("given to bob, %s has it", who(s))
	}
	// Bob, too, gets another name: he had it last.
	l = life{now: day0.Add(2 * day), s: s}
	later := l.merge(taken, personBut("bob", func(e *Entry) { e.DN = dn("bobby") }))
	if got := who(at(day0.Add(3*day), alice, later)); got != "test:bob" {
		t.Errorf("%s had it last, want bob", got)
	}
	// Whoever has left had it before him.
	left := life{now: day0, s: at(day0, old)}.leave(old)
	renamed := life{now: day0.Add(2 * day), s: at(day0.Add(2*day), left, taken)}.merge(taken, personBut("bob", func(e *Entry) { e.Primary = addr("robert@corp.example") }))
	if got := who(at(day0.Add(3*day), left, renamed)); got != "test:bob" {
		t.Errorf("%s had it last, want bob and not alice, who had left before", got)
	}
	// She gets it back.
	l = life{now: day0.Add(2 * day), s: at(day0.Add(2*day), alice)}
	if back := l.merge(alice, personBut("alice", nil)); back.Former == nil || back.Former[0].Address != addr("ali@corp.example") || len(back.Former) != 1 {
		t.Errorf("former %v", back.Former)
	}
}

// A duplicate never reaches the wrong person: who had an address first keeps it, and
// where nobody knows the mail waits.
func TestClaims(t *testing.T) {
	t.Parallel()
	shared := func(name string, since time.Time) *Entry {
		return personBut(name, func(e *Entry) {
			e.Aliases = addrs("info@corp.example")
			if !since.IsZero() {
				e.Claims = []Claim{{addr("info@corp.example"), since}}
			}
		})
	}
	left := func(name string, gone time.Time) *Entry {
		e := shared(name, time.Time{})
		e.Gone, e.Login = gone, StateGrace
		return e
	}
	tests := []struct {
		name    string
		entries []*Entry
		want    Key // "" deferred
	}{
		{"one", []*Entry{shared("a", day0)}, "test:a"},
		{"before anybody looked", []*Entry{shared("a", day0), shared("b", time.Time{})}, "test:b"},
		{"both before", []*Entry{shared("a", time.Time{}), shared("b", time.Time{})}, ""},
		{"first of three", []*Entry{shared("a", day0.Add(2)), shared("b", day0.Add(1)), shared("c", day0.Add(3))}, "test:b"},
		{"at the same time", []*Entry{shared("a", day0), shared("b", day0), shared("c", day0.Add(1))}, ""},
		{"later two at the same time", []*Entry{shared("a", day0.Add(1)), shared("b", day0.Add(1)), shared("c", day0)}, "test:c"},
		{"who has left had it first", []*Entry{left("a", day0), shared("b", day0.Add(1))}, "test:b"},
		{"nobody has it now", []*Entry{left("a", day0), left("b", day0.Add(1))}, "test:b"},
		{"left together", []*Entry{left("a", day0), left("b", day0)}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := at(day0.Add(day), tt.entries...)
			r := s.Resolve(addr("info@corp.example"))
			switch {
			case tt.want == "" && (r.Status.Code != 451 || len(r.Claims) < 2):
				t.Errorf("%+v, want 451 and the keys", r)
			case tt.want != "" && (r.Entry == nil || r.Entry.Key != tt.want || !r.OK()):
				t.Errorf("%+v, want %s", r, tt.want)
			}
		})
	}
}

// Claims come with addresses that appear once the directory was read to its end.
func TestMergeClaims(t *testing.T) {
	t.Parallel()
	s := at(day0)
	first := life{now: day0, first: true, s: s}.merge(nil, person("alice"))
	if len(first.Claims) > 0 {
		t.Errorf("claims %v of the first load", first.Claims)
	}
	s = at(day0, first)
	next := personBut("alice", func(e *Entry) { e.Aliases = addrs("info@corp.example") })
	second := life{now: day0.Add(day), s: s}.merge(first, next)
	if len(second.Claims) != 1 || second.Claims[0] != (Claim{addr("info@corp.example"), day0.Add(day)}) {
		t.Errorf("claims %v", second.Claims)
	}
	s = s.with(2, []Change{{second.Key, second}})
	third := life{now: day0.Add(2 * day), s: s}.merge(second, next)
	if !s.holds(Change{third.Key, third}) {
		t.Errorf("claims %v, want them as before", third.Claims)
	}
	// She leaves, info@ is given to bob, she comes back: it is bob's.
	gone := life{now: day0.Add(3 * day), s: s}.merge(second, nil)
	bob := personBut("bob", func(e *Entry) { e.Aliases = addrs("info@corp.example") })
	s = at(day0.Add(4*day), gone)
	bob = life{now: day0.Add(4 * day), s: s}.merge(nil, bob)
	s = at(day0.Add(5*day), gone, bob)
	back := life{now: day0.Add(5 * day), s: s}.merge(gone, next)
	s = at(day0.Add(5*day), back, bob)
	if r := s.Resolve(addr("info@corp.example")); r.Entry == nil || r.Entry.Key != "test:bob" {
		t.Errorf("%+v, want bob", r)
	}
	if r := s.Resolve(addr("alice@corp.example")); r.Entry == nil || r.Entry.Key != "test:alice" || back.IsGone() || back.LoginState(day0) != StateActive {
		t.Errorf("%+v, want alice as she was", r)
	}
}

// A login name that two entries have lets nobody in, until only one has it.
func TestContested(t *testing.T) {
	t.Parallel()
	twin := func(name string) *Entry {
		return personBut(name, func(e *Entry) { e.Aliases, e.Logins = addrs("twin@corp.example"), []string{"twin"} })
	}
	s := at(day0, person("c"), twin("a"))
	check := func(what string, s *Snapshot, addresses, logins int) {
		t.Helper()
		n := 0
		for c := range s.Contested() {
			n++
			if c.Address != "twin@corp.example" || len(c.Entries) != 2 {
				t.Errorf("%s: %+v", what, c)
			}
		}
		if n != addresses || s.AmbiguousAddresses() != addresses || s.AmbiguousLogins() != logins {
			t.Errorf("%s: %d addresses, %d of them ambiguous, %d logins", what, n, s.AmbiguousAddresses(), s.AmbiguousLogins())
		}
	}
	check("one", s, 0, 0)
	b := twin("b")
	both := s.with(2, []Change{{b.Key, b}})
	check("two", both, 1, 1)
	if both.ByLogin("twin") != nil {
		t.Error("somebody logs in as twin")
	}
	check("the one before", s, 0, 0)
	check("one again", both.with(3, []Change{{b.Key, person("b")}}), 0, 0)
	check("one left", both.with(3, []Change{{b.Key, (life{now: day0, s: both}).merge(b, nil)}}), 0, 0)
}
