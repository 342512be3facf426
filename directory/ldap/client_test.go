package ldap

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/internal/child"
	"dirpost/internal/testenv"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	c := client(t, config(t, s))
	people := "ou=people," + s.Base
	tests := []struct {
		name, dn, password string
		want               directory.Reason // 0: right
	}{
		{"right", "uid=alice," + people, s.UserPassword, 0},
		{"wrong", "uid=alice," + people, "wrong", directory.ReasonPassword},
		{"right again on the same connection", "uid=bob," + people, s.UserPassword, 0},
		{"empty is never sent", "uid=alice," + people, "", directory.ReasonPassword},
		{"gone", "uid=nobody," + people, s.UserPassword, directory.ReasonPassword},
		{"shared mailbox has no password", "uid=office,ou=shared," + s.Base, "x", directory.ReasonPassword},
		{"a DN that is none", "alice", "x", directory.ReasonPassword},
		{"hostile", "uid=alice)(uid=*," + people, "x", directory.ReasonPassword},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := c.Verify(t.Context(), &directory.Entry{Key: "corp:1", DN: tt.dn}, tt.password)
			var r *directory.Refusal
			switch {
			case tt.want == 0 && err != nil:
				t.Errorf("right password: %v", err)
			case tt.want != 0 && (!errors.As(err, &r) || r.Reason != tt.want || r.Right):
				t.Errorf("got %v, want refusal for %v", err, tt.want)
			}
		})
	}
}

// A directory that is away judges nothing, and the next login finds it again.
func TestVerifyOutage(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	c := client(t, config(t, s))
	alice := &directory.Entry{Key: "corp:1", DN: "uid=alice,ou=people," + s.Base}
	must(t, c.Verify(t.Context(), alice, s.UserPassword))
	s.Stop()
	var r *directory.Refusal
	if err := c.Verify(t.Context(), alice, s.UserPassword); err == nil || errors.As(err, &r) {
		t.Errorf("with the server down: %v", err)
	}
	s.Start(t)
	must(t, c.Verify(t.Context(), alice, s.UserPassword))
	if err := c.Verify(t.Context(), alice, "wrong"); !errors.As(err, &r) {
		t.Errorf("wrong: %v", err)
	}
}

func TestTransports(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	cfg := config(t, s)
	other, err := child.NewAuthority("an authority of somebody else")
	must(t, err)
	expired := testenv.Slapd(t)
	expired.SetCertificate(t, testenv.ExpiredCertificate(t, "127.0.0.1", "localhost"))
	tests := []struct {
		name   string
		change func(*Config)
		want   string // regular expression of the whole error, "" for success
		setup  bool   // only the administrator can mend it
	}{
		{"ldaps", func(c *Config) {}, "", false},
		{"starttls", func(c *Config) { c.URLs = []string{s.URL} }, "", false},
		{"ldapi", func(c *Config) { c.URLs = []string{s.SocketURL} }, "", false},
		{"clear on loopback", func(c *Config) { c.URLs, c.TLS = []string{s.URL}, "none" }, "", false},
		{"failover", func(c *Config) { c.URLs = []string{"ldaps://127.0.0.1:1", s.TLSURL} }, "", false},
		{"unknown CA", func(c *Config) { c.CA = string(other.PEM()) },
			`connect to directory "corp": ` + s.TLSURL + `: .*x509: certificate signed by unknown authority.*: let ca name a file with the certificate of its authority`, true},
		{"starttls with unknown CA", func(c *Config) { c.URLs, c.CA = []string{s.URL}, string(other.PEM()) },
			`connect to directory "corp": ` + s.URL + `: StartTLS: .*x509: certificate signed by unknown authority.*: let ca name a file with the certificate of its authority`, true},
		{"other name", func(c *Config) { c.ServerName = "ldap.other.example" },
			`connect to directory "corp": ` + s.TLSURL + `: .*x509: certificate is valid for localhost, not ldap.other.example: correct urls, or set server_name to a name in the certificate`, true},
		{"expired", func(c *Config) { c.URLs, c.ServerName = []string{expired.TLSURL}, "localhost" },
			`connect to directory "corp": ` + expired.TLSURL + `: .*x509: certificate has expired or is not yet valid: .*: renew the certificate of the server, or set the clock of this host`, true},
		{"wrong password", func(c *Config) { c.BindPassword = "x" },
			`directory "corp" refuses the password of ` + s.ServiceDN + `: correct bind_dn or bind_password`, true},
		{"no such account", func(c *Config) { c.BindDN = "cn=nobody," + s.Base },
			`directory "corp" refuses the password of cn=nobody,` + s.Base + `: correct bind_dn or bind_password`, true},
		{"no account", func(c *Config) { c.BindDN = "nobody" }, `directory "corp": nobody is no DN: correct bind_dn`, true},
		{"wrong base", func(c *Config) { c.Base = "ou=nowhere," + s.Base },
			`directory "corp": ou=nowhere,` + s.Base + ` does not exist, or ` + s.ServiceDN + ` may not read it: correct base`, true},
		{"nobody there", func(c *Config) { c.URLs = []string{"ldaps://127.0.0.1:1"} },
			`connect to directory "corp": ldaps://127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused: is the server running, and are urls right\?`, false},
		{"one is away and one cannot be trusted", func(c *Config) { c.URLs, c.CA = []string{"ldaps://127.0.0.1:1", s.TLSURL}, string(other.PEM()) },
			`connect to directory "corp": ldaps://127.0.0.1:1: .* right\?; ` + s.TLSURL + `: .* of its authority`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := cfg
			tt.change(&cfg)
			err := client(t, cfg).Check(t.Context())
			if (tt.want == "") != (err == nil) || err != nil && !regexp.MustCompile("^(?:"+tt.want+")$").MatchString(err.Error()) {
				t.Errorf("Check = %v, want %q", err, tt.want)
			}
			var setup *SetupError
			if errors.As(err, &setup) != tt.setup {
				t.Errorf("Check = %v: SetupError %v, want %v", err, !tt.setup, tt.setup)
			}
		})
	}
}

// A server that takes a connection and never answers ends with the context.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"ldaps://" + silent(t), "ldap://" + silent(t)} {
		c := client(t, Config{Name: "corp", URLs: []string{url}, Base: "dc=x", ConnectTimeout: 50 * time.Millisecond})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.Check(ctx); err == nil || ctx.Err() != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	good := Config{Name: "corp", URLs: []string{"ldaps://ldap.corp.example", "ldap://ldap2.corp.example:3389", "ldapi://%2Frun%2Fldapi"}, Base: "dc=corp,dc=example"}
	must(t, good.Validate())
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no name", func(c *Config) { c.Name = "" }, "name:"},
		{"colon in name", func(c *Config) { c.Name = "a:b" }, "name:"},
		{"preset", func(c *Config) { c.Preset = "exchange" }, "preset:"},
		{"no servers", func(c *Config) { c.URLs = nil }, "urls:"},
		{"scheme", func(c *Config) { c.URLs = []string{"https://x"} }, "urls:"},
		{"path", func(c *Config) { c.URLs = []string{"ldap://x/dc=y"} }, "urls:"},
		{"no host", func(c *Config) { c.URLs = []string{"ldap://"} }, "urls:"},
		{"password in URL", func(c *Config) { c.URLs = []string{"ldaps://a:b@x"} }, "urls:"},
		{"global catalog", func(c *Config) { c.Preset, c.URLs = PresetAD, []string{"ldaps://dc1.corp.example:3269"} }, "global catalog"},
		{"discover and urls", func(c *Config) { c.Discover = "corp.example" }, "urls:"},
		{"discover nothing", func(c *Config) { c.URLs, c.Discover = nil, "not a domain" }, "discover:"},
		{"discover in clear", func(c *Config) { c.URLs, c.Discover, c.TLS = nil, "corp.example", "none" }, "in clear"},
		{"ldaps without discover", func(c *Config) { c.TLS = "ldaps" }, "tls:"},
		{"nobody to ask", func(c *Config) { c.URLs, c.Discover = nil, "" }, "discover"},
		{"clear over the network", func(c *Config) { c.TLS = "none" }, "in clear"},
		{"tls", func(c *Config) { c.TLS = "maybe" }, "tls:"},
		{"base", func(c *Config) { c.Base = "corp.example" }, "base:"},
		{"no base", func(c *Config) { c.Base = "" }, "base:"},
		{"filter", func(c *Config) { c.Filter = "(uid=*" }, "filter:"},
		{"half an account", func(c *Config) { c.BindDN = "cn=x" }, "bind_dn"},
		{"ca", func(c *Config) { c.CA = "not PEM" }, "ca:"},
		{"field", func(c *Config) { c.Mapping = map[string][]string{"quotas": {"x"}} }, "quotas"},
		{"decoder", func(c *Config) { c.Mapping = map[string][]string{"quota": {"x:gallons"}} }, "gallons"},
		{"follow", func(c *Config) { c.Follow = "hope" }, "follow:"},
		{"negative", func(c *Config) { c.Timeout = -1 }, "negative"},
	}
	for _, tt := range tests {
		cfg := good
		tt.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Validate = %v, want %q", tt.name, err, tt.want)
		}
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: New takes it", tt.name)
		}
	}
}

// What OpenLDAP's password policies say: the password expires soon, has expired and
// lets in a few times more, must be changed, is too old, the account is locked.
func TestPasswordPolicies(t *testing.T) {
	t.Parallel()
	hash, err := child.SSHA("demo")
	must(t, err)
	ldif := ""
	policy := func(name, rules string) {
		ldif += "\ndn: cn=" + name + ",dc=corp,dc=example\nobjectClass: organizationalRole\nobjectClass: pwdPolicy\ncn: " + name + "\npwdAttribute: userPassword\n" + rules
	}
	person := func(name, rules string) {
		ldif += "\ndn: uid=" + name + ",ou=people,dc=corp,dc=example\nobjectClass: inetOrgPerson\nuid: " + name + "\ncn: x\nsn: x\nuserPassword: " + hash + "\n" + rules
	}
	changed := func(ago time.Duration) string {
		return "pwdChangedTime: " + time.Now().Add(-ago).UTC().Format("20060102150405Z") + "\n"
	}
	policy("usual", "pwdMustChange: TRUE\npwdLockout: TRUE\npwdMaxFailure: 3\n")
	policy("aging", "pwdMaxAge: 7200\npwdExpireWarning: 7200\n")
	policy("grace", "pwdMaxAge: 7200\npwdGraceAuthNLimit: 2\n")
	person("soon", "pwdPolicySubentry: cn=aging,dc=corp,dc=example\n"+changed(time.Hour))
	person("old", "pwdPolicySubentry: cn=aging,dc=corp,dc=example\n"+changed(3*time.Hour))
	person("graced", "pwdPolicySubentry: cn=grace,dc=corp,dc=example\n"+changed(3*time.Hour))
	person("reset", "pwdReset: TRUE\n")
	person("guessed", "")
	s := testenv.SlapdPolicy(t, "cn=usual,dc=corp,dc=example", ldif)
	c := client(t, config(t, s))
	verify := func(who, password string) (*directory.Notice, *directory.Refusal) {
		t.Helper()
		n, err := c.VerifyWithNotice(t.Context(), &directory.Entry{Key: "corp:1", DN: "uid=" + who + ",ou=people," + s.Base}, password)
		var r *directory.Refusal
		if err != nil && !errors.As(err, &r) {
			t.Fatalf("%s: %v", who, err)
		}
		return n, r
	}
	if n, r := verify("alice", s.UserPassword); n != nil || r != nil {
		t.Errorf("alice: %+v, %v", n, r)
	}
	if n, r := verify("soon", "demo"); r != nil || n == nil || n.ExpiresIn < 50*time.Minute || n.ExpiresIn > time.Hour || n.Grace != -1 {
		t.Errorf("expires soon: %+v, %v", n, r)
	}
	for left := 1; left >= 0; left-- {
		if n, r := verify("graced", "demo"); r != nil || n == nil || n.Grace != left {
			t.Errorf("%d more: %+v, %v", left, n, r)
		}
	}
	for range 3 {
		_, _ = verify("guessed", "wrong")
	}
	for _, tt := range []struct {
		who, password string
		want          directory.Reason
		right         bool
	}{
		{"graced", "demo", directory.ReasonPasswordExpired, true},
		{"old", "demo", directory.ReasonPasswordExpired, true},
		{"old", "wrong", directory.ReasonPassword, false},
		{"reset", "demo", directory.ReasonMustChange, true},
		{"reset", "wrong", directory.ReasonPassword, false},
		{"guessed", "demo", directory.ReasonLocked, false},
	} {
		if _, r := verify(tt.who, tt.password); r == nil || r.Reason != tt.want || r.Right != tt.right {
			t.Errorf("%s with %s: %v, want %v (right %v)", tt.who, tt.password, r, tt.want, tt.right)
		}
	}
}
