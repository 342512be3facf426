package ldap

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/testenv"
)

// adConfigs are the ways to a domain controller. Each must give the same.
func adConfigs(t testing.TB) (*testenv.ADServer, map[string]Config) {
	t.Helper()
	s := testenv.AD(t)
	simple := Config{
		Name: "corp", Preset: PresetAD, URLs: []string{s.TLSURL}, Base: s.Base, CA: s.CA, ServerName: s.Host, Domain: s.Domain,
		BindDN: s.ServiceDN, BindPassword: s.ServicePass, ConnectTimeout: time.Minute, Timeout: time.Minute,
	}
	startTLS := simple
	startTLS.URLs = []string{s.URL}
	sealed := startTLS
	sealed.BindDN, sealed.BindPassword = "", ""
	sealed.Bind, sealed.Principal, sealed.Realm, sealed.Keytab = BindGSSAPI, s.Service, s.Realm, s.Keytab
	return s, map[string]Config{"ldaps": simple, "starttls": startTLS, "sealed": sealed}
}

// entries reads everything once, as the feeder does.
func entries(t testing.TB, c *Client) []*directory.Entry {
	t.Helper()
	var all []*directory.Entry
	done := errors.New("done")
	err := c.Source(quiet).Follow(t.Context(), nil, func(_ context.Context, b directory.Batch) error {
		for _, change := range b.Changes {
			if change.Entry != nil {
				all = append(all, change.Entry)
			}
		}
		if b.Complete {
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b *directory.Entry) int { return strings.Compare(a.DN, b.DN) })
	return all
}

// exampleCorp are the units that every domain of the tests has.
var exampleCorp = regexp.MustCompile(`,OU=(Staff|Lists|Services),`)

// TestADPeople: what mail makes of a real domain is the same over every
// transport: proxyAddresses, nested lists, contacts, states of accounts. Entries
// of Active Directory itself are not compared.
func TestADPeople(t *testing.T) {
	t.Parallel()
	_, configs := adConfigs(t)
	const golden = "testdata/ad.people.want"
	for name, cfg := range configs {
		t.Run(name, func(t *testing.T) {
			var got []byte
			for _, e := range entries(t, client(t, cfg)) {
				if !exampleCorp.MatchString(e.DN) {
					continue
				}
				if e.Key == "" || e.Modified.IsZero() {
					t.Errorf("%s has key %q, modified %v", e.DN, e.Key, e.Modified)
				}
				domain := "S-1-5-21-"
				if person := e.Kind == directory.KindPerson; person && (!strings.HasPrefix(e.SID, domain) || !strings.HasSuffix(e.PrimaryGroup, "-513")) {
					t.Errorf("%s has SID %q, primary group %q", e.DN, e.SID, e.PrimaryGroup)
				}
				e.Key, e.Modified, e.SID, e.PrimaryGroup = "", time.Time{}, "", "" // of this domain
				if strings.HasPrefix(e.DN, "CN=Lola ") {                           // another test may have locked her out by now
					e.Login = directory.StateActive
					e.Origins = slices.DeleteFunc(e.Origins, func(o string) bool { return o == "login_state=lockoutTime" })
				}
				b, err := json.MarshalIndent(e, "", "\t")
				must(t, err)
				got = append(append(got, dropEmpty(b)...), '\n')
			}
			if *update && name == "sealed" {
				must(t, os.WriteFile(golden, got, 0o644))
			}
			want, err := os.ReadFile(golden)
			must(t, err)
			if string(want) != string(got) {
				t.Errorf("got\n%s", got)
			}
		})
	}
}

// TestADVerify: a real domain controller judges passwords, with its sub-codes,
// over TLS from the start and after StartTLS, which is the way where the account
// that reads uses Kerberos.
func TestADVerify(t *testing.T) {
	t.Parallel()
	s, configs := adConfigs(t)
	const right = "right"
	tests := []struct {
		name, who, password string
		want                directory.Reason // 0: let in
		right               bool             // the password was
	}{
		{"right", "Alice Archer", right, 0, false},
		{"wrong", "Alice Archer", "wrong", directory.ReasonPassword, false},
		{"right after wrong", "Alice Archer", right, 0, false},
		{"Chinese name", "王伟", right, 0, false},
		{"gone", "Nobody", right, directory.ReasonPassword, false},
		{"disabled", "Dave Disabled", right, directory.ReasonDisabled, true},
		{"account expired", "Eve Expired", right, directory.ReasonExpired, true},
		{"must change", "Mia Mustchange", right, directory.ReasonMustChange, true},
		{"password expired", "Pia Passwordold", right, directory.ReasonPasswordExpired, true},
		{"locked out", "Lola Lockedout", right, directory.ReasonLocked, false},
		{"empty", "Alice Archer", "", directory.ReasonPassword, false},
	}
	lock(t, client(t, configs["ldaps"]), s, "Lola Lockedout")
	for transport, cfg := range configs {
		t.Run(transport, func(t *testing.T) { // one after the other: wrong ones are counted
			c := client(t, cfg)
			for _, tt := range tests {
				password := tt.password
				if password == right {
					password = s.UserPassword
				}
				err := c.Verify(t.Context(), person(s, tt.who), password)
				var r *directory.Refusal
				switch {
				case tt.want == 0 && err != nil:
					t.Errorf("%s: %v", tt.name, err)
				case tt.want != 0 && (!errors.As(err, &r) || r.Reason != tt.want || r.Right != tt.right):
					t.Errorf("%s: %v, want %v (right %v)", tt.name, err, tt.want, tt.right)
				}
			}
		})
	}
}

func person(s *testenv.ADServer, name string) *directory.Entry {
	return &directory.Entry{Key: "corp:1", DN: "CN=" + name + ",OU=Staff," + s.Base}
}

// lock gives wrong passwords until the domain has locked the account.
func lock(t testing.TB, c *Client, s *testenv.ADServer, name string) {
	t.Helper()
	for range 10 {
		var r *directory.Refusal
		if err := c.Verify(t.Context(), person(s, name), "wrong"); !errors.As(err, &r) {
			t.Fatal(err)
		}
		if r.Reason == directory.ReasonLocked {
			return
		}
	}
	t.Fatalf("%s is not locked out after ten wrong passwords", name)
}

// TestADLarge: an answer of several MiB in many frames is the same as over TLS.
func TestADLarge(t *testing.T) {
	t.Parallel()
	s, configs := adConfigs(t)
	read := func(cfg Config) (names []string) {
		c, err := client(t, cfg).dialService(t.Context())
		must(t, err)
		defer c.end()
		res, err := c.Search(ldap.NewSearchRequest("CN=Schema,CN=Configuration,"+s.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
			"(objectClass=*)", []string{"cn", "adminDescription", "attributeID", "schemaIDGUID"}, nil))
		must(t, err)
		for _, e := range res.Entries {
			for _, a := range e.Attributes {
				names = append(names, e.DN+" "+a.Name+" "+strings.Join(a.Values, ","))
			}
		}
		slices.Sort(names)
		return names
	}
	sealed, byTLS := read(configs["sealed"]), read(configs["ldaps"])
	if len(sealed) < 4000 || !slices.Equal(sealed, byTLS) {
		t.Errorf("%d values sealed, %d by TLS", len(sealed), len(byTLS))
	}
}

// otherKeys is a keytab with other keys in it. Behind the key of an entry stand
// its number and, by Samba, flags: four octets each.
func otherKeys(keytab []byte) []byte {
	out := bytes.Clone(keytab)
	for at := 2; at+4 <= len(out); {
		end := at + 4 + int(binary.BigEndian.Uint32(out[at:]))
		out[end-9] ^= 1
		at = end
	}
	return out
}

// TestADSealed: what goes wrong with Kerberos is said, and a connection that
// broke is made anew.
func TestADSealed(t *testing.T) {
	t.Parallel()
	s, configs := adConfigs(t)
	tests := []struct {
		name   string
		change func(*Config)
		want   string // part of the error, "" for none
	}{
		{"right", func(*Config) {}, ""},
		{"KDC named", func(c *Config) { c.KDCs = []string{s.Address} }, ""},
		{"first server away", func(c *Config) { c.URLs = []string{"ldap://127.0.0.1:1", s.URL} }, ""},
		{"another name", func(c *Config) { c.ServerName = "dc9.corp.example" }, "the host must be named as in the realm"},
		{"another realm", func(c *Config) { c.Realm = "OTHER.EXAMPLE" }, "keytab has no key of svc-mail@OTHER.EXAMPLE, but of"},
		{"another account", func(c *Config) { c.Principal = "MAIL$" }, "keytab has no key of MAIL$@"},
		{"old keytab", func(c *Config) { c.Keytab = otherKeys(c.Keytab) }, "the key in the keytab is not that of the account"},
		{"no keytab", func(c *Config) { c.Keytab = []byte("x") }, "damaged"},
		{"no KDC", func(c *Config) { c.KDCs = []string{"127.0.0.1:1"} }, "KDC 127.0.0.1:1"},
		{"another base", func(c *Config) { c.Base = "DC=other,DC=example" }, ""},
	}
	for _, tt := range tests {
		cfg := configs["sealed"]
		tt.change(&cfg)
		c, err := New(cfg)
		if err == nil {
			err = c.Check(t.Context())
			c.Close()
		}
		if cfg.Base != s.Base {
			if err == nil {
				t.Errorf("%s: found", tt.name)
			}
			continue
		}
		var setup *SetupError
		if errors.As(err, &setup) != (tt.name == "old keytab") {
			t.Errorf("%s: SetupError: %v", tt.name, err)
		}
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	c := client(t, configs["sealed"])
	must(t, c.Check(t.Context()))
	broken, err := c.read.get(t.Context())
	must(t, err)
	broken.end()
	c.read.put(broken, errors.New("the network"))
	must(t, c.Check(t.Context()))
}

// TestADClear: a domain controller that nobody protects a connection to takes no
// password, and we send none.
func TestADClear(t *testing.T) {
	t.Parallel()
	s, configs := adConfigs(t)
	cfg := configs["starttls"]
	cfg.TLS = "none" // a loopback address, so configuration takes it
	c := client(t, cfg)
	var r *directory.Refusal
	if err := c.Verify(t.Context(), person(s, "Alice Archer"), s.UserPassword); err == nil || errors.As(err, &r) {
		t.Errorf("a password in clear was judged: %v", err)
	}
	cfg = configs["sealed"]
	cfg.TLS, cfg.Passwords = "none", PasswordsLDAP
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "would send passwords of people in clear") {
		t.Errorf("%v", err)
	}
	cfg.Passwords = "" // by Kerberos, but the account is no service
	if err := client(t, cfg).Verify(t.Context(), person(s, "Alice Archer"), s.UserPassword); err == nil || errors.As(err, &r) || !strings.Contains(err.Error(), "own account") {
		t.Errorf("an account that is no service: %v", err)
	}
}
