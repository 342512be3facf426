package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"

	"github.com/miekg/dns"
)

// printRecords prints what to publish for each of our domains: MX, SPF (RFC
// 7208), DKIM (RFC 6376), DMARC (RFC 7489), and the addresses with their PTR.
func printRecords(ctx context.Context, f *File, db *postgres.DB, addresses []string, std streams) error {
	host := f.Server.Name + "."
	fmt.Fprintf(std.out, "; The server. Its addresses must point back to it: whoever receives mail looks.\n")
	if len(addresses) == 0 {
		fmt.Fprintf(std.out, "; (--address IP adds the lines for A, AAAA and PTR)\n")
	}
	for _, a := range addresses {
		ip, err := netip.ParseAddr(a)
		if err != nil {
			return fmt.Errorf("--address %s: is no IP address", a)
		}
		kind := "A"
		if ip.Is6() && !ip.Is4In6() {
			kind = "AAAA"
		}
		reverse, err := dns.ReverseAddr(ip.Unmap().String())
		if err != nil {
			return fmt.Errorf("--address %s: %w", a, err)
		}
		fmt.Fprintf(std.out, "%s\tIN\t%s\t%s\n%s\tIN\tPTR\t%s\n", host, kind, ip.Unmap(), reverse, host)
	}
	postmaster, err := envelope.ParseAddress(f.Domains.Postmaster)
	if err != nil {
		return fmt.Errorf("domains.postmaster: %w", err)
	}
	for _, d := range f.Domains.Local {
		domain, err := envelope.ParseDomain(d)
		if err != nil {
			return fmt.Errorf("domains.local %s: %w", d, err)
		}
		fmt.Fprintf(std.out, "\n; %s: mail comes to us, and only we send it\n", d)
		fmt.Fprintf(std.out, "%s.\tIN\tMX\t10 %s\n", domain, host)
		fmt.Fprintf(std.out, "%s.\tIN\tTXT\t\"v=spf1 mx -all\"\n", domain)
		keys, err := publicKeys(ctx, db, domain)
		if err != nil {
			return err
		}
		signs := false
		for _, k := range keys {
			if k.Retired.IsZero() {
				fmt.Fprintln(std.out, strings.TrimSuffix(k.ZoneLine(), "\n"))
				signs = signs || k.Signs()
			}
		}
		if !signs {
			fmt.Fprintf(std.out, "; no DKIM key: 'dirpost dkim create %s' makes one\n", d)
		}
		// Reports of others say whether something is wrong; "none" asks for
		// nothing else, which is how one begins.
		fmt.Fprintf(std.out, "_dmarc.%s.\tIN\tTXT\t\"v=DMARC1; p=none; rua=mailto:%s\"\n", domain, postmaster)
	}
	return nil
}
