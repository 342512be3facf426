package certificate

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dirpost/directory"
)

// The ways to find the person of a certificate, as Config.Match names them.
const (
	MatchSID       = "sid"                          // the extension of AD CS, against objectSid
	MatchSIDURI    = "sid-uri"                      // the same in a name that the requester may have chosen
	MatchSerial    = directory.CertificateSerial    // altSecurityIdentities X509:<I>…<SR>…
	MatchKeyID     = directory.CertificateKeyID     // altSecurityIdentities X509:<SKI>…
	MatchPublicKey = directory.CertificatePublicKey // altSecurityIdentities X509:<SHA1-PUKEY>…
	MatchWhole     = directory.CertificateWhole     // userCertificate
)

// DefaultMatch are the ways that count without a configuration.
func DefaultMatch() []string {
	return []string{MatchSID, MatchSerial, MatchKeyID, MatchPublicKey, MatchWhole}
}

// Revocation says what counts when nobody says whether a certificate was revoked.
type Revocation string

// The ways to deal with revocation.
const (
	Required Revocation = "required" // a login fails for the time being; the default
	IfKnown  Revocation = "if-known" // only what is known to be revoked is refused
	Off      Revocation = "off"      // nobody is asked
)

// Config is what an administrator decides about client certificates.
type Config struct {
	// CA are the PEM files of the authorities whose certificates count.
	CA []string
	// Intermediate are PEM files of authorities between them and the clients, for
	// clients that do not send them.
	Intermediate []string
	// Match are the ways to find the person, all of which must agree.
	Match []string
	// Directories are those whose people may log in by certificate.
	Directories []string
	// Revocation is Required if empty.
	Revocation Revocation
	// CRL are https or http URLs, or absolute paths, of revocation lists, beside
	// those that certificates name.
	CRL []string
	// OCSP is the URL of a responder, instead of those that certificates name.
	OCSP string
	// RefreshEvery is how often a list is fetched again that is still valid; default
	// 1 h.
	RefreshEvery time.Duration
}

func (c Config) withDefaults() Config {
	if len(c.Match) == 0 {
		c.Match = DefaultMatch()
	}
	if c.Revocation == "" {
		c.Revocation = Required
	}
	if c.RefreshEvery == 0 {
		c.RefreshEvery = time.Hour
	}
	return c
}

// Validate reports what is wrong with c, in the words of the configuration. It does
// not read the files.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.CA) == 0 {
		bad("ca: name the file of the authority that issues the certificates of people")
	}
	all := append(DefaultMatch(), MatchSIDURI)
	for _, m := range c.Match {
		if !slices.Contains(all, m) {
			bad("match: %q is none of %s", m, strings.Join(all, ", "))
		}
	}
	if !slices.Contains([]Revocation{"", Required, IfKnown, Off}, c.Revocation) {
		bad("revocation: %q is none of required, if-known, off", c.Revocation)
	}
	for _, s := range c.CRL {
		if !isHTTP(s) && !filepath.IsAbs(s) {
			bad("crl: %q is neither a URL nor an absolute path", s)
		}
	}
	if c.OCSP != "" && !isHTTP(c.OCSP) {
		bad("ocsp: %q is no URL", c.OCSP)
	}
	if c.RefreshEvery < 0 || c.RefreshEvery > 7*24*time.Hour {
		bad("refresh_every: want between 0 and 7d")
	}
	return errors.Join(errs...)
}

// isHTTP reports whether s is a URL that revocation is asked of: what is said there
// is signed, so that http will do (RFC 5280 §8).
func isHTTP(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && len(s) <= 1024
}
