package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/web"
	"dirpost/mta/dkim"
	"dirpost/mta/mtasts"

	"github.com/miekg/dns"
)

// need is how much depends on a record.
type need string

const (
	required    need = "required"    // mail does not come, or is refused elsewhere
	recommended need = "recommended" // people or other servers notice
	optional    need = "optional"    // useful where what it needs is there
)

// dnsRecord is one that should be published.
type dnsRecord struct {
	Name string `json:"name"` // with trailing dot
	Type string `json:"type"`
	Data string `json:"data"` // as in a zone file
	Need need   `json:"need"`
	Why  string `json:"why"`
	// group is what the record belongs to, for the comments of the zone file.
	group string
}

// dnsRecords are all of f: what others ask for when they send mail here, judge mail
// from here, or set up a client.
func dnsRecords(ctx context.Context, f *File, db *postgres.DB, addresses []netip.Addr) ([]dnsRecord, error) {
	host := f.Server.Name + "."
	var all []dnsRecord
	add := func(group, name, kind string, n need, why, format string, args ...any) {
		all = append(all, dnsRecord{name, kind, fmt.Sprintf(format, args...), n, why, group})
	}
	server := "The server. Its addresses must point back to it: whoever receives mail looks."
	for _, ip := range addresses {
		kind := "A"
		if ip.Is6() {
			kind = "AAAA"
		}
		reverse, err := dns.ReverseAddr(ip.String())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ip, err)
		}
		add(server, host, kind, required, "where the server is", "%s", ip)
		add(server, reverse, "PTR", required, "large receivers refuse mail from addresses without a name", "%s", host)
	}
	if hash, ok := f.tlsa(); ok {
		add(server, "_25._tcp."+host, "TLSA", optional, "the key of the certificate, for senders with DANE; only in a zone with DNSSEC, and to be changed before the key is (RFC 7672)", "3 1 1 %s", hash)
	}
	postmaster, err := envelope.ParseAddress(f.Domains.Postmaster)
	if err != nil {
		return nil, fmt.Errorf("domains.postmaster: %w", err)
	}
	for _, d := range f.Domains.Local {
		domain, err := envelope.ParseDomain(d)
		if err != nil {
			return nil, fmt.Errorf("domains.local %s: %w", d, err)
		}
		group, zone := domain+": mail comes to us, and only we send it", domain+"."
		add(group, zone, "MX", required, "mail for the domain comes to the server", "10 %s", host)
		add(group, zone, "TXT", required, "which servers send for the domain (SPF)", `"v=spf1 mx -all"`)
		var keys []dkim.Key
		if db != nil {
			if keys, err = publicKeys(ctx, db, domain); err != nil {
				return nil, err
			}
		}
		for _, k := range keys {
			if k.Retired.IsZero() {
				add(group, k.RecordName()+".", "TXT", required, "the key that mail from the domain is signed with (DKIM)", "%s", quoteText(k.RecordText()))
			}
		}
		// Reports of others say whether something is wrong; "none" asks for nothing
		// else, which is how one begins.
		add(group, "_dmarc."+zone, "TXT", required, "what others do with mail that only claims to come from the domain (DMARC)", `"v=DMARC1; p=none; rua=mailto:%s"`, postmaster)
		if p, ok := f.stsPolicy(); ok {
			add(group, "_mta-sts."+zone, "TXT", recommended, "mail for the domain is sent with TLS only (MTA-STS)", "%s", quoteText(p.Record()))
			add(group, "mta-sts."+zone, "CNAME", recommended, "where the policy of MTA-STS is; the certificate needs this name", "%s", host)
		}
		add(group, "_smtp._tls."+zone, "TXT", recommended, "where others report that TLS fails (TLS-RPT)", `"v=TLSRPTv1; rua=mailto:%s"`, postmaster)
		clients := domain + ": mail clients set themselves up"
		for _, s := range f.clientServers() {
			service := map[string]string{"imap": "_imap", "pop3": "_pop3", "submission": "_submission"}[s.Protocol]
			if s.Implicit {
				service += "s"
			}
			// The lower priority is preferred: TLS from the first octet, IMAP (RFC 6186 §3.4).
			priority := 10
			if s.Implicit {
				priority = 0
			}
			if s.Protocol == "pop3" {
				priority += 20
			}
			add(clients, service+"._tcp."+zone, "SRV", recommended, "how clients find "+s.Protocol+" (RFC 6186, RFC 8314)", "%d 1 %d %s", priority, s.Port, host)
		}
		add(clients, "autoconfig."+zone, "CNAME", recommended, "Thunderbird asks there", "%s", host)
		add(clients, "autodiscover."+zone, "CNAME", recommended, "Outlook asks there", "%s", host)
		add(clients, "_autodiscover._tcp."+zone, "SRV", recommended, "Outlook asks there, too", "0 1 443 %s", host)
	}
	return all, nil
}

// quoteText is a text in strings of at most 255 octets (RFC 1035 §3.3).
func quoteText(text string) string {
	var parts []string
	for len(text) > 255 {
		parts, text = append(parts, `"`+text[:255]+`"`), text[255:]
	}
	parts = append(parts, `"`+text+`"`)
	if len(parts) > 1 {
		return "( " + strings.Join(parts, " ") + " )"
	}
	return parts[0]
}

// tlsa is the hash of the public key of the server's certificate (RFC 6698 §2.1:
// DANE-EE, the key, SHA-256).
func (f *File) tlsa() (string, bool) {
	if len(f.TLS.Certificate) == 0 {
		return "", false
	}
	cert, err := tls.LoadX509KeyPair(f.TLS.Certificate[0].Chain, f.TLS.Certificate[0].Key)
	if err != nil {
		return "", false // config check and doctor say so
	}
	sum := sha256.Sum256(cert.Leaf.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:]), true
}

// stsPolicy is the policy that we publish for each of our domains, if we do.
func (f *File) stsPolicy() (mtasts.Policy, bool) {
	mode := f.MTA.STS
	if mode == "" {
		mode = mtasts.Testing
	}
	return mtasts.Policy{Mode: mode, MX: []string{f.Server.Name}, MaxAge: 7 * 24 * time.Hour}, mode != "off"
}

// mountSTS serves the policy to whoever asks for that of a domain of ours.
func (n *node) mountSTS(s *web.Server) {
	p, ok := n.file.stsPolicy()
	if !ok {
		return
	}
	s.Handle("GET "+mtasts.Path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(strings.ToLower(r.Host), ":")
		if domain, ok := strings.CutPrefix(host, "mta-sts."); !ok || !n.live.Snapshot().IsLocalDomain(domain) {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, p.String()) // the client has left
	}))
}

// printZone prints records as lines of a zone file.
func printZone(w io.Writer, all []dnsRecord, addresses int) {
	if addresses == 0 {
		fmt.Fprintf(w, "; (--address IP adds the lines for A, AAAA and PTR)\n")
	}
	group, signed := "", true
	for _, r := range all {
		if r.group != group {
			group = r.group
			fmt.Fprintf(w, "\n; %s\n", group)
		}
		comment := ""
		if r.Need == optional {
			fmt.Fprintf(w, "; %s\n", r.Why)
			comment = "; "
		}
		fmt.Fprintf(w, "%s%s\tIN\t%s\t%s\n", comment, r.Name, r.Type, r.Data)
	}
	for _, r := range all {
		if r.Type == "MX" {
			signed = false
			for _, k := range all {
				signed = signed || strings.HasSuffix(k.Name, "._domainkey."+r.Name)
			}
			if domain := strings.TrimSuffix(r.Name, "."); !signed {
				fmt.Fprintf(w, "\n; no DKIM key: 'dirpost dkim create %s' makes one\n", domain)
			}
		}
	}
}

// printTable prints records as a table for people who have a form to fill in.
func printTable(w io.Writer, all []dnsRecord) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tTYPE\tNEED\tWHY\tVALUE")
	for _, r := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.Name, r.Type, r.Need, r.Why, r.Data)
	}
	return t.Flush()
}

// printJSON prints records for programs, one object a line.
func printJSON(w io.Writer, all []dnsRecord) error {
	e := json.NewEncoder(w)
	for _, r := range all {
		if err := e.Encode(r); err != nil {
			return err
		}
	}
	return nil
}
