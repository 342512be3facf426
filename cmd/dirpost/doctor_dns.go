package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"dirpost/internal/resolver"
)

// resolvers are the one inside, of the configuration or the system, and the one
// outside, nil if there is none; each may be given.
func (f *File) resolvers(inside, outside []string) (in, out *resolver.Resolver, err error) {
	if in, err = f.resolver(); len(inside) > 0 {
		in, err = resolverAt(inside)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("resolver inside: %w", err)
	}
	if len(outside) == 0 {
		outside = append(outside, f.MTA.OutsideResolvers...)
	}
	if len(outside) > 0 {
		if out, err = resolverAt(outside); err != nil {
			return nil, nil, fmt.Errorf("resolver outside: %w", err)
		}
	}
	return in, out, nil
}

// dns looks at the records that others ask for, as 'dirpost dns check' does.
func (d *doctor) dns(ctx context.Context) {
	const subject = "dns"
	in, out, err := d.file.resolvers(nil, nil)
	if err != nil {
		d.bad(subject, "see resolvers and outside_resolvers in [mta]", err)
		return
	}
	host := d.file.Server.Name
	addresses, err := cmp.Or(out, in).Addresses(ctx, host)
	if errors.Is(err, resolver.ErrUnavailable) {
		d.bad(subject, "is /etc/resolv.conf right, or resolvers in [mta]? Without DNS nothing is sent, and Active Directory is not found", fmt.Errorf("the DNS does not answer: %w", err))
		return
	}
	select {
	case <-d.shared.ready:
	case <-ctx.Done():
		return
	}
	db := d.shared.db
	if d.shared.schema != nil {
		db = nil
	}
	all, err := dnsRecords(ctx, d.file, db, addresses.Records)
	if err != nil {
		d.bad(subject, "see the section [domains]", err)
		return
	}
	if len(addresses.Records) == 0 {
		d.bad(subject, "publish: "+host+". IN A (the server's public address)", fmt.Errorf("%s has no address: nobody finds the server", host))
		all = withoutAddress(all)
	}
	good := 0
	for _, f := range checkDNS(ctx, host, all, in, out) {
		if d.record(&f) {
			good++
		}
	}
	asked := "asked inside only: mta.outside_resolvers names one that sees what the world sees"
	if out != nil {
		asked = "asked inside and outside"
	}
	if good > 0 {
		d.ok(subject, "%d of %d records are right (%s)", good, len(all), asked)
	}
	if db == nil {
		d.unknown(subject, "whether the keys of signatures are published was not looked at: the database cannot be asked")
		return
	}
	for _, domain := range unsigned(all) {
		d.warn(subject, "'dirpost dkim create "+domain+"', and publish what it prints", "mail of %s is not signed: there is no DKIM key", domain)
	}
}

// withoutAddress leaves out what cannot be right while the server has no address.
func withoutAddress(all []dnsRecord) []dnsRecord {
	var rest []dnsRecord
	for _, r := range all {
		if r.Type != "CNAME" {
			rest = append(rest, r)
		}
	}
	return rest
}

// record reports what is wrong with one record, and whether nothing is.
func (d *doctor) record(f *dnsFinding) bool {
	v := f.decides()
	do := "publish: " + f.Name + " IN " + f.Type + " " + f.Data
	text := fmt.Sprintf("%s %s is %s: %s", f.Name, f.Type, v.State, f.Why)
	if v.Text != "" {
		text += " (" + v.Text + ")"
	}
	switch {
	case v.State == dnsRight || v.State == dnsAbsent:
		if f.Outside != nil && f.Inside.State != f.Outside.State {
			d.warn("dns", "publish it inside too: "+do, "%s %s is right outside, but inside %s: people in the house may not find the server", f.Name, f.Type, f.Inside.State)
			return false
		}
		return true
	case f.Type == "PTR" && v.State != dnsSilent:
		d.bad("reverse dns", "who gives you the address sets it, mostly the provider: "+do, errors.New(text))
	case f.Need == recommended:
		d.warn("dns", do, "%s", text)
	case f.Need == optional:
		d.bad("dns", "take it away, or "+do, errors.New(text))
	default:
		d.bad("dns", do, errors.New(text))
	}
	return false
}

// unsigned are the domains without a DKIM key among the records.
func unsigned(all []dnsRecord) []string {
	var domains []string
	for _, r := range all {
		if r.Type != "MX" {
			continue
		}
		signed := false
		for _, k := range all {
			signed = signed || strings.HasSuffix(k.Name, "._domainkey."+r.Name)
		}
		if !signed {
			domains = append(domains, strings.TrimSuffix(r.Name, "."))
		}
	}
	return domains
}
