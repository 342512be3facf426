package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/resolver"
)

// askNames asks for the domains and the host.
func (s *setup) askNames(ctx context.Context) (err error) {
	if len(s.flags.Domains) == 0 {
		def := s.a.Domains
		if len(def) == 0 {
			def = hostDomain()
		}
		if s.a.Domains, err = s.ask.list(ctx, "Domains that mail is for, the main one first", def); err != nil {
			return err
		}
	}
	if s.flags.Host == "" {
		def := s.a.Host
		if def == "" {
			def = "mail." + s.a.Domains[0]
		}
		if s.a.Host, err = s.ask.line(ctx, "Name of this host, as the world sees it", def); err != nil {
			return err
		}
	}
	return nil
}

// hostDomain is the domain of this host's own name, if it has one.
func hostDomain() []string {
	name, err := os.Hostname()
	if err != nil {
		return nil
	}
	_, domain, _ := strings.Cut(strings.TrimSuffix(name, "."), ".")
	if !strings.Contains(domain, ".") {
		return nil
	}
	return []string{domain}
}

// dnsLimit bounds the questions to the DNS about one answer.
const dnsLimit = 15 * time.Second

// tryNames looks whether the names can be what they are said to be. That the DNS does
// not know them yet is as it should be before the records are published.
func (s *setup) tryNames(ctx context.Context) error {
	if len(s.a.Domains) == 0 {
		return errors.New("domains: missing: which domains is mail for? As in domains = [\"example.com\"], or --domains")
	}
	var domains []string
	for _, d := range s.a.Domains {
		domain, err := envelope.ParseDomain(d)
		if err != nil || strings.HasPrefix(domain, "[") || !strings.Contains(domain, ".") {
			return fmt.Errorf("domains: %q is no domain such as example.com", d)
		}
		if !slices.Contains(domains, domain) {
			domains = append(domains, domain)
		}
	}
	s.a.Domains = domains
	if s.a.Host == "" {
		return errors.New("host: missing: what is this host called by others? As in host = \"mail.example.com\", or --host")
	}
	host, err := envelope.ParseDomain(s.a.Host)
	if err != nil || strings.HasPrefix(host, "[") || !strings.Contains(host, ".") {
		return fmt.Errorf("host: %q is no full host name such as mail.example.com", s.a.Host)
	}
	s.a.Host = host
	if s.a.Postmaster == "" {
		s.a.Postmaster = "postmaster@" + domains[0]
	}
	if _, err := envelope.ParseAddress(s.a.Postmaster); err != nil {
		return fmt.Errorf("postmaster: %q is no address", s.a.Postmaster)
	}
	for _, a := range s.a.Addresses {
		if _, err := netip.ParseAddr(a); err != nil {
			return fmt.Errorf("addresses: %q is no IP address", a)
		}
	}
	if s.dns, err = s.resolver(); err != nil {
		return fmt.Errorf("resolvers: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, dnsLimit)
	defer cancel()
	if err := s.tryHost(ctx); err != nil {
		return err
	}
	if err := s.tryPorts(ctx); err != nil {
		return err
	}
	s.ok("mail for %s, on %s", strings.Join(domains, ", "), host)
	return nil
}

// resolver asks the DNS as the server will.
func (s *setup) resolver() (*resolver.Resolver, error) {
	f := defaults()
	f.MTA.Resolvers = s.a.Resolvers
	return f.resolver()
}

// tryHost asks the DNS for the host and the domains.
func (s *setup) tryHost(ctx context.Context) error {
	answer, err := s.dns.Addresses(ctx, s.a.Host)
	switch {
	case errors.Is(err, resolver.ErrUnavailable):
		s.note("The DNS does not answer (%v): without it no mail leaves for other domains. Is /etc/resolv.conf right? Else name resolvers.", err)
		return nil
	case resolver.IsAbsent(err):
		s.note("The DNS does not know %s yet: its addresses are among the records to publish.", s.a.Host)
	case err != nil:
		return fmt.Errorf("host: ask the DNS for %s: %w", s.a.Host, err)
	case answer.Name != "" && !strings.EqualFold(answer.Name, s.a.Host):
		// RFC 2181 §10.3, RFC 5321 §5.1.
		return fmt.Errorf("host: %s is an alias (CNAME) of %s, and an MX record must not point to an alias: name %s, or give it addresses of its own", s.a.Host, answer.Name, answer.Name)
	default:
		s.compareAddresses(answer.Records)
	}
	for _, domain := range s.a.Domains {
		s.tryDomain(ctx, domain)
	}
	return nil
}

// compareAddresses notes when the host's name leads to another one.
func (s *setup) compareAddresses(in []netip.Addr) {
	var all []string
	ours := false
	local := localAddresses()
	for _, a := range in {
		all = append(all, a.Unmap().String())
		ours = ours || slices.Contains(local, a.Unmap())
	}
	if len(s.a.Addresses) == 0 {
		s.a.Addresses = all
	}
	if !ours {
		s.note("%s is at %s, which is no address of this host: right behind address translation or a balancer only.", s.a.Host, strings.Join(all, ", "))
	}
}

// tryDomain notes where the mail of a domain goes today.
func (s *setup) tryDomain(ctx context.Context, domain string) {
	mx, err := s.dns.MX(ctx, domain)
	var hosts []string
	for _, m := range mx.Records {
		hosts = append(hosts, m.Host)
	}
	switch {
	case errors.Is(err, resolver.ErrNotFound):
		s.note("The DNS does not know the domain %s: is it written right?", domain)
	case resolver.IsAbsent(err), err != nil:
	case len(hosts) == 1 && hosts[0] == "":
		s.note("%s says that it takes no mail (null MX): replace that record.", domain)
	case !slices.Contains(hosts, s.a.Host):
		s.note("Mail for %s goes to %s today, until the MX record is changed.", domain, strings.Join(hosts, ", "))
	}
}

// localAddresses are those of this host's interfaces.
func localAddresses() []netip.Addr {
	var all []netip.Addr
	for _, p := range localNetworks() {
		all = append(all, p.Addr())
	}
	return all
}

// localNetworks are the addresses of this host's interfaces with their networks.
func localNetworks() []netip.Prefix {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var all []netip.Prefix
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()))
		}
	}
	return all
}

// publicAddresses are where the world finds this host, as far as it can tell.
func (s *setup) publicAddresses() (all []netip.Addr) {
	for _, text := range s.a.Addresses {
		if a, err := netip.ParseAddr(text); err == nil {
			all = append(all, a.Unmap())
		}
	}
	if len(all) > 0 {
		return all
	}
	for _, a := range localAddresses() {
		if a.IsGlobalUnicast() && !a.IsPrivate() {
			all = append(all, a)
		}
	}
	return all
}

// askInside asks for the networks of the house.
func (s *setup) askInside(ctx context.Context) (err error) {
	if len(s.flags.Inside) > 0 {
		return nil
	}
	def := s.a.Inside
	if len(def) == 0 {
		def = houseNetworks()
	}
	s.a.Inside, err = s.ask.list(ctx, `Networks that are inside; "all" draws no line`, def)
	return err
}

// houseNetworks are the networks of this host that a house has for itself, and this
// host is no network.
func houseNetworks() []string {
	var all []string
	for _, p := range localNetworks() {
		if a := p.Addr(); a.IsPrivate() && !slices.Contains(all, p.Masked().String()) {
			all = append(all, p.Masked().String())
		}
	}
	if len(all) == 0 {
		return []string{everywhere}
	}
	return all
}

// tryInside reads the networks.
func (s *setup) tryInside(context.Context) error {
	if len(s.a.Inside) == 0 {
		return errors.New(`inside: missing: which networks are inside? As in inside = ["10.0.0.0/8"], or --inside; all for no difference`)
	}
	if slices.Contains(s.a.Inside, everywhere) {
		if len(s.a.Inside) > 1 {
			return errors.New("inside: all, or networks")
		}
		s.ok("no difference between inside and outside: passwords of the domain open mailboxes from anywhere")
		return nil
	}
	for i, text := range s.a.Inside {
		p, err := parseNetwork(text)
		switch {
		case err != nil:
			return fmt.Errorf("inside: %q is no network such as 10.0.0.0/8 or 2001:db8::/32", text)
		case p.Bits() == 0:
			return fmt.Errorf("inside: %s is the whole Internet: all says that there is no difference", p)
		case p != p.Masked():
			return fmt.Errorf("inside: %s is an address in the network %s: write that", p, p.Masked())
		case p.Addr().IsGlobalUnicast() && !p.Addr().IsPrivate() && p.Bits() < 16 && p.Addr().Is4():
			s.note("%s is a large part of the Internet: does all of it belong to you?", p)
		}
		s.a.Inside[i] = p.String()
	}
	s.ok("from %s people log in with the password of the domain; from elsewhere only those whom [auth] lets (docs/logins.md), by app passwords, tokens or certificates", strings.Join(s.a.Inside, ", "))
	return nil
}
