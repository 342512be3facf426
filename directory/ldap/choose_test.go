package ldap

import (
	"testing"

	"dirpost/internal/testenv"
)

// TestChoose: how a directory is followed is what its server offers.
func TestChoose(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	_, configs := adConfigs(t)
	other := configs["ldaps"]
	other.Mapping = map[string][]string{"id": {"employeeID"}}
	for name, tt := range map[string]struct {
		cfg  Config
		want string
	}{
		"slapd":                       {config(t, s), FollowSyncrepl},
		"Active Directory":            {configs["sealed"], FollowDirSync},
		"Active Directory by another": {other, FollowPoll},
	} {
		got, err := client(t, tt.cfg).Source(quiet).(*chosen).choose(t.Context())
		if err != nil || got != tt.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, tt.want)
		}
	}
}
