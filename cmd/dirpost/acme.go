package main

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"dirpost/internal/acme"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
)

// ACMESection is [acme].
type ACMESection struct {
	Directory string   `toml:"directory"`
	Contact   string   `toml:"contact"`
	Names     []string `toml:"names"`
	Challenge string   `toml:"challenge"`
	CA        string   `toml:"ca"`
	KeyID     string   `toml:"key_id"`
	MACKey    Secret   `toml:"mac_key"`
}

// config is the section as the package has it, but for what stands in files.
func (f *File) acme() acme.Config {
	a := &f.ACME
	c := acme.Config{Directory: a.Directory, Contact: a.Contact, Kind: a.Challenge, KeyID: a.KeyID}
	if c.Kind == "" {
		c.Kind = acme.TLSALPN01
		if slices.ContainsFunc(f.Listener, func(l ListenerSection) bool { return l.Protocol == "http" && l.TLS == "off" }) {
			c.Kind = acme.HTTP01
		}
	}
	for _, name := range append([]string{f.Server.Name}, a.Names...) {
		if d, err := envelope.ParseDomain(name); err == nil {
			name = d
		}
		if !slices.Contains(c.Names, name) {
			c.Names = append(c.Names, name)
		}
	}
	return c
}

// usesACME reports whether certificates come from an authority.
func (f *File) usesACME() bool { return f.ACME.Directory != "" }

// validateACME reports what cannot be meant.
func (f *File) validateACME() (errs []error) {
	if !f.usesACME() {
		if len(f.ACME.Names) > 0 || f.ACME.Contact != "" {
			errs = append(errs, errors.New("acme.directory: write the URL of the authority, such as https://acme-v02.api.letsencrypt.org/directory"))
		}
		return errs
	}
	if err := f.acme().Validate(); err != nil {
		errs = append(errs, fmt.Errorf("acme.%w", err))
	}
	if _, err := envelope.ParseAddress(f.ACME.Contact); f.ACME.Contact != "" && err != nil {
		errs = append(errs, fmt.Errorf("acme.contact: %q is no address", f.ACME.Contact))
	}
	if f.ACME.KeyID != "" && f.ACME.MACKey.String() == "" {
		errs = append(errs, errors.New("acme.mac_key: key_id wants the key that the authority gave you with it"))
	}
	if f.Server.SealingKey.String() == "" {
		errs = append(errs, errors.New("server.sealing_key: [acme] keeps keys in the database, sealed with it"))
	}
	return errs
}

// buildACME makes what gets certificates, if anything does.
func (n *node) buildACME(ctx context.Context) (*acme.Manager, error) {
	if !n.file.usesACME() {
		return nil, nil
	}
	c := n.file.acme()
	if path := n.file.ACME.CA; path != "" {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("acme.ca: %w", err)
		}
		c.Roots = x509.NewCertPool()
		if !c.Roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("acme.ca: %s has no certificate in PEM", path)
		}
	}
	if c.KeyID != "" {
		text, err := n.file.ACME.MACKey.Resolve()
		if err != nil {
			return nil, fmt.Errorf("acme.mac_key: %w", err)
		}
		if c.MAC, err = base64.RawURLEncoding.DecodeString(text); err != nil {
			return nil, errors.New("acme.mac_key: is not in base64url, as authorities write it")
		}
	}
	sealer, err := n.file.sealer()
	if err != nil {
		return nil, err
	}
	m, err := acme.New(ctx, c, n.db, sealer, n.bus, n.name(), n.log)
	if err != nil {
		return nil, fmt.Errorf("acme: %w", err)
	}
	n.back = append(n.back, part{"acme", m.Run})
	return m, nil
}

// issued looks at the certificates of the authority.
func (d *doctor) issued(ctx context.Context, db *postgres.DB) {
	if !d.file.usesACME() {
		return
	}
	all, err := acme.States(ctx, db)
	if err != nil {
		d.bad("certificate", "'dirpost migrate' brings the database up to date", err)
		return
	}
	const do = "'dirpost cert list' shows them; when the cause is gone, 'dirpost cert renew' asks at once"
	for _, name := range d.file.acme().Names {
		i := slices.IndexFunc(all, func(s acme.State) bool { return s.Name == name })
		switch {
		case i < 0:
			d.warn("certificate", "a node asks for it when it runs", "none for %s yet", name)
		case all[i].Expires.Before(time.Now()) && all[i].Failures > 0:
			d.bad("certificate", do, fmt.Errorf("none for %s, asked for %d times: %s", name, all[i].Failures, all[i].Problem))
		case all[i].Expires.IsZero():
			d.warn("certificate", "a node asks for it when it runs", "none for %s yet", name)
		case all[i].Failures > 0:
			d.warn("certificate", do, "%s expires in %s and was not renewed: %s", name, span(time.Until(all[i].Expires)), all[i].Problem)
		default:
			d.ok("certificate", "%s, issued, expires in %s", name, span(time.Until(all[i].Expires)))
		}
	}
}
