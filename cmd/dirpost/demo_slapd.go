package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"dirpost/internal/child"
	"dirpost/schema/ldap"
)

// demoSlapd is Example Corp in OpenLDAP.
type demoSlapd struct{ *demo }

// check implements demoDirectory. Its port is among those of the demo.
func (d demoSlapd) check() error { return nil }

// url implements demoDirectory.
func (d demoSlapd) url() string { return "ldap://" + d.address(serviceNamed("LDAP")) }

// section implements demoDirectory.
func (d demoSlapd) section() string {
	return fmt.Sprintf(`preset = "openldap"
urls = [%q]
tls = "starttls"
ca = %q
base = %q
bind_dn = %q
bind_password = %q
`, d.url(), d.path("ca.pem"), ldap.Base, ldap.ServiceDN, "file:"+d.path("secrets", "ldap-service"))
}

// env implements demoDirectory.
func (d demoSlapd) env() []string {
	return []string{
		"LDAP_PORT", strconv.Itoa(d.portBase + serviceNamed("LDAP").port), "LDAP_URL", d.url(), "LDAP_BASE", ldap.Base,
		"LDAP_ADMIN_DN", demoAdminDN, "LDAP_ADMIN_PASSWORD", d.secrets.ldapAdmin,
	}
}

// people implements demoDirectory.
func (d demoSlapd) people() [][3]string { return nil }

// alias implements demoDirectory.
func (d demoSlapd) alias() string {
	return fmt.Sprintf(`  printf 'dn: uid=bob,ou=people,%s\nchangetype: modify\nadd: dirpostAlias\ndirpostAlias: builder@%s\n' |
    ldapmodify -x -H %s -D '%s' -w '%s'
`, ldap.Base, demoDomain, d.url(), demoAdminDN, d.secrets.ldapAdmin)
}

// log implements demoDirectory.
func (d demoSlapd) log() string { return d.path("slapd.log") }

func (d demoSlapd) slapdConfig() (child.SlapdConfig, error) {
	programs, err := child.FindSlapd()
	if err != nil {
		return child.SlapdConfig{}, err
	}
	who, err := child.Unprivileged("openldap")
	if err != nil {
		return child.SlapdConfig{}, err
	}
	dir := d.path("ldap")
	return child.SlapdConfig{
		Programs: programs, User: who, Dir: dir,
		Suffix: ldap.Base, RootDN: demoAdminDN, RootPassword: d.secrets.ldapAdmin, Schema: []string{ldap.Schema},
		Addresses:   []string{net.JoinHostPort(d.host, strconv.Itoa(d.portBase+389))},
		Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), CA: filepath.Join(dir, "ca.pem"),
		Log: d.path("slapd.log"),
	}, nil
}

// demoAdminDN may change everything in the private directory.
const demoAdminDN = "cn=admin," + ldap.Base

// start implements demoDirectory.
func (d demoSlapd) start(ctx context.Context) (demoProcess, error) {
	begin := time.Now()
	cfg, err := d.slapdConfig()
	if err != nil {
		return nil, err
	}
	loaded, err := d.loadDirectory(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s, err := child.StartSlapd(ctx, cfg)
	if err != nil {
		return nil, err
	}
	d.step(begin, "OpenLDAP, private, on %s, %s", cfg.Addresses[0], loaded)
	if err := d.syncPasswords(func() (int, error) { return d.setPasswords(cfg) }); err != nil {
		s.Stop(10 * time.Second)
		return nil, err
	}
	return s, nil
}

// setPasswords changes the password of everybody who has one.
func (d demoSlapd) setPasswords(cfg child.SlapdConfig) (int, error) {
	hash, err := child.SSHA(d.password)
	if err != nil {
		return 0, err
	}
	conn, err := goldap.DialURL(cfg.LDAPI())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.Bind(demoAdminDN, d.secrets.ldapAdmin); err != nil {
		return 0, err
	}
	return setPasswords(conn, "ou=people,"+ldap.Base, "(userPassword=*)", "userPassword", hash)
}

// loadDirectory writes the configuration of slapd and loads Example Corp, once,
// and the people of --users that are not there yet.
func (d demoSlapd) loadDirectory(ctx context.Context, cfg child.SlapdConfig) (string, error) {
	have, err := d.loaded(cfg)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.RemoveAll(cfg.Dir); err != nil {
			return "", err
		}
		if err := child.MakeDir(cfg.Dir, cfg.User); err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	for from, to := range map[string]string{d.path("cert.pem"): cfg.Certificate, d.path("secrets", "key.pem"): cfg.Key, d.path("ca.pem"): cfg.CA} {
		if err := child.CopyFile(from, to, cfg.User); err != nil {
			return "", err
		}
	}
	if err := cfg.Configure(); err != nil {
		return "", err
	}
	hash, err := child.SSHA(d.password)
	if err != nil {
		return "", err
	}
	said := "as it was left"
	if have < 0 {
		service, err := child.SSHA(d.secrets.ldapService)
		if err != nil {
			return "", err
		}
		if err := cfg.Load(ctx, ldap.Demo(hash, service)); err != nil {
			return "", err
		}
		if err := writeCount(cfg, 0); err != nil {
			return "", err
		}
		have, said = 0, "with Example Corp"
	}
	if d.users > have {
		if err := cfg.LoadMore(ctx, loadPeople(have+1, d.users, hash), func() error { return writeCount(cfg, d.users) }); err != nil {
			return "", err
		}
		said += fmt.Sprintf(" and %d more people", d.users-have)
	}
	return said, nil
}

// loaded is how many people of --users were loaded, after what a killed run has begun
// was undone. The error is os.ErrNotExist where Example Corp was not loaded whole.
func (d demoSlapd) loaded(cfg child.SlapdConfig) (int, error) {
	if err := cfg.Recover(); err != nil {
		return -1, err
	}
	have, err := readCount(countFile(cfg))
	if !errors.Is(err, os.ErrNotExist) {
		return have, err
	}
	old := d.path("ldap", "users") // where earlier versions had it
	if have, err = readCount(old); err != nil {
		return -1, err
	}
	if err := writeCount(cfg, have); err != nil {
		return -1, err
	}
	return have, os.Remove(old)
}

// countFile is part of the database, so that a copy of that has the count that is true
// of it.
func countFile(cfg child.SlapdConfig) string { return filepath.Join(cfg.Database(), "users") }

func writeCount(cfg child.SlapdConfig, n int) error {
	return child.WriteFile(countFile(cfg), []byte(strconv.Itoa(n)), 0o600)
}

// readCount reads how many people of --users were loaded, -1 with
// os.ErrNotExist when nothing was.
func readCount(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return -1, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// loadPeople is the LDIF of the people u00001, … that load is made with.
func loadPeople(first, last int, hash string) string {
	var b strings.Builder
	for i := first; i <= last; i++ {
		fmt.Fprintf(&b, `dn: uid=u%05[1]d,ou=people,%[2]s
objectClass: inetOrgPerson
objectClass: dirpostMailbox
uid: u%05[1]d
cn: Load User %[1]d
sn: User %[1]d
mail: u%05[1]d@%[3]s
userPassword: %[4]s

`, i, ldap.Base, demoDomain, hash)
	}
	return b.String()
}
