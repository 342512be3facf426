package directory

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// issued returns a certificate of an issuer with a serial number.
func issued(t testing.TB, issuer pkix.Name, serial *big.Int) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "alice"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), SubjectKeyId: []byte{0xdf, 0x2f, serial.Bytes()[0]}}
	parent := &x509.Certificate{Subject: issuer, SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// adName is a name as authorities of Active Directory have it, from the domain
// down.
func adName(values ...string) pkix.Name {
	var n pkix.Name
	for _, v := range values {
		typ, value, _ := strings.Cut(v, "=")
		oid := map[string]asn1.ObjectIdentifier{"DC": {0, 9, 2342, 19200300, 100, 1, 25}, "CN": {2, 5, 4, 3}, "O": {2, 5, 4, 10}, "C": {2, 5, 4, 6}, "E": {1, 2, 840, 113549, 1, 9, 1}}[typ]
		n.ExtraNames = append(n.ExtraNames, pkix.AttributeTypeAndValue{Type: oid, Value: value})
	}
	return n
}

// altSecurityIdentities in the forms of Microsoft's KB5014754, and in those that
// are too weak to name anybody.
func TestCertificateName(t *testing.T) {
	t.Parallel()
	serial, _ := new(big.Int).SetString("1200000000ac11000000002b", 16)
	c := issued(t, adName("DC=com", "DC=contoso", "CN=CONTOSO-DC-CA"), serial)
	quoted := issued(t, adName("C=DE", `O=Acme "Mail", Inc. + Sons`, "CN=Root  CA", "E=ca@acme.example"), big.NewInt(0x80ff))
	keySum := sha1.Sum(c.RawSubjectPublicKeyInfo)
	bitSum := sha1.Sum(publicKeyBits(c.RawSubjectPublicKeyInfo))
	thumb := sha1.Sum(c.Raw)
	for _, tt := range []struct {
		mapping string
		of      *x509.Certificate // nil: of none
		bad     bool
	}{
		{`X509:<I>DC=com,DC=contoso,CN=CONTOSO-DC-CA<SR>2B0000000011AC0000000012`, c, false},
		{`x509:<i>dc=COM, dc=Contoso, cn=contoso-dc-ca<sr>2b 00 00 00 00 11 ac 00 00 00 00 12`, c, false},
		{`X509:<I>C=DE,O="Acme ""Mail"", Inc. + Sons",CN=Root  CA,E=ca@acme.example<SR>FF80`, quoted, false},
		{`X509:<I>C=DE,O="Acme ""Mail"", Inc. + Sons",CN=root ca,1.2.840.113549.1.9.1=CA@acme.example<SR>ff8000`, quoted, false},
		{`X509:<SKI>df2f12`, c, false},
		{`X509:<SHA1-PUKEY>` + hex.EncodeToString(keySum[:]), c, false},
		{`X509:<SHA1-PUKEY>` + strings.ToUpper(hex.EncodeToString(bitSum[:])), c, false},
		{`X509:<SHA1-PUKEY>` + hex.EncodeToString(thumb[:]), c, false},

		{`X509:<I>DC=com,DC=contoso,CN=CONTOSO-DC-CA<SR>1200000000AC11000000002B`, nil, false}, // the other way round
		{`X509:<I>CN=CONTOSO-DC-CA,DC=contoso,DC=com<SR>2B0000000011AC0000000012`, nil, false},
		{`X509:<I>DC=com,DC=contoso,CN=OTHER-CA<SR>2B0000000011AC0000000012`, nil, false},
		{`Kerberos:alice@CONTOSO.COM`, nil, false},

		{`X509:<RFC822>alice@contoso.com`, nil, true},
		{`X509:<S>CN=alice`, nil, true},
		{`X509:<I>DC=com,CN=CA<S>CN=alice`, nil, true},
		{`X509:<I>DC=com,CN=CA`, nil, true},
		{`X509:<I>DC=com,CN=CA<S>CN=alice<SR>00`, nil, true},
		{`X509:<PN>alice@contoso.com`, nil, true},
		{`X509:`, nil, true},
		{`X509:<SKI>`, nil, true},
		{`X509:<SKI>xyz`, nil, true},
		{`X509:<SHA1-PUKEY>00`, nil, true},
		{`X509:<I>nonsense<SR>00`, nil, true},
		{`X509:<I>CN="x<SR>00`, nil, true},
		{`X509:<I>CN=x<SR>`, nil, true},
		{`X509:<I>CN=x<SR>` + strings.Repeat("00", 40), nil, true},
		{`X509:<I>CN=` + strings.Repeat("x", 4000) + `<SR>00`, nil, true},
	} {
		name, err := CertificateName(tt.mapping)
		if tt.bad != (err != nil) {
			t.Errorf("%s: %q, %v", tt.mapping, name, err)
		}
		for _, cert := range []*x509.Certificate{c, quoted} {
			if got := name != "" && slices.Contains(CertificateNames(cert), name); got != (cert == tt.of) {
				t.Errorf("%s: %q: of serial %x: %v, it has %q", tt.mapping, name, cert.SerialNumber, got, CertificateNames(cert))
			}
		}
	}
}

func TestByCertificate(t *testing.T) {
	t.Parallel()
	c, other := issued(t, adName("CN=CA"), big.NewInt(7)), issued(t, adName("CN=CA"), big.NewInt(8))
	whole, err := CertificateOf(c.Raw)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := CertificateName("X509:<I>CN=CA<SR>08")
	if err != nil {
		t.Fatal(err)
	}
	entry := func(key Key, names ...string) *Entry {
		return &Entry{Key: key, DN: "cn=" + string(key), Kind: KindPerson, Certificates: names}
	}
	gone := entry("a:4", whole)
	gone.Gone = time.Now()
	s := NewSnapshot(nil, []*Entry{entry("a:1", whole), entry("a:2", serial), entry("a:3", "ski:00"), gone})
	find := func(c *x509.Certificate) (keys []Key) {
		for _, name := range CertificateNames(c) {
			if e := s.ByCertificate(name); e != nil {
				keys = append(keys, e.Key)
			}
		}
		return keys
	}
	if got := find(c); !slices.Equal(got, []Key{"a:1"}) {
		t.Errorf("userCertificate: %v", got)
	}
	if got := find(other); !slices.Equal(got, []Key{"a:2"}) {
		t.Errorf("altSecurityIdentities: %v", got)
	}
	if s.ByCertificate("") != nil {
		t.Error("somebody has no certificate at all")
	}
	// Who is one of two is nobody.
	s = s.with(2, []Change{{Key: "a:5", Entry: entry("a:5", whole)}})
	if got := find(c); len(got) != 0 {
		t.Errorf("of two: %v", got)
	}
	if _, err := CertificateOf([]byte("x")); err == nil {
		t.Error("no certificate is one")
	}
}

// FuzzCertificateName: a mapping names something by one of the strong forms, in a
// bounded name, or nothing; and what is read of a name reads the same again.
func FuzzCertificateName(f *testing.F) {
	for _, s := range []string{
		`X509:<I>DC=com,DC=contoso,CN=CONTOSO-DC-CA<SR>2B0000000011AC0000000012`,
		`X509:<I>C=DE,O="Acme ""Mail"", Inc. + Sons",CN=Root CA+OU=x;OID.1.2.3=y<SR>FF80`,
		`X509:<SKI>df2f4b`, `X509:<SHA1-PUKEY>50bf88e67522ab8ce093ce51830ab0bcf8ba7824`, `X509:<S>CN=x`, `Kerberos:a@B`, `X509:<I>CN="<SR>`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := CertificateName(s)
		if err != nil && name != "" {
			t.Errorf("%q: %q beside %v", s, name, err)
		}
		if name == "" {
			return
		}
		kind, _, _ := strings.Cut(name, ":")
		if !slices.Contains([]string{CertificateSerial, CertificateKeyID, CertificatePublicKey}, kind) || len(name) > 8*maxCertificateName {
			t.Errorf("%q: %q", s, name)
		}
		if again, err := CertificateName(strings.ToUpper(s)); err != nil && kind != CertificateSerial {
			t.Errorf("%q in capitals: %q, %v", s, again, err)
		}
	})
}
