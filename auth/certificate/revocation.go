package certificate

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// requestTime bounds one request for a list or an answer, all of it.
const requestTime = 10 * time.Second

// maxSources bounds how many of the places that one certificate names are asked.
const maxSources = 3

// errUnknown reports that nobody could say whether a certificate was revoked.
var errUnknown = errors.New("whether the certificate was revoked is not known")

// errRevoked reports that it was.
var errRevoked = &Refusal{Class: "revoked", Detail: "revoked by its authority"}

// Revoked reports whether c, or an authority between it and ours, was revoked. nil
// means that it was not, a *Refusal that it was; any other error that nobody could
// say, and that the configuration insists.
func (m *Mapper) Revoked(ctx context.Context, c *Certificate) error {
	if m.c.Revocation == Off {
		return nil
	}
	var first error
	for _, chain := range c.chains {
		err := m.revokedChain(ctx, chain)
		if err == nil {
			return nil
		}
		var no *Refusal
		if first == nil || errors.As(err, &no) {
			first = err
		}
	}
	var no *Refusal
	if first != nil && !errors.As(first, &no) && m.c.Revocation == IfKnown {
		return nil
	}
	return first
}

// revokedChain asks about all of a chain but its root.
func (m *Mapper) revokedChain(ctx context.Context, chain []*x509.Certificate) error {
	var unknown error
	for i := 0; i+1 < len(chain); i++ {
		err := m.revoked(ctx, chain[i], chain[i+1])
		var no *Refusal
		switch {
		case errors.As(err, &no):
			return err
		case err != nil && unknown == nil:
			unknown = err
		}
	}
	return unknown
}

// revoked asks about one certificate: first what is at hand, then responders, then
// lists.
func (m *Mapper) revoked(ctx context.Context, c, issuer *x509.Certificate) error {
	var errs []error
	note := func(err error) { errs = append(errs, err) }
	for _, ask := range m.sources(c) {
		revoked, err := ask(ctx, c, issuer)
		switch {
		case err != nil:
			note(err)
		case revoked:
			return errRevoked
		default:
			return nil
		}
	}
	if len(errs) == 0 {
		return fmt.Errorf("%w: it names no list and no responder: configure crl or ocsp, or revocation = \"off\"", errUnknown)
	}
	return fmt.Errorf("%w: %w", errUnknown, errors.Join(errs...))
}

// source answers whether a certificate of issuer was revoked. An error means that
// it does not know.
type source func(ctx context.Context, c, issuer *x509.Certificate) (bool, error)

func (m *Mapper) sources(c *x509.Certificate) []source {
	var all []source
	for _, place := range m.c.CRL {
		all = append(all, m.list(place))
	}
	responders := c.OCSPServer
	if m.c.OCSP != "" {
		responders = []string{m.c.OCSP}
	}
	for _, u := range some(responders) {
		all = append(all, func(ctx context.Context, c, issuer *x509.Certificate) (bool, error) {
			return m.ocsp.ask(ctx, u, c, issuer)
		})
	}
	for _, u := range some(c.CRLDistributionPoints) {
		all = append(all, m.list(u))
	}
	return all
}

func (m *Mapper) list(place string) source {
	return func(ctx context.Context, c, issuer *x509.Certificate) (bool, error) {
		return m.lists.ask(ctx, place, c, issuer)
	}
}

// some returns the first few of the places that can be asked; ldap: is none.
func some(places []string) []string {
	var out []string
	for _, p := range places {
		if u, err := url.Parse(p); err == nil && isHTTP(u.String()) && len(out) < maxSources {
			out = append(out, p)
		}
	}
	return out
}
