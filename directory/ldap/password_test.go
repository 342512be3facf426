package ldap

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/testenv"
)

// changed checks the outcome of a change: reason 0 means that it was done.
func changed(t *testing.T, name string, err error, want directory.ChangeReason) *directory.ChangeRefusal {
	t.Helper()
	var r *directory.ChangeRefusal
	switch {
	case want == 0 && err != nil:
		t.Errorf("%s: %v", name, err)
	case want != 0 && (!errors.As(err, &r) || r.Reason != want):
		t.Errorf("%s: %v, want a refusal for %v", name, err, want)
	}
	if err != nil && strings.Contains(err.Error(), "Passw0rd") {
		t.Errorf("%s: password in %v", name, err)
	}
	return r
}

func TestChangePassword(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	c := client(t, config(t, s))
	alice := &directory.Entry{Key: "corp:1", DN: "uid=alice,ou=people," + s.Base}
	const next = "Пароль of alice"
	var wrong *directory.Refusal
	if err := c.ChangePassword(t.Context(), alice, "wrong", next); !errors.As(err, &wrong) || wrong.Reason != directory.ReasonPassword {
		t.Errorf("wrong old password: %v", err)
	}
	if err := c.ChangePassword(t.Context(), alice, "", next); !errors.As(err, &wrong) {
		t.Errorf("no old password: %v", err)
	}
	changed(t, "empty", c.ChangePassword(t.Context(), alice, s.UserPassword, ""), directory.ChangeTooShort)
	changed(t, "control characters", c.ChangePassword(t.Context(), alice, s.UserPassword, "a\nb"), directory.ChangeTooSimple)
	must(t, c.Verify(t.Context(), alice, s.UserPassword))
	changed(t, "good", c.ChangePassword(t.Context(), alice, s.UserPassword, next), 0)
	must(t, c.Verify(t.Context(), alice, next))
	if err := c.Verify(t.Context(), alice, s.UserPassword); !errors.As(err, &wrong) {
		t.Errorf("old password after the change: %v", err)
	}
	s.Stop()
	if err := c.ChangePassword(t.Context(), alice, next, "other"); err == nil || errors.As(err, &wrong) {
		t.Errorf("with the server down: %v", err)
	}
}

// slapd with a password policy says what is wrong; who must change may do that and
// nothing else; who has been too long away needs an administrator.
func TestChangePasswordByPolicy(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	s.UsePasswordPolicy(t, "pwdMinLength: 8\npwdCheckQuality: 2\npwdInHistory: 2\npwdMustChange: TRUE\npwdAllowUserChange: TRUE\npwdSafeModify: TRUE")
	root := admin(t, s)
	c := client(t, config(t, s))
	entry := func(name string) *directory.Entry {
		return &directory.Entry{Key: directory.Key("corp:" + name), DN: "uid=" + name + ",ou=people," + s.Base}
	}
	alice := entry("alice")
	changed(t, "too short", c.ChangePassword(t.Context(), alice, s.UserPassword, "short"), directory.ChangeTooShort)
	changed(t, "good", c.ChangePassword(t.Context(), alice, s.UserPassword, "long enough 1"), 0)
	changed(t, "good again", c.ChangePassword(t.Context(), alice, "long enough 1", "long enough 2"), 0)
	changed(t, "used before", c.ChangePassword(t.Context(), alice, "long enough 2", "long enough 1"), directory.ChangeUsedBefore)

	bob := entry("bob")
	modify(t, root, bob.DN, "pwdReset", "TRUE")
	var r *directory.Refusal
	if err := c.Verify(t.Context(), bob, s.UserPassword); !errors.As(err, &r) || r.Reason != directory.ReasonMustChange || !r.Right {
		t.Fatalf("must change: %v", err)
	}
	changed(t, "must change", c.ChangePassword(t.Context(), bob, s.UserPassword, "long enough b"), 0)
	must(t, c.Verify(t.Context(), bob, "long enough b"))

	modify(t, root, "cn=policy,"+s.Base, "pwdMinAge", "3600")
	changed(t, "too soon", c.ChangePassword(t.Context(), bob, "long enough b", "long enough c"), directory.ChangeTooSoon)
	modify(t, root, "cn=policy,"+s.Base, "pwdMinAge")
	modify(t, root, "cn=policy,"+s.Base, "pwdAllowUserChange", "FALSE")
	changed(t, "may not", c.ChangePassword(t.Context(), bob, "long enough b", "long enough c"), directory.ChangeForbidden)
	modify(t, root, "cn=policy,"+s.Base, "pwdAllowUserChange", "TRUE")

	modify(t, root, "cn=policy,"+s.Base, "pwdMaxAge", "1")
	expired := func() bool {
		err := c.Verify(t.Context(), bob, "long enough b")
		return errors.As(err, &r) && r.Reason == directory.ReasonPasswordExpired
	}
	for deadline := time.Now().Add(10 * time.Second); !expired(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the password never expired")
		}
	}
	changed(t, "expired", c.ChangePassword(t.Context(), bob, "long enough b", "long enough c"), directory.ChangeNoWay)
	modify(t, root, "cn=policy,"+s.Base, "pwdGraceAuthNLimit", "3")
	changed(t, "expired, with grace", c.ChangePassword(t.Context(), bob, "long enough b", "long enough c"), 0)
}

// passwordSettings gives somebody rules of the own ([MS-ADTS] §3.1.1.4.5.36).
func (u *adUnit) passwordSettings(name, dn string) (settings string) {
	u.t.Helper()
	settings = "CN=" + name + u.name + ",CN=Password Settings Container,CN=System," + u.s.Base
	u.add(settings, map[string][]string{
		"objectClass": {"msDS-PasswordSettings"}, "msDS-PasswordSettingsPrecedence": {"10"}, "msDS-PasswordReversibleEncryptionEnabled": {"FALSE"},
		"msDS-PasswordHistoryLength": {"3"}, "msDS-PasswordComplexityEnabled": {"TRUE"}, "msDS-MinimumPasswordLength": {"9"},
		"msDS-MinimumPasswordAge": {"0"}, "msDS-MaximumPasswordAge": {"-36288000000000"},
		"msDS-LockoutThreshold": {"0"}, "msDS-LockoutObservationWindow": {"-18000000000"}, "msDS-LockoutDuration": {"-18000000000"},
		"msDS-PSOAppliesTo": {dn},
	})
	return settings
}

// TestADChangePassword: a real domain changes the password for the person, and says
// why not, on all ways to it; also when the person cannot bind.
func TestADChangePassword(t *testing.T) {
	t.Parallel()
	u := newADUnit(t)
	_, configs := adConfigs(t)
	joined := configs["sealed"]
	joined.Passwords = PasswordsKerberos
	joined.Principal, joined.Realm, joined.Keytab, joined.Bind = "", "", nil, BindJoined
	configs["kerberos"] = joined
	for name, cfg := range configs {
		t.Run(name, func(t *testing.T) {
			c := client(t, cfg)
			if cfg.Bind == BindJoined {
				must(t, c.SetMachine(machine(t, u.s, "CHANGER")))
			}
			must(t, c.Check(t.Context())) // which learns what the directory is
			dn := u.person("pw" + name)
			e := &directory.Entry{Key: "corp:1", DN: dn}
			old := u.s.UserPassword
			r := changed(t, "against the rules of the domain", c.ChangePassword(t.Context(), e, old, "Pa.0"), directory.ChangeTooShort)
			if r != nil && (r.Rules.MinLength == 0 || !r.Rules.Complex) {
				t.Errorf("rules of the domain: %+v", r.Rules)
			}
			own := u.passwordSettings(name, dn)
			modify(t, u.Conn, own, "msDS-MinimumPasswordAge", "-864000000000")
			r = changed(t, "too soon", c.ChangePassword(t.Context(), e, old, "Passw0rd.Another"), directory.ChangeTooSoon)
			if r != nil && r.Rules != (directory.PasswordRules{}) {
				t.Errorf("rules of the domain, where the person has other ones that an ordinary account may not read: %+v", r.Rules)
			}
			modify(t, u.Conn, own, "msDS-MinimumPasswordAge", "0")
			r = changed(t, "too short", c.ChangePassword(t.Context(), e, old, "Pa.0"), directory.ChangeTooShort)
			if r != nil {
				t.Logf("%v %+v", r, r.Rules)
			}
			changed(t, "too simple", c.ChangePassword(t.Context(), e, old, "onlysmallletters"), directory.ChangeTooSimple)
			changed(t, "good", c.ChangePassword(t.Context(), e, old, "Passw0rd.Öne"), 0)
			must(t, c.Verify(t.Context(), e, "Passw0rd.Öne"))
			changed(t, "used before", c.ChangePassword(t.Context(), e, "Passw0rd.Öne", old), directory.ChangeUsedBefore)
			var wrong *directory.Refusal
			err := c.ChangePassword(t.Context(), e, "Passw0rd.Wrong", "Passw0rd.Two")
			var no *directory.ChangeRefusal
			if !errors.As(err, &wrong) && (!errors.As(err, &no) || no.Reason != directory.ChangeOldWrong) {
				t.Errorf("wrong old password: %v", err)
			}
			modify(t, u.Conn, dn, "pwdLastSet", "0")
			if err := c.Verify(t.Context(), e, "Passw0rd.Öne"); !errors.As(err, &wrong) || wrong.Reason != directory.ReasonMustChange {
				t.Errorf("must change: %v", err)
			}
			changed(t, "must change", c.ChangePassword(t.Context(), e, "Passw0rd.Öne", "Passw0rd.Three"), 0)
			must(t, c.Verify(t.Context(), e, "Passw0rd.Three"))
		})
	}
}

// TestADChangePasswordWithoutAccount: a node that has no account in the domain changes
// a password that must be changed by Kerberos.
func TestADChangePasswordWithoutAccount(t *testing.T) {
	t.Parallel()
	u := newADUnit(t)
	_, configs := adConfigs(t)
	cfg := configs["ldaps"]
	cfg.BindDN, cfg.BindPassword, cfg.Preset = "", "", PresetAD
	c := client(t, cfg)
	dn := u.person("pwalone")
	e := &directory.Entry{Key: "corp:1", DN: dn, Logins: []string{"pwalone." + u.name + "@corp.example", `corp\pwalone` + u.name[len(u.name)-8:]}}
	u.passwordSettings("alone", dn)
	old := u.s.UserPassword
	changed(t, "as the person", c.ChangePassword(t.Context(), e, old, "Passw0rd.One"), 0)
	modify(t, u.Conn, dn, "pwdLastSet", "0")
	r := changed(t, "too short", c.ChangePassword(t.Context(), e, "Passw0rd.One", "Pa.0"), directory.ChangeTooShort)
	t.Logf("too short: %v", r)
	r = changed(t, "too simple", c.ChangePassword(t.Context(), e, "Passw0rd.One", "onlysmallletters"), directory.ChangeTooSimple)
	t.Logf("too simple: %v", r)
	changed(t, "must change", c.ChangePassword(t.Context(), e, "Passw0rd.One", "Passw0rd.Zwölf"), 0)
	must(t, c.Verify(t.Context(), e, "Passw0rd.Zwölf"))
}

// What Windows and others say, as far as it is known.
func TestJudgeChange(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		code uint16
		text string
		want directory.ChangeReason
	}{
		{ldap.LDAPResultConstraintViolation, "0000052D: AtrErr: DSID-03191083, #1:\n\t0: 0000052D: DSID-03191083, problem 1005 (CONSTRAINT_ATT_TYPE), data 0, Att 9005a (unicodePwd)\n", directory.ChangePolicy},
		{ldap.LDAPResultUnwillingToPerform, "0000052D: SvcErr: DSID-031A12D2, problem 5003 (WILL_NOT_PERFORM), data 0\n", directory.ChangePolicy},
		{ldap.LDAPResultConstraintViolation, "00000056: AtrErr: DSID-03191083, #1:\n\t0: 00000056: DSID-03191083, problem 1005 (CONSTRAINT_ATT_TYPE), data 0, Att 9005a (unicodePwd)\n", directory.ChangeOldWrong},
		{ldap.LDAPResultInsufficientAccessRights, "00000005: SecErr: DSID-031A1190, problem 4003 (INSUFF_ACCESS_RIGHTS), data 0\n", directory.ChangeForbidden},
		{ldap.LDAPResultConstraintViolation, "Password fails quality checking policy", directory.ChangeTooSimple},
		{ldap.LDAPResultConstraintViolation, "Password is in history of old passwords", directory.ChangeUsedBefore},
		{ldap.LDAPResultConstraintViolation, "invalid password syntax: password must be at least 8 characters long", directory.ChangePolicy},
		{ldap.LDAPResultConstraintViolation, "within password minimum age", directory.ChangeTooSoon},
		{ldap.LDAPResultUnwillingToPerform, "the server is closing", 0},
		{ldap.LDAPResultBusy, "too short of breath", 0},
		{ldap.ErrorNetwork, "history", 0},
	} {
		got, _ := judgeChange(ldap.NewError(tt.code, errors.New(tt.text)))
		if got != tt.want {
			t.Errorf("%d %q: %v, want %v", tt.code, tt.text, got, tt.want)
		}
	}
}
