package testenv

import (
	"context"
	"sync"
	"testing"
	"time"

	"dirpost/internal/child"
)

// otherAD is the second domain of this binary.
var otherAD = sync.OnceValues(func() (*ADServer, error) {
	return startDomain("ad-other", func(programs child.SambaPrograms, dir string) child.SambaConfig {
		cfg := adConfig(programs, dir)
		cfg.Host, cfg.Realm, cfg.Domain = "dc9", "OTHER.EXAMPLE", "OTHER"
		return cfg
	})
})

// ADForest returns the domain of AD and a second one, OTHER.EXAMPLE, with people of
// the same names under DNs, addresses and SIDs of its own. The tests of a binary
// share both.
//
// The domains do not trust each other: samba-tool domain trust create wants LSA
// over SMB from both, and smbd of Samba 4.17 refuses the session outside a real
// installation (NT_STATUS_INTERNAL_ERROR). What a trust leaves in a directory,
// foreign security principals for groups, ForeignPrincipal makes.
func ADForest(t testing.TB) (corp, other *ADServer) {
	t.Helper()
	corp = AD(t)
	other, err := otherAD()
	if err != nil {
		t.Fatalf("second private domain: %v", err)
	}
	return corp, other
}

// ForeignPrincipal makes the entry by which groups of s name somebody of a trusted
// domain, if it is not there, and returns its DN. A domain makes it itself when the
// trust is there, and lets nobody else do it.
func (s *ADServer) ForeignPrincipal(t testing.TB, sid string) (dn string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dn = "CN=" + sid + ",CN=ForeignSecurityPrincipals," + s.Base
	if _, err := s.cfg.Read(ctx, dn, "objectSid"); err == nil {
		return dn
	}
	if err := s.cfg.Relax(ctx, "dn: "+dn+"\nobjectClass: foreignSecurityPrincipal\nobjectSid: "+sid+"\n"); err != nil {
		t.Fatalf("foreign security principal: %v", err)
	}
	return dn
}
