package directory

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// The kinds of name under which an entry claims a certificate, as they stand
// before the colon of Entry.Certificates.
const (
	CertificateSerial    = "serial"     // issuer and serial number
	CertificateKeyID     = "ski"        // subject key identifier (RFC 5280 §4.2.1.2)
	CertificatePublicKey = "public-key" // SHA-1 of the public key or of the certificate
	CertificateWhole     = "sha256"     // SHA-256 of the whole certificate
)

// maxCertificateName bounds the text of a mapping, in octets. It holds a name of
// an issuer and a serial number of 20 octets (RFC 5280 §4.1.2.2).
const maxCertificateName = 2 << 10

// ErrWeakMapping reports a mapping by a name that anybody may get a certificate
// for, or whose certificates cannot be told apart.
var ErrWeakMapping = errors.New("a certificate is mapped by issuer and serial number, by subject key identifier or by its public key only: " +
	"write X509:<I>…<SR>…, X509:<SKI>… or X509:<SHA1-PUKEY>…")

// CertificateNames returns every name under which an entry may claim c, the kinds
// as the constants have them. It has no opinion on whether c is genuine.
func CertificateNames(c *x509.Certificate) []string {
	var names []string
	if issuer, ok := issuerOf(c); ok && c.SerialNumber != nil && c.SerialNumber.Sign() > 0 {
		names = append(names, serialName(issuer, c.SerialNumber.Bytes()))
	}
	if len(c.SubjectKeyId) > 0 {
		names = append(names, CertificateKeyID+":"+hex.EncodeToString(c.SubjectKeyId))
	}
	// Administrators write the hash of the key as often as the thumbprint of the
	// certificate; nobody finds another certificate for either.
	for _, octets := range [][]byte{c.Raw, c.RawSubjectPublicKeyInfo, publicKeyBits(c.RawSubjectPublicKeyInfo)} {
		if len(octets) > 0 {
			sum := sha1.Sum(octets)
			names = append(names, CertificatePublicKey+":"+hex.EncodeToString(sum[:]))
		}
	}
	return append(names, wholeName(c.Raw))
}

// CertificateName reads one value of altSecurityIdentities and returns the name
// that CertificateNames gives such a certificate. "" without error is a mapping of
// something else (Kerberos:…). The weak forms, by the subject or an e-mail address,
// are ErrWeakMapping: they name whoever gets a certificate with that text.
func CertificateName(mapping string) (string, error) {
	scheme, rest, ok := strings.Cut(strings.TrimSpace(mapping), ":")
	if !ok || !strings.EqualFold(scheme, "X509") {
		return "", nil
	}
	if len(mapping) > maxCertificateName || !utf8.ValidString(mapping) {
		return "", fmt.Errorf("mapping of a certificate of %d octets, or no text", len(mapping))
	}
	tag, value, ok := cutTag(rest)
	if !ok {
		return "", ErrWeakMapping
	}
	switch tag {
	case "SKI":
		return hexName(CertificateKeyID, value, 1, 64)
	case "SHA1-PUKEY":
		return hexName(CertificatePublicKey, value, sha1.Size, sha1.Size)
	case "I":
		issuer, serial, ok := cutFold(value, "<SR>")
		if !ok || strings.ContainsAny(issuer+serial, "<>") {
			return "", ErrWeakMapping
		}
		name, err := microsoftName(issuer)
		if err != nil {
			return "", err
		}
		octets, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(serial), " ", ""))
		if err != nil || len(octets) == 0 || len(octets) > 32 {
			return "", fmt.Errorf("no serial number: %.80q", serial)
		}
		slices.Reverse(octets) // it is written from the last octet on
		return serialName(name, octets), nil
	}
	return "", ErrWeakMapping
}

// CertificateOf returns the name of exactly one certificate, given as DER, as
// userCertificate holds it (RFC 4523 §4.1).
func CertificateOf(der []byte) (string, error) {
	if _, err := x509.ParseCertificate(der); err != nil {
		return "", fmt.Errorf("no certificate: %w", err)
	}
	return wholeName(der), nil
}

func wholeName(der []byte) string {
	sum := sha256.Sum256(der)
	return CertificateWhole + ":" + hex.EncodeToString(sum[:])
}

func serialName(issuer string, serial []byte) string {
	for len(serial) > 0 && serial[0] == 0 {
		serial = serial[1:]
	}
	return CertificateSerial + ":" + hex.EncodeToString(serial) + "@" + issuer
}

// hexName reads hex digits of so many octets, with spaces or not.
func hexName(kind, digits string, least, most int) (string, error) {
	octets, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(digits), " ", ""))
	if err != nil || len(octets) < least || len(octets) > most {
		return "", fmt.Errorf("no hash or identifier: %.80q", digits)
	}
	return kind + ":" + hex.EncodeToString(octets), nil
}

// cutTag takes <TAG> from the front.
func cutTag(s string) (tag, value string, ok bool) {
	s = strings.TrimSpace(s)
	if !strings.HasPrefix(s, "<") {
		return "", "", false
	}
	tag, value, ok = strings.Cut(s[1:], ">")
	return strings.ToUpper(tag), value, ok
}

// cutFold is strings.Cut at a separator in any case.
func cutFold(s, sep string) (before, after string, ok bool) {
	for i := 0; i+len(sep) <= len(s); i++ {
		if strings.EqualFold(s[i:i+len(sep)], sep) {
			return s[:i], s[i+len(sep):], true
		}
	}
	return s, "", false
}

// nameTypes are the attribute types of names as Windows writes them, and as
// others do.
var nameTypes = map[string]string{
	"CN": "2.5.4.3", "SN": "2.5.4.4", "SERIALNUMBER": "2.5.4.5", "C": "2.5.4.6", "L": "2.5.4.7", "S": "2.5.4.8", "ST": "2.5.4.8",
	"STREET": "2.5.4.9", "O": "2.5.4.10", "OU": "2.5.4.11", "T": "2.5.4.12", "TITLE": "2.5.4.12", "G": "2.5.4.42", "GN": "2.5.4.42", "I": "2.5.4.43",
	"DC": "0.9.2342.19200300.100.1.25", "UID": "0.9.2342.19200300.100.1.1", "E": "1.2.840.113549.1.9.1", "EMAIL": "1.2.840.113549.1.9.1",
}

// microsoftName reads a name as CertNameToStr of Windows writes it: the parts in
// the order of the certificate, a value with separators in quotation marks.
func microsoftName(s string) (string, error) {
	var parts []string
	sep := byte(',')
	for rest := strings.TrimSpace(s); ; {
		typ, after, ok := strings.Cut(rest, "=")
		typ = strings.ToUpper(strings.TrimSpace(typ))
		oid := nameTypes[typ]
		if oid == "" {
			oid = strings.TrimPrefix(typ, "OID.")
		}
		if !ok || !isOID(oid) {
			return "", fmt.Errorf("no name of an issuer: %.80q", s)
		}
		value, next, more, err := microsoftValue(after)
		if err != nil {
			return "", err
		}
		parts = append(parts, joinedBy(sep)+namePart(oid, value))
		if more == 0 {
			return issuerName(parts), nil
		}
		sep, rest = more, strings.TrimSpace(next)
	}
}

// microsoftValue takes a value up to a separator, which it returns, 0 at the end.
func microsoftValue(s string) (value, rest string, sep byte, err error) {
	s = strings.TrimLeft(s, " ")
	if !strings.HasPrefix(s, `"`) {
		i := strings.IndexAny(s, ",+;")
		if i < 0 {
			return s, "", 0, nil
		}
		return s[:i], s[i+1:], separator(s[i]), nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '"' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			b.WriteByte('"')
			i++
			continue
		}
		rest = strings.TrimLeft(s[i+1:], " ")
		if rest == "" {
			return b.String(), "", 0, nil
		}
		if strings.IndexByte(",+;", rest[0]) >= 0 {
			return b.String(), rest[1:], separator(rest[0]), nil
		}
		break
	}
	return "", "", 0, fmt.Errorf("no value of a name: %.80q", s)
}

func separator(c byte) byte {
	if c == ';' {
		return ','
	}
	return c
}

func isOID(s string) bool {
	return len(s) >= 3 && strings.IndexByte(s, '.') > 0 && strings.Trim(s, "0123456789.") == ""
}

// issuerOf returns the issuer of c in the form of microsoftName.
func issuerOf(c *x509.Certificate) (string, bool) {
	var seq pkix.RDNSequence
	if rest, err := asn1.Unmarshal(c.RawIssuer, &seq); err != nil || len(rest) > 0 || len(seq) == 0 {
		return "", false
	}
	var parts []string
	for _, rdn := range seq {
		for i, a := range rdn {
			value, ok := a.Value.(string)
			if !ok {
				return "", false
			}
			sep := byte(',')
			if i > 0 {
				sep = '+'
			}
			parts = append(parts, joinedBy(sep)+namePart(a.Type.String(), value))
		}
	}
	return issuerName(parts), true
}

func joinedBy(sep byte) string { return string(rune(sep)) }

// namePart writes one part of a name so that no two read alike.
func namePart(oid, value string) string {
	var b strings.Builder
	b.WriteString(oid + "=")
	writeDNValue(&b, foldDN(strings.TrimSpace(value)))
	return b.String()
}

// issuerName joins parts that begin with their separators.
func issuerName(parts []string) string { return strings.Join(parts, "")[1:] }

// publicKeyBits returns the bits of the key of a SubjectPublicKeyInfo
// (RFC 5280 §4.1.2.7), nil if it is none.
func publicKeyBits(spki []byte) []byte {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(spki, &info); err != nil || len(rest) > 0 {
		return nil
	}
	return info.Key.Bytes
}

// ByCertificate returns the entry that claims a certificate by a name of
// CertificateNames. It is nil when nobody does, or more than one.
func (s *Snapshot) ByCertificate(name string) *Entry {
	if name == "" {
		return nil
	}
	return s.only(byCertificate, name)
}
