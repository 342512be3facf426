package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/go-ldap/ldap/v3"

	"dirpost/internal/testenv"
)

// TestDomainCertificatesAndTokens: people of a real Active Directory log in with a
// certificate that has their security identifier, with one that an administrator has
// mapped, and with a token about that identifier; once disabled all of them are out,
// whatever they hold.
func TestDomainCertificatesAndTokens(t *testing.T) {
	t.Parallel()
	dc := asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}
	ca := testenv.NewPeopleCA(t, pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
		{Type: dc, Value: "example"}, {Type: dc, Value: "corp"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "CORP-CA"},
	}})
	issuer := testenv.NewIssuer(t)
	s := newSystem(t, fmt.Sprintf("[auth.certificates]\nca = [%q]\n[[auth.oauth]]\nissuer = %q\naudience = [\"dirpost\"]\nca = %q\nclaim = \"onprem_sid\"\nmatch = \"sid\"\n",
		ca.CAFile, issuer.URL, issuer.CAFile))
	ad := s.joinAD()
	alice, address := ad.person("alice")
	bob, _ := ad.person("bob")
	s.confirm()
	s.start()

	bySID := ca.Issue("x", func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{testenv.SIDExtension(ad.sid(alice))} })
	serial := big.NewInt(time.Now().UnixNano())
	mapped := ca.Issue("x", func(c *x509.Certificate) { c.SerialNumber = serial })
	octets := serial.Bytes()
	slices.Reverse(octets)
	ad.replace(alice, "altSecurityIdentities", "X509:<I>DC=example,DC=corp,CN=CORP-CA<SR>"+hex.EncodeToString(octets))
	token := issuer.Token(map[string]any{"onprem_sid": ad.sid(alice)})

	login := func(how string) (*imapclient.Client, error) {
		conf := s.tls()
		var client sasl.Client
		switch how {
		case "sid":
			conf.Certificates = append(conf.Certificates, bySID.TLS)
			client = sasl.NewExternalClient(address)
		case "mapped":
			conf.Certificates = append(conf.Certificates, mapped.TLS)
			client = sasl.NewExternalClient("")
		default:
			client = sasl.NewOAuthBearerClient(&sasl.OAuthBearerOptions{Username: address, Token: token})
		}
		c, err := imapclient.DialTLS(s.addr["imaps"], &imapclient.Options{TLSConfig: conf})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c, c.Authenticate(client)
	}
	open := map[string]*imapclient.Client{}
	for _, how := range []string{"sid", "mapped", "token"} {
		var err error
		s.eventually("login by "+how, func() bool {
			open[how], err = login(how)
			return err == nil
		})
		if _, err := open[how].Select("INBOX", nil).Wait(); err != nil {
			t.Fatal(err)
		}
		if _, err := open[how].Idle(); err != nil {
			t.Fatal(err)
		}
	}

	ad.replace(alice, "userAccountControl", "514")
	for how, c := range open {
		select {
		case <-c.Closed():
		case <-time.After(10 * time.Second):
			t.Errorf("%s: the session goes on", how)
		}
		if _, err := login(how); err == nil || !strings.Contains(err.Error(), "CONTACTADMIN") {
			t.Errorf("%s: a disabled person: %v", how, err)
		}
	}

	// A mapping that two have is nobody's: the mechanism is not even offered.
	ad.replace(alice, "userAccountControl", "512")
	s.eventually("enabled again", func() bool { _, err := login("mapped"); return err == nil })
	ad.replace(bob, "altSecurityIdentities", "X509:<I>DC=example,DC=corp,CN=CORP-CA<SR>"+hex.EncodeToString(octets))
	s.eventually("mapped twice", func() bool { _, err := login("mapped"); return err != nil })
	if _, err := login("sid"); err != nil {
		t.Errorf("by security identifier: %v", err)
	}
}

// replace gives an entry of the domain one value.
func (d *domain) replace(dn, attribute, value string) {
	d.t.Helper()
	m := ldap.NewModifyRequest(dn, nil)
	m.Replace(attribute, []string{value})
	if err := d.Modify(m); err != nil {
		d.t.Fatal(err)
	}
}

// sid is the security identifier of an entry of the domain ([MS-DTYP] §2.4.2.2).
func (d *domain) sid(dn string) string {
	d.t.Helper()
	res, err := d.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", []string{"objectSid"}, nil))
	if err != nil || len(res.Entries) != 1 {
		d.t.Fatalf("%s: %v", dn, err)
	}
	b := res.Entries[0].GetRawAttributeValue("objectSid")
	s := fmt.Sprintf("S-1-%d", b[7])
	for b = b[8:]; len(b) >= 4; b = b[4:] {
		s += fmt.Sprintf("-%d", binary.LittleEndian.Uint32(b))
	}
	return s
}
