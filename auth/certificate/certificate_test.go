package certificate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/internal/testenv"
)

const aliceSID = "S-1-5-21-1004336348-1177238915-682003330-1104"

// mapper returns one for the certificates of a, changed.
func mapper(t *testing.T, a *testenv.PeopleCA, change func(*Config)) *Mapper {
	t.Helper()
	c := Config{CA: []string{a.CAFile}, Directories: []string{"corp"}}
	if change != nil {
		change(&c)
	}
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func shown(certs ...*x509.Certificate) *tls.ConnectionState {
	return &tls.ConnectionState{PeerCertificates: certs}
}

// class is how a judgement ended: "good", the class of the refusal, or "error".
func class(err error) string {
	var no *Refusal
	switch {
	case err == nil:
		return "good"
	case errors.As(err, &no):
		return no.Class
	}
	return "error"
}

func ca(t *testing.T) *testenv.PeopleCA {
	return testenv.NewPeopleCA(t, pkix.Name{CommonName: "CORP-CA", Organization: []string{"Corp"}})
}

func TestVerify(t *testing.T) {
	t.Parallel()
	ours, others := ca(t), ca(t)
	m := mapper(t, ours, nil)
	for name, tt := range map[string]struct {
		from   *testenv.PeopleCA
		change func(*x509.Certificate)
		want   string
	}{
		"good":                 {ours, nil, "good"},
		"any use":              {ours, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, "good"},
		"of another authority": {others, nil, "authority"},
		"for servers":          {ours, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, "usage"},
		"for no use said":      {ours, func(c *x509.Certificate) { c.ExtKeyUsage = nil }, "usage"},
		"expired":              {ours, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "expired"},
		"not yet":              {ours, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, "expired"},
		"an authority":         {ours, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, "usage"},
		"an unknown demand": {ours, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}, "invalid"},
	} {
		cert := tt.from.Issue("alice", tt.change)
		if _, err := m.Verify(shown(cert.TLS.Leaf)); class(err) != tt.want {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
	for _, state := range []*tls.ConnectionState{nil, shown()} {
		if _, err := m.Verify(state); !errors.Is(err, ErrNone) {
			t.Error(err)
		}
	}
}

func TestPerson(t *testing.T) {
	t.Parallel()
	a := ca(t)
	person := func(key directory.Key, e directory.Entry) *directory.Entry {
		e.Key, e.Directory, e.DN, e.Kind = key, key.Directory(), "cn="+string(key), directory.KindPerson
		return &e
	}
	mapped := func(mapping string) []string {
		name, err := directory.CertificateName(mapping)
		if err != nil {
			t.Fatal(err)
		}
		return []string{name}
	}
	sid := func(sid string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, testenv.SIDExtension(sid)) }
	}
	plain := a.Issue("bob", nil)
	whole, err := directory.CertificateOf(plain.TLS.Leaf.Raw)
	if err != nil {
		t.Fatal(err)
	}
	bySerial := a.Issue("carol", func(c *x509.Certificate) { c.SerialNumber = big.NewInt(0x0102) })
	byKey := a.Issue("dave", func(c *x509.Certificate) { c.SubjectKeyId = []byte{0xab, 0xcd} })
	s := directory.NewSnapshot(nil, []*directory.Entry{
		person("corp:alice", directory.Entry{SID: aliceSID}),
		person("corp:bob", directory.Entry{SID: "S-1-5-21-1-2-3-5", Certificates: []string{whole}}),
		person("corp:carol", directory.Entry{Certificates: mapped("X509:<I>O=Corp,CN=CORP-CA<SR>0201")}),
		person("corp:dave", directory.Entry{Certificates: mapped("X509:<SKI>ABCD")}),
		person("branch:erin", directory.Entry{SID: "S-1-5-21-9-9-9-9"}),
	})
	uri := func(c *x509.Certificate) {
		u, err := url.Parse(sidURI + aliceSID)
		if err != nil {
			t.Fatal(err)
		}
		c.URIs = []*url.URL{u}
	}
	for _, tt := range []struct {
		name  string
		cert  testenv.Cert
		match []string
		want  string // key, or the class of the refusal
	}{
		{"security identifier", a.Issue("x", sid(aliceSID)), nil, "corp:alice"},
		{"security identifier, not wanted", a.Issue("x", sid(aliceSID)), []string{MatchSerial}, "unmapped"},
		{"security identifier in a name", a.Issue("x", uri), []string{MatchSIDURI}, "corp:alice"},
		{"security identifier in a name, not wanted", a.Issue("x", uri), nil, "unmapped"},
		{"userCertificate", plain, nil, "corp:bob"},
		{"issuer and serial number", bySerial, nil, "corp:carol"},
		{"key identifier", byKey, nil, "corp:dave"},
		{"key identifier, not wanted", byKey, []string{MatchSID}, "unmapped"},
		{"nobody's", a.Issue("alice@corp.example", func(c *x509.Certificate) { c.EmailAddresses = []string{"alice@corp.example"} }), nil, "unmapped"},
		{"of another directory", a.Issue("x", sid("S-1-5-21-9-9-9-9")), nil, "unmapped"},
		{"two people", a.Issue("x", func(c *x509.Certificate) { sid(aliceSID)(c); c.SubjectKeyId = []byte{0xab, 0xcd} }), nil, "ambiguous"},
		{"no security identifier", a.Issue("x", sid("alice")), nil, "invalid"},
		{"two security identifiers", a.Issue("x", func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: oidSecurity, Value: append(testenv.SIDExtensionValue(aliceSID), 5, 0)}}
		}), nil, "invalid"},
	} {
		m := mapper(t, a, func(c *Config) { c.Match = tt.match })
		cert, err := m.Verify(shown(tt.cert.TLS.Leaf))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		e, by, err := m.Person(s, cert)
		got := class(err)
		if e != nil {
			got = string(e.Key)
		}
		if got != tt.want || (e == nil) != (by == "") && err == nil {
			t.Errorf("%s: %s by %q (%v), want %s", tt.name, got, by, err, tt.want)
		}
	}
}

// A certificate that was taken back opens nothing, and neither does one of which
// nobody can say whether it was, unless the administrator wants that.
func TestRevocation(t *testing.T) {
	t.Parallel()
	withOCSP := func(a *testenv.PeopleCA) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.CRLDistributionPoints, c.OCSPServer = nil, []string{a.URL + "/ocsp"} }
	}
	nothing := func(*testenv.PeopleCA) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.CRLDistributionPoints = nil }
	}
	away := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
	for _, tt := range []struct {
		name    string
		config  func(*testenv.PeopleCA, *Config)
		issue   func(*testenv.PeopleCA) func(*x509.Certificate)
		revoked bool
		handle  func(*testenv.PeopleCA) http.HandlerFunc
		want    string
	}{
		{name: "list", want: "good"},
		{name: "list, revoked", revoked: true, want: "revoked"},
		{name: "OCSP", issue: withOCSP, want: "good"},
		{name: "OCSP, revoked", issue: withOCSP, revoked: true, want: "revoked"},
		{name: "OCSP configured", issue: nothing, config: func(a *testenv.PeopleCA, c *Config) { c.OCSP = a.URL + "/ocsp" }, revoked: true, want: "revoked"},
		{name: "list configured", issue: nothing, config: func(a *testenv.PeopleCA, c *Config) { c.CRL = []string{a.URL + "/crl"} }, revoked: true, want: "revoked"},
		{name: "nobody to ask", issue: nothing, want: "error"},
		{name: "nobody to ask, if known", issue: nothing, config: func(_ *testenv.PeopleCA, c *Config) { c.Revocation = IfKnown }, want: "good"},
		{name: "off", config: func(_ *testenv.PeopleCA, c *Config) { c.Revocation = Off }, revoked: true, want: "good"},
		{name: "list away", handle: func(*testenv.PeopleCA) http.HandlerFunc { return away }, want: "error"},
		{name: "OCSP away", issue: withOCSP, handle: func(*testenv.PeopleCA) http.HandlerFunc { return away }, want: "error"},
		{name: "list away, if known", config: func(_ *testenv.PeopleCA, c *Config) { c.Revocation = IfKnown }, handle: func(*testenv.PeopleCA) http.HandlerFunc { return away }, want: "good"},
		{name: "revoked, if known", config: func(_ *testenv.PeopleCA, c *Config) { c.Revocation = IfKnown }, revoked: true, want: "revoked"},
		{name: "endless list", handle: func(*testenv.PeopleCA) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				for range maxList/(1<<16) + 2 {
					if _, err := w.Write(make([]byte, 1<<16)); err != nil {
						return
					}
				}
			}
		}, want: "error"},
		{name: "old list", handle: sends(func(l *x509.RevocationList) {
			l.ThisUpdate, l.NextUpdate = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		}), want: "error"},
		{name: "delta list", handle: sends(func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: oidDeltaCRL, Critical: true, Value: []byte{2, 1, 1}}}
		}), want: "error"},
		{name: "list with an unknown demand", handle: sends(func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}), want: "error"},
		{name: "list of people", handle: scoped(0x81, 1, 0xff), want: "good"},
		{name: "list of authorities", handle: scoped(0x82, 1, 0xff), want: "error"},
		{name: "list for some reasons", handle: scoped(0x83, 2, 0, 0x80), want: "error"},
		{name: "a list with an entry of another authority", handle: sends(func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: time.Now(), ExtraExtensions: []pkix.Extension{{Id: oidIssuer, Critical: true, Value: []byte{0x30, 0}}}}}
		}), want: "error"},
		{name: "a full list that takes away", handle: sends(func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: time.Now(), ReasonCode: reasonRemoved}}
		}), want: "error"},
		{name: "indirect list", handle: scoped(0x84, 1, 0xff), want: "error"},
		{name: "another part of a list", handle: scoped(append([]byte{0xa0, 15, 0xa0, 13, 0x86, 11}, "http://x/crl"[:11]...)...), want: "error"},
		{name: "redirects without end", handle: func(a *testenv.PeopleCA) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, a.URL+"/crl", http.StatusFound) }
		}, want: "error"},
	} {
		a := ca(t)
		var change func(*x509.Certificate)
		if tt.issue != nil {
			change = tt.issue(a)
		}
		cert := a.Issue("alice", change)
		if tt.revoked {
			a.Revoke(cert)
		}
		if tt.handle != nil {
			a.Handle(tt.handle(a))
		}
		m := mapper(t, a, func(c *Config) {
			if tt.config != nil {
				tt.config(a, c)
			}
		})
		ours, err := m.Verify(shown(cert.TLS.Leaf))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := m.Revoked(t.Context(), ours); class(err) != tt.want {
				t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
			}
		}
		if n := a.Requests("/crl") + a.Requests("/ocsp"); n > 2 && !strings.HasPrefix(tt.name, "redirects") && tt.name != "OCSP away" {
			t.Errorf("%s: asked %d times", tt.name, n)
		}
	}
}

// sends makes the authority send a list that is another.
func sends(change func(*x509.RevocationList)) func(*testenv.PeopleCA) http.HandlerFunc {
	return func(a *testenv.PeopleCA) http.HandlerFunc {
		der := a.List(change)
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(der) }
	}
}

// scoped makes it send a list with a scope.
func scoped(fields ...byte) func(*testenv.PeopleCA) http.HandlerFunc {
	return sends(func(l *x509.RevocationList) {
		l.ExtraExtensions = []pkix.Extension{{Id: oidIssuingPoint, Critical: true, Value: append([]byte{0x30, byte(len(fields))}, fields...)}}
	})
}

// A list of another authority says nothing, even one of the same name; and nobody
// but the authority, or whom it has appointed, answers for it.
func TestForeignAnswers(t *testing.T) {
	t.Parallel()
	a, other := ca(t), ca(t)
	cert := a.Issue("alice", nil)
	m := mapper(t, a, nil)
	ours, err := m.Verify(shown(cert.TLS.Leaf))
	if err != nil {
		t.Fatal(err)
	}
	foreign := other.List(nil)
	a.Handle(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(foreign) })
	if err := m.Revoked(t.Context(), ours); class(err) != "error" || !strings.Contains(err.Error(), "signature") {
		t.Error(err)
	}
	a.Handle(nil)
	byOCSP := func(c *x509.Certificate) { c.CRLDistributionPoints, c.OCSPServer = nil, []string{a.URL + "/ocsp"} }
	for name, tt := range map[string]struct {
		signer testenv.Cert
		want   string
	}{
		"a person": {a.Issue("mallory", nil), "error"},
		"appointed": {a.Issue("responder", func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
		}), "good"},
		"appointed, in the past": {a.Issue("responder", func(c *x509.Certificate) {
			c.ExtKeyUsage, c.NotAfter = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, time.Now().Add(-time.Minute)
		}), "error"},
		"of another authority": {other.Issue("responder", func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
		}), "error"},
	} {
		a.AnswersBy(tt.signer)
		ours, err := m.Verify(shown(a.Issue("alice", byOCSP).TLS.Leaf))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Revoked(t.Context(), ours); class(err) != tt.want {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
}

// A list that cannot be fetched again counts until it ends, and no longer.
func TestListIsKept(t *testing.T) {
	t.Parallel()
	a := ca(t)
	m := mapper(t, a, nil)
	var mu sync.Mutex
	now := time.Now()
	m.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	pass := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	cert := a.Issue("alice", func(c *x509.Certificate) { c.NotAfter = now.Add(12 * time.Hour) })
	long := a.List(func(l *x509.RevocationList) { l.NextUpdate = now.Add(6 * time.Hour) })
	a.Handle(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(long) })
	check := func(what, want string) {
		t.Helper()
		ours, err := m.Verify(shown(cert.TLS.Leaf))
		if err == nil {
			err = m.Revoked(context.Background(), ours)
		}
		if class(err) != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	check("fetched", "good")
	a.Handle(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	pass(2 * time.Hour)
	for range 50 {
		check("authority away", "good")
	}
	if n := a.Requests("/crl"); n != 2 {
		t.Errorf("asked %d times", n)
	}
	pass(5 * time.Hour)
	check("list ended", "error")
	a.Handle(nil)
	a.Revoke(cert)
	pass(retryEvery)
	current := a.List(func(l *x509.RevocationList) { l.NextUpdate = now.Add(time.Hour) })
	a.Handle(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(current) })
	check("authority back, revoked", "revoked")
	for _, s := range m.Lists() {
		if s.Place != a.URL+"/crl" || s.Count != 1 || s.Next.IsZero() {
			t.Errorf("%+v", s)
		}
	}
}

// A list may be a file in PEM.
func TestListFile(t *testing.T) {
	t.Parallel()
	a := ca(t)
	cert := a.Issue("alice", func(c *x509.Certificate) {
		c.CRLDistributionPoints = []string{"ldap:///cn=CA?certificateRevocationList"}
	})
	a.Revoke(cert)
	path := filepath.Join(t.TempDir(), "list.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: a.List(nil)}), 0o600); err != nil {
		t.Fatal(err)
	}
	m := mapper(t, a, func(c *Config) { c.CRL = []string{path} })
	ours, err := m.Verify(shown(cert.TLS.Leaf))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Revoked(t.Context(), ours); class(err) != "revoked" {
		t.Error(err)
	}
	if err, late := m.Check(t.Context()); err != nil || late != nil {
		t.Error(err, late)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	a := ca(t)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Config{
		"no authority": {},
		"no file":      {CA: []string{"/nowhere"}},
		"empty file":   {CA: []string{empty}},
		"a person":     {CA: []string{a.Issue("alice", nil).CertFile}},
		"match":        {CA: []string{a.CAFile}, Match: []string{"email"}},
		"revocation":   {CA: []string{a.CAFile}, Revocation: "never"},
		"list":         {CA: []string{a.CAFile}, CRL: []string{"list.crl"}},
		"responder":    {CA: []string{a.CAFile}, OCSP: "ftp://x"},
		"refresh":      {CA: []string{a.CAFile}, RefreshEvery: -1},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	m := mapper(t, a, nil)
	if m.Authorities() == nil {
		t.Error("no authorities")
	}
	if err := os.Remove(a.CAFile); err != nil {
		t.Fatal(err)
	}
	if err := m.Reload(); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := m.Verify(shown(a.Issue("alice", nil).TLS.Leaf)); err != nil {
		t.Errorf("the authorities before are gone: %v", err)
	}
}

// FuzzSID: what is read of the extension is a security identifier, or nothing.
func FuzzSID(f *testing.F) {
	f.Add(testenv.SIDExtensionValue(aliceSID))
	f.Add(testenv.SIDExtensionValue("S-1-5-18"))
	f.Add(testenv.SIDExtensionValue("alice"))
	f.Add([]byte{0x30, 0})
	f.Add([]byte{0x30, 2, 0xa0, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		sid, err := parseSID(der)
		if err != nil && sid != "" || sid != "" && (!isSID(sid) || !strings.Contains(string(der), sid)) {
			t.Errorf("%x: %q, %v", der, sid, err)
		}
	})
}

// FuzzList: no octets make a list that answers for our authority without its
// signature.
func FuzzList(f *testing.F) {
	a := testenv.NewPeopleCA(f, pkix.Name{CommonName: "CORP-CA"})
	leaf := a.Issue("alice", nil).TLS.Leaf
	good := a.List(nil)
	f.Add(good[:len(good)-1])
	f.Add([]byte("-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := parseList(b)
		if err != nil {
			return
		}
		if err := l.answersFor(leaf, a.Certificate, time.Now()); err == nil && string(b) != string(good) && !strings.Contains(string(b), "BEGIN") {
			t.Errorf("%x answers", b)
		}
	})
}
