package ldap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// SetupError reports what no waiting mends: the servers were there, and what the
// configuration says of them or of the account is not so. Its text says what to
// correct. Everything else that goes wrong may be right again in a moment.
type SetupError struct{ Err error }

// Error implements error.
func (e *SetupError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *SetupError) Unwrap() error { return e.Err }

// serverErrors are why none of the servers could be used, on one line.
type serverErrors []error

// Error implements error.
func (e serverErrors) Error() string {
	all := make([]string, len(e))
	for i, err := range e {
		all[i] = err.Error()
	}
	return strings.Join(all, "; ")
}

// Unwrap returns the errors.
func (e serverErrors) Unwrap() []error { return e }

// unreachable is the error of a dial that failed at every server, a SetupError
// if each of them was there and cannot be trusted.
func (d *dialer) unreachable(errs serverErrors) error {
	setup := len(errs) > 0
	for i, err := range errs {
		advice, wrong := connectAdvice(err)
		setup = setup && wrong
		if advice != "" {
			errs[i] = fmt.Errorf("%w: %s", err, advice)
		}
	}
	err := fmt.Errorf("connect to directory %q: %w", d.cfg.Name, errs)
	if setup {
		return &SetupError{err}
	}
	return err
}

// connectAdvice says what to do about a server that cannot be connected to, and
// whether only that helps.
func connectAdvice(err error) (advice string, wrong bool) {
	var (
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		any       *tls.CertificateVerificationError
		op        net.Error
	)
	switch {
	case errors.As(err, &authority):
		return "let ca name a file with the certificate of its authority", true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "renew the certificate of the server, or set the clock of this host", true
	case errors.As(err, &any):
		return "correct urls, or set server_name to a name in the certificate", true
	case errors.As(err, &op), errors.Is(err, context.DeadlineExceeded):
		return "is the server running, and are urls right?", false
	}
	return "", false
}

// tlsError says of a certificate that does not verify whose it is, who has signed
// it and until when.
func tlsError(s *server, err error) error {
	var v *tls.CertificateVerificationError
	if !errors.As(err, &v) || len(v.UnverifiedCertificates) == 0 {
		return fmt.Errorf("TLS with %s: %w", s.name, err)
	}
	leaf := v.UnverifiedCertificates[0]
	issuer := leaf.Issuer.String()
	return fmt.Errorf("certificate of %s, until %s, signed by %q: %w", s.name, leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST"), issuer[:min(len(issuer), 100)], err)
}

// judgedError is the word of a server about the account, in our words.
type judgedError struct{ error }

// bindError is the error of a bind as the account that reads the directory.
func (c Config) bindError(err error) error {
	var le *ldap.Error
	if !errors.As(err, &le) {
		return fmt.Errorf("bind to directory %q as %s: %w", c.Name, c.BindDN, err)
	}
	if isElsewhere(err) && le.ResultCode == ldap.LDAPResultInvalidCredentials {
		return fmt.Errorf("bind to directory %q as %s: the server cannot judge the password now; a read-only domain controller needs one that is not: %w", c.Name, c.BindDN, err)
	}
	switch le.ResultCode {
	case ldap.LDAPResultInvalidCredentials, ldap.LDAPResultInappropriateAuthentication:
		if reason, _ := adReason(le.Error()); reason != directory.ReasonPassword {
			return judgedError{fmt.Errorf("directory %q refuses %s: %v: mend the account there", c.Name, c.BindDN, reason)}
		}
		return &SetupError{fmt.Errorf("directory %q refuses the password of %s: correct bind_dn or bind_password", c.Name, c.BindDN)}
	case ldap.LDAPResultInvalidDNSyntax:
		return &SetupError{fmt.Errorf("directory %q: %s is no DN: correct bind_dn", c.Name, c.BindDN)}
	case ldap.LDAPResultConfidentialityRequired, ldap.LDAPResultStrongAuthRequired:
		return &SetupError{fmt.Errorf("directory %q takes no password on this connection: use ldaps:// in urls, or tls = \"starttls\"", c.Name)}
	}
	return fmt.Errorf("bind to directory %q as %s: %w", c.Name, c.BindDN, err)
}
