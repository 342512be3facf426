package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"time"

	"dirpost/auth"
	"dirpost/auth/certificate"
)

// ClientCertificatesSection is [auth.certificates].
type ClientCertificatesSection struct {
	CA           []string `toml:"ca"`
	Intermediate []string `toml:"intermediate"`
	Match        []string `toml:"match"`
	Directories  []string `toml:"directories"`
	Revocation   string   `toml:"revocation"`
	CRL          []string `toml:"crl"`
	OCSP         string   `toml:"ocsp"`
	RefreshEvery Duration `toml:"refresh_every"`
}

// clientCertificates is what the mapper is told; false if client certificates are
// off.
func (f *File) clientCertificates() (certificate.Config, bool) {
	s := f.Auth.Certificates
	c := certificate.Config{
		CA: s.CA, Intermediate: s.Intermediate, Match: s.Match, Directories: s.Directories,
		Revocation: certificate.Revocation(s.Revocation), CRL: s.CRL, OCSP: s.OCSP, RefreshEvery: time.Duration(s.RefreshEvery),
	}
	if c.Directories == nil {
		c.Directories = f.names()
	}
	return c, len(s.CA) > 0
}

// validateClientCertificates checks what [auth.certificates] says, without its files.
func (f *File) validateClientCertificates() []error {
	c, on := f.clientCertificates()
	if !on {
		return nil
	}
	errs := f.knownDirectories("auth.certificates", c.Directories)
	if err := c.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("auth.certificates: %w", err))
	}
	return errs
}

// addCertificates makes the bridge take client certificates, if they are on.
func (n *node) addCertificates(parts *auth.Parts) error {
	c, on := n.file.clientCertificates()
	if !on {
		return nil
	}
	m, err := certificate.New(c)
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	n.clients, parts.Certificates = m, m
	return nil
}

// tlsConfig is that of a listener, nil where there are no certificates. Where people
// log in it asks for theirs, if that is of any use.
func (n *node) tlsConfig(protocol string) *tls.Config {
	switch {
	case n.tls == nil:
		return nil
	case n.clients != nil && slices.Contains([]string{"submission", "imap", "pop3"}, protocol):
		return n.tls.Asking(n.clients.Authorities)
	}
	return n.tls.Config()
}

// clientCertificates reads the authorities and fetches the lists that are
// configured.
func (d *doctor) clientCertificates(ctx context.Context) {
	const subject = "client certificates"
	c, on := d.file.clientCertificates()
	if !on {
		return
	}
	d.certificateHost()
	m, err := certificate.New(c)
	if err != nil {
		d.bad(subject, "see [auth.certificates]", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err, late := m.Check(ctx)
	if late != nil {
		d.warn(subject, "see that the authority publishes it", "a revocation counts when the full list is published next: %v", late)
	}
	if err != nil {
		d.bad(subject, "where a list is missing, logins by certificate fail for the time being (revocation)", err)
	}
	for _, l := range m.Lists() {
		left := time.Until(l.Next)
		switch {
		case l.Read.IsZero(): // said above
		case left <= 0:
			d.bad(subject, "make the authority publish a new one", fmt.Errorf("the list %s has ended at %s", l.Place, l.Next.UTC().Format(time.RFC3339)))
		case left < 4*time.Hour:
			d.warn(subject, "see that the authority publishes a new one in time", "the list %s ends in %s", l.Place, span(left))
		default:
			kind := "list"
			if l.Delta {
				kind = "delta list"
			}
			d.ok(subject, "%s %s, %d revoked, ends in %s", kind, l.Place, l.Count, span(left))
		}
	}
	if c.Revocation == certificate.Off {
		d.warn(subject, `set revocation = "required"`, "nobody is asked whether a certificate was revoked")
	}
	authorities := m.Expiry()
	if left := time.Until(authorities); left < 30*24*time.Hour {
		d.warn(subject, "renew it", "the first authority expires in %s", span(left))
	} else {
		d.ok(subject, "from %d files, revocation %s", len(c.CA), revocationWord(c))
	}
}

func revocationWord(c certificate.Config) certificate.Revocation {
	if c.Revocation == "" {
		return certificate.Required
	}
	return c.Revocation
}
