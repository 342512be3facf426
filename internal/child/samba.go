package child

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// SambaPrograms is an installed Samba that can be a domain controller of Active
// Directory.
type SambaPrograms struct {
	Server    string // samba
	Tool      string // samba-tool
	SPNUpdate string // samba_spnupdate
	LDBAdd    string
	LDBModify string
	Version   string
}

// FindSamba returns the installed domain controller.
func FindSamba(ctx context.Context) (SambaPrograms, error) {
	var p SambaPrograms
	for name, path := range map[string]*string{
		"samba": &p.Server, "samba-tool": &p.Tool, "samba_spnupdate": &p.SPNUpdate, "ldbadd": &p.LDBAdd, "ldbmodify": &p.LDBModify,
	} {
		for _, dir := range []string{"/usr/sbin/", "/usr/bin/", "/usr/local/sbin/", "/usr/local/bin/", "/usr/local/samba/sbin/", "/usr/local/samba/bin/"} {
			if isProgram(dir + name) {
				*path = dir + name
				break
			}
		}
		if *path == "" {
			return SambaPrograms{}, fmt.Errorf("the domain controller of Samba (%s) is %w: install the packages samba-ad-dc, samba-ad-provision and ldb-tools", name, ErrNotInstalled)
		}
	}
	out, err := Command{Path: p.Server, Args: []string{"--version"}}.Output(ctx)
	if err != nil {
		return SambaPrograms{}, err
	}
	p.Version = strings.TrimPrefix(strings.TrimSpace(string(out)), "Version ")
	return p, nil
}

// SambaConfig is a private domain controller, the only one of its domain.
type SambaConfig struct {
	Programs      SambaPrograms
	Dir           string // everything that it writes; Provision makes it
	Address       string // IP address; its ports are those of the protocols
	Host          string // first label of its name
	Realm         string // in capitals
	Domain        string // the NetBIOS name
	AdminPassword string // of Administrator
	Log           string
}

// ErrNotRoot reports that a domain controller needs root: its ports cannot be
// chosen, and it keeps its files to itself.
var ErrNotRoot = errors.New("a Samba domain controller needs root (ports 88, 389 and 636)")

// throwAway lets the database of Samba not wait for the disk, which is most of
// the time that provisioning takes. It is set for every program: all of this is
// for tests.
var throwAway = []string{"TDB_NO_FSYNC=1"}

// Provision makes a new domain in cfg.Dir, which must not exist. It takes 5 to
// 30 seconds.
func (cfg SambaConfig) Provision(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return ErrNotRoot
	}
	if err := MakeDir(cfg.Dir, User{}); err != nil {
		return err
	}
	_, err := Command{Path: cfg.Programs.Tool, Env: throwAway, Args: []string{
		"domain", "provision", "--quiet", "--server-role=dc", "--dns-backend=SAMBA_INTERNAL",
		"--realm=" + cfg.Realm, "--domain=" + cfg.Domain, "--host-name=" + cfg.Host, "--host-ip=" + cfg.Address,
		"--adminpass=" + cfg.AdminPassword, "--targetdir=" + cfg.Dir,
		"--option=interfaces = " + cfg.Address + "/8", "--option=bind interfaces only = yes",
		// File attributes in a file: no privileges of the file system needed.
		"--option=vfs objects = dfs_samba4 acl_xattr xattr_tdb", "--option=xattr_tdb:file = " + filepath.Join(cfg.Dir, "state", "xattr.tdb"),
	}}.Output(ctx)
	if err != nil {
		return fmt.Errorf("provision a domain: %w", err)
	}
	if err := cfg.Configure(); err != nil {
		return err
	}
	// A service that we leave out would register the names of the DC's services,
	// ldap/HOST among them.
	if _, err := (Command{Path: cfg.Programs.SPNUpdate, Env: throwAway, Args: []string{"--configfile=" + cfg.conf()}}).Output(ctx); err != nil {
		return fmt.Errorf("register service names: %w", err)
	}
	return nil
}

func (cfg SambaConfig) conf() string { return filepath.Join(cfg.Dir, "etc", "smb.conf") }

// Configure writes smb.conf for a domain in cfg.Dir, which may be a copy. The one
// that provisioning wrote takes its directories and its name server from this
// machine.
func (cfg SambaConfig) Configure() error {
	text := fmt.Sprintf(`[global]
  netbios name = %[2]s
  realm = %[3]s
  workgroup = %[4]s
  server role = active directory domain controller
  server services = ldap, cldap, kdc
  interfaces = %[5]s/8
  bind interfaces only = yes
  disable netbios = yes
  dns forwarder =
  load printers = no
  private dir = %[1]s/private
  state directory = %[1]s/state
  cache directory = %[1]s/cache
  lock directory = %[1]s/lock
  pid directory = %[1]s/run
  ncalrpc dir = %[1]s/run/ncalrpc
  winbindd socket directory = %[1]s/run/winbindd
  ntp signd socket directory = %[1]s/run/ntp
  binddns dir = %[1]s/bind-dns
  logging = file
  log file = %[1]s/log.%%m
  log level = 1
  tls enabled = yes
  tls certfile = %[1]s/cert.pem
  tls keyfile = %[1]s/key.pem
  tls cafile = %[1]s/ca.pem
  vfs objects = dfs_samba4 acl_xattr xattr_tdb
  xattr_tdb:file = %[1]s/state/xattr.tdb
`, cfg.Dir, cfg.Host, cfg.Realm, cfg.Domain, cfg.Address)
	for _, dir := range []string{"etc", "lock", "run/ncalrpc", "run/winbindd", "run/ntp", "bind-dns"} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, dir), 0o755); err != nil {
			return err
		}
	}
	return os.WriteFile(cfg.conf(), []byte(text), 0o600)
}

// Tool runs samba-tool on the database in cfg.Dir.
func (cfg SambaConfig) Tool(ctx context.Context, args ...string) error {
	_, err := Command{Path: cfg.Programs.Tool, Env: throwAway, Args: append(args, "--configfile="+cfg.conf())}.Output(ctx)
	return err
}

// Add adds the entries of ldif to the database in cfg.Dir.
func (cfg SambaConfig) Add(ctx context.Context, ldif string) error {
	return cfg.ldb(ctx, cfg.Programs.LDBAdd, []string{"-H", filepath.Join(cfg.Dir, "private", "sam.ldb"), "--configfile=" + cfg.conf()}, ldif)
}

// Force changes the entries of a naming context behind the back of all rules.
func (cfg SambaConfig) Force(ctx context.Context, context, ldif string) error {
	file := filepath.Join(cfg.Dir, "private", "sam.ldb.d", strings.ToUpper(context)+".ldb")
	return cfg.ldb(ctx, cfg.Programs.LDBModify, []string{"-H", "tdb://" + file}, ldif)
}

func (cfg SambaConfig) ldb(ctx context.Context, program string, args []string, ldif string) error {
	path := filepath.Join(cfg.Dir, "change.ldif")
	if err := os.WriteFile(path, []byte(ldif), 0o600); err != nil {
		return err
	}
	defer os.Remove(path)
	_, err := Command{Path: program, Env: throwAway, Args: append(args, path)}.Output(ctx)
	return err
}

// Samba is a running domain controller.
type Samba struct {
	*Process
	cfg SambaConfig
}

// StartSamba starts the domain controller in cfg.Dir and returns when it answers.
// Files cert.pem, key.pem and ca.pem must be there.
func StartSamba(ctx context.Context, cfg SambaConfig) (*Samba, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	if n := len(cfg.Dir) + len("/private/ldap_priv/ldapi"); n > maxSocketPath {
		return nil, fmt.Errorf("directory %s is too long for a Unix socket (%d octets, %d are possible): choose a shorter one", cfg.Dir, n, maxSocketPath)
	}
	// In the foreground and in one process: nothing else has to be ended.
	proc, err := Start(Command{Path: cfg.Programs.Server, Args: []string{"--foreground", "--model=single", "--configfile=" + cfg.conf()}, Env: throwAway,
		Log: cfg.Log, Stop: syscall.SIGTERM, Kill: syscall.SIGTERM})
	if err != nil {
		return nil, err
	}
	s := &Samba{proc, cfg}
	if err := s.await(ctx, time.Minute, s.ready); err != nil {
		s.Stop(time.Second)
		return nil, err
	}
	return s, nil
}

// ready binds by LDAP and knocks at the other ports.
func (s *Samba) ready(ctx context.Context) error {
	var d net.Dialer
	for _, port := range []string{"389", "636", "88"} {
		c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(s.cfg.Address, port))
		if err != nil {
			return err
		}
		defer c.Close()
		if port != "389" {
			continue
		}
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		if _, err := c.Write(anonymousBind); err != nil {
			return err
		}
		if _, err := c.Read(make([]byte, 64)); err != nil {
			return err
		}
	}
	return nil
}
