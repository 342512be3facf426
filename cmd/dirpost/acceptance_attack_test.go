//go:build acceptance

package main

import (
	"fmt"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// TestAcceptanceAttack is TestAttack with 100,000 wrong logins from 1,000 addresses,
// and twenty passwords tried with every account, on a system that is joined to the
// domain and has passwords judged by Kerberos. Somebody who is attacked like the
// others comes in by a ticket all the while.
func TestAcceptanceAttack(t *testing.T) {
	s := newSSO(t, "victor")
	s.kinit()
	ticket := func() error {
		if out, err := s.curl("pop3s://" + s.host + ":" + s.port("pop3s") + "/"); err != nil {
			return fmt.Errorf("by Kerberos: %w: %s", err, out)
		}
		return nil
	}
	d := s.unitOf(s.ad)
	checkAttack(s.system, d, attack{accounts: 60, guesses: 100_000, addresses: 1000, spray: 20, workers: 64, also: s.who + "@corp.example"}, ticket)
	res, err := d.Search(ldap.NewSearchRequest(s.dn(), ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", []string{"badPwdCount", "lockoutTime"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	if e := res.Entries[0]; e.GetAttributeValue("lockoutTime") > "0" || e.GetAttributeValue("badPwdCount") > "4" {
		t.Errorf("%s: lockoutTime %s, badPwdCount %s", s.who, e.GetAttributeValue("lockoutTime"), e.GetAttributeValue("badPwdCount"))
	}
}
