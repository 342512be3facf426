package join

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"dirpost/directory/ldap"
)

// readDomain reads what an account needs to know of its domain.
func readDomain(ctx context.Context, s *ldap.Session, domain string) (Account, error) {
	if got := ldap.DNSDomain(s.Root.Base); got != domain {
		return Account{}, fmt.Errorf("%s is a domain controller of %s, not of %s", s.Root.Host, got, domain)
	}
	a := Account{Domain: domain, Realm: strings.ToUpper(domain), Base: s.Root.Base, Level: s.Root.Level, Controller: s.Root.Host}
	head, err := s.Read(ctx, a.Base, "objectSid")
	if err != nil || head == nil {
		return Account{}, fmt.Errorf("read %s: %w", a.Base, errors.Join(err, errIf(head == nil, "not there")))
	}
	a.DomainSID = ldap.SID(head.GetRawAttributeValue("objectSid"))
	crossRefs, err := s.Search(ctx, "CN=Partitions,"+s.Root.ConfigurationDN, goldap.ScopeSingleLevel,
		"(&(objectClass=crossRef)(nCName="+goldap.EscapeFilter(a.Base)+"))", "nETBIOSName")
	if err != nil {
		return Account{}, fmt.Errorf("read the partitions of the forest: %w", err)
	}
	for _, e := range crossRefs {
		a.NetBIOS = e.GetAttributeValue("nETBIOSName")
	}
	return a, nil
}

func errIf(is bool, text string) error {
	if is {
		return errors.New(text)
	}
	return nil
}

// LevelName is the functional level of a domain controller for people.
func LevelName(level int) string {
	names := map[int]string{0: "2000", 1: "2003 interim", 2: "2003", 3: "2008", 4: "2008 R2", 5: "2012", 6: "2012 R2", 7: "2016", 10: "2025"}
	if n, ok := names[level]; ok {
		return n
	}
	return fmt.Sprint(level)
}

// An Authority is a certificate authority of the domain.
type Authority struct {
	Certificate *x509.Certificate
	Fingerprint string // SHA-256, as browsers show it
}

// PEM is the certificate as text.
func (a Authority) PEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate.Raw}))
}

// authorityPlaces are where Active Directory keeps the authorities of the forest,
// below CN=Public Key Services,CN=Services of the configuration.
var authorityPlaces = []struct {
	dn    string
	scope int
}{
	{"CN=Certification Authorities", goldap.ScopeSingleLevel}, // roots
	{"CN=AIA", goldap.ScopeSingleLevel},                       // those below
	{"CN=NTAuthCertificates", goldap.ScopeBaseObject},         // those that may log people in
}

// maxAuthorities bounds how many are looked at.
const maxAuthorities = 100

// readAuthorities reads the certificate authorities of the forest that are good
// now. The connection is sealed, so what it says is the domain's word.
func readAuthorities(ctx context.Context, s *ldap.Session, now time.Time) ([]Authority, error) {
	var all []Authority
	seen := make(map[string]bool)
	for _, p := range authorityPlaces {
		entries, err := s.Search(ctx, p.dn+",CN=Public Key Services,CN=Services,"+s.Root.ConfigurationDN, p.scope, "(cACertificate=*)", "cACertificate")
		if goldap.IsErrorWithCode(err, goldap.LDAPResultNoSuchObject) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the authorities of the domain: %w", err)
		}
		for _, e := range entries {
			for _, der := range e.GetRawAttributeValues("cACertificate") {
				c, err := x509.ParseCertificate(der)
				if err != nil || !c.IsCA || now.After(c.NotAfter) || seen[string(der)] || len(all) >= maxAuthorities {
					continue // AD writes a single zero octet where there is none yet
				}
				seen[string(der)] = true
				all = append(all, Authority{Certificate: c, Fingerprint: fingerprint(der)})
			}
		}
	}
	return all, nil
}

// Certificates reads PEM text, as an account keeps it.
func Certificates(text string) ([]Authority, error) {
	var all []Authority
	for rest := []byte(text); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return all, nil
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, Authority{Certificate: c, Fingerprint: fingerprint(b.Bytes)})
	}
}

// fingerprint is the SHA-256 of a certificate in pairs of digits.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}
