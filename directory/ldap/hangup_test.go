package ldap

import (
	"fmt"
	"testing"

	"dirpost/directory"
	"dirpost/internal/testenv"
)

// TestHangsUpWhileFollowed: a server that hangs up in the middle of what it tells, again
// and again, takes nobody away, in either way to follow changes; when it no longer does,
// all that has changed is there.
func TestHangsUpWhileFollowed(t *testing.T) {
	t.Parallel()
	behindProxies(t, hangsUp)
}

// hangsUp follows a directory through a proxy that breaks off.
func hangsUp(t *testing.T, d behindProxy) {
	add := func(name string) string {
		d.add(name)
		return d.address(name)
	}
	cfg, p := d.cfg, d.p
	var before, after []string
	for i := range 8 {
		before = append(before, add(fmt.Sprintf("before%d", i)))
	}
	db, h := testenv.Database(t), &hints{}
	n := start(t, db, h, client(t, cfg))
	n.untilComplete(t)
	n.stop()
	for i := range 12 {
		after = append(after, add(fmt.Sprintf("after%d", i)))
	}
	here := func(s *directory.Snapshot, addresses []string) (count int) {
		for _, a := range addresses {
			if home(s, a) == "here" {
				count++
			}
		}
		return count
	}
	p.Set(testenv.LDAPBehaviour{BreakAt: 5})
	n = start(t, db, h, client(t, cfg))
	n.until(t, "not followed", func(s *directory.Snapshot) bool {
		if got := here(s, before); s.Ready() && got != len(before) {
			t.Fatalf("%d of %d are here", got, len(before))
		}
		return s.Ready() && s.Stale()
	})
	p.Set(testenv.LDAPBehaviour{})
	n.until(t, "everybody", func(s *directory.Snapshot) bool {
		if got := here(s, before); got != len(before) {
			t.Fatalf("%d of %d are here", got, len(before))
		}
		return here(s, after) == len(after) && !s.Stale()
	})
}
