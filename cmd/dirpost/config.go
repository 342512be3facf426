package main

import (
	"bytes"
	"crypto/tls"
	_ "embed" // example.toml
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"dirpost/auth/apppassword"
	"dirpost/internal/envelope"
	"dirpost/mda"
	"dirpost/mta/intake"
	"dirpost/mta/mtasts"
	"dirpost/mta/policy"

	"github.com/pelletier/go-toml/v2"
)

// exampleTOML is the configuration with every key and what it means. It is the
// reference: `dirpost config example` prints it.
//
//go:embed example.toml
var exampleTOML string

// File is the configuration file. The sections are those of the rooms; each is
// turned into the Config of its package in serve.go.
type File struct {
	Server    ServerSection               `toml:"server"`
	Domains   DomainsSection              `toml:"domains"`
	Database  DatabaseSection             `toml:"database"`
	Directory map[string]DirectorySection `toml:"directory"`
	Policy    []GroupPolicySection        `toml:"policy"`
	Auth      AuthSection                 `toml:"auth"`
	TLS       TLSSection                  `toml:"tls"`
	Listener  []ListenerSection           `toml:"listener"`
	MTA       MTASection                  `toml:"mta"`
	MDA       MDASection                  `toml:"mda"`
	MRA       MRASection                  `toml:"mra"`
	Log       LogSection                  `toml:"log"`
	System    SystemSection               `toml:"system"`

	Web        WebSection        `toml:"web"`
	ACME       ACMESection       `toml:"acme"`
	Autoconfig AutoconfigSection `toml:"autoconfig"`
	Telemetry  TelemetrySection  `toml:"telemetry"`
}

// ServerSection is [server].
type ServerSection struct {
	Name       string   `toml:"name"`
	Roles      []string `toml:"roles"`
	Socket     string   `toml:"socket"`
	SealingKey Secret   `toml:"sealing_key"`
}

// DomainsSection is [domains].
type DomainsSection struct {
	Local      []string          `toml:"local"`
	Postmaster string            `toml:"postmaster"`
	Roles      map[string]string `toml:"roles"`
	Delimiter  string            `toml:"delimiter"`

	Directories map[string][]string `toml:"directories"`

	OtherSystem    string   `toml:"other_system"`
	OtherClients   []string `toml:"other_clients"`
	Unknown        string   `toml:"unknown"`
	VerifyUnknown  bool     `toml:"verify_unknown"`
	KeepFormer     Duration `toml:"keep_former"`
	ExpiredReceive Duration `toml:"expired_receive"`
	GoneReceive    Duration `toml:"gone_receive"`
}

// DatabaseSection is [database].
type DatabaseSection struct {
	URL         string `toml:"url"`
	OwnerURL    string `toml:"owner_url"`
	ServeRole   string `toml:"serve_role"`
	ReadRole    string `toml:"read_role"`
	Interactive int    `toml:"interactive"`
	Delivery    int    `toml:"delivery"`
	Background  int    `toml:"background"`
}

// DirectorySection is [directory.NAME].
type DirectorySection struct {
	Preset       string              `toml:"preset"`
	URLs         []string            `toml:"urls"`
	Discover     string              `toml:"discover"`
	TLS          string              `toml:"tls"`
	CA           string              `toml:"ca"`
	heldCA       string              // what stands in the file CA, while it is not written yet
	ServerName   string              `toml:"server_name"`
	Base         string              `toml:"base"`
	Filter       string              `toml:"filter"`
	Bind         string              `toml:"bind"`
	BindDN       string              `toml:"bind_dn"`
	BindPassword Secret              `toml:"bind_password"`
	Principal    string              `toml:"principal"`
	Realm        string              `toml:"realm"`
	Keytab       Secret              `toml:"keytab"`
	KDC          []string            `toml:"kdc"`
	Passwords    string              `toml:"passwords"`
	PwPolicy     string              `toml:"password_policy"`
	RotateEvery  Duration            `toml:"rotate_every"`
	Domain       string              `toml:"domain"`
	AliasLogins  bool                `toml:"alias_logins"`
	Follow       string              `toml:"follow"`
	PollEvery    Duration            `toml:"poll_every"`
	Timeout      Duration            `toml:"timeout"`
	Mapping      map[string][]string `toml:"mapping"`
	Trusted      []string            `toml:"trusted"`
	Facts        []string            `toml:"facts"`
	AccessGroup  string              `toml:"access_group"`
	SendAsGroup  string              `toml:"send_as_group"`
	BehalfGroup  string              `toml:"on_behalf_group"`
	BrakeShare   *float64            `toml:"brake_share"`
	BrakeLeast   *int                `toml:"brake_least"`
	Mailboxes    MailboxesSection    `toml:"mailboxes"`
}

// MailboxesSection is [directory.NAME.mailboxes].
type MailboxesSection struct {
	Filter string   `toml:"filter"`
	Under  []string `toml:"under"`
	Groups []string `toml:"groups"`
}

// GroupPolicySection is one of [[policy]].
type GroupPolicySection struct {
	Group        string   `toml:"group"`
	Quota        Limit    `toml:"quota"`
	QuotaSend    Limit    `toml:"quota_send"`
	QuotaWarn    Limit    `toml:"quota_warn"`
	MaxReceive   Limit    `toml:"max_receive"`
	MaxSend      Limit    `toml:"max_send"`
	Services     []string `toml:"services"`
	Deny         []string `toml:"deny"`
	Login        *bool    `toml:"login"`
	Hidden       bool     `toml:"hidden"`
	Delivery     string   `toml:"delivery"`
	Open         []string `toml:"open"`
	SendAs       []string `toml:"send_as"`
	SendOnBehalf []string `toml:"send_on_behalf"`
}

// AuthSection is [auth].
type AuthSection struct {
	Socket          AuthSocketSection      `toml:"socket"`
	PasswordWarning PasswordWarningSection `toml:"password_warning"`
	Page            PageSection            `toml:"page"`

	PlaintextLoopback bool     `toml:"plaintext_loopback"`
	Remember          Duration `toml:"remember"`
	FailureTime       Duration `toml:"failure_time"`
	Inside            []string `toml:"inside"`

	OutsidePasswordGroups []string `toml:"outside_password_groups"`
	Masters               []string `toml:"masters"`

	Kerberos     KerberosSection           `toml:"kerberos"`
	Permits      PermitsSection            `toml:"permits"`
	AppPasswords AppPasswordsSection       `toml:"app_passwords"`
	OAuth        []OAuthSection            `toml:"oauth"`
	Certificates ClientCertificatesSection `toml:"certificates"`
}

// TLSSection is [tls].
type TLSSection struct {
	Certificate []CertificateSection `toml:"certificate"`
}

// CertificateSection is one of [[tls.certificate]].
type CertificateSection struct {
	Chain string `toml:"chain"`
	Key   string `toml:"key"`
}

// ListenerSection is one of [[listener]].
type ListenerSection struct {
	Address  string   `toml:"address"`
	Protocol string   `toml:"protocol"`
	TLS      string   `toml:"tls"`
	Proxies  []string `toml:"proxies"`
	Clients  []string `toml:"clients"`
}

// MTASection is [mta].
type MTASection struct {
	MaxSize           Size              `toml:"max_size"`
	MaxRecipients     int               `toml:"max_recipients"`
	MaxPerClient      int               `toml:"max_per_client"`
	InTransaction     int               `toml:"in_transaction"`
	Resolvers         []string          `toml:"resolvers"`
	OutsideResolvers  []string          `toml:"outside_resolvers"`
	STS               string            `toml:"sts"`
	Smarthost         string            `toml:"smarthost"`
	SmarthostTLS      string            `toml:"smarthost_tls"`
	SmarthostUser     string            `toml:"smarthost_user"`
	SmarthostPassword Secret            `toml:"smarthost_password"`
	DelayWarning      Duration          `toml:"delay_warning"`
	ModerationTime    Duration          `toml:"moderation_time"`
	Sink              string            `toml:"sink"`
	Lifetime          Duration          `toml:"lifetime"`
	Policy            PolicySection     `toml:"policy"`
	Submission        SubmissionSection `toml:"submission"`
}

// SubmissionSection is [mta.submission].
type SubmissionSection struct {
	MaxMessages   int      `toml:"max_messages"`
	MaxRecipients int      `toml:"max_recipients"`
	Window        Duration `toml:"window"`
	Exempt        []string `toml:"exempt"`
	Departed      string   `toml:"departed"`
}

// PolicySection is [mta.policy].
type PolicySection struct {
	Exempt         []string    `toml:"exempt"`
	MaxConnections int         `toml:"max_connections"`
	MaxConnects    int         `toml:"max_connects"`
	MaxMessages    int         `toml:"max_messages"`
	MaxRecipients  int         `toml:"max_recipients"`
	Window         Duration    `toml:"window"`
	HeloOwnName    policy.Mode `toml:"helo_own_name"`
	HeloSyntax     policy.Mode `toml:"helo_syntax"`
	SenderSyntax   policy.Mode `toml:"sender_syntax"`
	NullRecipients int         `toml:"null_recipients"`
	MaxHops        int         `toml:"max_hops"`
}

// MDASection is [mda].
type MDASection struct {
	Subaddress   string   `toml:"subaddress"`
	QuotaWarning int      `toml:"quota_warning"`
	Undelete     Duration `toml:"undelete"`
	ChangeLog    Duration `toml:"change_log"`
	Closed       Duration `toml:"closed"`
}

// MRASection is [mra].
type MRASection struct {
	MaxConnections int      `toml:"max_connections"`
	MaxPerClient   int      `toml:"max_per_client"`
	MaxPerPerson   int      `toml:"max_per_person"`
	ShutdownGrace  Duration `toml:"shutdown_grace"`
}

// LogSection is [log].
type LogSection struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

// The roles of a node.
const (
	roleMX        = "mx"
	roleMSA       = "msa"
	roleIMAP      = "imap"
	rolePOP       = "pop"
	roleHTTP      = "http"
	roleQueue     = "queue"
	roleDirectory = "directory"
)

var allRoles = []string{roleMX, roleMSA, roleIMAP, rolePOP, roleHTTP, roleQueue, roleDirectory}

// protocols maps the protocol of a listener to the role that opens it.
var protocols = map[string]string{
	"smtp": roleMX, "submission": roleMSA, "imap": roleIMAP, "pop3": rolePOP, "http": roleHTTP, "lmtp": roleMX,
	"status": "", // whatever its roles are
}

// readConfig reads and checks the configuration file.
func readConfig(path string) (*File, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no configuration file %s: 'dirpost config example > %s' makes one to edit, --config names another", path, path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	f, err := parseConfig(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// parseConfig decodes and checks the text of a configuration.
func parseConfig(b []byte) (*File, error) {
	f, err := decodeConfig(b)
	if err != nil {
		return nil, err
	}
	if err := f.validate(); err != nil {
		return nil, err
	}
	return f, nil
}

// decodeConfig decodes the text of a configuration that may not be complete yet. A key
// that does not exist is an error: a misspelt limit is no limit.
func decodeConfig(b []byte) (*File, error) {
	f := defaults()
	dec := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields()
	err := dec.Decode(f)
	var missing *toml.StrictMissingError
	var syntax *toml.DecodeError
	switch {
	case errors.As(err, &missing):
		var keys []string
		for _, e := range missing.Errors {
			line, _ := e.Position()
			keys = append(keys, fmt.Sprintf("line %d: there is no key %q", line, strings.Join(e.Key(), ".")))
		}
		return nil, fmt.Errorf("%s ('dirpost config example' shows all keys)", strings.Join(keys, "; "))
	case errors.As(err, &syntax):
		line, _ := syntax.Position()
		if key := strings.Join(syntax.Key(), "."); key != "" {
			return nil, fmt.Errorf("line %d: %s: %s", line, key, strings.TrimPrefix(syntax.Error(), "toml: "))
		}
		return nil, fmt.Errorf("line %d: %s", line, strings.TrimPrefix(syntax.Error(), "toml: "))
	case err != nil:
		return nil, err
	}
	return f, nil
}

// defaults is the configuration of an empty file.
func defaults() *File {
	p, person := policy.DefaultConfig(), policy.DefaultPersonConfig()
	return &File{
		Domains: DomainsSection{
			Delimiter: "+", VerifyUnknown: true, KeepFormer: Duration(90 * 24 * time.Hour), ExpiredReceive: Duration(30 * 24 * time.Hour), GoneReceive: Duration(30 * 24 * time.Hour),
		},
		Server:   ServerSection{Socket: "/run/dirpost/dirpost.sock"},
		Auth:     AuthSection{Remember: Duration(5 * time.Minute), FailureTime: Duration(2 * time.Second), Permits: defaultPermits(), AppPasswords: AppPasswordsSection{Max: apppassword.DefaultMax}, Page: defaultPage()},
		Database: DatabaseSection{ServeRole: "dirpost_serve", ReadRole: "dirpost_read"},
		MTA: MTASection{MaxSize: 75 << 20, MaxRecipients: 1000, MaxPerClient: 500, InTransaction: 50, SmarthostTLS: "verify", Lifetime: Duration(5 * 24 * time.Hour), ModerationTime: Duration(intake.DefaultConfig("").ModerationTime), Policy: PolicySection{
			Exempt: networks(p.Exempt), MaxConnections: p.MaxConnections, MaxConnects: p.MaxConnects, MaxMessages: p.MaxMessages, MaxRecipients: p.MaxRecipients,
			Window: Duration(p.Window), HeloOwnName: p.HeloOwnName, HeloSyntax: p.HeloSyntax, SenderSyntax: p.SenderSyntax,
			NullRecipients: p.NullRecipients, MaxHops: p.MaxHops,
		}, Submission: SubmissionSection{MaxMessages: person.MaxMessages, MaxRecipients: person.MaxRecipients, Window: Duration(person.Window)}},
		MDA: MDASection{
			Subaddress: mda.DefaultConfig().Subaddress, QuotaWarning: 90,
			Undelete: Duration(14 * 24 * time.Hour), ChangeLog: Duration(30 * 24 * time.Hour), Closed: Duration(30 * 24 * time.Hour),
		},
		Log: LogSection{Level: "info", Format: "text"}, Telemetry: TelemetrySection{Sample: 1},
	}
}

// validate checks what can be checked without looking at anything but f, and
// reports all that is wrong.
func (f *File) validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf(key+": "+format, args...))
	}
	if d, err := envelope.ParseDomain(f.Server.Name); err != nil || strings.HasPrefix(d, "[") || !strings.Contains(d, ".") {
		bad("server.name", "%q is no host name with a domain: write the name that the MX record points to", f.Server.Name)
	}
	if _, err := f.roles(nil); err != nil {
		bad("server.roles", "%v", err)
	}
	if len(f.Domains.Local) == 0 {
		bad("domains.local", "there must be a domain that mail is accepted for")
	}
	for _, d := range f.Domains.Local {
		if _, err := envelope.ParseDomain(d); err != nil {
			bad("domains.local", "%q is no domain", d)
		}
	}
	if sts := f.MTA.STS; sts != "" && sts != "off" && sts != mtasts.Testing && sts != mtasts.Enforce && sts != mtasts.None {
		bad("mta.sts", "%q is none of off, testing, enforce, none", sts)
	}
	for key, a := range map[string]string{"domains.postmaster": f.Domains.Postmaster, "mta.sink": f.MTA.Sink} {
		if _, err := envelope.ParseAddress(a); a != "" && err != nil {
			bad(key, "%q is no address", a)
		}
	}
	if err := f.Telemetry.validate(); err != nil {
		errs = append(errs, err)
	}
	if f.Domains.Postmaster == "" {
		bad("domains.postmaster", "postmaster@ of each domain must go somewhere (RFC 5321 §4.5.1)")
	}
	for _, n := range f.Domains.OtherClients {
		if _, err := parseNetwork(n); err != nil {
			bad("domains.other_clients", "%q is no address or network such as 192.0.2.25", n)
		}
	}
	switch f.Domains.Unknown {
	case "", "refuse":
	case "other":
		if f.Domains.OtherSystem == "" {
			bad("domains.unknown", "other: name the system in other_system")
		}
	default:
		bad("domains.unknown", "%q is none of refuse, other", f.Domains.Unknown)
	}
	if f.MDA.QuotaWarning < 0 || f.MDA.QuotaWarning > 100 {
		bad("mda.quota_warning", "%d is no percentage", f.MDA.QuotaWarning)
	}
	if f.Database.URL == "" {
		bad("database.url", "missing: write as postgres:///dirpost?host=/run/postgresql&user=dirpost_serve")
	}
	for _, n := range f.MTA.Policy.Exempt {
		if _, err := netip.ParsePrefix(n); err != nil {
			bad("mta.policy.exempt", "%q is no network such as 192.0.2.0/24", n)
		}
	}
	if _, err := f.MTA.Submission.config(); err != nil {
		bad("mta.submission", "%v", err)
	}
	if _, ok := tlsLevels[f.MTA.SmarthostTLS]; !ok {
		bad("mta.smarthost_tls", "%q is none of verify, encrypt, opportunistic, none", f.MTA.SmarthostTLS)
	}
	if (f.MTA.SmarthostUser == "") != (f.MTA.SmarthostPassword.String() == "") {
		bad("mta.smarthost_user", "smarthost_user and smarthost_password belong together")
	}
	if _, err := f.rules(); err != nil && f.Domains.Postmaster != "" {
		errs = append(errs, err)
	}
	if err := f.retention().Validate(); err != nil {
		bad("mda", "%v", err)
	}
	if err := f.Auth.Page.validate(); err != nil {
		bad("auth.page", "%v", err)
	}
	if err := (mda.Config{Subaddress: f.MDA.Subaddress}).Validate(); err != nil {
		bad("mda", "%v", err)
	}
	if _, err := f.Auth.Socket.config(); err != nil {
		bad("auth.socket", "%v", err)
	}
	if err := f.Auth.PasswordWarning.config().Validate(); err != nil {
		bad("auth.password_warning", "%v", err)
	}
	if _, err := f.Auth.config(); err != nil {
		bad("auth", "%v", err)
	}
	if err := f.validateKerberos(); err != nil {
		errs = append(errs, err)
	}
	if _, err := f.Auth.permits(); err != nil {
		bad("auth", "%v", err)
	}
	if err := f.Auth.AppPasswords.config().Validate(); err != nil {
		bad("auth.app_passwords", "%v", err)
	}
	errs = append(errs, f.validateDirectories()...)
	errs = append(errs, f.validateIssuers()...)
	errs = append(errs, f.Autoconfig.validate(len(f.Auth.OAuth))...)
	errs = append(errs, f.validateClientCertificates()...)
	if err := f.validateCertificateHost(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, f.validateListeners()...)
	errs = append(errs, f.validateACME()...)
	if _, err := f.Web.metricsClients(); err != nil {
		bad("web.metrics_clients", "%v", err)
	}
	if err := f.System.validate(); err != nil {
		errs = append(errs, err)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, f.Log.Level) {
		bad("log.level", "%q is none of debug, info, warn, error", f.Log.Level)
	}
	if f.Log.Format != "text" && f.Log.Format != "json" {
		bad("log.format", "%q is neither text nor json", f.Log.Format)
	}
	return errors.Join(errs...)
}

// validateDirectories checks that there is a directory. What its section says is
// checked by the package that uses it.
func (f *File) validateDirectories() []error {
	var errs []error
	if len(f.Directory) == 0 {
		errs = append(errs, errors.New("directory: there must be one, as in [directory.corp]"))
	}
	for name, d := range f.Directory {
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			errs = append(errs, fmt.Errorf("directory.%s: the name may have letters a-z, digits and hyphens only; it is part of every mailbox's key", name))
		}
		if err := d.config(name).Validate(); err != nil {
			errs = append(errs, fmt.Errorf("directory.%s: %w", name, err))
		}
		if rule, ok := d.Mailboxes.rule(name); ok {
			if _, err := rule.Facts(); err != nil {
				errs = append(errs, fmt.Errorf("directory.%s.mailboxes: %w", name, err))
			}
		}
	}
	return errs
}

func (f *File) validateListeners() []error {
	var errs []error
	needTLS := false
	for i, l := range f.Listener {
		bad := func(key, format string, args ...any) {
			errs = append(errs, fmt.Errorf("listener %d (%s): %s: %s", i+1, l.Address, key, fmt.Sprintf(format, args...)))
		}
		if _, _, ok := strings.Cut(l.Address, ":"); !ok {
			bad("address", "write as HOST:PORT, [::]:25 for all addresses")
		}
		if slices.ContainsFunc(f.Listener[:i], func(o ListenerSection) bool { return o.Address == l.Address }) {
			bad("address", "there is a listener on it already")
		}
		if _, ok := protocols[l.Protocol]; !ok {
			bad("protocol", "%q is none of smtp, submission, imap, pop3, http, lmtp, status", l.Protocol)
		}
		switch l.TLS {
		case "", "starttls", "implicit", "off":
		default:
			bad("tls", "%q is none of starttls, implicit, off", l.TLS)
		}
		if l.Protocol == "http" && l.TLS == "starttls" {
			bad("tls", "there is no STARTTLS in HTTP: implicit or off")
		}
		if l.Protocol == "status" && (l.TLS != "" && l.TLS != "off" || len(l.Proxies) > 0) {
			bad("protocol", "status has neither TLS nor proxies: it is for those who watch the node, not for the world")
		}
		needTLS = needTLS || l.TLS == "implicit" || l.TLS == "starttls"
		for _, p := range l.Proxies {
			if _, err := netip.ParsePrefix(p); err != nil {
				bad("proxies", "%q is no network such as 192.0.2.0/24", p)
			}
		}
		for _, p := range l.Clients {
			if _, err := netip.ParsePrefix(p); err != nil {
				bad("clients", "%q is no network such as 192.0.2.0/24", p)
			}
		}
		if l.Protocol == "lmtp" && (l.TLS != "" && l.TLS != "off" || len(l.Proxies) > 0) {
			bad("protocol", "lmtp has neither TLS nor proxies: it is for a host or a network of your own")
		}
		if l.Protocol != "lmtp" && len(l.Clients) > 0 {
			bad("clients", "only lmtp has them")
		}
	}
	for i, c := range f.TLS.Certificate {
		if c.Chain == "" || c.Key == "" {
			errs = append(errs, fmt.Errorf("tls.certificate %d: needs both chain and key, PEM files", i+1))
		}
	}
	if needTLS && len(f.TLS.Certificate) == 0 && !f.usesACME() {
		errs = append(errs, errors.New("tls.certificate: a listener uses TLS, and there is no certificate, nor [acme] to get one"))
	}
	return errs
}

// roles returns the roles of this node: those of the command line, else those of
// the file, else all.
func (f *File) roles(flag []string) ([]string, error) {
	roles := flag
	if len(roles) == 0 {
		roles = f.Server.Roles
	}
	if len(roles) == 0 {
		return allRoles, nil
	}
	for _, r := range roles {
		if !slices.Contains(allRoles, r) {
			return nil, fmt.Errorf("%q is no role; the roles are %s", r, strings.Join(allRoles, ", "))
		}
	}
	return roles, nil
}

// checkFiles checks what the configuration refers to: secrets and certificates.
func (f *File) checkFiles() error {
	var errs []error
	if f.Telemetry.Endpoint != "" {
		if _, err := f.Telemetry.read(); err != nil {
			errs = append(errs, err)
		}
	}
	for _, s := range f.secrets() {
		if _, err := s.Resolve(); err != nil {
			errs = append(errs, err)
		}
	}
	for name, d := range f.Directory {
		if err := d.checkKeytab(); err != nil {
			errs = append(errs, fmt.Errorf("directory.%s.keytab: %w", name, err))
		}
	}
	if err := f.Auth.Kerberos.checkTicketKeytab(); err != nil {
		errs = append(errs, fmt.Errorf("auth.kerberos.keytab: %w", err))
	}
	for _, c := range f.TLS.Certificate {
		if _, err := tls.LoadX509KeyPair(c.Chain, c.Key); err != nil {
			errs = append(errs, fmt.Errorf("tls.certificate %s: %w", c.Chain, err))
		}
	}
	return errors.Join(errs...)
}

// networks are prefixes as the file writes them.
func networks(all []netip.Prefix) []string {
	s := make([]string, len(all))
	for i, p := range all {
		s[i] = p.String()
	}
	return s
}

// parseNetwork reads a network, or an address as the network of itself.
func parseNetwork(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Prefix(a.BitLen())
	}
	return netip.ParsePrefix(text)
}
