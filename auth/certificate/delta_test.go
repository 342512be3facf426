package certificate

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dirpost/internal/testenv"
)

// pointsTo is an extension that names places, as Freshest CRL does.
func pointsTo(t testing.TB, places ...string) pkix.Extension {
	t.Helper()
	type point struct {
		Name struct {
			Full []asn1.RawValue `asn1:"tag:0"`
		} `asn1:"tag:0"`
	}
	var points []point
	for _, place := range places {
		var p point
		p.Name.Full = []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(place)}}
		points = append(points, p)
	}
	der, err := asn1.Marshal(points)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: oidFreshest, Value: der}
}

// delta makes a list of an authority, which adds to that with the number base.
func delta(a *testenv.PeopleCA, number, base int64, change func(*x509.RevocationList)) []byte {
	return a.List(func(l *x509.RevocationList) {
		l.Number = big.NewInt(number)
		l.RevokedCertificateEntries = nil
		l.ExtraExtensions = []pkix.Extension{{Id: oidDeltaCRL, Critical: true, Value: []byte{2, 1, byte(base)}}}
		if change != nil {
			change(l)
		}
	})
}

// entries are entries with a reason.
func entries(reason int, certs ...testenv.Cert) func(*x509.RevocationList) {
	return func(l *x509.RevocationList) {
		for _, c := range certs {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.TLS.Leaf.SerialNumber, RevocationTime: time.Now(), ReasonCode: reason})
		}
	}
}

// TestDelta: what a delta list adds, and what it takes away, counts where it belongs to
// the full list; any other changes nothing.
func TestDelta(t *testing.T) {
	t.Parallel()
	a, other := ca(t), ca(t)
	alice, held := a.Issue("alice", nil), a.Issue("held", nil)
	full := func(change func(*x509.RevocationList)) []byte {
		return a.List(func(l *x509.RevocationList) {
			l.Number = big.NewInt(10)
			entries(6, held)(l) // certificateHold
			l.ExtraExtensions = []pkix.Extension{pointsTo(t, "ldap:///x", a.URL+"/delta")}
			if change != nil {
				change(l)
			}
		})
	}
	scope := pkix.Extension{Id: oidIssuingPoint, Critical: true, Value: []byte{0x30, 3, 0x81, 1, 0xff}} // of people
	for name, tt := range map[string]struct {
		full, delta []byte
		alice, held string
	}{
		"none":                 {full(nil), nil, "good", "revoked"},
		"revokes":              {full(nil), delta(a, 12, 10, entries(1, alice)), "revoked", "revoked"},
		"with an older base":   {full(nil), delta(a, 12, 9, entries(1, alice)), "revoked", "revoked"},
		"takes away":           {full(nil), delta(a, 12, 10, entries(reasonRemoved, held)), "good", "good"},
		"empty":                {full(nil), delta(a, 12, 10, nil), "good", "revoked"},
		"to a newer list":      {full(nil), delta(a, 12, 11, entries(1, alice)), "good", "revoked"},
		"older than the list":  {full(nil), delta(a, 9, 8, entries(reasonRemoved, held)), "good", "revoked"},
		"of another authority": {full(nil), delta(other, 12, 10, entries(reasonRemoved, held)), "good", "revoked"},
		"of another scope": {full(nil), delta(a, 12, 10, func(l *x509.RevocationList) {
			l.ExtraExtensions = append(l.ExtraExtensions, scope)
			entries(1, alice)(l)
		}), "good", "revoked"},
		"ended": {full(nil), delta(a, 12, 10, func(l *x509.RevocationList) {
			l.ThisUpdate, l.NextUpdate = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
			entries(1, alice)(l)
		}), "good", "revoked"},
		"a full one in its place": {full(nil), full(entries(1, alice)), "good", "revoked"},
		"nonsense":                {full(nil), []byte("hello"), "good", "revoked"},
		"number cannot be read":   {full(nil), delta(a, 12, 10, func(l *x509.RevocationList) { l.ExtraExtensions[0].Value = []byte{5, 0}; entries(1, alice)(l) }), "good", "revoked"},
		"where the full one ended": {full(func(l *x509.RevocationList) {
			l.ThisUpdate, l.NextUpdate = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		}), delta(a, 12, 10, nil), "error", "error"},
	} {
		a.Handle(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/crl":
				_, _ = w.Write(tt.full)
			case r.URL.Path == "/delta" && tt.delta != nil:
				_, _ = w.Write(tt.delta)
			default:
				http.NotFound(w, r)
			}
		})
		m := mapper(t, a, nil)
		for who, want := range map[*testenv.Cert]string{&alice: tt.alice, &held: tt.held} {
			ours, err := m.Verify(shown(who.TLS.Leaf))
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Revoked(t.Context(), ours); class(err) != want {
				t.Errorf("%s, %s: %v, want %s", name, who.TLS.Leaf.Subject.CommonName, err, want)
			}
		}
	}
}

// TestDeltaPlaces: a certificate may name delta lists, and so may the configuration,
// which says so where it names nothing else.
func TestDeltaPlaces(t *testing.T) {
	t.Parallel()
	a := ca(t)
	named := a.Issue("alice", func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{pointsTo(t, a.URL+"/delta")} })
	plain := a.Issue("alice", nil)
	full := a.List(func(l *x509.RevocationList) { l.Number = big.NewInt(10) })
	added := delta(a, 12, 10, entries(1, named, plain))
	a.Handle(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(map[bool][]byte{true: full, false: added}[r.URL.Path == "/crl"])
	})
	file := filepath.Join(t.TempDir(), "delta.crl")
	if err := os.WriteFile(file, added, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		cert testenv.Cert
		crl  []string
		want string
	}{
		"of the certificate":            {named, nil, "revoked"},
		"of nobody":                     {plain, nil, "good"},
		"of the configuration":          {plain, []string{file}, "revoked"},
		"of the configuration, by both": {plain, []string{a.URL + "/crl", file}, "revoked"},
	} {
		m := mapper(t, a, func(c *Config) { c.CRL = tt.crl })
		ours, err := m.Verify(shown(tt.cert.TLS.Leaf))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Revoked(t.Context(), ours); class(err) != tt.want {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
		if err, late := m.Check(t.Context()); err != nil || late != nil {
			t.Errorf("%s: %v, %v", name, err, late)
		}
	}
	lone := a.Issue("alice", func(c *x509.Certificate) { c.CRLDistributionPoints = nil })
	m := mapper(t, a, func(c *Config) { c.CRL = []string{file} })
	ours, err := m.Verify(shown(lone.TLS.Leaf))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Revoked(t.Context(), ours); class(err) != "error" {
		t.Errorf("a delta list alone: %v", err)
	}
}

// FuzzFreshest: whatever names places names those that are written there.
func FuzzFreshest(f *testing.F) {
	f.Add(pointsTo(f, "http://a/b", "ldap:///c").Value)
	f.Add([]byte{0x30, 2, 0x30, 0})
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		n := 0
		for _, p := range freshest(der) {
			n += len(p)
		}
		if n > len(der) {
			t.Errorf("%x names %d octets", der, n)
		}
	})
}
