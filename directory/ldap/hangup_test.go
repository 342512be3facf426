package ldap

import (
	"fmt"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/testenv"
)

// TestHangsUpWhileFollowed: a server that hangs up in the middle of what it tells, again
// and again, takes nobody away, in either way to follow changes; when it no longer does,
// all that has changed is there.
func TestHangsUpWhileFollowed(t *testing.T) {
	t.Parallel()
	t.Run("syncrepl", func(t *testing.T) {
		t.Parallel()
		s := testenv.Slapd(t)
		cfg, a := config(t, s), admin(t, s)
		p := testenv.ProxyLDAP(t, s.TLSURL, "localhost", cfg.CA, testenv.LDAPBehaviour{})
		cfg.URLs, cfg.CA, cfg.ServerName, cfg.Follow = []string{p.URL}, p.CA, "localhost", FollowSyncrepl
		hangsUp(t, cfg, p, func(name string) string {
			add := ldap.NewAddRequest("uid="+name+",ou=people,"+s.Base, nil)
			for attribute, value := range map[string]string{"objectClass": "inetOrgPerson", "cn": name, "sn": name, "uid": name, "mail": name + "@corp.example"} {
				add.Attribute(attribute, []string{value})
			}
			must(t, a.Add(add))
			return name + "@corp.example"
		})
	})
	t.Run("dirsync", func(t *testing.T) {
		t.Parallel()
		u := newADUnit(t)
		p, cfg := proxied(t, testenv.LDAPBehaviour{})
		cfg.Base, cfg.Follow = u.base, FollowDirSync
		hangsUp(t, cfg, p, func(name string) string {
			u.person(name)
			return u.address(name)
		})
	})
}

// hangsUp follows a directory through a proxy that breaks off; add adds somebody and
// returns the address.
func hangsUp(t *testing.T, cfg Config, p *testenv.LDAPProxy, add func(name string) string) {
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
