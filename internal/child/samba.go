package child

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
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
	LDBSearch string
	Version   string
}

// FindSamba returns the installed domain controller.
func FindSamba(ctx context.Context) (SambaPrograms, error) {
	var p SambaPrograms
	for name, path := range map[string]*string{
		"samba": &p.Server, "samba-tool": &p.Tool, "samba_spnupdate": &p.SPNUpdate, "ldbadd": &p.LDBAdd, "ldbmodify": &p.LDBModify, "ldbsearch": &p.LDBSearch,
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

// SambaConfig is a private domain controller. It is the only one of its domain, and
// the only process, unless Peers says otherwise.
type SambaConfig struct {
	Programs      SambaPrograms
	Dir           string // everything that it writes; Provision makes it
	Address       string // IP address; its ports are those of the protocols
	Host          string // first label of its name
	Realm         string // in capitals
	Domain        string // the NetBIOS name
	AdminPassword string // of Administrator
	Log           string
	// Peers are other domain controllers that it knows by name, itself among them:
	// full name -> address. With them it speaks to others and has RPC, DNS,
	// replication and a process per service. That needs the package libnss-wrapper.
	Peers map[string]string
	// Files gives it SMB too, by which tools of administrators speak to it. It needs
	// Peers.
	Files bool
	// Site and ReadOnly are of a controller that joins: its site, "" for the one that
	// a domain begins with, and whether it takes no changes.
	Site     string
	ReadOnly bool
	// SchemaUpdates lets administrators add to the schema.
	SchemaUpdates bool
	// KDCs are the addresses of those who give it tickets, by realm.
	KDCs map[string][]string
}

// throwAway lets the database of Samba not wait for the disk, which is most of
// the time that provisioning takes. It is set for every program: all of this is
// for tests.
var throwAway = []string{"TDB_NO_FSYNC=1"}

// env is the environment of every program: names are looked up in our own file,
// and nothing is asked outside.
func (cfg SambaConfig) env() []string {
	if len(cfg.Peers) == 0 {
		return throwAway
	}
	env := append([]string{
		"LD_PRELOAD=" + nssWrapper(), "NSS_WRAPPER_HOSTS=" + cfg.hosts(), "KRB5_CONFIG=" + cfg.krb5(),
	}, throwAway...)
	if cfg.Files {
		// smbd asks winbindd who a user is at the path that it was built with, and
		// refuses all sessions (NT_STATUS_INTERNAL_ERROR) when nobody answers there;
		// at another one only where the wrapper has the users and groups too.
		env = append(env, "NSS_WRAPPER_PASSWD=/etc/passwd", "NSS_WRAPPER_GROUP=/etc/group",
			"SELFTEST_WINBINDD_SOCKET_DIR="+filepath.Join(cfg.Dir, "run", "winbindd"))
	}
	return env
}

func (cfg SambaConfig) hosts() string { return filepath.Join(cfg.Dir, "etc", "hosts") }

func (cfg SambaConfig) krb5() string { return filepath.Join(cfg.Dir, "etc", "krb5.conf") }

// nssWrapper is the library by which a program reads another /etc/hosts, "" if it
// is not installed.
func nssWrapper() string {
	found, _ := filepath.Glob("/usr/lib/*/libnss_wrapper.so")
	if len(found) == 0 {
		return ""
	}
	return found[0]
}

// Provision makes a new domain in cfg.Dir, which must not exist. It takes 5 to
// 30 seconds.
func (cfg SambaConfig) Provision(ctx context.Context) error {
	if err := cfg.make(); err != nil {
		return err
	}
	_, err := cfg.tool(
		"domain", "provision", "--quiet", "--server-role=dc", "--dns-backend=SAMBA_INTERNAL",
		"--realm="+cfg.Realm, "--domain="+cfg.Domain, "--host-name="+cfg.Host, "--host-ip="+cfg.Address,
		"--adminpass="+cfg.AdminPassword, "--targetdir="+cfg.Dir,
		"--option=interfaces = "+cfg.Address+"/8", "--option=bind interfaces only = yes",
		// File attributes in a file: no privileges of the file system needed.
		"--option=vfs objects = dfs_samba4 acl_xattr xattr_tdb", "--option=xattr_tdb:file = "+filepath.Join(cfg.Dir, "state", "xattr.tdb"),
	).Output(ctx)
	if err != nil {
		return fmt.Errorf("provision a domain: %w", err)
	}
	if err := cfg.Configure(); err != nil {
		return err
	}
	return cfg.registerNames(ctx)
}

// make makes the directory for a new domain controller.
func (cfg SambaConfig) make() error {
	if err := CanBeController(); err != nil {
		return err
	}
	if len(cfg.Peers) > 0 && nssWrapper() == "" {
		return fmt.Errorf("libnss_wrapper.so is %w: install the package libnss-wrapper", ErrNotInstalled)
	}
	return MakeDir(cfg.Dir, User{})
}

// registerNames does what a service that we leave out would: it registers the
// names of the DC's services, ldap/HOST among them.
func (cfg SambaConfig) registerNames(ctx context.Context) error {
	if _, err := (Command{Path: cfg.Programs.SPNUpdate, Root: true, Env: cfg.env(), Args: []string{"--configfile=" + cfg.conf()}}).Output(ctx); err != nil {
		return fmt.Errorf("register service names: %w", err)
	}
	return nil
}

func (cfg SambaConfig) conf() string { return filepath.Join(cfg.Dir, "etc", "smb.conf") }

// Join makes a further domain controller in cfg.Dir, which must not exist, of the
// domain whose controller primary is running. It takes 3 to 20 seconds.
func (cfg SambaConfig) Join(ctx context.Context, primary string) error {
	if err := cfg.make(); err != nil {
		return err
	}
	if err := cfg.Configure(); err != nil {
		return err
	}
	role := "DC"
	if cfg.ReadOnly {
		role = "RODC"
	}
	args := []string{"domain", "join", strings.ToLower(cfg.Realm), role, "-U", "Administrator", "--password=" + cfg.AdminPassword,
		"--server=" + primary, "--dns-backend=SAMBA_INTERNAL", "--option=interfaces = " + cfg.Address + "/8"}
	if cfg.Site != "" {
		args = append(args, "--site="+cfg.Site)
	}
	if err := cfg.Tool(ctx, args...); err != nil {
		return fmt.Errorf("join as a domain controller (%s): %w", role, err)
	}
	if cfg.ReadOnly {
		return nil // its names are in its account, which it may not change
	}
	return cfg.registerNames(ctx)
}

// AddSite makes a site in the database in cfg.Dir, with the addresses of a subnet, such
// as 192.0.2.0/24.
func (cfg SambaConfig) AddSite(ctx context.Context, site, subnet string) error {
	database := []string{"-H", filepath.Join(cfg.Dir, "private", "sam.ldb")}
	if err := cfg.Tool(ctx, append([]string{"sites", "create", site}, database...)...); err != nil {
		return fmt.Errorf("make the site %s: %w", site, err)
	}
	if err := cfg.Tool(ctx, append([]string{"sites", "subnet", "create", subnet, site}, database...)...); err != nil {
		return fmt.Errorf("make the subnet %s: %w", subnet, err)
	}
	return nil
}

// Trust has the domain trust another one, and that one it, by the tool of administrators.
// Both are running, with Files.
func (cfg SambaConfig) Trust(ctx context.Context, other SambaConfig) error {
	// Whether the trust works is asked of the winbindd of both, which find each other
	// by the DNS.
	return cfg.Tool(ctx, "domain", "trust", "create", other.Realm, "--type=external", "--direction=both", "--skip-validation",
		"--ipaddress="+other.Address, "-U", other.Domain+`\Administrator`, "--password="+other.AdminPassword,
		"--local-dc-ipaddress="+cfg.Address, "--local-dc-username="+cfg.Domain+`\Administrator`, "--local-dc-password="+cfg.AdminPassword)
}

// Replicate has the controller to take what the controller from has of a naming
// context, and returns when it has it. Both are full names and must be running.
func (cfg SambaConfig) Replicate(ctx context.Context, to, from, context string) error {
	return cfg.Tool(ctx, "drs", "replicate", to, from, context, "-U", cfg.Domain+`\Administrator`, "--password="+cfg.AdminPassword)
}

// Configure writes smb.conf for a domain in cfg.Dir, which may be a copy. The one
// that provisioning wrote takes its directories and its name server from this
// machine.
func (cfg SambaConfig) Configure() error {
	text := fmt.Sprintf(`[global]
  netbios name = %[2]s
  realm = %[3]s
  workgroup = %[4]s
  server role = active directory domain controller
  server services = %[6]s
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
  dsdb:schema update allowed = %[8]t
%[7]s`, cfg.Dir, cfg.Host, cfg.Realm, cfg.Domain, cfg.Address, cfg.services(), cfg.replication(), cfg.SchemaUpdates)
	for _, dir := range []string{"etc", "lock", "private", "state", "cache", "run/ncalrpc", "run/winbindd", "run/ntp", "bind-dns"} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(cfg.conf(), []byte(text), 0o600); err != nil || len(cfg.Peers) == 0 {
		return err
	}
	return cfg.writeNames()
}

func (cfg SambaConfig) services() string {
	if len(cfg.Peers) == 0 {
		return "ldap, cldap, kdc"
	}
	if cfg.Files {
		return "ldap, cldap, kdc, rpc, dns, drepl, kcc, s3fs, winbindd"
	}
	return "ldap, cldap, kdc, rpc, dns, drepl, kcc"
}

// replication makes changes go to the others in a second or two. The topology is
// computed once, since that takes a processor for seconds.
func (cfg SambaConfig) replication() string {
	if len(cfg.Peers) == 0 {
		return ""
	}
	return `  prefork children = 1
  dreplsrv:notify_interval = 1
  dreplsrv:periodic_interval = 1
  dreplsrv:periodic_startup_interval = 1
  kccsrv:periodic_startup_interval = 1
  kccsrv:periodic_interval = 300
[sysvol]
  path = ` + cfg.Dir + `/state/sysvol
  read only = no
[netlogon]
  path = ` + cfg.Dir + `/state/sysvol/` + strings.ToLower(cfg.Realm) + `/scripts
  read only = no
`
}

// writeNames writes who the others are.
func (cfg SambaConfig) writeNames() error {
	var hosts, realms strings.Builder
	for _, name := range slices.Sorted(maps.Keys(cfg.Peers)) {
		fmt.Fprintf(&hosts, "%s %s\n", cfg.Peers[name], name)
	}
	for _, realm := range slices.Sorted(maps.Keys(cfg.KDCs)) {
		fmt.Fprintf(&realms, " %s = {\n", realm)
		for _, kdc := range cfg.KDCs[realm] {
			fmt.Fprintf(&realms, "  kdc = %s\n", kdc)
		}
		realms.WriteString(" }\n")
	}
	krb5 := fmt.Sprintf("[libdefaults]\n default_realm = %s\n dns_lookup_kdc = false\n dns_lookup_realm = false\n rdns = false\n[realms]\n%s", cfg.Realm, realms.String())
	if err := os.WriteFile(cfg.hosts(), []byte(hosts.String()), 0o644); err != nil {
		return err
	}
	return os.WriteFile(cfg.krb5(), []byte(krb5), 0o644)
}

// Tool runs samba-tool on the database in cfg.Dir.
func (cfg SambaConfig) Tool(ctx context.Context, args ...string) error {
	_, err := cfg.tool(append(args, "--configfile="+cfg.conf())...).Output(ctx)
	return err
}

// withoutSysvol runs samba-tool, a Python program, and leaves out the rights of the
// files in sysvol: they would be those of users whom a namespace does not have, and
// nobody here reads files from a domain controller.
const withoutSysvol = `import runpy, sys, samba.provision
samba.provision.setsysvolacl = lambda *args, **kwargs: None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")`

// tool is samba-tool with args.
func (cfg SambaConfig) tool(args ...string) Command {
	if os.Geteuid() == 0 {
		return Command{Path: cfg.Programs.Tool, Env: cfg.env(), Args: args}
	}
	return Command{Path: "/usr/bin/python3", Root: true, Env: cfg.env(), Args: append([]string{"-c", withoutSysvol, cfg.Programs.Tool}, args...)}
}

// Add adds the entries of ldif to the database in cfg.Dir.
func (cfg SambaConfig) Add(ctx context.Context, ldif string) error {
	return cfg.ldb(ctx, cfg.Programs.LDBAdd, []string{"-H", filepath.Join(cfg.Dir, "private", "sam.ldb"), "--configfile=" + cfg.conf()}, ldif)
}

// Relax adds the entries of ldif to the database in cfg.Dir, of kinds that only the
// system itself makes. The controller may be running.
func (cfg SambaConfig) Relax(ctx context.Context, ldif string) error {
	return cfg.ldb(ctx, cfg.Programs.LDBAdd, []string{"-H", filepath.Join(cfg.Dir, "private", "sam.ldb"), "--configfile=" + cfg.conf(), "--controls=relax:0,provision:0"}, ldif)
}

// Modify changes entries of the database in cfg.Dir as the system itself, the root DSE
// and deleted entries among them. The controller may be running.
func (cfg SambaConfig) Modify(ctx context.Context, ldif string) error {
	return cfg.ldb(ctx, cfg.Programs.LDBModify, []string{"-H", filepath.Join(cfg.Dir, "private", "sam.ldb"), "--configfile=" + cfg.conf(), "--controls=relax:0,show_deleted:0"}, ldif)
}

// Read returns the first value of an attribute of an entry in the database in
// cfg.Dir, as LDIF has it.
func (cfg SambaConfig) Read(ctx context.Context, dn, attribute string) (string, error) {
	out, err := Command{Path: cfg.Programs.LDBSearch, Root: true, Env: cfg.env(), Args: []string{
		"-H", filepath.Join(cfg.Dir, "private", "sam.ldb"), "--configfile=" + cfg.conf(), "-b", dn, "-s", "base", attribute,
	}}.Output(ctx)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(out)) {
		if value, ok := strings.CutPrefix(line, attribute+": "); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("%s has no %s", dn, attribute)
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
	_, err := Command{Path: program, Root: true, Env: cfg.env(), Args: append(args, path)}.Output(ctx)
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
	if err := CanBeController(); err != nil {
		return nil, err
	}
	if n := len(cfg.Dir) + len("/private/ldap_priv/ldapi"); n > maxSocketPath {
		return nil, fmt.Errorf("directory %s is too long for a Unix socket (%d octets, %d are possible): choose a shorter one", cfg.Dir, n, maxSocketPath)
	}
	// In the foreground and in one process: nothing else has to be ended. One that
	// speaks to others would wait for itself then; its processes end with the first.
	model := "single"
	if len(cfg.Peers) > 0 {
		model = "prefork"
	}
	proc, err := Start(Command{Path: cfg.Programs.Server, Root: true, Args: []string{"--foreground", "--model=" + model, "--configfile=" + cfg.conf()}, Env: cfg.env(),
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

// Stop ends the domain controller and returns when nobody answers at its address:
// its further processes end by themselves, a moment after the first.
func (s *Samba) Stop(grace time.Duration) {
	end := time.Now().Add(grace)
	s.Process.Stop(grace)
	for time.Now().Before(end) {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(s.cfg.Address, "389"), grace)
		if err != nil {
			return
		}
		_ = c.Close()
		time.Sleep(10 * time.Millisecond)
	}
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
		if err := bindAnonymously(c); err != nil {
			return err
		}
	}
	return nil
}
