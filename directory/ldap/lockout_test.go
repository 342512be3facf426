package ldap

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/testenv"
)

// TestADLockout: the rule and the count of a real domain controller, for a person
// of the domain's rule and one of a fine-grained policy, by an account that may see
// the policies and by one that may not.
func TestADLockout(t *testing.T) {
	t.Parallel()
	u := newADUnit(t)
	domain := &directory.Entry{DN: u.person("plain")}
	fine := &directory.Entry{DN: u.person("fine")}
	nobody := &directory.Entry{DN: "CN=Nobody," + u.base}
	pso := "CN=three-" + u.name + ",CN=Password Settings Container,CN=System," + u.s.Base
	add := ldap.NewAddRequest(pso, nil)
	for name, value := range map[string]string{
		"objectClass": "msDS-PasswordSettings", "msDS-PasswordSettingsPrecedence": "5", "msDS-PasswordReversibleEncryptionEnabled": "FALSE",
		"msDS-PasswordHistoryLength": "0", "msDS-PasswordComplexityEnabled": "TRUE", "msDS-MinimumPasswordLength": "7",
		"msDS-MinimumPasswordAge": "0", "msDS-MaximumPasswordAge": "-9223372036854775808", "msDS-LockoutThreshold": "3",
		"msDS-LockoutObservationWindow": "-12000000000", "msDS-LockoutDuration": "-12000000000", "msDS-PSOAppliesTo": fine.DN,
	} {
		add.Attribute(name, []string{value})
	}
	must(t, u.Add(add))
	t.Cleanup(func() { _ = u.Del(ldap.NewDelRequest(pso, nil)) })

	cfg := u.cfg
	ordinary := client(t, cfg)
	cfg.BindDN, cfg.BindPassword = u.s.AdminDN, u.s.AdminPassword
	admin := client(t, cfg)
	lockout := func(c *Client, e *directory.Entry) directory.Lockout {
		t.Helper()
		l, err := c.Lockout(t.Context(), e)
		must(t, err)
		if e != nobody && time.Since(l.PasswordSet).Abs() > time.Hour { // pwdLastSet, by the clock of the server
			t.Errorf("the password of %s was set at %v, it says", e.DN, l.PasswordSet)
		}
		l.PasswordSet = time.Time{}
		return l
	}
	if got, want := lockout(admin, domain), (directory.Lockout{Threshold: 5, Window: time.Hour}); got != want {
		t.Errorf("the domain's rule: %+v, want %+v", got, want)
	}
	if got, want := lockout(admin, fine), (directory.Lockout{Threshold: 3, Window: 20 * time.Minute}); got != want {
		t.Errorf("a fine-grained policy: %+v, want %+v", got, want)
	}
	t.Logf("an ordinary account sees %+v and %+v", lockout(ordinary, domain), lockout(ordinary, fine))
	if got := lockout(ordinary, fine); !got.Hidden && got.Threshold != 3 {
		t.Errorf("an ordinary account takes a fine-grained policy for %+v", got)
	}
	for n := 1; n <= 2; n++ {
		var r *directory.Refusal
		if err := ordinary.Verify(t.Context(), fine, fmt.Sprint("wrong", n)); !errors.As(err, &r) {
			t.Fatal(err)
		}
		if got := lockout(ordinary, fine); got.Wrong != n || got.Locked {
			t.Errorf("after %d wrong ones: %+v", n, got)
		}
	}
	must(t, ordinary.Verify(t.Context(), fine, u.s.UserPassword))
	if got := lockout(ordinary, fine); got.Wrong != 0 {
		t.Errorf("after a right one: %+v", got)
	}
	for n := range 3 {
		_ = ordinary.Verify(t.Context(), fine, fmt.Sprint("wrong", n))
	}
	if got := lockout(ordinary, fine); !got.Locked {
		t.Errorf("after three wrong ones: %+v", got)
	}
	if got := lockout(ordinary, nobody); !got.Hidden {
		t.Errorf("an entry that is gone: %+v", got)
	}
}

const policies = `
dn: ou=policies,%[1]s
objectClass: organizationalUnit
ou: policies

dn: cn=default,ou=policies,%[1]s
objectClass: applicationProcess
objectClass: pwdPolicy
cn: default
pwdAttribute: userPassword
pwdLockout: TRUE
pwdMaxFailure: 5
pwdFailureCountInterval: 600
pwdLockoutDuration: 900

dn: cn=patient,ou=policies,%[1]s
objectClass: applicationProcess
objectClass: pwdPolicy
cn: patient
pwdAttribute: userPassword
pwdLockout: FALSE
pwdMaxFailure: 2
`

// TestPolicyLockout: the rule and the count of a real OpenLDAP with password
// policies, and without.
func TestPolicyLockout(t *testing.T) {
	t.Parallel()
	bare := testenv.Slapd(t)
	s := testenv.SlapdPolicy(t, "cn=default,ou=policies,"+bare.Base, fmt.Sprintf(policies, bare.Base))
	alice, bob := &directory.Entry{DN: "uid=alice,ou=people," + s.Base}, &directory.Entry{DN: "uid=bob,ou=people," + s.Base}
	lockout := func(c *Client, e *directory.Entry) directory.Lockout {
		t.Helper()
		l, err := c.Lockout(t.Context(), e)
		must(t, err)
		return l
	}
	if got := lockout(client(t, config(t, bare)), alice); got != (directory.Lockout{}) {
		t.Errorf("without policies: %+v", got)
	}
	c := client(t, config(t, s))
	want := directory.Lockout{Threshold: 5, Window: 10 * time.Minute}
	if got := lockout(c, alice); got != want {
		t.Errorf("default: %+v, want %+v", got, want)
	}
	modify(t, admin(t, s), bob.DN, "pwdPolicySubentry", "cn=patient,ou=policies,"+s.Base)
	if got := lockout(c, bob); got != (directory.Lockout{}) {
		t.Errorf("a policy that locks nobody: %+v", got)
	}
	for n := 1; n <= 5; n++ {
		_ = c.Verify(t.Context(), alice, fmt.Sprint("wrong", n))
		if got := lockout(c, alice); got.Wrong != n || got.Locked != (n == 5) {
			t.Errorf("after %d wrong ones: %+v", n, got)
		}
	}
	// What may not be read is not taken for nothing.
	s.Stop()
	s.Allow(t, "access to dn.subtree=\"ou=policies,"+s.Base+"\" by * none\naccess to attrs=pwdFailureTime,pwdPolicySubentry by * none\n")
	if got := lockout(client(t, config(t, s)), alice); !got.Hidden {
		t.Errorf("policies that may not be read: %+v", got)
	}
}

// TestInterval reads spans of time of Active Directory.
func TestInterval(t *testing.T) {
	t.Parallel()
	for v, want := range map[string]time.Duration{
		"-18000000000": 30 * time.Minute, "-1": 100, "0": 0, "": 0, "x": 0, "18000000000": 0, "-9223372036854775808": 0,
		"-600000000000000": 1_000_000 * time.Minute,
	} {
		if got := interval(v); got != want {
			t.Errorf("interval(%q) = %v, want %v", v, got, want)
		}
	}
}

// TestDomainOf finds the domain in a DN.
func TestDomainOf(t *testing.T) {
	t.Parallel()
	for dn, want := range map[string]string{
		"CN=Alice,OU=Staff,DC=corp,DC=example": "DC=corp,DC=example",
		"cn=a\\,dc=b,dc=corp,dc=example":       "dc=corp,dc=example",
		"DC=example":                           "DC=example",
		"not a DN":                             "not a DN",
	} {
		if got := directory.NormalizeDN(domainOf(dn)); got != directory.NormalizeDN(want) {
			t.Errorf("domainOf(%q) = %q, want %q", dn, got, want)
		}
	}
}

// FuzzLockout: no answer of a server makes reading it fail, nor a negative number.
func FuzzLockout(f *testing.F) {
	f.Add("3", "133000000000000000", "16", "20261121103000Z", "5", "TRUE", "600")
	f.Add("-1", "-9223372036854775808", "x", "000001010000Z", "99999999999", "true", "-1")
	f.Add("", "", "", "", "", "", "")
	f.Fuzz(func(t *testing.T, count, at, computed, failure, threshold, lockout, window string) {
		e := ldap.NewEntry("cn=x", map[string][]string{
			"badPwdCount": {count}, "badPasswordTime": {at}, "msDS-User-Account-Control-Computed": {computed}, "pwdFailureTime": {failure, failure},
			"pwdAccountLockedTime": {failure}, "passwordRetryCount": {count}, "pwdMaxFailure": {threshold}, "pwdLockout": {lockout},
			"pwdFailureCountInterval": {window}, "pwdLockoutDuration": {window},
		})
		rule := policyRule(e)
		l := directory.Lockout{Threshold: rule.threshold, Window: rule.window}
		readPolicyCount(&l, e, rule, time.Unix(1_800_000_000, 0))
		ad := directory.Lockout{Window: interval(at)}
		readADCount(&ad, e, time.Unix(1_800_000_000, 0))
		if l.Threshold < 0 || l.Window < 0 || l.Wrong < 0 || ad.Wrong < 0 || ad.Window < 0 {
			t.Errorf("%+v, %+v", l, ad)
		}
	})
}
