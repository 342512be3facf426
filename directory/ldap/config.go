package ldap

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/internal/envelope"
)

// Config is one directory as the administrator describes it.
type Config struct {
	// Name is the name of the directory in the configuration. It is part of
	// every person's key, so it must not change while there are mailboxes.
	Name string
	// URLs are the servers, in order of preference: ldaps://host[:636],
	// ldap://host[:389], ldapi://%2Fpath%2Fof%2Fsocket. All must hold the same
	// entries.
	URLs []string
	// Discover is the DNS name of a domain whose servers are found by its SRV
	// records, instead of URLs: those of our site first, then by priority and
	// weight, found anew now and then. Resolver is whom to ask.
	Discover string
	Resolver Resolver
	// Preset is the family of the directory, one of Presets, which gives filter and
	// mapping their defaults. The default is PresetAuto: the server is asked what it
	// is, see Client.Choice.
	Preset string
	// Base is the DN under which everything is.
	Base string
	// Filter selects the entries that mail should know of. "" is the preset's.
	Filter string
	// Bind is how the account that reads the directory shows who it is: "simple",
	// the default, by BindDN and BindPassword, "gssapi", by Kerberos with a keytab,
	// or "joined", by Kerberos as the account that this system has in the domain,
	// which [Client.SetMachine] tells. It needs to read the mapped attributes and
	// nothing else.
	Bind string
	// BindDN and BindPassword are the account of a simple bind. Both empty:
	// anonymous.
	BindDN       string
	BindPassword string
	// Principal is the account of a GSSAPI bind, without its realm, Keytab the
	// content of a keytab with an AES key of it. The connections that read are
	// sealed by Kerberos instead of TLS, on ldap:// (RFC 4752). Servers need
	// their full names, which are those of their services in the realm.
	Principal string
	Realm     string
	Keytab    []byte
	// KDCs are host[:port] of those who give tickets. Empty means the hosts of
	// URLs, as it is with Active Directory.
	KDCs []string
	// TLS is how ldap:// is secured: "starttls", the default, or "none", which
	// is taken for servers on this host only, since passwords would cross the
	// network in clear. ldaps:// always verifies. "ldaps" is for the servers of
	// Discover: TLS from the start, on port 636.
	TLS string
	// Passwords is how people's passwords are judged: "ldap", by a simple bind,
	// "kerberos", by a ticket, which needs no TLS and an account with bind
	// "gssapi" or "joined" that is a service, or "auto", the default: by LDAP
	// where the servers have TLS, else by Kerberos where that is possible.
	Passwords string
	// PasswordPolicy is the DN of the password policy that the server applies to
	// entries that name none (slapo-ppolicy(5), ppolicy_default). "": the only one
	// that there is. Active Directory needs none.
	PasswordPolicy string
	// CA holds the PEM certificates that may have signed the servers' ones. ""
	// means those of the system.
	CA string
	// ServerName is the name in the servers' certificate, and in their Kerberos
	// service, where it is not the host of the URL.
	ServerName string
	// Domain is DOMAIN of logins as DOMAIN\user. Of an AD domain it is read from the
	// directory (its NetBIOS name), so that there it need not be said.
	Domain string
	// AliasLogins lets people log in with their further addresses too.
	AliasLogins bool
	// Rights name the groups that carry rights to mailboxes.
	Rights RightGroups
	// Mapping replaces what the preset reads a logical field from: field ->
	// sources, each "attribute" or "attribute:decoder". See Fields.
	Mapping map[string][]string
	// Trusted are fields with power that Mapping may read from attributes that
	// people usually can write themselves, see SelfWritable.
	Trusted []string
	// Facts are the attributes that lists defined by a filter may ask for. nil
	// means DefaultFacts.
	Facts []string
	// MoreFacts are kept beside Facts, for the rules of the configuration that
	// ask for them.
	MoreFacts []string
	// Follow is how changes are seen: "syncrepl" (RFC 4533), "dirsync" (Active
	// Directory), "poll", which compares everything every PollEvery, or "auto",
	// the default: the first of these that the server offers.
	Follow string
	// PollEvery is how often everything is compared with "poll". With "dirsync" it
	// bounds how long a deletion goes unseen where the account may not see deleted
	// entries. The default is 30 s.
	PollEvery time.Duration
	// RefreshEvery is after how long a followed directory is compared from the
	// start, in case something was missed. The default is 1 h.
	RefreshEvery time.Duration
	// ReadConnections and BindConnections bound the connections of this node.
	// The defaults are 2 and 8. A bind holds its connection for one round trip.
	ReadConnections int
	BindConnections int
	// ConnectTimeout bounds connecting to one server, TLS and first bind
	// included, Timeout one request. The defaults are 5 s and 10 s.
	ConnectTimeout time.Duration
	Timeout        time.Duration

	pageSize    uint32 // of searches that read everything; tests make it small
	manyEntries int    // from how many on deletions are looked for in other ways too; tests make it small
	// Log gets a line when a server is put aside, when it is back, and when the
	// servers of a domain have changed. nil is nobody.
	Log *slog.Logger
}

// The values of Config.TLS.
const (
	tlsStart    = "starttls"
	tlsImplicit = "ldaps"
	tlsNone     = "none"
)

// The ways to see changes.
const (
	FollowAuto     = "auto"
	FollowSyncrepl = "syncrepl"
	FollowDirSync  = "dirsync"
	FollowPoll     = "poll"
)

// The ways to bind.
const (
	BindSimple = "simple"
	BindGSSAPI = "gssapi"
	BindJoined = "joined"
)

// The ways to judge passwords.
const (
	PasswordsAuto     = "auto"
	PasswordsLDAP     = "ldap"
	PasswordsKerberos = "kerberos"
)

// byKerberos reports whether the account that reads binds by Kerberos.
func (c Config) byKerberos() bool { return c.Bind == BindGSSAPI || c.Bind == BindJoined }

// withDefaults fills in what is empty.
func (c Config) withDefaults() Config {
	if c.Bind == "" {
		c.Bind = BindSimple
	}
	if c.Passwords == "" {
		c.Passwords = PasswordsAuto
	}
	if c.Preset == "" {
		c.Preset = PresetAuto
	}
	if c.TLS == "" {
		c.TLS = tlsStart
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Follow == "" {
		c.Follow = FollowAuto
	}
	defaultTo(&c.PollEvery, 30*time.Second)
	defaultTo(&c.RefreshEvery, time.Hour)
	defaultTo(&c.ConnectTimeout, 5*time.Second)
	defaultTo(&c.Timeout, 10*time.Second)
	if c.pageSize == 0 {
		c.pageSize = defaultPageSize
	}
	if c.manyEntries == 0 {
		c.manyEntries = manyEntries
	}
	defaultTo(&c.ReadConnections, 2)
	defaultTo(&c.BindConnections, 8)
	return c
}

func defaultTo[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Validate reports everything that is wrong with c, in the words of the
// configuration. It asks no server.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Name == "" || strings.ContainsAny(c.Name, ": \t\n") {
		wrong("name: want a word without colon")
	}
	if !slices.Contains(Presets(), c.Preset) {
		wrong("preset: want one of %s, not %q", strings.Join(Presets(), ", "), c.Preset)
	}
	if !slices.Contains([]string{FollowAuto, FollowSyncrepl, FollowDirSync, FollowPoll}, c.Follow) {
		wrong("follow: want %q, %q, %q or %q, not %q", FollowAuto, FollowSyncrepl, FollowDirSync, FollowPoll, c.Follow)
	}
	errs = append(errs, c.validateServers()...)
	if _, err := ldap.ParseDN(c.Base); err != nil || c.Base == "" {
		wrong("base: %q is not a DN", c.Base)
	}
	if _, err := ldap.CompileFilter(c.Filter); err != nil && c.Filter != "" {
		wrong("filter: %q: %v", c.Filter, err)
	}
	switch c.Bind {
	case BindSimple:
		if (c.BindDN == "") != (c.BindPassword == "") {
			wrong("bind_dn and bind_password: want both or neither")
		}
	case BindGSSAPI, BindJoined:
		errs = append(errs, c.validateKerberos()...)
	default:
		wrong("bind: want %q, %q or %q, not %q", BindSimple, BindGSSAPI, BindJoined, c.Bind)
	}
	switch c.Passwords {
	case PasswordsAuto, PasswordsLDAP:
	case PasswordsKerberos:
		if !c.byKerberos() {
			wrong(`passwords: %q needs an account with a keytab: bind = %q or %q`, c.Passwords, BindJoined, BindGSSAPI)
		}
	default:
		wrong("passwords: want %q, %q or %q, not %q", PasswordsAuto, PasswordsLDAP, PasswordsKerberos, c.Passwords)
	}
	if c.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(c.CA)) {
		wrong("ca: holds no PEM certificate")
	}
	if _, err := newMapper(c); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, c.checkTrust()...)
	if err := c.Rights.validate(); err != nil {
		errs = append(errs, err)
	}
	if c.ReadConnections < 0 || c.BindConnections < 0 || c.ConnectTimeout < 0 || c.Timeout < 0 || c.PollEvery < 0 || c.RefreshEvery < 0 {
		wrong("connections and times must not be negative")
	}
	return errors.Join(errs...)
}

// validateServers reports what is wrong with where the servers are.
func (c Config) validateServers() []error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.TLS != tlsStart && c.TLS != tlsNone && c.TLS != tlsImplicit {
		wrong("tls: want %q, %q or, with discover, %q, not %q", tlsStart, tlsNone, tlsImplicit, c.TLS)
	}
	for _, u := range c.URLs {
		if _, err := c.server(u); err != nil {
			errs = append(errs, err)
		}
	}
	if c.Discover == "" {
		if len(c.URLs) == 0 {
			wrong("urls: want at least one server, such as ldaps://ldap.example.com, or discover, the DNS name of a domain")
		}
		if c.TLS == tlsImplicit {
			wrong(`tls: "ldaps" is for discover: write ldaps:// into urls`)
		}
		return errs
	}
	if d, err := envelope.ParseDomain(c.Discover); err != nil || strings.HasPrefix(d, "[") {
		wrong("discover: %q is not the DNS name of a domain", c.Discover)
	}
	if len(c.URLs) > 0 {
		wrong("urls: not with discover, which finds the servers")
	}
	if c.TLS == tlsNone && !c.byKerberos() {
		wrong(`tls: "none" would send passwords over the network in clear to whatever server discover finds`)
	}
	if c.TLS == tlsImplicit && c.byKerberos() {
		wrong(`tls: not "ldaps" with bind = %q, since Kerberos seals the connection itself and Active Directory refuses that inside TLS`, c.Bind)
	}
	return errs
}

// validateKerberos reports what is wrong with a configuration for Kerberos.
func (c Config) validateKerberos() []error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.BindDN != "" || c.BindPassword != "" {
		wrong(`bind_dn and bind_password: not with bind = %q, whose account is another`, c.Bind)
	}
	if c.Bind == BindGSSAPI {
		errs = append(errs, c.validateKeytab()...)
	} else {
		if c.Principal != "" || c.Realm != "" || len(c.Keytab) > 0 {
			wrong(`principal, realm and keytab: not with bind = %q: 'dirpost join' makes them`, c.Bind)
		}
		if p := profileOf(c.Preset); p != nil && !p.ad {
			wrong(`preset: want %q or %q with bind = %q`, PresetAD, PresetADExchange, c.Bind)
		}
		if DNSDomain(c.Base) == "" {
			wrong(`base: want one that ends with the domain, such as DC=corp,DC=example, with bind = %q`, c.Bind)
		}
	}
	if c.TLS == tlsNone && c.Passwords == PasswordsLDAP {
		wrong(`passwords: %q with tls = "none" would send passwords of people in clear: want %q`, c.Passwords, PasswordsKerberos)
	}
	for _, u := range c.URLs {
		s, err := c.server(u)
		if err != nil {
			continue // said already
		}
		if s.network != "tcp" || !s.startTLS && c.TLS != tlsNone {
			wrong(`urls: %q: with bind = %q want ldap://, since Kerberos seals the connection itself and Active Directory refuses that inside TLS`, u, c.Bind)
		} else if _, err := netip.ParseAddr(s.name); c.Bind == BindGSSAPI && (err == nil || s.name == "localhost") {
			wrong(`urls: %q: with bind = %q servers need their full names in the realm; write it here or as server_name`, u, c.Bind)
		}
	}
	for _, k := range c.KDCs {
		if host, _ := splitKDC(k); host == "" {
			wrong("kdc: %q: want HOST or HOST:PORT", k)
		}
	}
	return errs
}

// validateKeytab reports what is wrong with the account of a keytab.
func (c Config) validateKeytab() []error {
	var errs []error
	if c.Principal == "" || strings.ContainsAny(c.Principal, "@ \t\n") {
		errs = append(errs, errors.New("principal: want the name of the account, such as svc-mail or MAIL$, without its realm"))
	}
	if c.Realm == "" || strings.ContainsAny(c.Realm, "@/ \t\n") {
		errs = append(errs, errors.New("realm: want the Kerberos realm, such as CORP.EXAMPLE.COM"))
	}
	if len(c.Keytab) == 0 {
		errs = append(errs, errors.New("keytab: want one, with an AES key of principal"))
	}
	return errs
}

// splitKDC splits HOST or HOST:PORT.
func splitKDC(text string) (host, port string) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = strings.Trim(text, "[]"), "88"
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil || strings.ContainsAny(host, "/ ") {
		return "", ""
	}
	return host, port
}

// kdcs are the addresses of the KDCs.
func (c Config) kdcs() []string {
	var all []string
	for _, k := range c.KDCs {
		all = append(all, net.JoinHostPort(splitKDC(k)))
	}
	for _, u := range c.URLs {
		if s, err := c.server(u); err == nil && s.network == "tcp" && len(c.KDCs) == 0 {
			host, _, _ := net.SplitHostPort(s.address)
			all = append(all, net.JoinHostPort(host, "88"))
		}
	}
	return all
}

// account names the account that reads, for people.
func (c Config) account() string {
	switch {
	case c.Bind == BindGSSAPI:
		return c.Principal + "@" + c.Realm
	case c.Bind == BindJoined:
		return "the account of this system in the domain"
	case c.BindDN == "":
		return "anybody"
	}
	return c.BindDN
}

// server is one server to connect to.
type server struct {
	url        string
	name       string      // of the host, as certificate and Kerberos have it
	network    string      // tcp or unix
	address    string      // "" for one that the DNS has named: see servers.addresses
	port       uint16      // of one that the DNS has named
	tls        *tls.Config // nil: none
	startTLS   bool
	controller Controller             // of one that the DNS has named; guarded by servers.mu
	use        [protections]condition // guarded by servers.mu
	expires    time.Time              // end of the certificate that it has shown last; guarded by servers.mu
}

// server reads one URL.
func (c Config) server(text string) (*server, error) {
	if path, ok := strings.CutPrefix(text, "ldapi://"); ok { // no host that net/url would take
		path, err := url.PathUnescape(strings.TrimSuffix(path, "/"))
		if err != nil || !strings.HasPrefix(path, "/") {
			return nil, fmt.Errorf("urls: %q: want ldapi://%%2Fpath%%2Fof%%2Fsocket", text)
		}
		return &server{url: text, network: "unix", address: path}, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Path != "" && u.Path != "/" || u.User != nil {
		return nil, fmt.Errorf("urls: %q is not the URL of a server", text)
	}
	s := &server{url: text, network: "tcp"}
	port := ""
	switch u.Scheme {
	case "ldap":
		port = "389"
		s.startTLS = c.TLS != tlsNone
	case "ldaps":
		port = "636"
	default:
		return nil, fmt.Errorf("urls: %q: want ldaps://, ldap:// or ldapi://", text)
	}
	if p := u.Port(); p != "" {
		port = p
	}
	if c.Preset == PresetAD && (port == "3268" || port == "3269") {
		return nil, fmt.Errorf("urls: %q is a global catalog, which lacks addresses and members of lists: use port 389 or 636, and a directory section for each domain", text)
	}
	host := u.Hostname()
	s.address = net.JoinHostPort(host, port)
	s.name = host
	if c.ServerName != "" {
		s.name = c.ServerName
	}
	if u.Scheme == "ldap" && !s.startTLS {
		if !isLoopback(host) && !c.byKerberos() { // which seals, and judges passwords by Kerberos then
			return nil, fmt.Errorf(`urls: %q: tls = "none" would send passwords over the network in clear; use ldaps:// or starttls`, text)
		}
		return s, nil
	}
	s.tls = c.tlsConfig(s.name)
	return s, nil
}

// tlsConfig verifies the certificate of a server.
func (c Config) tlsConfig(name string) *tls.Config {
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name}
	if c.CA != "" {
		t.RootCAs = x509.NewCertPool()
		t.RootCAs.AppendCertsFromPEM([]byte(c.CA))
	}
	return t
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
