package child

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// DS389Programs is an installed 389 Directory Server.
type DS389Programs struct {
	Server   string // ns-slapd
	Data     string // directory of template-dse.ldif
	Schemas  string // directory of its schema
	CertUtil string // certutil and pk12util of NSS, by which it gets its certificate
	PK12Util string
	OpenSSL  string
}

// FindDS389 returns the installed server.
func FindDS389() (DS389Programs, error) {
	p := DS389Programs{Data: "/usr/share/dirsrv/data", Schemas: "/usr/share/dirsrv/schema"}
	for name, path := range map[string]*string{"ns-slapd": &p.Server, "certutil": &p.CertUtil, "pk12util": &p.PK12Util, "openssl": &p.OpenSSL} {
		for _, dir := range []string{"/usr/sbin/", "/usr/bin/", "/usr/local/sbin/", "/usr/local/bin/"} {
			if isProgram(dir + name) {
				*path = dir + name
				break
			}
		}
		if *path == "" {
			return DS389Programs{}, fmt.Errorf("389 Directory Server (%s) is %w: install the packages 389-ds-base, libnss3-tools and openssl", name, ErrNotInstalled)
		}
	}
	return p, nil
}

// DS389Config is a private 389 Directory Server with one suffix, which tells changes by
// content synchronization (RFC 4533).
type DS389Config struct {
	Programs     DS389Programs
	User         User
	Dir          string // existing directory of User: everything that it writes
	Address      string // IP address
	Port         string // of ldap://
	TLSPort      string // of ldaps://
	Suffix       string // DN
	RootDN       string // may do everything
	RootPassword string
	Schema       string // further schema, in LDIF: lines of attributeTypes and objectClasses
	Certificate  string // PEM files
	Key, CA      string
	Log          string
}

// DS389 is a running private 389 Directory Server.
type DS389 struct {
	*Process
	cfg DS389Config
}

// comments are lines that the server takes in LDIF, but not in its configuration.
var comments = regexp.MustCompile(`(?m)^#.*\n`)

// pluginOf finds the entry of a plugin in the configuration, up to the line that says
// whether it is on.
func pluginOf(name string) *regexp.Regexp {
	return regexp.MustCompile(`(?s)(dn: cn=` + regexp.QuoteMeta(name) + `,cn=plugins,cn=config\n[^\n].*?nsslapd-pluginenabled: )o(?:n|ff)\n`)
}

// switchPlugin turns a plugin on or off, with further lines for its entry.
func switchPlugin(dse, name, to, lines string) (string, error) {
	at := pluginOf(name).FindStringSubmatchIndex(dse)
	if at == nil || strings.Contains(dse[at[0]:at[1]], "\n\n") {
		return "", fmt.Errorf("template-dse.ldif has no plugin %q", name)
	}
	return dse[:at[3]] + to + "\n" + lines + dse[at[1]:], nil
}

func (cfg DS389Config) config() string { return filepath.Join(cfg.Dir, "config") }

// Configure makes the server's directories and writes its configuration, from the
// template that it comes with: what its own program for that does needs the paths of
// the system.
func (cfg DS389Config) Configure(ctx context.Context) error {
	text, err := os.ReadFile(filepath.Join(cfg.Programs.Data, "template-dse.ldif"))
	if err != nil {
		return err
	}
	backend, err := os.ReadFile(filepath.Join(cfg.Programs.Data, "template-suffix-db.ldif"))
	if err != nil {
		return err
	}
	values := []string{"ds_suffix", cfg.Suffix, "ds_bename", "userRoot", "fqdn", "localhost", "ds_port", cfg.Port, "rootdn", cfg.RootDN,
		"ds_user", cfg.User.Name, "ldapi_enabled", "off", "ldapi", filepath.Join(cfg.Dir, "ldapi"), "ldapi_autobind", "off", "db_lib", "bdb"}
	for _, dir := range []string{"config", "config/schema", "lock", "tmp", "cert", "ldif", "bak", "run", "inst", "log", "db", "db_home"} {
		if err := MakeDir(filepath.Join(cfg.Dir, dir), cfg.User); err != nil {
			return err
		}
		values = append(values, filepath.Base(dir)+"_dir", filepath.Join(cfg.Dir, dir))
	}
	hash, err := SSHA(cfg.RootPassword)
	if err != nil {
		return err
	}
	values = append(values, "ds_passwd", hash)
	for i := 0; i < len(values); i += 2 {
		values[i] = "%" + values[i] + "%"
	}
	dse := strings.NewReplacer(values...).Replace(strings.TrimRight(string(text), "\n") + "\n\n" + comments.ReplaceAllString(string(backend), ""))
	for _, p := range []struct{ name, to, lines string }{
		{"Content Synchronization", "on", ""},
		{"Retro Changelog Plugin", "on", "nsslapd-attribute: nsuniqueid:targetUniqueId\n"},
		{"7-bit check", "off", ""},
	} {
		if dse, err = switchPlugin(dse, p.name, p.to, p.lines); err != nil {
			return err
		}
	}
	dse = strings.Replace(dse, "nsslapd-port: "+cfg.Port+"\n", fmt.Sprintf("nsslapd-port: %s\nnsslapd-listenhost: %[2]s\nnsslapd-securelistenhost: %[2]s\nnsslapd-secureport: %s\nnsslapd-security: on\n"+
		"nsslapd-accesslog-logging-enabled: off\nnsslapd-allow-hashed-passwords: on\n", cfg.Port, cfg.Address, cfg.TLSPort), 1)
	if cfg.User.isSelf() {
		dse = strings.Replace(dse, "nsslapd-localuser: \n", "", 1)
	}
	if err := cfg.write("config/dse.ldif", dse); err != nil {
		return err
	}
	if err := cfg.write("config/schema/99user.ldif", "dn: cn=schema\n"+cfg.Schema); err != nil {
		return err
	}
	collations, err := os.ReadFile("/etc/dirsrv/config/slapd-collations.conf")
	if err != nil {
		return err
	}
	if err := cfg.write("config/slapd-collations.conf", string(collations)); err != nil {
		return err
	}
	return cfg.certify(ctx)
}

// certify puts the certificate into the database of the server.
func (cfg DS389Config) certify(ctx context.Context) error {
	db, p12 := "sql:"+filepath.Join(cfg.Dir, "cert"), filepath.Join(cfg.Dir, "cert", "server.p12")
	for _, c := range [][]string{
		{cfg.Programs.CertUtil, "-N", "-d", db, "--empty-password"},
		{cfg.Programs.CertUtil, "-A", "-d", db, "-n", "CA", "-t", "CT,,", "-i", cfg.CA},
		{cfg.Programs.OpenSSL, "pkcs12", "-export", "-in", cfg.Certificate, "-inkey", cfg.Key, "-name", "Server-Cert", "-passout", "pass:", "-out", p12},
		{cfg.Programs.PK12Util, "-i", p12, "-d", db, "-W", "", "-K", ""},
	} {
		if _, err := (Command{Path: c[0], Args: c[1:], User: cfg.User}).Output(ctx); err != nil {
			return fmt.Errorf("certificate of 389 Directory Server: %w", err)
		}
	}
	return nil
}

func (cfg DS389Config) write(name, text string) error {
	path := filepath.Join(cfg.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	return cfg.User.own(path)
}

// Load makes the entries in LDIF those of the database of a server that is not running.
func (cfg DS389Config) Load(ctx context.Context, ldif string) error {
	if err := cfg.write("ldif/load.ldif", ldif); err != nil {
		return err
	}
	_, err := Command{Path: cfg.Programs.Server, User: cfg.User, Args: []string{
		"ldif2db", "-D", cfg.config(), "-n", "userRoot", "-i", filepath.Join(cfg.Dir, "ldif/load.ldif"),
	}}.Output(ctx)
	if err != nil {
		return fmt.Errorf("load directory entries: %w", err)
	}
	return nil
}

// StartDS389 starts the server on the configuration that Configure has written and
// returns when it answers a bind.
func StartDS389(ctx context.Context, cfg DS389Config) (*DS389, error) {
	// -d keeps it in the foreground; 0 logs nothing more.
	args := []string{"-D", cfg.config(), "-i", filepath.Join(cfg.Dir, "run/pid"), "-d", "0"}
	proc, err := Start(Command{Path: cfg.Programs.Server, Args: args, User: cfg.User, Log: cfg.Log, Stop: syscall.SIGTERM, Kill: syscall.SIGTERM})
	if err != nil {
		return nil, err
	}
	s := &DS389{proc, cfg}
	if err := s.await(ctx, time.Minute, s.ready); err != nil {
		s.Stop(time.Second)
		return nil, err
	}
	return s, nil
}

// ready does one bind, and knocks at the other port.
func (s *DS389) ready(ctx context.Context) error {
	var d net.Dialer
	for _, port := range []string{s.cfg.TLSPort, s.cfg.Port} {
		c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(s.cfg.Address, port))
		if err != nil {
			return err
		}
		defer c.Close()
		if port == s.cfg.TLSPort {
			continue
		}
		if err := bindAnonymously(c); err != nil {
			return err
		}
	}
	return nil
}
