package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// letsEncrypt is the authority that acme means where none is named.
const letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// tryCertificate looks whether there is a certificate for the host, or where it will
// come from.
func (s *setup) tryCertificate(ctx context.Context) error {
	c := &s.a.Certificate
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	switch c.Kind {
	case certificateFiles:
		return s.tryFiles(ctx)
	case certificateACME:
		return s.tryACME(ctx)
	case certificateCSR:
		return s.tryCSR(ctx)
	case "":
		return errors.New("certificate.kind: missing: files, acme or csr, or --certificate-kind")
	}
	return fmt.Errorf("certificate.kind: %q is none of files, acme, csr", c.Kind)
}

// tryFiles looks at a certificate and its key.
func (s *setup) tryFiles(ctx context.Context) error {
	c := &s.a.Certificate
	for _, file := range [][2]string{{"certificate.chain", c.Chain}, {"certificate.key", c.Key}} {
		key, path := file[0], file[1]
		if path == "" {
			return fmt.Errorf("%s: missing: a file in PEM, or --%s", key, strings.ReplaceAll(key, ".", "-"))
		}
		if !filepath.IsAbs(path) {
			return fmt.Errorf("%s: name %s by its whole path", key, path)
		}
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if err := s.owner.mayRead(ctx, path); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	pair, err := tls.LoadX509KeyPair(c.Chain, c.Key)
	if err != nil {
		return fmt.Errorf("certificate %s with the key %s: %s", c.Chain, c.Key, strings.TrimPrefix(err.Error(), "tls: "))
	}
	return s.judgeCertificate(&pair)
}

// judgeCertificate looks whether clients will take it.
func (s *setup) judgeCertificate(pair *tls.Certificate) error {
	leaf := pair.Leaf
	if err := leaf.VerifyHostname(s.a.Host); err != nil {
		return fmt.Errorf("certificate.chain: the certificate is for %s, and clients look for %s: get one for that name, or correct host", strings.Join(leaf.DNSNames, ", "), s.a.Host)
	}
	now := time.Now()
	switch left := leaf.NotAfter.Sub(now); {
	case left <= 0:
		return fmt.Errorf("certificate.chain: the certificate has expired on %s: renew it", leaf.NotAfter.UTC().Format(time.DateOnly))
	case leaf.NotBefore.After(now):
		return fmt.Errorf("certificate.chain: the certificate begins on %s only: is the clock of this host right?", leaf.NotBefore.UTC().Format(time.DateTime))
	case left < 14*24*time.Hour:
		s.note("The certificate expires in %s: renew it, the server reads the new file by itself.", span(left))
	}
	between := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if cert, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(cert)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: s.a.Host, Intermediates: between}); err != nil {
		s.note("This host does not know who has signed the certificate (%s): right for an authority of the company that its computers know; else certificates between it and the root are missing in the file.", leaf.Issuer)
	}
	s.ok("certificate for %s, until %s", strings.Join(leaf.DNSNames, ", "), leaf.NotAfter.UTC().Format(time.DateOnly))
	var missing []string
	for _, name := range s.serviceNames() {
		if leaf.VerifyHostname(name) != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		s.note("The certificate lacks %s: clients set themselves up without warning, and MTA-STS works, with these names in it only.", strings.Join(missing, ", "))
	}
	return nil
}

// serviceNames are the further names that a certificate is worth having for.
func (s *setup) serviceNames() []string {
	var all []string
	for _, d := range s.a.Domains {
		all = append(all, "autoconfig."+d, "autodiscover."+d, "mta-sts."+d)
	}
	return all
}

// maxACMEDirectory bounds the first answer of an authority.
const maxACMEDirectory = 64 << 10

// tryACME asks the authority what it is.
func (s *setup) tryACME(ctx context.Context) error {
	c := &s.a.Certificate
	c.ACME = cmp.Or(c.ACME, letsEncrypt)
	c.Contact = cmp.Or(c.Contact, s.a.Postmaster)
	client := &http.Client{}
	if c.ACMECA != "" {
		pem, err := os.ReadFile(c.ACMECA)
		if err != nil {
			return fmt.Errorf("certificate.acme_ca: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return fmt.Errorf("certificate.acme_ca: %s has no certificate in PEM", c.ACMECA)
		}
		if err := s.owner.mayRead(ctx, c.ACMECA); err != nil {
			return fmt.Errorf("certificate.acme_ca: %w", err)
		}
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
		client.Transport = transport
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.ACME, nil)
	if err != nil || req.URL.Scheme != "https" {
		return fmt.Errorf("certificate.acme: %q is no URL of an authority, as %s is", c.ACME, letsEncrypt)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("certificate.acme: %w: does this host reach the authority, and is acme_ca right?", err)
	}
	defer resp.Body.Close()
	var directory struct { // RFC 8555 §7.1.1
		NewOrder string `json:"newOrder"`
		Meta     struct {
			Terms    string `json:"termsOfService"`
			External bool   `json:"externalAccountRequired"`
		} `json:"meta"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxACMEDirectory)).Decode(&directory); err != nil || directory.NewOrder == "" {
		return fmt.Errorf("certificate.acme: what %s answers (%s) is not the directory of an authority", c.ACME, resp.Status)
	}
	s.ok("the authority answers; by naming it you agree to its terms %s", directory.Meta.Terms)
	if directory.Meta.External && (s.present == nil || s.present.ACME.KeyID == "") {
		s.note("The authority wants an account that it has given you: put key_id and mac_key into [acme].")
	}
	if p := s.a.PortBase; p != 0 {
		s.note("The authority asks port 80 of %s, and this server listens on %d: pass the one on to the other.", s.a.Host, 80+p)
	}
	s.note("The authority looks at http://%s/ before it signs: the name must be in the DNS, and port 80 reachable from it. 'dirpost cert list' says how that goes.", s.a.Host)
	return nil
}

// tryCSR looks at the key and the certificate of a request, where there are any.
func (s *setup) tryCSR(ctx context.Context) error {
	c := &s.a.Certificate
	c.Chain, c.Key = csrChain(s.path), filepath.Join(filepath.Dir(csrChain(s.path)), "key.pem")
	if _, err := os.Stat(c.Chain); err == nil {
		return s.tryFiles(ctx)
	}
	switch _, err := os.Stat(c.Key); {
	case errors.Is(err, fs.ErrNotExist):
		s.ok("a key %s and a request for the company's authority will be made", c.Key)
	case err != nil:
		return err
	default:
		s.ok("a request for the company's authority will be made with the key %s", c.Key)
	}
	return nil
}

// csrFile is where the request is put.
func (s *setup) csrFile() string { return filepath.Join(filepath.Dir(csrChain(s.path)), "request.csr") }

// waitsForChain reports whether the certificate has still to come from the authority.
func (s *setup) waitsForChain() bool {
	if s.a.Certificate.Kind != certificateCSR {
		return false
	}
	_, err := os.Stat(s.a.Certificate.Chain)
	return err != nil
}
