package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"dirpost/directory"
	"dirpost/directory/ldap"
	"dirpost/internal/envelope"
)

// tryDirectory looks whether people can be read and their passwords judged.
func (s *setup) tryDirectory(ctx context.Context) error {
	d := &s.a.Directory
	if d.Name == "" {
		d.Name = "corp"
	}
	if strings.Trim(d.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("directory.name: %q may have letters a-z, digits and hyphens only; it is part of every mailbox's key", d.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute) // a large directory is read whole
	defer cancel()
	err := s.tryKind(ctx)
	var untrusted *tls.CertificateVerificationError
	if s.ask == nil || !errors.As(err, &untrusted) {
		return err
	}
	s.wantsCA = true
	if yes, askErr := s.trustShown(ctx, untrusted.UnverifiedCertificates); !yes {
		return errors.Join(err, askErr)
	}
	return s.tryKind(ctx)
}

// trustShown asks whether the authority that a server has shown with its certificate
// is to be trusted, if it has shown one.
func (s *setup) trustShown(ctx context.Context, chain []*x509.Certificate) (bool, error) {
	if len(chain) == 0 || s.a.Directory.CA != "" {
		return false, nil
	}
	top := chain[len(chain)-1]
	if !top.IsCA {
		return false, nil
	}
	fmt.Fprintf(s.say, "   ! Its certificate is from %s, until %s, which this host does not know:\n     SHA-256 %X\n", top.Subject, top.NotAfter.UTC().Format(time.DateOnly), sha256.Sum256(top.Raw))
	yes, err := s.ask.yes(ctx, "Is that the fingerprint of your authority, and to be trusted for this directory", false)
	if err == nil && yes {
		s.shownCA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: top.Raw}))
		s.a.Directory.CA = s.authorityFile()
	}
	return yes, err
}

// tryKind looks at a directory of the kind that was chosen.
func (s *setup) tryKind(ctx context.Context) error {
	switch d := &s.a.Directory; d.Kind {
	case directoryAccount:
		return s.tryAccount(ctx)
	case directoryJoin:
		return s.tryJoin(ctx)
	case ldap.BindGSSAPI:
		return s.readPeople(ctx, nil)
	case "":
		return errors.New("directory.kind: missing: join (a domain of Active Directory) or account (any directory), or --directory-kind")
	default:
		return fmt.Errorf("directory.kind: %q is neither join nor account", d.Kind)
	}
}

// tryAccount connects as the account that reads.
func (s *setup) tryAccount(ctx context.Context) error {
	d := &s.a.Directory
	s.prospect = nil
	if len(d.URLs) == 0 && d.Domain == "" {
		return errors.New(`directory.urls: missing: where is it? As in urls = ["ldaps://ldap.example.com"], or domain = "corp.example.com" to ask the DNS; --directory-urls, --directory-domain`)
	}
	for _, u := range d.URLs {
		if p, err := url.Parse(u); err != nil || p.Host == "" {
			return fmt.Errorf("directory.urls: %q is no URL such as ldaps://ldap.example.com", u)
		}
	}
	if d.Domain != "" && len(d.URLs) == 0 {
		found, err := ldap.Discover(ctx, s.dns, d.Domain)
		if err != nil {
			return fmt.Errorf("directory.domain: %w", err)
		}
		s.ok("%s", describeDomain(found))
	}
	if err := s.checkCA(ctx); err != nil {
		return err
	}
	if (d.BindDN == "") != (d.BindPassword == "" && s.bindPassword == "") {
		return errors.New("directory.bind_dn, directory.bind_password: one is missing: who reads the directory? Without both it is read by nobody in particular")
	}
	if d.BindPassword != "" {
		if err := s.takeBindPassword(); err != nil {
			return err
		}
		if path, ok := strings.CutPrefix(d.BindPassword, "file:"); ok && s.bindReference() == d.BindPassword {
			if err := s.owner.mayRead(ctx, path); err != nil {
				return fmt.Errorf("directory.bind_password: %w", err)
			}
		}
	}
	if err := s.build(); err != nil {
		return err
	}
	if d.Base == "" {
		if err := s.findBase(ctx); err != nil {
			return err
		}
	}
	return s.readPeople(ctx, nil)
}

// checkCA looks whether there is a file with the authority of the servers.
func (s *setup) checkCA(ctx context.Context) error {
	path := s.a.Directory.CA
	if path == "" || s.shownCA != "" && path == s.authorityFile() {
		return nil
	}
	b, err := os.ReadFile(path)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(b) {
		err = fmt.Errorf("%s has no certificate in PEM", path)
	}
	if err == nil {
		err = s.owner.mayRead(ctx, path)
	}
	if err != nil {
		return fmt.Errorf("directory.ca: %w", err)
	}
	return nil
}

// takeBindPassword reads the password that the answer refers to.
func (s *setup) takeBindPassword() error {
	ref := s.a.Directory.BindPassword
	var secret Secret
	if err := secret.UnmarshalText([]byte(ref)); err != nil {
		return fmt.Errorf("directory.bind_password: %w", err)
	}
	text, err := secret.Resolve()
	if err != nil {
		return fmt.Errorf("directory.bind_password: %w", err)
	}
	s.bindPassword = text
	return nil
}

// findBase asks the server where people are.
func (s *setup) findBase(ctx context.Context) error {
	d := s.file.Directory[s.a.Directory.Name]
	cfg := d.config(s.a.Directory.Name)
	cfg.BindPassword, cfg.Log, cfg.Resolver, cfg.CA = s.bindPassword, slog.New(slog.DiscardHandler), s.dns, d.heldCA
	if d.CA != "" && d.heldCA == "" {
		pem, err := os.ReadFile(d.CA)
		if err != nil {
			return fmt.Errorf("directory.ca: %w", err)
		}
		cfg.CA = string(pem)
	}
	limit, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	bases, err := ldap.Bases(limit, cfg)
	switch {
	case err != nil:
		return err
	case len(bases) == 0:
		return errors.New(`directory.base: the server does not say what it holds: name the DN below which people are, as in base = "dc=example,dc=com", or --directory-base`)
	case len(bases) > 1 && !strings.EqualFold(ldap.DNSDomain(bases[0]), cmp.Or(s.a.Directory.Domain, ldap.DNSDomain(bases[0]))):
		return fmt.Errorf("directory.base: the server holds %s: name one", strings.Join(bases, "; "))
	}
	s.a.Directory.Base = bases[0]
	s.ok("people are looked for below %s", bases[0])
	return s.build()
}

// readPeople connects as a server does, and reads everybody. reader is the account
// for a domain that is not joined yet, nil for what the configuration has.
func (s *setup) readPeople(ctx context.Context, reader *ldap.Machine) error {
	name := s.a.Directory.Name
	client, err := s.file.client(name, true, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer client.Close()
	if reader != nil {
		err = client.SetMachine(*reader)
	} else {
		err = s.file.setMachine(ctx, client, s.log)
	}
	if err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	if err := client.Check(limit); err != nil {
		return err
	}
	err = client.CheckLogin(limit)
	var untrusted *tls.CertificateVerificationError
	if reader != nil && !errors.As(err, &untrusted) {
		err = nil // what our own account cannot do that is not there yet
	}
	if err != nil {
		return fmt.Errorf("it can be read, but nobody could log in: %w", err)
	}
	choice, err := client.Choice(limit)
	if err != nil {
		return err
	}
	s.ok("read as %s: %s", choice.Profile, choice.Why)
	for _, n := range choice.Notes {
		s.note("%s", n)
	}
	read, err := client.Read(ctx, s.log, nil)
	if err != nil {
		return err
	}
	rules, err := s.file.rules()
	if err != nil {
		return err
	}
	rules.Confirm = false // a question of mail, not of what is there
	s.snapshot = directory.SnapshotOf(rules, read.Entries)
	s.result.Findings = s.snapshot.Lint()
	for _, p := range read.Problems {
		s.result.Findings = append(s.result.Findings, directory.Finding{What: "unreadable value", Of: p.DN, Text: p.Err.Error(), DNs: []string{p.DN}})
	}
	s.result.Census, _ = s.snapshot.Census()
	here := 0
	for _, c := range s.result.Census {
		here += c.Here + c.Elsewhere + c.Nowhere
	}
	s.ok("%d entries, %d people with an address of %s", len(read.Entries), here, strings.Join(s.a.Domains, ", "))
	if here == 0 {
		s.nobody(read.Entries)
	}
	return nil
}

// nobody says which domains the directory knows, where it knows none of ours.
func (s *setup) nobody(entries []*directory.Entry) {
	count := map[string]int{}
	for _, e := range entries {
		if e.HasMailbox() && !e.Primary.IsZero() {
			count[e.Primary.Domain]++
		}
	}
	var all []string
	for d := range count {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(count[b]-count[a], cmp.Compare(a, b)) })
	text := "nobody there has an address at all: see docs/attributes.md for where it is read from"
	if len(all) > 0 {
		text = "addresses there end in " + strings.Join(all[:min(len(all), 5)], ", ")
	}
	s.note("Nobody would get mail: %s.", text)
}

// describeDomain is a domain that was found, for people.
func describeDomain(d *ldap.Domain) string {
	var hosts []string
	for _, c := range d.Controllers {
		hosts = append(hosts, c.Host)
	}
	shown := strings.Join(hosts[:min(len(hosts), 4)], ", ")
	if len(hosts) > 4 {
		shown += fmt.Sprintf(" and %d more", len(hosts)-4)
	}
	if !d.IsAD {
		return fmt.Sprintf("directory servers of %s: %s", d.Name, shown)
	}
	text := fmt.Sprintf("Active Directory %s", d.Name)
	if d.NetBIOS != "" {
		text += " (" + d.NetBIOS + ")"
	}
	text += ", domain controllers " + shown
	if d.Site != "" {
		text += "; this host is in the site " + d.Site
	}
	return text
}

// maxShown bounds the findings of one kind that are shown.
const maxShown = 5

// reportPeople says who would have a mailbox where, and what looks like a mistake.
func (s *setup) reportPeople() {
	if s.snapshot == nil {
		return
	}
	fmt.Fprintln(s.say)
	for _, c := range s.result.Census {
		line := fmt.Sprintf("%s: %s here", c.Domain, count(c.Here, "mailbox", "mailboxes"))
		if c.Elsewhere > 0 {
			line += fmt.Sprintf(", %d on %s", c.Elsewhere, cmp.Or(s.file.Domains.OtherSystem, "another system"))
		}
		if c.Nowhere > 0 {
			line += fmt.Sprintf(", %d nowhere", c.Nowhere)
		}
		fmt.Fprintf(s.say, "%s, %s, %s.\n", line, count(c.Lists, "list", "lists"), count(c.Contacts, "contact", "contacts"))
	}
	shared := contests(s.snapshot)
	for i, c := range shared {
		if i == maxShown {
			fmt.Fprintf(s.say, "  … and %d more addresses that belong to several entries\n", len(shared)-i)
			break
		}
		var dns []string
		for _, e := range c.Entries {
			dns = append(dns, e.DN)
		}
		s.note("The address %s belongs to %s: its mail waits until one of them has it.", c.Address, strings.Join(dns, " and "))
	}
	shown := map[string]int{}
	for _, f := range s.result.Findings {
		if shown[f.What]++; shown[f.What] <= maxShown {
			s.note("%s", strings.Join(slices.DeleteFunc([]string{f.What, f.Of, f.Text}, func(part string) bool { return part == "" }), ": "))
		}
	}
	for _, what := range slices.Sorted(maps.Keys(shown)) {
		if n := shown[what]; n > maxShown {
			fmt.Fprintf(s.say, "  … and %d more of %q: 'dirpost directory check' lists all\n", n-maxShown, what)
		}
	}
	if a, err := envelope.ParseAddress(s.a.Postmaster); err == nil && s.snapshot.IsLocalDomain(a.Domain) && s.snapshot.ByAddress(a) == nil {
		s.note("Nobody has the address %s, where mail for postmaster@ goes (RFC 5321 §4.5.1): give it to somebody in the directory, or name another by postmaster.", a)
	}
}

// count is a number with its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
