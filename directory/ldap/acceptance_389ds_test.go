//go:build acceptance

package ldap

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/child"
	"dirpost/internal/testenv"
)

// config389 follows a 389 Directory Server as it is found.
func config389(t testing.TB, s *testenv.DS389Server) Config {
	t.Helper()
	ca, err := os.ReadFile(s.CAFile)
	must(t, err)
	return Config{
		Name: "corp", URLs: []string{s.TLSURL}, Base: s.Base, BindDN: s.ServiceDN, BindPassword: s.ServicePassword, CA: string(ca),
		ConnectTimeout: 10 * time.Second, Timeout: time.Minute,
	}
}

// admin389 is a connection that may change everything.
func admin389(t testing.TB, s *testenv.DS389Server) *ldap.Conn {
	t.Helper()
	limitPackets()
	c, err := ldap.DialURL(s.URL)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.Bind(s.AdminDN, s.AdminPassword))
	return c
}

// TestAcceptance389DS: what holds of slapd holds of a real 389 Directory Server, which
// is known for what it is and followed by content synchronization, or by polling. An
// entry has the same key in both.
func TestAcceptance389DS(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, s *testenv.DS389Server, cfg Config){
		"corp":     func(t *testing.T, _ *testenv.DS389Server, cfg Config) { corpAsMailSeesIt(t, cfg) },
		"changes":  func(t *testing.T, s *testenv.DS389Server, cfg Config) { changes(t, admin389(t, s), cfg) },
		"vanished": func(t *testing.T, s *testenv.DS389Server, cfg Config) { vanishedWhileAway(t, admin389(t, s), cfg) },
		"container": func(t *testing.T, s *testenv.DS389Server, cfg Config) {
			containerRenamed(t, admin389(t, s), cfg, s.UserPassword)
		},
		"outage": func(t *testing.T, s *testenv.DS389Server, cfg Config) {
			outage(t, s, func() *ldap.Conn { return admin389(t, s) }, cfg)
		},
		"cookie": func(t *testing.T, _ *testenv.DS389Server, cfg Config) {
			if cfg.Follow != FollowPoll {
				badCookie(t, cfg, "garbage")
			}
		},
	} {
		for _, follow := range []string{FollowAuto, FollowPoll} {
			t.Run(name+"/"+follow, func(t *testing.T) {
				s := testenv.DS389(t, "")
				cfg := config389(t, s)
				cfg.Follow = follow
				if follow == FollowPoll {
					cfg.PollEvery = 1
				}
				test(t, s, cfg)
			})
		}
	}
	t.Run("profile", func(t *testing.T) {
		s := testenv.DS389(t, "")
		cfg := config389(t, s)
		c := client(t, cfg)
		choice, err := c.Choice(t.Context())
		must(t, err)
		if choice.Profile != Preset389DS {
			t.Errorf("read as %+v", choice)
		}
		source := c.Source(quiet).(*chosen)
		follow, err := source.choose(t.Context())
		must(t, err)
		if follow != FollowSyncrepl {
			t.Errorf("followed by %s", follow)
		}
		// The server gives an entryUUID to what is added, and names it by nsUniqueId all
		// the same.
		add := ldap.NewAddRequest("uid=added,ou=people,"+s.Base, nil)
		for name, value := range map[string]string{"objectClass": "inetOrgPerson", "uid": "added", "cn": "x", "sn": "x", "mail": "added@corp.example"} {
			add.Attribute(name, []string{value})
		}
		must(t, admin389(t, s).Add(add))
		res, err := admin389(t, s).Search(ldap.NewSearchRequest("uid=added,ou=people,"+s.Base, ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", []string{"entryUUID", "nsUniqueId"}, nil))
		must(t, err)
		if res.Entries[0].GetAttributeValue("entryUUID") == "" {
			t.Error("the server gives no entryUUID, which shows nothing about keys")
		}
		keys := map[string][]string{}
		for _, follow := range []string{FollowSyncrepl, FollowPoll} {
			cfg.Follow = follow
			for _, e := range entries(t, client(t, cfg)) {
				if strings.HasPrefix(e.DN, "uid=added,") {
					t.Log(follow, e.Key, res.Entries[0].GetAttributeValue("nsUniqueId"))
				}
				keys[follow] = append(keys[follow], e.DN+" "+string(e.Key))
			}
		}
		if len(keys[FollowPoll]) < 25 || !slices.Equal(keys[FollowSyncrepl], keys[FollowPoll]) {
			t.Errorf("the same entries have other keys:\n%s\n%s", strings.Join(keys[FollowSyncrepl], "\n"), strings.Join(keys[FollowPoll], "\n"))
		}
	})
}

// TestAcceptance389DSPasswords: accounts that are locked, and passwords that expire, as
// 389 Directory Server has them, seen in the entry and at the login.
func TestAcceptance389DSPasswords(t *testing.T) {
	hash, err := child.SSHA("demo")
	must(t, err)
	ldif := ""
	person := func(name, more string) {
		ldif += "\ndn: uid=" + name + ",ou=people,dc=corp,dc=example\nobjectClass: inetOrgPerson\nobjectClass: mailRecipient\nuid: " + name + "\ncn: x\nsn: x\nmail: " + name + "@corp.example\nuserPassword: " + hash + "\n" + more
	}
	at := func(d time.Duration) string {
		return "passwordExpirationTime: " + time.Now().Add(d).UTC().Format("20060102150405Z") + "\n"
	}
	person("blocked", "nsAccountLock: true\n")
	person("soon", at(time.Hour))
	person("old", at(-time.Hour))
	person("reset", "")
	person("guessed", "")
	person("netscape", "mailAlternateAddress: other@corp.example\nmailQuota: 1000000\n")
	s := testenv.DS389(t, ldif)
	a := admin389(t, s)
	policy := ldap.NewModifyRequest("cn=config", nil)
	for name, value := range map[string]string{"passwordLockout": "on", "passwordMaxFailure": "3", "passwordExp": "on", "passwordMaxAge": "8640000", "passwordWarning": "86400", "passwordMustChange": "on"} {
		policy.Replace(name, []string{value})
	}
	must(t, a.Modify(policy))
	modify(t, a, "uid=reset,ou=people,"+s.Base, "userPassword", "another")
	c := client(t, config389(t, s))
	n := start(t, testenv.Database(t), &hints{}, c)
	n.untilComplete(t)
	snap := n.live.Snapshot()
	if e := snap.ByLogin("netscape"); e == nil || e.Quota != 1_000_000 || home(snap, "other@corp.example") != "here" {
		t.Errorf("by the schema of Netscape: %+v", e)
	}
	for _, tt := range []struct {
		who, password string
		want          directory.Reason
		right         bool
	}{
		{"alice", s.UserPassword, 0, false},
		{"alice", "wrong", directory.ReasonPassword, false},
		{"nobody", "wrong", directory.ReasonPassword, false},
		{"blocked", "demo", directory.ReasonDisabled, false},
		{"old", "demo", directory.ReasonPasswordExpired, true},
		{"old", "wrong", directory.ReasonPassword, false},
		{"reset", "another", directory.ReasonMustChange, true},
		{"guessed", "wrong", directory.ReasonPassword, false},
		{"guessed", "wrong", directory.ReasonPassword, false},
		{"guessed", "wrong", directory.ReasonPassword, false},
		{"guessed", "demo", directory.ReasonLocked, false},
	} {
		err := c.Verify(t.Context(), &directory.Entry{Key: "corp:1", DN: "uid=" + tt.who + ",ou=people," + s.Base}, tt.password)
		var r *directory.Refusal
		if err != nil && !errors.As(err, &r) {
			t.Fatalf("%s: %v", tt.who, err)
		}
		if tt.want == 0 && r != nil || tt.want != 0 && (r == nil || r.Reason != tt.want || r.Right != tt.right) {
			t.Errorf("%s with %s: %v, want %v (right %v)", tt.who, tt.password, r, tt.want, tt.right)
		}
	}
	notice, err := c.VerifyWithNotice(t.Context(), &directory.Entry{Key: "corp:1", DN: "uid=soon,ou=people," + s.Base}, "demo")
	// Who is warned for the first time gets the whole time of the warning.
	if err != nil || notice == nil || notice.ExpiresIn < 23*time.Hour || notice.ExpiresIn > 24*time.Hour {
		t.Errorf("expires soon: %+v, %v", notice, err)
	}

	state := func(who string, want directory.State) func(*directory.Snapshot) bool {
		return func(s *directory.Snapshot) bool { return s.ByLogin(who).LoginState(time.Now()) == want }
	}
	if !state("blocked", directory.StateDisabled)(snap) {
		t.Errorf("blocked is %v", snap.ByLogin("blocked").LoginState(time.Now()))
	}
	modify(t, a, "uid=alice,ou=people,"+s.Base, "nsAccountLock", "true")
	n.until(t, "locked by the administrator", state("alice", directory.StateDisabled))
	modify(t, a, "uid=alice,ou=people,"+s.Base, "nsAccountLock")
	n.until(t, "free again", state("alice", directory.StateActive))

	// What she could write herself.
	check, err := c.CheckSelf(t.Context(), snap.ByLogin("carol"), s.UserPassword)
	if err != nil || check.How == "" {
		t.Errorf("what carol could write: %+v, %v", check, err)
	}
	for _, w := range check.Writable {
		t.Errorf("carol could write %s", w.Attribute)
	}
	modify(t, a, "ou=people,"+s.Base, "aci", `(targetattr="mail")(version 3.0; acl "own address"; allow (write) userdn="ldap:///self";)`)
	check, err = c.CheckSelf(t.Context(), snap.ByLogin("carol"), s.UserPassword)
	if err != nil || len(check.Writable) != 1 || check.Writable[0].Attribute != "mail" {
		t.Errorf("what carol could write: %+v, %v", check, err)
	}
}
