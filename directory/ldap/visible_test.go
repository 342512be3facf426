package ldap

import (
	"slices"
	"testing"
	"time"

	"dirpost/internal/testenv"
)

// TestCheckVisible: what the account sees of people, on OpenLDAP and Active Directory;
// the clock of a domain controller; the end of a certificate.
func TestCheckVisible(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	cfg := config(t, s)
	c := client(t, cfg)
	v, err := c.CheckVisible(t.Context())
	if err != nil || v.People == 0 || len(v.Lacking) != 0 || !slices.Contains(v.Seen, "mail") || v.Account != s.ServiceDN {
		t.Errorf("slapd: %v %+v", err, v)
	}
	if _, known, err := c.Clock(t.Context()); err != nil || known {
		t.Errorf("slapd tells its clock: %t, %v", known, err)
	}
	all, err := c.AskServers(t.Context())
	if err != nil || len(all) != 1 || time.Until(all[0].Expires) < 300*24*time.Hour {
		t.Errorf("the certificate ends: %+v, %v", all, err)
	}
	cfg.Filter = "(objectClass=pilotDSA)"
	if v, err := client(t, cfg).CheckVisible(t.Context()); err != nil || v.People != 0 || len(v.Lacking) != 0 {
		t.Errorf("a filter that matches nobody: %v %+v", err, v)
	}
	s.Stop()
	s.Allow(t, "access to attrs=entryUUID by dn.exact=\""+s.ServiceDN+"\" none by * break\n")
	cfg.Filter = ""
	if v, err := client(t, cfg).CheckVisible(t.Context()); err != nil || v.People == 0 || len(v.Lacking) != 1 || !slices.Contains(v.Lacking[0].Sources, "entryUUID") {
		t.Errorf("without entryUUID: %v %+v", err, v)
	}

	_, configs := adConfigs(t)
	for name, cfg := range configs {
		c := client(t, cfg)
		if v, err := c.CheckVisible(t.Context()); err != nil || v.People == 0 || len(v.Lacking) != 0 || !slices.Contains(v.Seen, "objectGUID") {
			t.Errorf("%s: %v %+v", name, err, v)
		}
		if ahead, known, err := c.Clock(t.Context()); err != nil || !known || ahead.Abs() > time.Minute {
			t.Errorf("%s: our clock is %v ahead of that of the controller (%t, %v)", name, ahead, known, err)
		}
	}
}
