package testenv

import (
	"sync"
	"testing"

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
// The first trusts the second, see Trust: its groups take members of the other, named
// by SID, and it makes the foreign security principals for them itself. The trust is
// made of its entries, since samba-tool domain trust create wants LSA over SMB from both
// domains also where it creates one side alone, and smbd of Samba 4.17 refuses the
// session outside a real installation (NT_STATUS_INTERNAL_ERROR).
func ADForest(t testing.TB) (corp, other *ADServer) {
	t.Helper()
	corp = AD(t)
	other, err := otherAD()
	if err != nil {
		t.Fatalf("second private domain: %v", err)
	}
	corp.Trust(t, other)
	return corp, other
}
