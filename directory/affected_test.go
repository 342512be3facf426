package directory

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"dirpost/internal/envelope"
)

// plain are the keys without the directory, for a table.
func plain(keys []Key) string {
	var out []string
	for _, k := range keys {
		out = append(out, strings.TrimPrefix(string(k), "test:"))
	}
	return strings.Join(out, " ")
}

// TestAffected: who may be decided about in another way is who has changed, and who has
// come into a group that decides, or left it.
func TestAffected(t *testing.T) {
	t.Parallel()
	in := func(e *Entry) *Entry { e.Directory = "corp"; return e }
	rules := func(r *Rules) {
		r.Mailboxes = []MailboxRule{{Directory: "corp", Groups: []string{dn("moved")}}}
		r.Policies = []Policy{{Group: dn("large"), Quota: 2000}, {Group: Everybody, Quota: 1000}}
	}
	before := homes(t, rules).with(2, []Change{
		{Key: "test:large", Entry: in(list("large", 0, "alice"))},
		{Key: "test:sales", Entry: in(list("sales", 0, "nested"))},
	})
	change := func(e *Entry) Change { return Change{Key: e.Key, Entry: e} }
	many := make([]string, maxAffected+1)
	for i := range many {
		many[i] = fmt.Sprintf("p%d", i)
	}
	for _, tt := range []struct {
		name                   string
		changes                []Change
		keys, room, localParts string
		many                   bool
	}{
		{"nothing is another thing", []Change{change(in(person("alice")))}, "", "", "", false},
		{"a new alias", []Change{change(in(entry(KindPerson, "alice", func(e *Entry) { e.Aliases = addrs("al@corp.example", "al@far.example") })))}, "alice", "", "al alice", false},
		{"a new name", []Change{change(in(entry(KindPerson, "bob", func(e *Entry) { e.Primary = addr("rob@corp.example") })))}, "bob", "", "bob rob", false},
		{"somebody new", []Change{change(in(person("frank")))}, "frank", "", "frank", false},
		{"gone", []Change{{Key: "test:bob"}}, "bob", "", "bob", false},
		{"into the group that has mailboxes here", []Change{change(in(list("moved", 0, "inner", "alice")))}, "alice", "", "moved", false},
		{"into a group of it, and out", []Change{change(in(list("inner", 0, "bob")))}, "bob nested", "", "inner", false},
		{"a group into it", []Change{change(in(list("moved", 0, "inner", "sales", "all")))}, "alice bob cloud eve nested", "", "moved", false},
		{"a group round and round", []Change{change(in(list("moved", 0, "inner", "sales"))), change(in(list("sales", 0, "moved", "bob")))}, "bob nested", "", "moved sales", false},
		{"the group is no longer that", []Change{change(in(entry(KindList, "moved", func(e *Entry) { e.DN = dn("renamed") })))}, "", "", "moved", true},
		{"into a group with a larger quota", []Change{change(in(list("large", 0, "alice", "bob")))}, "bob", "bob", "large", false},
		{"out of it", []Change{change(in(list("large", 0)))}, "alice", "", "large", false},
		{"into another group", []Change{change(in(list("sales", 0, "nested", "bob")))}, "", "", "sales", false},
		{"very many at once", []Change{change(in(list("moved", 0, append(many, "inner")...)))}, "", "", "moved", false}, // of whom nobody is there
	} {
		keys := make([]Key, len(tt.changes))
		for i, c := range tt.changes {
			keys[i] = c.Key
		}
		got := before.with(3, tt.changes).Affected(before, keys)
		var locals []string
		for _, a := range got.Addresses {
			locals = append(locals, a.Local)
		}
		slices.Sort(locals)
		if got.Many != tt.many || !tt.many && (plain(got.Keys) != tt.keys || plain(got.Room) != tt.room || strings.Join(locals, " ") != tt.localParts) {
			t.Errorf("%s: %+v, want %s; room %s; addresses %s; many %t", tt.name, got, tt.keys, tt.room, tt.localParts, tt.many)
		}
	}
	if got := before.Affected(newSnapshot(before.rules), []Key{"test:alice"}); !got.Many {
		t.Errorf("read for the first time: %+v", got)
	}
	if got := before.Affected(before, make([]Key, maxAffected+1)); !got.Many {
		t.Errorf("too many: %+v", got)
	}
	var people []Change
	for _, n := range many {
		people = append(people, change(in(person(n))))
	}
	full := before.with(3, people)
	if got := full.with(4, []Change{change(in(list("moved", 0, many...)))}).Affected(full, []Key{"test:moved"}); !got.Many {
		t.Errorf("too many members: %d", len(got.Keys))
	}
}

// TestReroutes: what waits goes on waiting, unless its way is another one.
func TestReroutes(t *testing.T) {
	t.Parallel()
	const other, third = "exchange.corp.example:25", "third.corp.example:25"
	s := homes(t, nil)
	s = s.with(2, []Change{
		{Key: "test:held", Entry: entry(KindPerson, "held", func(e *Entry) { e.Delivery = StateHeld })},
		{Key: "test:off", Entry: entry(KindPerson, "off", func(e *Entry) { e.Delivery = StateDisabled })},
		{Key: "test:there", Entry: entry(KindPerson, "there", func(e *Entry) { e.Place, e.Delivery = PlaceElsewhere, StateHeld })},
		{Key: "test:left", Entry: entry(KindPerson, "left", func(e *Entry) { e.Gone = s.now().Add(-s.rules.KeepGone - 1) })},
		{Key: "test:leaves", Entry: entry(KindPerson, "leaves", func(e *Entry) { e.Gone = s.now() })},
	})
	for _, tt := range []struct {
		name string
		w    Waiting
		want bool
	}{
		{"a mailbox here", Waiting{K: "test:alice", Address: addr("alice@corp.example")}, false},
		{"by the address of a list", Waiting{K: "test:alice", Address: addr("all@corp.example")}, false},
		{"there by now", Waiting{K: "test:eve", Address: addr("eve@corp.example")}, true},
		{"is there", Waiting{K: "test:eve", Address: addr("eve@corp.example"), NextHop: other}, false},
		{"with a third system", Waiting{K: "test:eve", Address: addr("eve@corp.example"), NextHop: third}, true},
		{"here by now", Waiting{K: "test:alice", Address: addr("alice@corp.example"), NextHop: other}, true},
		{"whom nobody knew", Waiting{Address: addr("alice+x@corp.example"), NextHop: other}, true},
		{"whom nobody knows", Waiting{Address: addr("nobody@corp.example"), NextHop: other}, false},
		{"on hold", Waiting{K: "test:held", Address: addr("held@corp.example"), Held: true}, false},
		{"no longer on hold", Waiting{K: "test:alice", Address: addr("alice@corp.example"), Held: true}, true},
		{"refused instead", Waiting{K: "test:off", Address: addr("off@corp.example"), Held: true}, false},
		{"on hold, and elsewhere", Waiting{K: "test:there", Address: addr("there@corp.example"), Held: true}, false},
		{"held, and elsewhere by now", Waiting{K: "test:eve", Address: addr("eve@corp.example"), Held: true}, true},
		{"leaves", Waiting{K: "test:leaves", Address: addr("leaves@corp.example")}, false},
		{"has left", Waiting{K: "test:left", Address: addr("left@corp.example")}, true},
		{"has left, and was held", Waiting{K: "test:left", Address: addr("left@corp.example"), Held: true}, true},
		{"has left there, which is theirs to say", Waiting{K: "test:left", Address: addr("left@corp.example"), NextHop: other}, false},
		{"was never there", Waiting{K: "test:none", Address: addr("none@corp.example")}, true},
	} {
		if got := s.Reroutes(tt.w); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
	by := homes(t, func(r *Rules) { r.Mailboxes = []MailboxRule{{Directory: "corp", Groups: []string{dn("moved")}}} })
	nested := Waiting{K: "test:nested", Address: addr("nested@corp.example")}
	gone := by.with(2, []Change{{Key: "test:nested", Entry: entry(KindPerson, "nested", func(e *Entry) { e.Directory, e.Gone = "corp", by.now() })}})
	out := by.with(2, []Change{{Key: "test:inner", Entry: entry(KindList, "inner", func(e *Entry) { e.Directory = "corp" })}})
	if by.Reroutes(nested) || gone.Reroutes(nested) || !out.Reroutes(nested) {
		t.Errorf("in the group %t, deleted %t, out of the group %t", by.Reroutes(nested), gone.Reroutes(nested), out.Reroutes(nested))
	}
	stale := Open(Rules{Domains: []string{"corp.example"}})
	if stale.Snapshot().Reroutes(Waiting{K: "test:alice", Address: addr("alice@corp.example")}) {
		t.Error("nothing was read yet")
	}
	stale.Apply(1, []Change{{Key: "test:bob", Entry: person("bob")}})
	if stale.Snapshot().Reroutes(Waiting{K: "test:alice", Address: addr("alice@corp.example")}) {
		t.Error("who may be there, and is not known yet")
	}
}

// Local-parts with a detail are a range of octets, in lower case.
func TestSubaddresses(t *testing.T) {
	t.Parallel()
	s := NewSnapshot([]string{"corp.example"}, nil)
	low, high := s.Subaddresses(addr("Alice@corp.example"))
	for local, want := range map[string]bool{"alice+": true, "alice+x": true, "alice+ü": true, "alice": false, "alicex": false, "alice,": false, "bob+x": false} {
		if got := local >= low && local < high; got != want {
			t.Errorf("%s: %t in %q to %q", local, got, low, high)
		}
	}
	if low, high := SnapshotOf(Rules{Domains: []string{"corp.example"}}, nil).Subaddresses(envelope.Address{Local: "a", Domain: "corp.example"}); low != "" || high != "" {
		t.Errorf("there are none: %q to %q", low, high)
	}
}
