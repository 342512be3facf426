package main

import (
	"context"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"dirpost/directory/ldap"
)

// askDirectory asks who the people are, with what the DNS knows of domains as the
// default.
func (s *setup) askDirectory(ctx context.Context) (err error) {
	d := &s.a.Directory
	if d.Kind == ldap.BindGSSAPI && s.flags.Directory.Kind == "" {
		return nil // a keytab, which somebody has set up with care
	}
	found := s.findDomain(ctx)
	if found != nil {
		s.ok("found in the DNS: %s", describeDomain(found))
	}
	if s.flags.Directory.Kind == "" {
		def := d.Kind
		if def == "" {
			def = directoryAccount
			if found != nil && found.IsAD {
				def = directoryJoin
			}
		}
		if d.Kind, err = s.ask.choice(ctx, "Join a domain of Active Directory, or read with an account", []string{directoryJoin, directoryAccount}, def); err != nil {
			return err
		}
	}
	if found != nil && d.Domain == "" && len(d.URLs) == 0 && (d.Kind == directoryAccount || found.IsAD) {
		d.Domain = found.Name
	}
	if d.Kind == directoryJoin {
		return s.askJoin(ctx)
	}
	return s.askAccount(ctx)
}

// findDomain asks the DNS for a directory of the domains that this host and its mail
// are in, nil if it knows none.
func (s *setup) findDomain(ctx context.Context) *ldap.Domain {
	if s.present != nil || s.a.Directory.Domain != "" || len(s.a.Directory.URLs) > 0 {
		return nil
	}
	_, parent, _ := strings.Cut(s.a.Host, ".")
	var tried []string
	for _, name := range slices.Concat(hostDomain(), []string{parent}, s.a.Domains, searchDomains()) {
		if !strings.Contains(name, ".") || slices.Contains(tried, name) {
			continue
		}
		tried = append(tried, name)
		limit, cancel := context.WithTimeout(ctx, 5*time.Second)
		found, err := ldap.Discover(limit, s.dns, name)
		cancel()
		if err == nil {
			return found
		}
	}
	return nil
}

// searchDomains are those that this host completes names with.
func searchDomains() []string {
	b, err := os.ReadFile(resolvConf)
	if err != nil {
		return nil
	}
	var all []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && (f[0] == "search" || f[0] == "domain") {
			all = append(all, f[1:]...)
		}
	}
	return all[:min(len(all), 3)]
}

// askJoin asks for the domain, and for its administrator where the system is no member
// yet.
func (s *setup) askJoin(ctx context.Context) (err error) {
	d := &s.a.Directory
	d.BindDN, d.BindPassword, s.bindPassword = "", "", ""
	if s.flags.Directory.Domain == "" && len(d.URLs) == 0 {
		def := d.Domain
		if def == "" {
			def = s.a.Domains[0]
		}
		if d.Domain, err = s.ask.line(ctx, "Domain to join", def); err != nil {
			return err
		}
		d.Base = "" // follows from it
	}
	if s.wantsCA && s.flags.Directory.CA == "" {
		if err := s.askCA(ctx); err != nil {
			return err
		}
	}
	if err := s.build(); err != nil {
		return err
	}
	if joined, err := s.isJoined(ctx); joined || err != nil {
		return nil // what is wrong is said when it is tried
	}
	if s.flags.Directory.Admin == "" {
		def := d.Admin
		if def == "" {
			def = "Administrator"
		}
		if d.Admin, err = s.ask.line(ctx, "Who may make a computer account there", def); err != nil {
			return err
		}
	}
	if d.AdminPassword == "" {
		if s.admin.Password, err = s.ask.secret(ctx, "Password of "+d.Admin); err != nil {
			return err
		}
	}
	if s.prospect != nil && s.prospect.Exists() && !d.Reuse {
		d.Reuse, err = s.ask.yes(ctx, "Take over the computer account "+s.prospect.Principal, false)
	}
	return err
}

// askCA asks for the authority of the servers.
func (s *setup) askCA(ctx context.Context) (err error) {
	d := &s.a.Directory
	def := d.CA
	if def == "" {
		def = "system"
	}
	if d.CA, err = s.ask.line(ctx, "File with the authority of their certificates (PEM), or system", def); d.CA == "system" {
		d.CA = ""
	}
	return err
}

// askAccount asks for the servers and who reads there.
func (s *setup) askAccount(ctx context.Context) (err error) {
	d := &s.a.Directory
	if len(s.flags.Directory.URLs) == 0 && s.flags.Directory.Domain == "" {
		def := d.URLs
		if len(def) == 0 && d.Domain != "" {
			def = []string{d.Domain}
		}
		where, err := s.ask.list(ctx, "Servers (ldaps://…), or the domain that the DNS knows them by", def)
		if err != nil {
			return err
		}
		d.URLs, d.Domain = nil, ""
		if len(where) == 1 && !strings.Contains(where[0], "://") {
			d.Domain = where[0]
		} else {
			d.URLs = where
		}
	}
	if s.flags.Directory.CA == "" {
		if err := s.askCA(ctx); err != nil {
			return err
		}
	}
	if s.flags.Directory.BindDN == "" {
		if d.BindDN, err = s.ask.line(ctx, "Account that reads (a DN, or NAME@DOMAIN)", d.BindDN); err != nil {
			return err
		}
	}
	return s.askBindPassword(ctx)
}

// askBindPassword asks for the password of the account, unless there is one that the
// configuration has.
func (s *setup) askBindPassword(ctx context.Context) (err error) {
	d := &s.a.Directory
	if s.flags.Directory.BindPassword != "" {
		return nil
	}
	if s.present != nil && d.BindPassword != "" && s.present.Directory[d.Name].BindDN == d.BindDN && s.takeBindPassword() == nil && s.bindTried == "" {
		s.bindTried = d.BindPassword
		return nil
	}
	d.BindPassword = ""
	s.bindPassword, err = s.ask.secret(ctx, "Its password")
	return err
}

// askDatabase asks where mail is kept.
func (s *setup) askDatabase(ctx context.Context) (err error) {
	d := &s.a.Database
	if s.flags.Database.Kind == "" {
		def := d.Kind
		if def == "" {
			def = databasePrivate
			if s.private.check(ctx) != nil {
				def = databaseGiven
			}
		}
		if d.Kind, err = s.ask.choice(ctx, "A database of its own on this host, or one that you have", []string{databasePrivate, databaseGiven}, def); err != nil {
			return err
		}
	}
	if d.Kind == databasePrivate {
		d.URL, d.OwnerURL = "", ""
		return nil
	}
	if s.flags.Database.URL == "" {
		if d.URL, err = s.askURL(ctx, "URL as the role that serves (postgres://ROLE@HOST/DATABASE?sslmode=verify-full)", d.URL); err != nil {
			return err
		}
	}
	if s.flags.Database.OwnerURL == "" {
		def := d.OwnerURL
		if def == "" {
			def = "same"
		}
		if d.OwnerURL, err = s.askURL(ctx, "URL as the owner of the schema, or same", def); err != nil {
			return err
		}
		if d.OwnerURL == "same" {
			d.OwnerURL = ""
		}
	}
	return nil
}

// askURL asks for a database, and without echo for the password of a role that comes
// over a network, where nothing says in which file that is.
func (s *setup) askURL(ctx context.Context, prompt, def string) (string, error) {
	text, err := s.ask.line(ctx, prompt, withoutPassword(def))
	if err != nil {
		return "", err
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User == nil || u.Query().Has("passfile") || u.Query().Has("sslcert") {
		return text, nil
	}
	if _, has := u.User.Password(); has {
		return text, nil
	}
	password, err := s.ask.secret(ctx, "Password of "+u.User.Username())
	if err != nil {
		return "", err
	}
	u.User = url.UserPassword(u.User.Username(), password)
	return u.String(), nil
}

// withoutPassword is a URL that may be shown.
func withoutPassword(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.User == nil {
		return text
	}
	if _, has := u.User.Password(); has {
		u.User = url.User(u.User.Username())
		return u.String()
	}
	return text
}

// askCertificate asks where the certificate comes from.
func (s *setup) askCertificate(ctx context.Context) (err error) {
	c := &s.a.Certificate
	if s.flags.Certificate.Kind == "" {
		was := c.Kind
		if c.Kind, err = s.ask.choice(ctx, "Certificate from files, by ACME (Let's Encrypt), or by a request to the company's authority", []string{certificateFiles, certificateACME, certificateCSR}, c.Kind); err != nil {
			return err
		}
		if c.Kind == certificateFiles && was != certificateFiles {
			c.Chain, c.Key = "", ""
		}
	}
	switch c.Kind {
	case certificateFiles:
		if s.flags.Certificate.Chain == "" {
			if c.Chain, err = s.ask.line(ctx, "File with the certificate and those between it and the root", c.Chain); err != nil {
				return err
			}
		}
		if s.flags.Certificate.Key == "" {
			c.Key, err = s.ask.line(ctx, "File with its key", c.Key)
		}
	case certificateACME:
		if s.flags.Certificate.ACME == "" {
			def := c.ACME
			if def == "" {
				def = letsEncrypt
			}
			c.ACME, err = s.ask.line(ctx, "Authority", def)
		}
	}
	return err
}
