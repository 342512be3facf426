package permit

import (
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/internal/testenv"
)

// TestRepeatedThoughTheEntryChanges: OpenLDAP writes into the entry that a password was
// wrong. The same one is not judged again all the same, on any node, until another was
// set.
func TestRepeatedThoughTheEntryChanges(t *testing.T) {
	t.Parallel()
	db, d, alice := testenv.Database(t), newDomain(20), entry("alice")
	set := time.Now().Add(-24 * time.Hour).Truncate(time.Second)
	d.set(func(l *directory.Lockout) { l.PasswordSet = set })
	one, two := newNode(t, db, d, testConfig(), testKey), newNode(t, db, d, testConfig(), testKey)
	changed := func() *directory.Entry {
		next := *alice
		next.Modified = alice.Modified.Add(time.Millisecond)
		alice = &next
		return alice
	}
	one.want(alice, "old", away, "wrong")
	one.flush()
	for range 5 {
		one.want(changed(), "old", away, ReasonRepeated)
		two.want(changed(), "old", home, ReasonRepeated)
	}
	if binds, _ := d.state(); binds != 1 {
		t.Errorf("the directory was asked %d times", binds)
	}
	d.set(func(l *directory.Lockout) { l.PasswordSet = set.Add(time.Hour) })
	one.want(changed(), "old", away, "wrong") // it may be the new one
	// What was set a moment ago cannot be told from what was set just before.
	d.set(func(l *directory.Lockout) { l.PasswordSet = time.Now() })
	one.want(changed(), "new", away, "wrong")
	one.want(changed(), "new", home, "wrong")
}
