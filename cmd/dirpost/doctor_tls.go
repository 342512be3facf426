package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dirpost/internal/seal"
	"dirpost/mta/dkim"
)

// soonExpired is the time that renewing a certificate may take people.
const soonExpired = 14 * 24 * time.Hour

// certificates looks at the time they have left, and whether each name that clients
// ask for has one.
func (d *doctor) certificates(context.Context) {
	const subject = "certificate"
	var leaves []*x509.Certificate
	for _, c := range d.file.TLS.Certificate {
		pair, err := tls.LoadX509KeyPair(c.Chain, c.Key)
		if err != nil {
			continue // said by checkFiles
		}
		leaf := pair.Leaf
		leaves = append(leaves, leaf)
		left := time.Until(leaf.NotAfter)
		switch {
		case left <= 0:
			d.bad(subject, "replace the file; nodes read it by themselves", fmt.Errorf("%s has expired on %s: clients and other servers refuse to go on", c.Chain, leaf.NotAfter.UTC().Format(time.DateOnly)))
		case time.Until(leaf.NotBefore) > 0:
			d.bad(subject, "is the clock of this host right?", fmt.Errorf("%s is valid from %s on only", c.Chain, leaf.NotBefore.UTC().Format(time.RFC3339)))
		case left < soonExpired:
			d.warn(subject, "renew it; nodes read the new file by themselves", "%s expires in %s", c.Chain, span(left))
		default:
			d.ok(subject, "%s for %s, expires in %s", c.Chain, strings.Join(leaf.DNSNames, ", "), span(left))
		}
		// A certificate of a public authority is signed by an intermediate one, which
		// clients are not obliged to know.
		if len(pair.Certificate) == 1 && len(leaf.IssuingCertificateURL) > 0 {
			d.warn(subject, "put the authority's intermediate certificate behind it in the file (fullchain.pem)", "%s has no chain: clients that do not know %s refuse it", c.Chain, leaf.Issuer.CommonName)
		}
	}
	if len(leaves) == 0 {
		return
	}
	has := func(name string) bool {
		return slices.ContainsFunc(leaves, func(c *x509.Certificate) bool { return c.VerifyHostname(name) == nil }) ||
			d.file.usesACME() && slices.Contains(d.file.acme().Names, name)
	}
	if !has(d.file.Server.Name) {
		d.warn(subject, "clients that look for "+d.file.Server.Name+" will not trust it", "none is for %s", d.file.Server.Name)
	}
	var missing []string
	for _, name := range d.file.namesServed() {
		if !has(name) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		d.warn(subject, "add them to the certificate: MTA-STS does not hold without, and clients do not set themselves up", "none is for %s", strings.Join(missing, ", "))
	}
}

// namesServed are the names besides server.name that others connect to by HTTPS,
// where that is served.
func (f *File) namesServed() []string {
	if !slices.ContainsFunc(f.Listener, func(l ListenerSection) bool { return l.Protocol == "http" && l.TLS == "implicit" }) {
		return nil
	}
	var all []string
	for _, domain := range f.Domains.Local {
		if _, ok := f.stsPolicy(); ok {
			all = append(all, "mta-sts."+domain)
		}
		all = append(all, "autoconfig."+domain, "autodiscover."+domain)
	}
	if h := f.Autoconfig.Hostname; h != "" && h != f.Server.Name {
		all = append(all, h)
	}
	return all
}

// opens reports whether the sealing key opens the signing keys of a domain.
func (d *doctor) opens(ctx context.Context, sealer *seal.Sealer, domain string) error {
	err := dkim.New(d.shared.db, sealer, d.shared.db.Now).Check(ctx, domain)
	if errors.Is(err, seal.ErrNoKey) || errors.Is(err, seal.ErrSealed) {
		return fmt.Errorf("server.sealing_key is not the key of this database: %w", err)
	}
	return err
}
