package testenv

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// PeopleCA is an authority that issues certificates of people, and says by list and
// by OCSP which of them it has revoked.
type PeopleCA struct {
	Certificate *x509.Certificate
	CAFile      string // PEM
	URL         string // of /crl and /ocsp

	t   testing.TB
	key crypto.Signer

	mu       sync.Mutex // guards what follows
	serial   int64
	revoked  map[string]bool
	override http.HandlerFunc
	requests map[string]int
	listLife time.Duration
	signs    func() (*x509.Certificate, crypto.Signer) // of OCSP, nil: the authority
}

// NewPeopleCA starts an authority with a name of its own. It ends with the test.
func NewPeopleCA(t testing.TB, name pkix.Name) *PeopleCA {
	t.Helper()
	a := &PeopleCA{t: t, serial: 0x1200ac11, revoked: map[string]bool{}, requests: map[string]int{}, listLife: time.Hour}
	s := httptest.NewUnstartedServer(a)
	s.Config.ErrorLog = quiet()
	s.Start()
	t.Cleanup(s.Close)
	a.URL = s.URL
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.key = key
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: name, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.Certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.CAFile = filepath.Join(t.TempDir(), "people-ca.pem")
	if err := os.WriteFile(a.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// quiet is a log of servers whose clients are meant to misbehave.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// SIDExtension returns the extension in which AD CS writes a security identifier.
func SIDExtension(sid string) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 25, 2}, Value: SIDExtensionValue(sid)}
}

// SIDExtensionValue is the value of that extension.
func SIDExtensionValue(sid string) []byte {
	type otherName struct {
		Kind  asn1.ObjectIdentifier
		Value []byte `asn1:"explicit,tag:0"`
	}
	name, err := asn1.MarshalWithParams(otherName{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 25, 2, 1}, []byte(sid)}, "tag:0")
	if err != nil {
		panic(err)
	}
	der, err := asn1.Marshal([]asn1.RawValue{{FullBytes: name}})
	if err != nil {
		panic(err)
	}
	return der
}

// Issue returns the certificate of a person, which names the list of the authority
// and no responder, for client authentication; change may make it another.
func (a *PeopleCA) Issue(name string, change func(*x509.Certificate)) Cert {
	a.t.Helper()
	a.mu.Lock()
	a.serial++
	serial := a.serial
	a.mu.Unlock()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		SubjectKeyId: []byte{0xde, 0xad, byte(serial >> 8), byte(serial)}, CRLDistributionPoints: []string{a.URL + "/crl"},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	dir := a.t.TempDir()
	c := Cert{
		TLS:      tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf},
		CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), CAFile: a.CAFile,
	}
	for path, block := range map[string]*pem.Block{c.CertFile: {Type: "CERTIFICATE", Bytes: der}, c.KeyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return c
}

// Revoke takes a certificate back.
func (a *PeopleCA) Revoke(c Cert) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.revoked[c.TLS.Leaf.SerialNumber.String()] = true
}

// Handle answers all requests in the authority's place; nil: it answers again
// itself.
func (a *PeopleCA) Handle(h http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.override = h
}

// Requests returns how often a path was asked for.
func (a *PeopleCA) Requests(path string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests[path]
}

// AnswersBy makes another certificate sign the answers of OCSP.
func (a *PeopleCA) AnswersBy(c Cert) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.signs = func() (*x509.Certificate, crypto.Signer) { return c.TLS.Leaf, c.TLS.PrivateKey.(crypto.Signer) }
}

// List returns the revocation list as of now, in DER; change may make it another.
func (a *PeopleCA) List(change func(*x509.RevocationList)) []byte {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	l := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(a.listLife)}
	for serial := range a.revoked {
		n, _ := new(big.Int).SetString(serial, 10)
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: time.Now()})
	}
	if change != nil {
		change(l)
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, a.Certificate, a.key)
	if err != nil {
		a.t.Error(err)
	}
	return der
}

// ServeHTTP implements http.Handler.
func (a *PeopleCA) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.requests[r.URL.Path]++
	override := a.override
	a.mu.Unlock()
	switch {
	case override != nil:
		override(w, r)
	case r.URL.Path == "/crl":
		_, _ = w.Write(a.List(nil))
	case r.URL.Path == "/ocsp":
		a.answer(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (a *PeopleCA) answer(w http.ResponseWriter, r *http.Request) {
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.LimitReader(r.Body, 1<<16)); err != nil {
		return
	}
	question, err := ocsp.ParseRequest(b.Bytes())
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	template := ocsp.Response{SerialNumber: question.SerialNumber, ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(a.listLife)}
	if a.revoked[question.SerialNumber.String()] {
		template.Status, template.RevokedAt = ocsp.Revoked, time.Now()
	}
	signer, key := a.Certificate, a.key
	if a.signs != nil {
		signer, key = a.signs()
		template.Certificate = signer
	}
	der, err := ocsp.CreateResponse(a.Certificate, signer, template, key)
	if err != nil {
		a.t.Error(err)
		return
	}
	w.Header().Set("Content-Type", "application/ocsp-response")
	_, _ = w.Write(der)
}
