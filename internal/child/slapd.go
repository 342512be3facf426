package child

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// SlapdPrograms is an installed OpenLDAP server.
type SlapdPrograms struct {
	Slapd   string // the server; slapadd is the same binary under another name
	Slapadd string
	Modules string // directory of back_mdb and syncprov, "" when they are compiled in
	Schemas string // directory of core.schema and its like
}

// FindSlapd returns the installed server, which is in no ordinary user's PATH.
func FindSlapd() (SlapdPrograms, error) {
	var p SlapdPrograms
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/usr/lib/openldap", "/usr/local/libexec"} {
		if isProgram(dir + "/slapd") {
			p.Slapd = dir + "/slapd"
			break
		}
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/usr/bin"} {
		if isProgram(dir + "/slapadd") {
			p.Slapadd = dir + "/slapadd"
			break
		}
	}
	for _, dir := range []string{"/etc/ldap/schema", "/etc/openldap/schema", "/usr/local/etc/openldap/schema"} {
		if _, err := os.Stat(dir + "/core.schema"); err == nil {
			p.Schemas = dir
			break
		}
	}
	if p.Slapd == "" || p.Slapadd == "" || p.Schemas == "" {
		return SlapdPrograms{}, fmt.Errorf("the OpenLDAP server (slapd, slapadd, core.schema) is %w: install the package slapd", ErrNotInstalled)
	}
	for _, pattern := range []string{"/usr/lib/ldap", "/usr/lib/*/ldap", "/usr/lib64/openldap", "/usr/lib/openldap", "/usr/local/libexec/openldap"} {
		found, err := filepath.Glob(pattern + "/syncprov.*")
		if err == nil && len(found) > 0 {
			p.Modules = filepath.Dir(found[0])
			break
		}
	}
	return p, nil
}

// SlapdConfig is a private directory server.
type SlapdConfig struct {
	Programs     SlapdPrograms
	User         User
	Dir          string   // existing directory of User: database, configuration, socket
	Suffix       string   // DN
	RootDN       string   // may do everything
	RootPassword string   // of RootDN, stored as a hash
	Schema       []string // texts of further schema files, in slapd.conf's form
	Access       string   // further access rules, in slapd.conf's form, before the usual ones
	FrontAccess  string   // access rules of the front end; with them the usual one for everything is the front end's last, and no longer the database's
	Policy       string   // DN of the password policy of all; "" for a server without policies
	ConfigReader string   // DN that may read the configuration, cn=config; "": nobody
	HideFront    bool     // from ConfigReader: the rules of the front end
	Index        []string // attributes to index for equality, beside the usual ones
	// PasswordPolicy is the DN of the policy for all passwords (slapo-ppolicy(5)), ""
	// for none.
	PasswordPolicy string
	Addresses      []string // host:port for ldap://
	TLSAddresses   []string // host:port for ldaps://
	Certificate    string   // PEM files, for ldaps:// and StartTLS; "" for none
	Key, CA        string
	Log            string
	// NoSync leaves writing to disk to the system: a crash of the machine may
	// break the database, the death of the process does not.
	NoSync bool
}

// Slapd is a running private slapd.
type Slapd struct {
	*Process
	cfg SlapdConfig
}

// Configure writes slapd.conf and its schema files into cfg.Dir.
func (cfg SlapdConfig) Configure() error {
	var b strings.Builder
	for _, name := range []string{"core", "cosine", "inetorgperson"} {
		fmt.Fprintf(&b, "include %s/%s.schema\n", cfg.Programs.Schemas, name)
	}
	for i, text := range cfg.Schema {
		path := filepath.Join(cfg.Dir, fmt.Sprintf("schema%d.schema", i))
		if err := cfg.write(path, text); err != nil {
			return err
		}
		fmt.Fprintf(&b, "include %s\n", path)
	}
	if cfg.Programs.Modules != "" {
		fmt.Fprintf(&b, "modulepath %s\nmoduleload back_mdb\nmoduleload syncprov\n", cfg.Programs.Modules)
		if cfg.PasswordPolicy != "" {
			b.WriteString("moduleload ppolicy\n")
		}
	}
	if cfg.Programs.Modules != "" && cfg.Policy != "" {
		b.WriteString("moduleload ppolicy\n")
	}
	fmt.Fprintf(&b, "pidfile %[1]s/slapd.pid\nargsfile %[1]s/slapd.args\nloglevel none\nidletimeout 0\n", cfg.Dir)
	if cfg.Certificate != "" {
		fmt.Fprintf(&b, "TLSCertificateFile %s\nTLSCertificateKeyFile %s\nTLSCACertificateFile %s\nTLSVerifyClient never\n", cfg.Certificate, cfg.Key, cfg.CA)
	}
	// Anybody may ask what the server can do, whoever has bound what it knows;
	// nobody reads passwords.
	b.WriteString("access to dn.base=\"\" by * read\naccess to dn.base=\"cn=Subschema\" by * read\n")
	const everything = "access to * by users read by * none\n"
	if cfg.FrontAccess != "" {
		b.WriteString(cfg.FrontAccess + everything)
	}
	hash, err := SSHA(cfg.RootPassword)
	if err != nil {
		return err
	}
	if cfg.ConfigReader != "" {
		b.WriteString("database config\n")
		if cfg.HideFront {
			b.WriteString("access to dn.base=\"olcDatabase={-1}frontend,cn=config\" by * none\n")
		}
		fmt.Fprintf(&b, "access to * by dn.exact=%q read by * none\n", cfg.ConfigReader)
	}
	fmt.Fprintf(&b, "database mdb\nsuffix %q\nrootdn %q\nrootpw %s\ndirectory %s/db\nmaxsize 4294967296\n", cfg.Suffix, cfg.RootDN, hash, cfg.Dir)
	if cfg.NoSync {
		b.WriteString("envflags nosync\n")
	}
	b.WriteString(cfg.Access)
	b.WriteString("access to attrs=userPassword by self =xw by anonymous auth by * none\n")
	if cfg.FrontAccess == "" {
		b.WriteString(everything)
	}
	b.WriteString("limits * size=unlimited time=unlimited\n")
	// syncprov compares entryCSN, the mail system asks by the others.
	b.WriteString("index objectClass,entryCSN,entryUUID,uid,mail,member eq\n")
	if len(cfg.Index) > 0 {
		fmt.Fprintf(&b, "index %s eq\n", strings.Join(cfg.Index, ","))
	}
	if cfg.PasswordPolicy != "" {
		fmt.Fprintf(&b, "overlay ppolicy\nppolicy_default %q\nppolicy_hash_cleartext\n", cfg.PasswordPolicy)
	}
	b.WriteString("overlay syncprov\nsyncprov-checkpoint 100 5\nsyncprov-sessionlog 10000\n")
	if cfg.Policy != "" {
		fmt.Fprintf(&b, "overlay ppolicy\nppolicy_default %q\nppolicy_use_lockout\n", cfg.Policy)
	}
	if err := os.Mkdir(cfg.Database(), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := cfg.User.own(cfg.Database()); err != nil {
		return err
	}
	return cfg.write(cfg.conf(), b.String())
}

func (cfg SlapdConfig) conf() string { return filepath.Join(cfg.Dir, "slapd.conf") }

func (cfg SlapdConfig) write(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	return cfg.User.own(path)
}

// LDAPI returns the URL of the Unix socket.
func (cfg SlapdConfig) LDAPI() string {
	return "ldapi://" + url.QueryEscape(cfg.socket())
}

func (cfg SlapdConfig) socket() string { return filepath.Join(cfg.Dir, "ldapi") }

// StartSlapd starts the server on the configuration that Configure has written
// and returns when it answers a bind.
func StartSlapd(ctx context.Context, cfg SlapdConfig) (*Slapd, error) {
	if n := len(cfg.socket()); n > maxSocketPath {
		return nil, fmt.Errorf("directory %s is too long for a Unix socket (%d octets, %d are possible): choose a shorter one", cfg.Dir, n, maxSocketPath)
	}
	urls := []string{cfg.LDAPI()}
	for _, a := range cfg.Addresses {
		urls = append(urls, "ldap://"+a)
	}
	for _, a := range cfg.TLSAddresses {
		urls = append(urls, "ldaps://"+a)
	}
	// -d keeps it in the foreground; 0 logs nothing but errors.
	args := []string{"-d", "0", "-f", cfg.conf(), "-h", strings.Join(urls, " ")}
	if !cfg.User.isSelf() && needsRoot(append(cfg.Addresses, cfg.TLSAddresses...)) {
		return nil, errors.New("slapd cannot listen on a port below 1024 as an unprivileged user")
	}
	proc, err := Start(Command{Path: cfg.Programs.Slapd, Args: args, User: cfg.User, Log: cfg.Log, Stop: syscall.SIGTERM, Kill: syscall.SIGTERM})
	if err != nil {
		return nil, err
	}
	s := &Slapd{proc, cfg}
	if err := s.await(ctx, 30*time.Second, s.ready); err != nil {
		s.Stop(time.Second)
		return nil, err
	}
	return s, nil
}

func needsRoot(addresses []string) bool {
	for _, a := range addresses {
		_, port, err := net.SplitHostPort(a)
		if n, err2 := net.LookupPort("tcp", port); err == nil && err2 == nil && n < 1024 {
			return true
		}
	}
	return false
}

// anonymousBind is the LDAPMessage of an anonymous simple bind, version 3
// (RFC 4511 §4.2).
var anonymousBind = []byte{0x30, 0x0c, 0x02, 0x01, 0x01, 0x60, 0x07, 0x02, 0x01, 0x03, 0x04, 0x00, 0x80, 0x00}

// ready does one bind: the sockets are open before the databases are.
func (s *Slapd) ready(ctx context.Context) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", s.cfg.socket())
	if err != nil {
		return err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return err
		}
	}
	return exchangeBind(c)
}

// bindAnonymously binds on c and waits ten seconds at most for an answer, whatever it
// says: a server that answers has opened its databases.
func bindAnonymously(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	return exchangeBind(c)
}

// exchangeBind is bindAnonymously with the deadline that c has.
func exchangeBind(c net.Conn) error {
	if _, err := c.Write(anonymousBind); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 64))
	return err
}

// SSHA returns the salted SHA-1 hash of password as slapd stores it, with the
// scheme in front.
func SSHA(password string) (string, error) {
	salt := make([]byte, 8)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	h := sha1.New()
	h.Write([]byte(password))
	h.Write(salt)
	return "{SSHA}" + base64.StdEncoding.EncodeToString(append(h.Sum(nil), salt...)), nil
}
