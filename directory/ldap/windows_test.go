package ldap

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/testenv"
)

// proxied is the domain behind a proxy that behaves as b says.
func proxied(t testing.TB, b testenv.LDAPBehaviour) (*testenv.LDAPProxy, Config) {
	t.Helper()
	s, configs := adConfigs(t)
	p := testenv.ProxyLDAP(t, s.TLSURL, s.Host, s.CA, b)
	cfg := configs["ldaps"]
	cfg.URLs, cfg.CA, cfg.Follow = []string{p.URL}, p.CA, FollowPoll
	return p, cfg
}

// TestWindowsLimits: pages and values that come in parts are put together, in
// every way to follow, and what refers elsewhere is left there.
func TestWindowsLimits(t *testing.T) {
	t.Parallel()
	u := newADUnit(t)
	var people []string
	for i := range 40 {
		people = append(people, u.person(fmt.Sprintf("p%d", i)))
	}
	u.group("all", people...)
	u.group("few", people[:3]...)
	show := func(list []*directory.Entry) string {
		b, err := json.MarshalIndent(list, "", " ")
		must(t, err)
		return string(b)
	}
	small := testenv.WindowsBehaviour()
	small.MaxPageSize, small.MaxValRange, small.References = 7, 6, []string{"ldap://127.0.0.1:1/DC=child,DC=corp,DC=example"}
	p, cfg := proxied(t, testenv.LDAPBehaviour{})
	cfg.Base = u.base
	want := show(entries(t, client(t, cfg)))
	p.Set(small)
	log := &logBuffer{}
	cfg.Log = log.log()
	for _, follow := range []string{FollowPoll, FollowDirSync} {
		cfg.Follow = follow
		got := entries(t, client(t, cfg))
		if show(got) != want || len(got) != 42 || len(got[0].Members) != 40 && len(got[1].Members) != 40 {
			t.Errorf("%s: got %d entries\n%s", follow, len(got), show(got))
		}
	}
	if log.count("refers to other servers") == 0 {
		t.Error("nothing says that there are references")
	}

	// That the proxy does what it is for.
	c, err := client(t, cfg).dialService(t.Context())
	must(t, err)
	defer c.end()
	search := func(attributes ...string) (*ldap.SearchResult, error) {
		return c.Search(ldap.NewSearchRequest(u.base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", attributes, nil))
	}
	if res, err := search("cn"); !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) || len(res.Entries) != 7 {
		t.Errorf("without pages: %v", err)
	}
	small.MaxPageSize, small.GlobalCatalog, small.MaxNotifications = 0, true, 1
	p.Set(small)
	res, err := search("cn", "member", "mail", "proxyAddresses")
	must(t, err)
	members := 0
	for _, e := range res.Entries {
		members += len(e.GetAttributeValues("member")) + len(e.GetAttributeValues("member;range=0-5"))
		if len(e.GetAttributeValues("groupType")) > 0 {
			t.Errorf("%s has what was not asked for", e.DN)
		}
	}
	if members != 6+3 { // the groups of newADUnit are universal
		t.Errorf("global catalog: %d members", members)
	}
	watch := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := c.SearchAsync(ctx, ldap.NewSearchRequest(cfg.Base, ldap.ScopeSingleLevel, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", []string{"cn"},
			[]ldap.Control{ldap.NewControlMicrosoftNotification()}), 1)
		for r.Next() {
		}
		return r.Err()
	}
	if err := watch(); ldap.IsErrorWithCode(err, ldap.LDAPResultAdminLimitExceeded) {
		t.Errorf("first notification: %v", err)
	}
	if err := watch(); !ldap.IsErrorWithCode(err, ldap.LDAPResultAdminLimitExceeded) {
		t.Errorf("second notification: %v", err)
	}
}

// readAll reads everything once and returns how many entries there were, whether
// the reading was complete, and how it ended.
func readAll(t testing.TB, cfg Config) (people int, complete bool, err error) {
	t.Helper()
	done := errors.New("done")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = client(t, cfg).Source(quiet).Follow(ctx, nil, func(_ context.Context, b directory.Batch) error {
		for _, c := range b.Changes {
			if c.Entry != nil && strings.Contains(c.Entry.DN, "OU=Staff") {
				people++
			}
		}
		if complete = b.Complete && b.Vanish; b.Complete {
			return done
		}
		return nil
	})
	if errors.Is(err, done) {
		err = nil
	}
	return people, complete, err
}

// TestBadDirectory: a directory that is slow, stops in the middle or says what
// nobody can read ends in one clear message, or costs the one entry that it is
// about; nobody vanishes.
func TestBadDirectory(t *testing.T) {
	t.Parallel()
	_, cfg := proxied(t, testenv.LDAPBehaviour{})
	all, complete, err := readAll(t, cfg)
	if err != nil || !complete || all < 5 {
		t.Fatalf("%d people, complete %t, %v", all, complete, err)
	}
	// One of the mapped attributes of Alice becomes something else.
	alice := func(attribute string, becomes []byte) func(string, string, []byte) []byte {
		return func(dn, a string, value []byte) []byte {
			if strings.HasPrefix(dn, "CN=Alice Archer,") && strings.EqualFold(a, attribute) {
				return becomes
			}
			return value
		}
	}
	tests := []struct {
		name   string
		b      testenv.LDAPBehaviour
		people int
		want   string // of the error
	}{
		{"hangs up in the middle", testenv.LDAPBehaviour{BreakAt: 4}, -1, "compare directory \"corp\""},
		{"silent in the middle", testenv.LDAPBehaviour{BreakAt: 4, Silent: true}, -1, "compare directory \"corp\""},
		{"slow", testenv.LDAPBehaviour{Delay: 3 * time.Second}, -1, "corp"},
		{"10 MB of name", testenv.LDAPBehaviour{Value: alice("displayName", bytes.Repeat([]byte("x"), 10<<20))}, all, ""},
		{"10 MB of address", testenv.LDAPBehaviour{Value: alice("mail", bytes.Repeat([]byte("x"), 10<<20))}, all, ""},
		{"30 MB of address", testenv.LDAPBehaviour{Value: alice("mail", bytes.Repeat([]byte("x"), 30<<20))}, -1, "an entry of more than 16 MiB"},
		{"invalid UTF-8", testenv.LDAPBehaviour{Value: alice("mail", []byte("\xff\xfe@corp.example"))}, all, ""},
		{"a name of control characters", testenv.LDAPBehaviour{Value: alice("displayName", []byte("\x00\r\n\x1b[31m"))}, all, ""},
		{"absurd numbers", testenv.LDAPBehaviour{Value: alice("userAccountControl", []byte("99999999999999999999"))}, all, ""},
		{"a filter as login name", testenv.LDAPBehaviour{Value: alice("sAMAccountName", []byte("*)(objectClass=*"))}, all, ""},
		{"elsewhere", testenv.LDAPBehaviour{Referral: "ldap://127.0.0.1:1/DC=other"}, -1, "refers to other servers, which are not followed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, cfg := proxied(t, tt.b)
			if tt.b.Silent || tt.b.Delay > 0 { // the others do not wait for a time to pass
				cfg.ConnectTimeout, cfg.Timeout = 10*time.Second, 2*time.Second
			}
			people, complete, err := readAll(t, cfg)
			switch {
			case tt.want == "" && (err != nil || !complete || people != tt.people):
				t.Errorf("%d people of %d, complete %t, %v", people, tt.people, complete, err)
			case tt.want != "" && (err == nil || complete || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%d people, complete %t, %v, want %q", people, complete, err, tt.want)
			}
		})
	}
}

// TestOneWrongPassword: whatever a server answers to a bind, nobody's password is
// shown twice where it could be counted.
func TestOneWrongPassword(t *testing.T) {
	t.Parallel()
	s, _ := adConfigs(t)
	for name, tt := range map[string]struct {
		first         testenv.LDAPBehaviour
		binds         [2]int
		refused, okay bool
	}{
		"refused":     {testenv.LDAPBehaviour{BindResult: ldap.LDAPResultInvalidCredentials}, [2]int{1, 0}, true, false},
		"refers":      {testenv.LDAPBehaviour{BindResult: ldap.LDAPResultReferral}, [2]int{1, 0}, false, false},
		"busy":        {testenv.LDAPBehaviour{BindResult: ldap.LDAPResultBusy}, [2]int{1, 1}, false, true},
		"unavailable": {testenv.LDAPBehaviour{BindResult: ldap.LDAPResultUnavailable}, [2]int{1, 1}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, cfg := proxied(t, tt.first)
			second, _ := proxied(t, testenv.LDAPBehaviour{})
			cfg.URLs = append(cfg.URLs, second.URL)
			err := client(t, cfg).Verify(t.Context(), person(s, "Alice Archer"), s.UserPassword)
			var r *directory.Refusal
			if (err == nil) != tt.okay || errors.As(err, &r) != tt.refused {
				t.Error(err)
			}
			if first.Binds() != tt.binds[0] || second.Binds() != tt.binds[1] {
				t.Errorf("%d and %d binds, want %v", first.Binds(), second.Binds(), tt.binds)
			}
		})
	}
}

// TestHostileNames: DNs with every special character bind as whom they name, and
// nothing in them is anything else.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	u := newADUnit(t)
	_, configs := adConfigs(t)
	cfg := configs["ldaps"]
	cfg.Base, cfg.Follow = u.base, FollowPoll
	names := []string{`Comma\, Carl`, `\"Quote\" Quinn`, `\#Hash Hanna`, `Plus\+Paul`, `Back\\slash Bea`, `\<Angle\> Ann`, `Semi\;colon Sam`, `王伟 Wei`, `\ Space Sue\ `}
	for i, name := range names {
		u.add("CN="+name+","+u.base, map[string][]string{"objectClass": {"user"}, "sAMAccountName": {fmt.Sprintf("h%d%s", i, u.name[len(u.name)-8:])},
			"mail": {u.address(fmt.Sprintf("h%d", i))}, "userAccountControl": {"512"}, "unicodePwd": {unicodePwd(u.s.UserPassword)}})
	}
	c := client(t, cfg)
	got := entries(t, c)
	if len(got) != len(names) {
		t.Errorf("%d entries of %d", len(got), len(names))
	}
	snapshot := directory.NewSnapshot([]string{"corp.example"}, got)
	for _, e := range got {
		must(t, c.Verify(t.Context(), e, u.s.UserPassword))
		var r *directory.Refusal
		if err := c.Verify(t.Context(), e, "wrong"); !errors.As(err, &r) || r.Reason != directory.ReasonPassword {
			t.Errorf("%s: %v", e.DN, err)
		}
		if snapshot.ByDN(e.DN) == nil {
			t.Errorf("%s is not found by its DN", e.DN)
		}
	}
	// What is typed is compared, and never part of a filter or DN.
	for _, typed := range []string{"*", "h0*", "*)(objectClass=*", `h0)(|(mail=*`, `CORP\*`, "*@corp.example", "h0\x00", `CN=\2a`, `\2a`, "(|)"} {
		if e := snapshot.ByLogin(typed); e != nil {
			t.Errorf("%q logs in as %s", typed, e.DN)
		}
	}
}
