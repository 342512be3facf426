package acme

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"time"
)

// ChallengePath is where authorities ask (RFC 8555 §8.3).
const ChallengePath = "/.well-known/acme-challenge/"

// maxToken bounds a token: authorities have 43 octets.
const maxToken = 128

// ServeHTTP answers HTTP-01 (RFC 8555 §8.3).
func (m *Manager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.URL.Path, ChallengePath)
	if !ok || !isToken(token) || !m.lookups.Allow() {
		http.NotFound(w, r)
		return
	}
	answer, err := m.answer(r.Context(), HTTP01, "token", token)
	switch {
	case err != nil:
		http.Error(w, "not available", http.StatusServiceUnavailable)
	case answer == "":
		http.NotFound(w, r)
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = io.WriteString(w, answer) // the client has left
	}
}

// isToken reports whether s is in base64url, as tokens are.
func isToken(s string) bool {
	return s != "" && len(s) <= maxToken && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// Protocol is the ALPN protocol of TLS-ALPN-01 (RFC 8737 §6.2).
const Protocol = "acme-tls/1"

// idPeACMEIdentifier is the extension with the hash of the key authorization
// (RFC 8737 §6.1).
var idPeACMEIdentifier = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}

// Challenge is the configuration of a handshake in which an authority validates a
// name (RFC 8737 §3); nil for any other handshake.
func (m *Manager) Challenge(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != Protocol {
		return nil, nil
	}
	if !m.lookups.Allow() {
		return nil, fmt.Errorf("too many validations")
	}
	name := strings.ToLower(hello.ServerName)
	answer, err := m.answer(hello.Context(), TLSALPN01, "name", name)
	if err != nil {
		return nil, err
	}
	if answer == "" {
		return nil, fmt.Errorf("no validation of %q is under way", name)
	}
	sum := sha256.Sum256([]byte(answer))
	value, err := asn1.Marshal(sum[:])
	if err != nil {
		return nil, err
	}
	cert, err := selfSigned(name, pkix.Extension{Id: idPeACMEIdentifier, Critical: true, Value: value})
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{Protocol}, Certificates: []tls.Certificate{*cert}}, nil
}

// standIn is a certificate that nobody trusts.
func standIn(name string) (*tls.Certificate, error) { return selfSigned(name) }

// selfSigned makes a certificate of its own key.
func selfSigned(name string, extensions ...pkix.Extension) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "not yet certified"}, DNSNames: []string{name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(30 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		ExtraExtensions: extensions,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
