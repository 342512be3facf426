package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"dirpost/auth"
	"dirpost/auth/apppassword"
	"dirpost/auth/country"
	"dirpost/auth/factor"
	"dirpost/auth/history"
	"dirpost/auth/notice"
	"dirpost/auth/roster"
	"dirpost/auth/selfservice"
	"dirpost/directory"
	"dirpost/internal/bus"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/tlsconf"
	"dirpost/internal/web"
	"dirpost/mta/intake"
)

// PageSection is [auth.page].
type PageSection struct {
	Enabled         bool     `toml:"enabled"`
	ChangePassword  bool     `toml:"change_password"`
	SecondFactor    string   `toml:"second_factor"`
	Notices         bool     `toml:"notices"`
	Countries       string   `toml:"countries"`
	Idle            Duration `toml:"idle"`
	Lifetime        Duration `toml:"lifetime"`
	CertificateHost string   `toml:"certificate_host"`
}

// pageParts are the parts of a node that people's logins are looked after with.
type pageParts struct {
	changers  map[string]selfservice.PasswordChanger // by directory
	history   *history.Recorder                      // of logins
	notices   *notice.Box                            // nil: nobody is told anything
	countries *country.Database                      // nil: they are not told
	page      *selfservice.Site                      // nil: none here
	roster    *roster.Roster                         // of the sessions of all nodes

	appPasswords *apppassword.Store // nil: there are none
}

// defaultPage is the section of an empty file.
func defaultPage() PageSection {
	return PageSection{Enabled: true, ChangePassword: true, SecondFactor: factorOptional, Notices: true, Idle: Duration(15 * time.Minute), Lifetime: Duration(8 * time.Hour)}
}

// When a second factor is needed to make an app password.
const (
	factorOptional = "optional"
	factorRequired = "required"
)

// config is what the site is told.
func (p PageSection) config() selfservice.Config {
	return selfservice.Config{Idle: time.Duration(p.Idle), Lifetime: time.Duration(p.Lifetime), RequireFactor: p.SecondFactor == factorRequired}
}

// validate reports what is wrong with the section.
func (p PageSection) validate() error {
	if p.SecondFactor != factorOptional && p.SecondFactor != factorRequired {
		return fmt.Errorf("second_factor: want %q or %q, not %q", factorOptional, factorRequired, p.SecondFactor)
	}
	if p.Countries != "" && !filepath.IsAbs(p.Countries) {
		return fmt.Errorf("countries: %q is no absolute path", p.Countries)
	}
	return p.config().Validate()
}

// origin is the address of the HTTPS listener as browsers have it, "" where there is
// none.
func (f *File) origin() string { return f.originOf(f.Server.Name) }

// originOf is origin under another name.
func (f *File) originOf(name string) string {
	for _, l := range f.Listener {
		if l.Protocol != "http" || l.TLS != "implicit" {
			continue
		}
		if _, port, err := net.SplitHostPort(l.Address); err == nil && port != "443" {
			return "https://" + net.JoinHostPort(name, port)
		}
		return "https://" + name
	}
	return ""
}

// factors are the second factors of people. Without server.sealing_key there are none
// by app.
func (f *File) factors(db *postgres.DB) (*factor.Store, error) {
	if f.Server.SealingKey.String() == "" {
		return factor.New(db, nil), nil
	}
	sealer, err := f.sealer()
	if err != nil {
		return nil, err
	}
	return factor.New(db, sealer), nil
}

// buildPage builds the page on which people look after their login.
func (n *node) buildPage(context.Context) error {
	p := n.file.Auth.Page
	if !n.has(roleHTTP) || !p.Enabled || n.file.origin() == "" {
		return nil
	}
	factors, err := n.file.factors(n.db)
	if err == nil {
		err = factors.UseKeys(factor.Site{Host: n.file.Server.Name, Origins: []string{n.file.origin()}, Name: n.file.Server.Name})
	}
	if err != nil {
		return fmt.Errorf("auth.page: %w", err)
	}
	deps := selfservice.Deps{
		DB: n.db, Bridge: n.auth, Live: n.live, Factors: factors, Events: n.events, Log: n.log,
		AppPasswords: n.appPasswords, History: n.history, Notices: n.notices, Sessions: n.roster,
		LogOut: func(person directory.Key) { n.bus.Publish(bus.TopicKill, string(person)) },
	}
	if p.ChangePassword {
		deps.Passwords = n.changers
	}
	c := p.config()
	c.Name = n.file.Server.Name
	if host := p.CertificateHost; host != "" {
		c.CertificateHost, c.CertificateURL = host, n.file.originOf(host)+selfservice.Root+"login"
	}
	if n.page, err = selfservice.New(c, deps); err != nil {
		return fmt.Errorf("auth.page: %w", err)
	}
	n.back = append(n.back, part{"sessions of the page", n.page.Run})
	return nil
}

// mountPage puts the page under its path, and leads there who names none.
func (n *node) mountPage(s *web.Server) {
	if n.page == nil {
		return
	}
	s.Handle(selfservice.Root, n.page)
	s.Handle("GET /{$}", http.RedirectHandler(selfservice.Root, http.StatusFound))
}

// followLogins builds what people are told about their login, and the memory of their
// logins, which knows what is worth telling.
func (n *node) followLogins(c auth.Config) {
	n.history = history.NewRecorder(n.db, n.log)
	n.history.Inside = c.Inside
	n.back = append(n.back, part{"history of logins", n.history.Run})
	if !n.file.Auth.Page.Notices {
		return
	}
	if path := n.file.Auth.Page.Countries; path != "" {
		var err error
		if n.countries, err = country.Open(path); err != nil { // logins go on without
			n.log.Warn("people are not told from which country somebody has logged in", "err", err)
			n.countries = nil
		}
	}
	n.notices = notice.New(n.db, n.log)
	n.history.New = func(ctx context.Context, person directory.Key, client netip.Addr, protocol string) {
		line := fmt.Sprintf("from %s%s, by %s", client, n.where(ctx, person, client), protocol)
		if err := n.notices.Add(ctx, person, notice.Network, line); err != nil {
			n.log.WarnContext(ctx, "a person is not told of a login from a new network", "user", string(person), "err", err)
		}
	}
}

// buildNotices makes mails of notices, on nodes that work on the queue.
func (n *node) buildNotices(context.Context) error {
	if !n.has(roleQueue) || !n.file.Auth.Page.Notices {
		return nil
	}
	postmaster, err := envelope.ParseAddress(n.file.Domains.Postmaster)
	if err != nil {
		return fmt.Errorf("domains.postmaster: %w", err)
	}
	c := notice.Config{Host: n.file.Server.Name, Postmaster: postmaster}
	if origin := n.file.origin(); origin != "" && n.file.Auth.Page.Enabled {
		c.Page = origin + selfservice.Root
	}
	box := notice.New(n.db, n.log)
	n.back = append(n.back, part{"notices to people", func(ctx context.Context) error {
		return box.Run(ctx, c, n.live, noticeDoor{n.door})
	}})
	return nil
}

// noticeDoor lets notices in as mail of ours.
type noticeDoor struct{ door *intake.Door }

// Send implements notice.Sender.
func (d noticeDoor) Send(ctx context.Context, to envelope.Address, m *notice.Message, done func(context.Context, postgres.Tx) error) error {
	env := &envelope.Envelope{
		Recipients: []envelope.Recipient{{Address: to, Original: to.String(), Notify: envelope.NotifyNever}},
		SMTPUTF8:   !to.IsASCII(),
	}
	return d.door.Originate(ctx, env, m, done)
}

// webTLS is the configuration of the HTTPS listener. Browsers are asked for a certificate
// under the name that is there for it, and nobody else is bothered.
func (n *node) webTLS() *tls.Config {
	host := n.file.Auth.Page.CertificateHost
	if n.page == nil || n.clients == nil || host == "" {
		return n.tls.Config()
	}
	return tlsconf.ByName(host, n.tls.Asking(n.clients.Authorities), n.tls.Config())
}

// validateCertificateHost reports what is wrong with auth.page.certificate_host.
func (f *File) validateCertificateHost() error {
	host := f.Auth.Page.CertificateHost
	_, on := f.clientCertificates()
	switch {
	case host == "":
		return nil
	case strings.ContainsAny(host, ":/ ") || !strings.Contains(host, "."):
		return fmt.Errorf("auth.page: certificate_host: %q is no name of a host", host)
	case strings.EqualFold(host, f.Server.Name):
		return errors.New("auth.page: certificate_host: want another name than server.name, so that nobody else is asked for a certificate")
	case !on:
		return errors.New("auth.page: certificate_host: there are no client certificates: see [auth.certificates]")
	}
	return nil
}

// certificateHost looks whether there is a certificate for the name of the page that is
// entered by one.
func (d *doctor) certificateHost() {
	host := d.file.Auth.Page.CertificateHost
	if host == "" || d.file.usesACME() {
		return
	}
	for _, c := range d.file.TLS.Certificate {
		pair, err := tls.LoadX509KeyPair(c.Chain, c.Key)
		if err == nil && pair.Leaf != nil && pair.Leaf.VerifyHostname(host) == nil {
			return
		}
	}
	d.bad("page by certificate", "put the name into a certificate of [[tls.certificate]]", fmt.Errorf("no certificate is for %s", host))
}

// where says in which country a client is, and whether the person was never there, as
// far as can be told.
func (n *node) where(ctx context.Context, person directory.Key, client netip.Addr) string {
	if n.countries == nil {
		return ""
	}
	code, name := n.countries.Of(client)
	if code == "" {
		return ""
	}
	networks, err := n.history.Elsewhere(ctx, person, client)
	if err != nil {
		n.log.WarnContext(ctx, "whether a country is new for a person is not known", "user", string(person), "err", err)
		return " in " + name
	}
	known := false
	for _, p := range networks {
		other, _ := n.countries.Of(p.Addr())
		if other == code {
			return " in " + name
		}
		known = known || other != ""
	}
	if !known {
		return " in " + name
	}
	return " in " + name + ", a country from which you have not logged in before"
}

// countries looks at the file that knows the countries of addresses.
func (d *doctor) countries() {
	path := d.file.Auth.Page.Countries
	if path == "" {
		return
	}
	c, err := country.Open(path)
	if err != nil {
		d.bad("countries", "see countries in [auth.page]; until then people are told of networks only", err)
		return
	}
	const old = 180 * 24 * time.Hour
	if age := time.Since(c.Built()); age > old {
		d.warn("countries", "have it updated, by geoipupdate for example", "%s is %s old: addresses have moved since", path, span(age))
		return
	}
	d.ok("countries", "%s, of %s", path, c.Built().UTC().Format(time.DateOnly))
}
