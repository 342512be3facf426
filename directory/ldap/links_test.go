package ldap

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/internal/testenv"
)

// TestLargestGroups: few groups are chosen that name nearly everybody who is in any.
func TestLargestGroups(t *testing.T) {
	t.Parallel()
	list := func(key directory.Key, members ...string) *directory.Entry {
		return &directory.Entry{Key: key, DN: "cn=" + string(key), Kind: directory.KindList, Members: members}
	}
	s := directory.NewSnapshot([]string{"corp.example"}, []*directory.Entry{
		list("corp:most", "a", "b", "c", "d"), list("corp:same", "a", "b", "c"), list("corp:half", "d", "e"), list("corp:none"),
		list("corp:last", "f"), list("other:group", "x", "y", "z", "a", "b"), {Key: "corp:a", DN: "a", Kind: directory.KindPerson},
	})
	if got, want := largestGroups(s, "corp"), []directory.Key{"corp:most", "corp:half", "corp:last"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestDirSyncLinks: who is deleted is missed among the members of a group, without a
// look at all entries, and a change of what can be seen is known for one.
func TestDirSyncLinks(t *testing.T) {
	t.Parallel()
	u := newADUnit(t)
	u.cfg.manyEntries, u.cfg.PollEvery = 1, time.Hour
	alice, bob, carol := u.person("alice"), u.person("bob"), u.person("carol")
	u.group("all", alice, bob)
	u.group("some", carol, bob)
	u.group("twice", bob)
	c := client(t, u.cfg)
	n := start(t, testenv.Database(t), &hints{}, c)
	n.untilComplete(t)
	n.until(t, "all of them", u.memberIs("all", alice, bob))
	n.stop() // from here on nothing is known but by what is asked here

	var told []directory.Batch
	s := &dirsyncSession{dirsync: c.Source(quiet).(*dirsync), emit: func(_ context.Context, b directory.Batch) error { told = append(told, b); return nil }}
	s.Look(n.live)
	conn, err := c.dialService(t.Context())
	must(t, err)
	defer conn.end()
	s.conn = conn
	s.dsa, err = s.readDSA(t.Context(), conn)
	must(t, err)
	if len(s.dsa.contexts) < 3 || s.dsa.contexts[0] != u.s.Base {
		t.Errorf("naming contexts: %q", s.dsa.contexts)
	}

	// Other tests change this domain meanwhile, so that of one change the number alone
	// is looked at.
	number := func(change func()) (from, to int64) {
		t.Helper()
		from, err := s.readUSN(t.Context(), conn)
		must(t, err)
		change()
		to, err = s.readUSN(t.Context(), conn)
		must(t, err)
		return from, to
	}
	from, to := number(func() { modify(t, u.Conn, alice, "description", "seen") })
	if seen, err := s.visible(t.Context(), from, to); err != nil || seen < 1 || seen > to-from {
		t.Errorf("%d of %d changes are seen: %v", seen, to-from, err)
	}
	must(t, s.compareLinks(t.Context()))
	if len(told) > 0 {
		t.Errorf("nobody is gone: %+v", told)
	}

	snapshot := n.live.Snapshot()
	gone := snapshot.ByDN(carol).Key
	from, to = number(func() { u.del(carol) })
	if seen, err := s.visible(t.Context(), from, to); err != nil || seen >= to-from {
		t.Errorf("%d of %d numbers are seen, and one was a deletion: %v", seen, to-from, err)
	}
	must(t, s.compareLinks(t.Context()))
	if len(told) != 1 || !told[0].Begin || !told[0].Complete || !told[0].Vanish {
		t.Fatalf("%+v", told)
	}
	for key := range snapshot.Keys("corp") {
		named := slices.Contains(told[0].Present, key) || slices.ContainsFunc(told[0].Changes, func(c directory.Change) bool { return c.Key == key && c.Entry != nil })
		if named == (key == gone) {
			t.Errorf("%s is named: %v", snapshot.ByKey(key).DN, named)
		}
	}
	if n, err := s.visible(t.Context(), 0, 5); n != 0 || err != nil {
		t.Errorf("from the beginning: %d %v", n, err)
	}
	if n, err := s.visible(t.Context(), 1, mostNumbers+2); n != 0 || err != nil {
		t.Errorf("too many to ask for: %d %v", n, err)
	}
}

// TestDirSyncManyEntries: deletions in what counts as a large directory, of members and
// of others, while visible changes go on.
func TestDirSyncManyEntries(t *testing.T) {
	t.Parallel()
	u := newADUnit(t)
	u.cfg.manyEntries = 1
	alice, bob, carol := u.person("alice"), u.person("bob"), u.person("carol")
	list := u.group("list", alice, bob)
	n := start(t, testenv.Database(t), &hints{}, client(t, u.cfg))
	n.until(t, "all", u.memberIs("list", alice, bob))
	for i := range 5 {
		modify(t, u.Conn, alice, "mail", u.address(fmt.Sprintf("a%d", i)))
	}
	u.del(bob)
	n.until(t, "a member deleted", u.homeIs("bob", "left"))
	n.until(t, "and no member", u.memberIs("list", alice))
	n.until(t, "changed", u.homeIs("a4", "here"))
	u.del(carol)
	n.until(t, "another one deleted", u.homeIs("carol", "left"))
	u.del(list)
	n.until(t, "the list deleted", u.homeIs("list", "nobody"))
}
