package ldap

import (
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/testenv"
)

// dcAdmin is an administrator at one domain controller.
func dcAdmin(t testing.TB, s *testenv.ADServer, cfg Config) *ldap.Conn {
	t.Helper()
	cfg.URLs, cfg.ServerName = []string{s.TLSURL}, s.Host
	cfg.BindDN, cfg.BindPassword = s.AdminDN, s.AdminPassword
	c, err := client(t, cfg).dialService(t.Context())
	must(t, err)
	t.Cleanup(c.end)
	c.SetTimeout(time.Minute)
	return c.Conn
}

// receive has a domain controller take what others tell it, or not.
func receive(t testing.TB, c *ldap.Conn, does bool) {
	t.Helper()
	res, err := c.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", []string{"dsServiceName"}, nil))
	must(t, err)
	options := "3" // global catalog, DISABLE_INBOUND_REPL ([MS-ADTS] §6.1.1.2.2.1.2.1.1)
	if does {
		options = "1"
	}
	modify(t, c, res.Entries[0].GetAttributeValue("dsServiceName"), "options", options)
}

// TestWatchOthers: access that was taken away at another domain controller is gone
// before the followed one has heard of it, and comes back with it; and who dies is
// replaced.
func TestWatchOthers(t *testing.T) {
	t.Parallel()
	p := testenv.ADPair(t)
	first, second := p.First, p.Second
	cfg := Config{
		Name: "corp", Preset: PresetAD, URLs: []string{first.TLSURL, second.TLSURL}, Base: "OU=Staff," + first.Base, CA: first.CA,
		BindDN: first.ServiceDN, BindPassword: first.ServicePass, ConnectTimeout: time.Minute, Timeout: time.Minute,
	}
	one, two := dcAdmin(t, first, cfg), dcAdmin(t, second, cfg)
	receive(t, one, false)
	db := testenv.Database(t)
	c := client(t, cfg)
	n := start(t, db, &hints{}, c)
	n.untilComplete(t)
	alice, bob := "CN=Alice Archer,OU=Staff,"+first.Base, "CN=王伟,OU=Staff,"+first.Base
	state := func(want directory.State) func(*directory.Snapshot) bool {
		return func(s *directory.Snapshot) bool {
			e := s.ByDN(alice)
			return e != nil && e.LoginState(time.Now()) == want
		}
	}
	status := func(what string, ok func(s directory.SourceStatus) bool) {
		t.Helper()
		n.until(t, what, func(*directory.Snapshot) bool {
			reports, err := directory.Reports(t.Context(), db)
			must(t, err)
			time.AfterFunc(100*time.Millisecond, n.hint)
			return len(reports) == 1 && reports[0].Status != nil && ok(*reports[0].Status)
		})
	}
	status("both are there", func(s directory.SourceStatus) bool {
		return s.Server == first.TLSURL && len(s.Servers) == 2 && s.Servers[0].Followed && s.Servers[1].Watched && s.Servers[1].Name == second.Host
	})

	modify(t, two, alice, "userAccountControl", "514")
	n.until(t, "disabled elsewhere", state(directory.StateDisabled))
	res, err := one.Search(ldap.NewSearchRequest(alice, ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", []string{"userAccountControl"}, nil))
	must(t, err)
	if got := res.Entries[0].GetAttributeValue("userAccountControl"); got != "512" {
		t.Errorf("the followed controller says %s: nothing was shown", got)
	}
	status("the first is behind", func(s directory.SourceStatus) bool { return s.Servers[0].Behind > 0 })
	modify(t, one, alice, "title", "boss") // another change there gives nothing back
	modify(t, one, alice, "mail", "alice.archer@corp.example")
	n.until(t, "changed here", func(s *directory.Snapshot) bool {
		e := s.ByDN(alice)
		return state(directory.StateDisabled)(s) && e.Aliases != nil && e.Modified.After(time.Now().Add(-time.Minute))
	})

	before := n.live.Snapshot().ByDN(bob).Modified
	modify(t, two, bob, "unicodePwd", unicodePwd("Another.Passw0rd"))
	n.until(t, "password changed elsewhere", func(s *directory.Snapshot) bool { return s.ByDN(bob).Modified.After(before) })

	modify(t, two, alice, "userAccountControl", "512")
	n.until(t, "enabled elsewhere", state(directory.StateActive))
	modify(t, two, alice, "userAccountControl", "514")
	n.until(t, "disabled again", state(directory.StateDisabled))
	receive(t, one, true)
	p.Replicate(t)
	status("nobody is behind", func(s directory.SourceStatus) bool { return s.Servers[0].Behind == 0 && s.Servers[1].Behind == 0 })
	if !state(directory.StateDisabled)(n.live.Snapshot()) {
		t.Error("enabled by replication")
	}
	modify(t, one, alice, "userAccountControl", "512")
	n.until(t, "enabled here", state(directory.StateActive))

	p.Stop(0)
	status("the second is followed", func(s directory.SourceStatus) bool { return s.Server == second.TLSURL })
	modify(t, two, alice, "userAccountControl", "514")
	n.until(t, "disabled at the second", func(s *directory.Snapshot) bool { return state(directory.StateDisabled)(s) && !s.Stale() })
}
