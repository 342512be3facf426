package ldap

import (
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/testenv"
)

// endsOf are the names of those whose passwords end within 30 days, with the days
// that are left, "alice=14".
func endsOf(t *testing.T, c *Client, names map[directory.Key]string) map[string]float64 {
	t.Helper()
	now := time.Now()
	ends, err := c.PasswordEnds(t.Context(), now, now.Add(30*24*time.Hour))
	must(t, err)
	got := make(map[string]float64)
	for _, e := range ends {
		got[names[e.Key]] = e.At.Sub(now).Hours() / 24
	}
	return got
}

// about checks who is warned, with the days that are left.
func about(t *testing.T, what string, got, want map[string]float64) {
	t.Helper()
	ok := len(got) == len(want)
	for name, days := range want {
		left, there := got[name]
		ok = ok && there && left > days-0.1 && left < days+0.1
	}
	if !ok {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestPasswordEndsOpenLDAP(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	s.UsePasswordPolicy(t, "pwdMaxAge: 1209600\n") // 14 days
	conn := admin(t, s)
	cfg := config(t, s)
	names := map[directory.Key]string{}
	for _, e := range entries(t, client(t, cfg)) {
		if len(e.Logins) > 0 {
			names[e.Key] = e.Logins[0]
		}
	}
	dn := func(uid string) string { return "uid=" + uid + ",ou=people," + s.Base }
	for _, uid := range []string{"alice", "bob", "carol", "grace"} {
		modify(t, conn, dn(uid), "userPassword", "changed")
	}
	modify(t, conn, dn("grace"), "pwdReset", "TRUE")
	older := ldap.NewModifyRequest(dn("carol"), []ldap.Control{ldap.NewControlString("1.3.6.1.4.1.4203.666.5.12", true, "")}) // relax
	older.Replace("pwdChangedTime", []string{time.Now().Add(-12 * 24 * time.Hour).UTC().Format("20060102150405Z")})
	must(t, conn.Modify(older))
	about(t, "one policy", endsOf(t, client(t, cfg), names), map[string]float64{"alice": 14, "bob": 14, "carol": 2})

	// A policy of his own, by which his password lasts for ever: now the usual one
	// must be named.
	add := ldap.NewAddRequest("cn=ever,"+s.Base, nil)
	for name, values := range map[string][]string{"objectClass": {"device", "pwdPolicy"}, "cn": {"ever"}, "pwdAttribute": {"userPassword"}} {
		add.Attribute(name, values)
	}
	must(t, conn.Add(add))
	modify(t, conn, dn("bob"), "pwdPolicySubentry", "cn=ever,"+s.Base)
	about(t, "two policies", endsOf(t, client(t, cfg), names), map[string]float64{})
	cfg.PasswordPolicy = "cn=policy," + s.Base
	about(t, "two policies, one named", endsOf(t, client(t, cfg), names), map[string]float64{"alice": 14, "carol": 2})
	cfg.PasswordPolicy = "cn=nowhere," + s.Base
	about(t, "a policy that there is not", endsOf(t, client(t, cfg), names), map[string]float64{})

	s.Stop()
	c := client(t, cfg)
	if _, err := c.PasswordEnds(t.Context(), time.Now(), time.Now().Add(time.Hour)); err == nil {
		t.Error("no error with the server down")
	}
}

func TestPasswordEndsAD(t *testing.T) {
	t.Parallel()
	u := newADUnit(t)
	names := map[directory.Key]string{}
	var dns []string
	for _, name := range []string{"soon", "off", "ever", "change"} {
		dns = append(dns, u.person(name))
	}
	modify(t, u.Conn, dns[1], "userAccountControl", "514")
	modify(t, u.Conn, dns[2], "userAccountControl", "66048") // 512 and never expires
	modify(t, u.Conn, dns[3], "pwdLastSet", "0")
	c := client(t, u.cfg)
	for _, e := range entries(t, c) {
		name, _, _ := strings.Cut(strings.TrimPrefix(e.DN, "CN="), ",")
		names[e.Key] = name
	}
	about(t, "a domain whose passwords do not expire", endsOf(t, c, names), map[string]float64{})
	// A fine-grained policy ([MS-ADTS] §3.1.1.5.2.1.5), for these people alone.
	add := ldap.NewAddRequest("CN="+u.name+",CN=Password Settings Container,CN=System,"+u.s.Base, nil)
	for name, values := range map[string][]string{
		"objectClass": {"msDS-PasswordSettings"}, "msDS-PasswordSettingsPrecedence": {"10"}, "msDS-PasswordReversibleEncryptionEnabled": {"FALSE"},
		"msDS-PasswordHistoryLength": {"0"}, "msDS-PasswordComplexityEnabled": {"FALSE"}, "msDS-MinimumPasswordLength": {"0"},
		"msDS-MinimumPasswordAge": {"0"}, "msDS-MaximumPasswordAge": {"-12096000000000"}, // 14 days
		"msDS-LockoutThreshold": {"0"}, "msDS-LockoutObservationWindow": {"-18000000000"}, "msDS-LockoutDuration": {"-18000000000"},
		"msDS-PSOAppliesTo": dns,
	} {
		add.Attribute(name, values)
	}
	must(t, u.Conn.Add(add))
	t.Cleanup(func() { _ = u.Conn.Del(ldap.NewDelRequest(add.DN, nil)) })
	about(t, "14 days by a policy of their own", endsOf(t, c, names), map[string]float64{"soon": 14})
}
