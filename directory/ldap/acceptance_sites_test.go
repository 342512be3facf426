//go:build acceptance

package ldap

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/internal/testenv"
)

// TestAcceptanceSites: a domain with two sites. The controller of our site comes first
// and is followed; that of the other one, which is the PDC emulator, is watched and
// takes over; the read-only one of our site is neither watched nor taken for one that
// has changes, and what it cannot say is asked of others.
func TestAcceptanceSites(t *testing.T) {
	p := testenv.ADSites(t)
	pdc, near, readOnly := p.First, p.Second, p.ReadOnly
	dns := resolverFor(t, testenv.DNS(t, p.Records...))
	d, err := Discover(t.Context(), dns, "corp.example")
	must(t, err)
	type seen struct {
		host, site          string
		near, pdc, writable bool
	}
	var got []seen
	for _, c := range d.Controllers {
		if !c.Answered {
			t.Errorf("%s does not answer", c.Host)
		}
		got = append(got, seen{c.Host, c.Site, c.Near, c.PDC, c.Writable})
	}
	want := []seen{
		{near.Host, testenv.ADNearSite, true, false, true},
		{pdc.Host, testenv.ADFirstSite, false, true, true},
		{readOnly.Host, testenv.ADNearSite, true, false, false},
	}
	if d.Site != testenv.ADNearSite || !slices.Equal(got, want) {
		t.Errorf("site %q: got %+v, want %+v", d.Site, got, want)
	}

	cfg := Config{
		Name: "corp", Preset: PresetAD, Discover: "corp.example", Resolver: dns, TLS: tlsImplicit, Base: "OU=Staff," + pdc.Base, CA: pdc.CA, Follow: FollowDirSync,
		BindDN: pdc.ServiceDN, BindPassword: pdc.ServicePass, ConnectTimeout: 10 * time.Second, Timeout: time.Minute,
	}
	db := testenv.Database(t)
	c := client(t, cfg)
	n := start(t, db, &hints{}, c)
	n.untilComplete(t)
	status := func(what string, ok func(s directory.SourceStatus) bool) {
		t.Helper()
		var last directory.SourceStatus
		deadline := time.Now().Add(3 * time.Minute)
		n.until(t, what, func(*directory.Snapshot) bool {
			reports, err := directory.Reports(t.Context(), db)
			must(t, err)
			if len(reports) == 1 && reports[0].Status != nil {
				last = *reports[0].Status
			}
			if time.Now().After(deadline) {
				t.Fatalf("never: %s: %+v", what, last)
			}
			time.AfterFunc(100*time.Millisecond, n.hint)
			return ok(last)
		})
	}
	status("the near one is followed, and the PDC emulator is watched", func(s directory.SourceStatus) bool {
		return len(s.Servers) == 2 && s.Servers[0].Name == near.Host && s.Servers[0].Followed && s.Servers[1].Name == pdc.Host && s.Servers[1].Watched
	})
	for _, s := range c.Servers() {
		if s.Name == readOnly.Host && (!s.ReadOnly || s.State != ServerUntried) {
			t.Errorf("the read-only one was used: %+v", s)
		}
	}
	// What a far controller takes away counts before it is here.
	alice := "CN=Alice Archer,OU=Staff," + pdc.Base
	admin := dcAdmin(t, pdc, Config{
		Name: "corp", Preset: PresetAD, URLs: []string{pdc.TLSURL}, Base: pdc.Base, CA: pdc.CA, ServerName: pdc.Host, ConnectTimeout: time.Minute, Timeout: time.Minute,
	})
	modify(t, admin, alice, "userAccountControl", "514")
	n.until(t, "disabled", func(s *directory.Snapshot) bool {
		return s.ByDN(alice).LoginState(time.Now()) == directory.StateDisabled
	})
	modify(t, admin, alice, "userAccountControl", "512")
	n.until(t, "enabled", func(s *directory.Snapshot) bool { return s.ByDN(alice).LoginState(time.Now()) == directory.StateActive })

	p.Stop(1)
	status("the PDC emulator is followed, although the read-only one is near", func(s directory.SourceStatus) bool {
		return len(s.Servers) > 0 && s.Servers[0].Name == pdc.Host && s.Servers[0].Followed
	})
	must(t, c.Verify(t.Context(), person(pdc, "Alice Archer"), pdc.UserPassword))
	p.Stop(0)
	// It has nobody's password, and says so: nothing is wrong with the account.
	var setup *SetupError
	var judged judgedError
	if err := c.Check(t.Context()); err == nil || errors.As(err, &setup) || errors.As(err, &judged) || !strings.Contains(err.Error(), "read-only domain controller") {
		t.Errorf("the read-only one alone is left: %v", err)
	}
	p.Start(t, 0)
	for end := time.Now().Add(time.Minute); c.Check(t.Context()) != nil; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the PDC emulator is back, and is not used")
		}
	}
}
