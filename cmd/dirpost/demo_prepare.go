package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"time"

	"dirpost/internal/child"
)

// demoDomain is the mail domain of Example Corp, demoName its mail host.
const (
	demoDomain = "corp.example"
	demoName   = "mail." + demoDomain
)

// loopbackPassword is the password of all people while nobody but this machine
// can reach the demo.
const loopbackPassword = "demo"

// demoSecrets are made once for a directory.
type demoSecrets struct {
	ldapAdmin   string
	ldapService string
}

// prepare makes what the children and the server need: secrets, certificates and
// the configuration.
func (d *demo) prepare(ip netip.Addr) error {
	if err := os.Mkdir(d.path("secrets"), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	var err error
	if d.secrets.ldapAdmin, err = d.secret("ldap-admin"); err != nil {
		return err
	}
	if d.secrets.ldapService, err = d.secret("ldap-service"); err != nil {
		return err
	}
	d.password = loopbackPassword
	if !ip.IsLoopback() {
		if d.password, err = d.secret("people"); err != nil {
			return err
		}
	}
	if err := d.sealingKey(); err != nil {
		return err
	}
	if err := d.certify(); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	return os.WriteFile(d.path("dirpost.toml"), []byte(d.config()), 0o644)
}

// secret reads a random secret, or makes it at the first run.
func (d *demo) secret(name string) (string, error) {
	path := d.path("secrets", name)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		b = []byte(strings.ToLower(rand.Text()[:16]))
		err = child.WriteFile(path, b, 0o600)
	}
	return strings.TrimSpace(string(b)), err
}

// sealingKey makes the key that seals shared secrets in the database.
func (d *demo) sealingKey() error {
	path := d.path("secrets", "sealing.key")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	return child.WriteFile(path, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600)
}

// certify makes the authority once, so that clients may keep trusting it, and a
// server certificate each time.
func (d *demo) certify() error {
	begin := time.Now()
	caFile, caKey := d.path("ca.pem"), d.path("secrets", "ca-key.pem")
	ca, err := child.LoadAuthority(caFile, caKey)
	if errors.Is(err, fs.ErrNotExist) {
		if ca, err = child.NewAuthority("Dirpost demo authority"); err == nil {
			err = ca.Save(caFile, caKey)
		}
	}
	if err != nil {
		return err
	}
	cert, key, err := ca.Issue(demoName, demoDomain, "autoconfig."+demoDomain, "autodiscover."+demoDomain, "mta-sts."+demoDomain, "localhost", d.host)
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.path("cert.pem"), cert, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(d.path("secrets", "key.pem"), key, 0o600); err != nil {
		return err
	}
	d.step(begin, "authority and ECDSA certificate, %s", caFile)
	return nil
}

// config is the configuration file of the demo: the one that `dirpost serve`
// reads.
func (d *demo) config() string {
	var b strings.Builder
	outside := fmt.Sprintf("sink = %q\n", "outbound@"+demoDomain)
	switch {
	case d.smarthost != "":
		outside = fmt.Sprintf("smarthost = %q\nsmarthost_tls = \"none\"\n", d.smarthost)
	case d.allowOutbound:
		outside = ""
	}
	remember := ""
	if d.noRemember {
		remember = "remember = \"0s\"\n"
	}
	fmt.Fprintf(&b, `# Written by 'dirpost demo' at each start.

[server]
name = %[1]q
socket = %[2]q
sealing_key = %[3]q

[domains]
local = [%[4]q]
postmaster = %[5]q

[database]
url = %[6]q
owner_url = %[7]q
serve_role = %[8]q
read_role = %[9]q

[directory.corp]
%[10]s
[[tls.certificate]]
chain = %[11]q
key = %[12]q

[auth]
plaintext_loopback = true
%[14]s
[mta]
%[13]s
[mta.submission]
max_messages = 0
max_recipients = 0
`,
		demoName, d.path("dirpost.sock"), "file:"+d.path("secrets", "sealing.key"), demoDomain, "postmaster@"+demoDomain,
		d.databaseURL(demoServe), d.databaseURL(demoOwner), demoServe, demoRead,
		d.directory.section(), d.path("cert.pem"), d.path("secrets", "key.pem"), outside, remember)
	for _, s := range services {
		if s.protocol != "" {
			fmt.Fprintf(&b, "\n[[listener]]\naddress = %q\nprotocol = %q\ntls = %q\n", d.address(s), s.protocol, s.tls)
		}
	}
	return b.String()
}

// databaseURL is how a role reaches the private database.
func (d *demo) databaseURL(role string) string {
	return child.PostgresURL(d.path("pg"), demoDB, role)
}

// env is the text of demo.env.
func (d *demo) env() string {
	var b strings.Builder
	put := func(name, value string) {
		fmt.Fprintf(&b, "DIRPOST_%s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
	}
	put("HOST", d.host)
	for _, list := range [][]service{services, reserved} {
		for _, s := range list {
			if s.name == "LDAP" { // see the directory
				continue
			}
			put(s.name+"_PORT", fmt.Sprint(d.portBase+s.port))
		}
	}
	put("CA_FILE", d.path("ca.pem"))
	put("DOMAIN", demoDomain)
	for pairs := d.directory.env(); len(pairs) > 0; pairs = pairs[2:] {
		put(pairs[0], pairs[1])
	}
	put("USER_PASSWORD", d.password)
	put("DATABASE_URL", d.databaseURL(demoOwner))
	put("DIR", d.dir)
	put("PID", fmt.Sprint(os.Getpid()))
	put("CONFIG", d.path("dirpost.toml"))
	return b.String()
}

// writeEnv makes demo.env appear by rename, whole.
func (d *demo) writeEnv() error {
	return child.WriteFile(d.path("demo.env"), []byte(d.env()), 0o600)
}
