package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"dirpost/internal/child"
	"dirpost/schema/ldap"
)

// demoAD is Example Corp as an Active Directory, with Samba as its only domain
// controller.
type demoAD struct{ *demo }

// The names of the domain.
const (
	adRealm   = "CORP.EXAMPLE"
	adNetBIOS = "CORP"
	adHost    = "dc1." + demoDomain
	adAdminDN = "CN=Administrator,CN=Users," + ldap.ADBase
)

// check implements demoDirectory: the ports of a domain controller are fixed.
func (d demoAD) check() error {
	if child.CanBeController() != nil {
		return errors.New("--ad: a domain controller needs the ports 88, 389 and 636: run it as root, as with sudo make run-ad")
	}
	ip, err := netip.ParseAddr(d.adAddress)
	if err != nil || !ip.IsLoopback() {
		return fmt.Errorf("--ad-address %s: must be a loopback address, such as 127.0.0.20", d.adAddress)
	}
	for _, port := range []string{"88", "389", "636"} {
		l, err := net.Listen("tcp", net.JoinHostPort(d.adAddress, port))
		if err != nil {
			return fmt.Errorf("port %s on %s, which the domain controller needs, is not free (%w): choose another address with --ad-address, such as 127.0.0.21", port, d.adAddress, err)
		}
		_ = l.Close()
	}
	return nil
}

// adminPassword is as complex as a domain wants it.
func (d demoAD) adminPassword() string { return "Dp-1" + d.secrets.ldapAdmin }

// url implements demoDirectory.
func (d demoAD) url() string { return "ldaps://" + d.adAddress }

// section implements demoDirectory. What a domain without Exchange's schema has no
// attribute for stands in one that administrators alone may write, and in groups.
func (d demoAD) section() string {
	return fmt.Sprintf(`preset = "ad"
urls = ["ldap://%[1]s"]
server_name = %[2]q
kdc = [%[1]q]
ca = %[3]q
base = %[4]q
domain = %[5]q
bind = "joined"

[directory.corp.mapping]
kind = ["employeeType"]

[[policy]]
group = "CN=sales,OU=groups,%[4]s"
open = ["office@%[6]s"]
send_as = ["office@%[6]s"]

[[policy]]
group = "CN=it,OU=groups,%[4]s"
open = ["postmaster@%[6]s", "outbound@%[6]s", "room-lotus@%[6]s"]
send_as = ["postmaster@%[6]s", "room-lotus@%[6]s"]

[[policy]]
group = "CN=quota-1g,OU=groups,%[4]s"
quota = "1GiB"
`, d.adAddress, adHost, d.path("ca.pem"), ldap.ADBase, adNetBIOS, demoDomain)
}

// env implements demoDirectory.
func (d demoAD) env() []string {
	return []string{
		"LDAP_PORT", "389", "LDAP_URL", d.url(), "LDAP_BASE", ldap.ADBase, "LDAP_ADMIN_DN", adAdminDN, "LDAP_ADMIN_PASSWORD", d.adminPassword(),
		"AD_ADDRESS", d.adAddress, "AD_HOST", adHost, "AD_REALM", adRealm, "AD_DOMAIN", adNetBIOS, "AD_ADMIN", "Administrator",
		"KRB5_CONFIG", d.path("krb5.conf"), "AD_SMB_CONF", filepath.Join(d.path("ad"), "etc", "smb.conf"),
	}
}

// people implements demoDirectory.
func (d demoAD) people() [][3]string {
	return [][3]string{
		{"lola", "lola@" + demoDomain, "locked: refused until an administrator unlocks her, gets mail"},
		{"eve", "eve@" + demoDomain, "expired: refused"},
		{"mia", "mia@" + demoDomain, "must change her password first: refused, told why"},
		{"—", "suppliers@" + demoDomain, fmt.Sprintf("list with %d members outside", ldap.ManyMembers)},
	}
}

// alias implements demoDirectory.
func (d demoAD) alias() string {
	return fmt.Sprintf(`  printf 'dn: CN=Bob Builder,OU=people,%s\nchangetype: modify\nadd: proxyAddresses\nproxyAddresses: smtp:builder@%s\n' |
    LDAPTLS_CACERT=%s ldapmodify -x -H %s -D '%s' -w '%s'
`, ldap.ADBase, demoDomain, d.path("ca.pem"), d.url(), adAdminDN, d.adminPassword())
}

// log implements demoDirectory.
func (d demoAD) log() string { return d.path("samba.log") }

func (d demoAD) samba(ctx context.Context, dir string) (child.SambaConfig, error) {
	programs, err := child.FindSamba(ctx)
	return child.SambaConfig{
		Programs: programs, Dir: dir, Address: d.adAddress, Host: "dc1", Realm: adRealm, Domain: adNetBIOS,
		AdminPassword: d.adminPassword(), Log: d.log(),
	}, err
}

// start implements demoDirectory.
func (d demoAD) start(ctx context.Context) (demoProcess, error) {
	begin := time.Now()
	cfg, err := d.samba(ctx, d.path("ad"))
	if err != nil {
		return nil, err
	}
	said, fresh := "as it was left", false
	if _, err := os.Stat(cfg.Dir); errors.Is(err, os.ErrNotExist) {
		if err := d.provision(ctx); err != nil {
			return nil, err
		}
		said, fresh = fmt.Sprintf("with Example Corp, a domain of %d objects", ldap.ManyMembers+50+d.users), true
	}
	if err := d.certifyController(cfg.Dir); err != nil {
		return nil, err
	}
	if err := cfg.Configure(); err != nil { // the address may be another one
		return nil, err
	}
	if err := os.WriteFile(d.path("krb5.conf"), []byte(d.krb5()), 0o644); err != nil {
		return nil, err
	}
	s, err := child.StartSamba(ctx, cfg)
	if err != nil {
		return nil, err
	}
	d.step(begin, "Active Directory %s by Samba %s on %s, %s", adRealm, cfg.Programs.Version, d.adAddress, said)
	err = d.settle(fresh)
	if err == nil {
		err = d.join(ctx)
	}
	if err != nil {
		s.Stop(10 * time.Second)
		return nil, err
	}
	return s, nil
}

// join joins the domain once, as an administrator would.
func (d demoAD) join(ctx context.Context) error {
	begin, done := time.Now(), filepath.Join(d.path("ad"), "joined")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	password := d.path("secrets", "ad-admin")
	if err := os.WriteFile(password, []byte(d.adminPassword()+"\n"), 0o600); err != nil {
		return err
	}
	defer os.Remove(password)
	var out strings.Builder
	if run(ctx, []string{"dirpost", "join", demoDomain, "--config", d.path("dirpost.toml"), "--password-file", password, "--reuse", "--yes"}, streams{strings.NewReader(""), &out, &out}) != 0 {
		return fmt.Errorf("join the domain: %s", strings.TrimSpace(out.String()))
	}
	first, _, _ := strings.Cut(out.String(), "\n")
	d.step(begin, "%s", strings.TrimSuffix(first, "."))
	return os.WriteFile(done, []byte(out.String()), 0o600)
}

// provision makes the domain beside its place and moves it there when it is whole.
func (d demoAD) provision(ctx context.Context) error {
	part := d.path("ad.part")
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	cfg, err := d.samba(ctx, part)
	if err != nil {
		return err
	}
	if err := cfg.Provision(ctx); err != nil {
		return err
	}
	// The password of the demo is the same for all people, and simple.
	if err := cfg.Tool(ctx, "domain", "passwordsettings", "set", "-H", filepath.Join(part, "private", "sam.ldb"),
		"--complexity=off", "--min-pwd-length=4", "--min-pwd-age=0", "--max-pwd-age=0", "--history-length=0",
		"--account-lockout-threshold=5", "--account-lockout-duration=1440", "--reset-account-lockout-after=1440"); err != nil {
		return fmt.Errorf("password settings of the domain: %w", err)
	}
	if err := cfg.Add(ctx, ldap.DemoAD(d.password)+ldap.DemoADPeople(1, d.users, d.password)); err != nil {
		return fmt.Errorf("fill the domain: %w", err)
	}
	return os.Rename(part, d.path("ad"))
}

// certifyController gives the domain controller a certificate of the demo's
// authority.
func (d demoAD) certifyController(dir string) error {
	ca, err := child.LoadAuthority(d.path("ca.pem"), d.path("secrets", "ca-key.pem"))
	if err != nil {
		return err
	}
	cert, key, err := ca.Issue(adHost, d.adAddress)
	if err != nil {
		return err
	}
	for name, b := range map[string][]byte{"cert.pem": cert, "key.pem": key, "ca.pem": ca.PEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil { // Samba refuses a key that others may read
			return err
		}
	}
	return nil
}

// krb5 is the configuration of Kerberos programs for the domain.
func (d demoAD) krb5() string {
	return fmt.Sprintf(`[libdefaults]
  default_realm = %[1]s
  dns_lookup_kdc = false
  dns_lookup_realm = false
  rdns = false
  udp_preference_limit = 1
[realms]
  %[1]s = { kdc = %[2]s }
[domain_realm]
  .%[3]s = %[1]s
  %[3]s = %[1]s
`, adRealm, d.adAddress, strings.ToLower(adRealm))
}

// settle does what only a running domain controller does: it locks lola, and gives
// people the password of this run.
func (d demoAD) settle(fresh bool) error {
	conf, err := d.clientTLS()
	if err != nil {
		return err
	}
	conf.ServerName = adHost
	dial := func() (*goldap.Conn, error) { return goldap.DialURL(d.url(), goldap.DialWithTLSConfig(conf)) }
	if fresh {
		conn, err := dial()
		if err != nil {
			return err
		}
		defer conn.Close()
		for range 5 {
			_ = conn.Bind("CN=Lola Lockedout,OU=people,"+ldap.ADBase, "not her password")
		}
	}
	return d.syncPasswords(func() (int, error) {
		conn, err := dial()
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		if err := conn.Bind(adAdminDN, d.adminPassword()); err != nil {
			return 0, err
		}
		return setPasswords(conn, "OU=people,"+ldap.ADBase, "(objectClass=user)", "unicodePwd", ldap.ADPassword(d.password))
	})
}
