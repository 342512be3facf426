package certificate

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	// oidSecurity is the extension in which AD CS writes who asked for a
	// certificate, and oidSID the kind of name in it ([MS-WCCE] §2.2.2.7.7.4).
	oidSecurity = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 25, 2}
	oidSID      = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 25, 2, 1}

	errSIDExtension = errors.New("extension with the security identifier cannot be read")
)

// sidURI begins the name in which Intune and others write the security identifier.
const sidURI = "tag:microsoft.com,2022-09-14:sid:"

// sidOf returns the security identifier in the extension of c, "" if it has none.
func sidOf(c *x509.Certificate) (string, error) {
	found := ""
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidSecurity) {
			continue
		}
		sid, err := parseSID(e.Value)
		if err != nil {
			return "", err
		}
		if found != "" && sid != found {
			return "", fmt.Errorf("%w: there are two", errSIDExtension)
		}
		found = sid
	}
	return found, nil
}

// parseSID reads the value of the extension: GeneralNames (RFC 5280 §4.2.1.6) with
// one otherName, an OCTET STRING with the identifier as text.
func parseSID(der []byte) (string, error) {
	in := cryptobyte.String(der)
	var names, other, value cryptobyte.String
	var text []byte
	var kind asn1.ObjectIdentifier
	context0 := cryptobyte_asn1.Tag(0).ContextSpecific().Constructed()
	if !in.ReadASN1(&names, cryptobyte_asn1.SEQUENCE) || !in.Empty() {
		return "", errSIDExtension
	}
	sid := ""
	for !names.Empty() {
		var tag cryptobyte_asn1.Tag
		if !names.ReadAnyASN1(&other, &tag) {
			return "", errSIDExtension
		}
		if tag != context0 || !other.ReadASN1ObjectIdentifier(&kind) || !kind.Equal(oidSID) {
			continue
		}
		if sid != "" || !other.ReadASN1(&value, context0) || !other.Empty() ||
			!value.ReadASN1Bytes(&text, cryptobyte_asn1.OCTET_STRING) || !value.Empty() || !isSID(string(text)) {
			return "", errSIDExtension
		}
		sid = string(text)
	}
	return sid, nil
}

// sidOfURI returns the security identifier among the URIs of c, "" if it has none.
func sidOfURI(c *x509.Certificate) string {
	found := ""
	for _, u := range c.URIs {
		sid, ok := strings.CutPrefix(u.String(), sidURI)
		if !ok {
			continue
		}
		if !isSID(sid) || found != "" && found != sid {
			return ""
		}
		found = sid
	}
	return found
}

// isSID reports whether s is a security identifier as text ([MS-DTYP] §2.4.2.1).
func isSID(s string) bool {
	rest, ok := strings.CutPrefix(s, "S-1-")
	if !ok || len(s) > 184 {
		return false
	}
	parts := strings.Split(rest, "-")
	if len(parts) < 2 || len(parts) > 16 {
		return false
	}
	for i, p := range parts {
		bits := 32
		if i == 0 {
			bits = 48
		}
		if _, err := strconv.ParseUint(p, 10, bits); err != nil || p[0] == '+' || len(p) > 1 && p[0] == '0' {
			return false
		}
	}
	return true
}
