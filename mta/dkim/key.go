package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"dirpost/internal/envelope"
)

// Algorithm is a signature algorithm, as in a= of a signature.
type Algorithm string

// The algorithms.
const (
	RSA     Algorithm = "rsa-sha256"     // of 2048 bits; verified everywhere
	Ed25519 Algorithm = "ed25519-sha256" // RFC 8463; verified by some
)

// rsaBits is the size of new RSA keys: RFC 8301 §3.2 asks for 2048, and longer
// ones do not fit into a DNS answer over UDP.
const rsaBits = 2048

// Key is a key of a domain, without its private part.
type Key struct {
	Domain    string
	Selector  string
	Algorithm Algorithm
	PublicKey string // p= of the record
	Created   time.Time
	Active    time.Time // zero: does not sign yet
	Retired   time.Time // zero: not retired
}

// Signs reports whether messages are signed with k.
func (k Key) Signs() bool { return !k.Active.IsZero() && k.Retired.IsZero() }

// RecordName is the name of the TXT record in DNS, without a dot at the end.
func (k Key) RecordName() string { return k.Selector + "._domainkey." + k.Domain }

// RecordText is the text of the TXT record (RFC 6376 §3.6.1).
func (k Key) RecordText() string {
	return "v=DKIM1; k=" + strings.TrimSuffix(string(k.Algorithm), "-sha256") + "; h=sha256; p=" + k.PublicKey
}

// ZoneLine is the record as it stands in a zone file, in strings of at most
// 255 octets.
func (k Key) ZoneLine() string {
	var b strings.Builder
	b.WriteString(k.RecordName() + ". IN TXT (")
	for text := k.RecordText(); text != ""; {
		n := min(len(text), 255)
		b.WriteString(` "` + text[:n] + `"`)
		text = text[n:]
	}
	b.WriteString(" )")
	return b.String()
}

// Errors of the functions that change keys.
var (
	ErrSelector  = errors.New("not a selector: letters, digits and hyphens, in labels joined by dots")
	ErrAlgorithm = errors.New("unknown algorithm: want rsa-sha256 or ed25519-sha256")
	ErrExists    = errors.New("a key with this selector exists")
	ErrNotFound  = errors.New("no key with this selector")
)

// DefaultSelector is the selector of a key made at that time: year and month,
// and a letter for the algorithm, so that two algorithms can be used at once.
func DefaultSelector(a Algorithm, now time.Time) string {
	if a == Ed25519 {
		return now.Format("200601") + "e"
	}
	return now.Format("200601") + "r"
}

// checkNames returns the canonical domain and selector.
func checkNames(domain, selector string) (string, string, error) {
	domain, err := envelope.ParseDomain(domain)
	if err != nil || strings.HasPrefix(domain, "[") {
		return "", "", fmt.Errorf("domain of a signing key: %w", envelope.ErrSyntax)
	}
	selector = strings.ToLower(selector)
	for label := range strings.SplitSeq(selector, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" ||
			label[0] == '-' || label[len(label)-1] == '-' {
			return "", "", fmt.Errorf("%w: %q", ErrSelector, selector)
		}
	}
	return domain, selector, nil
}

// generate makes a key pair: p= of the record, and the private key in PKCS #8.
func generate(a Algorithm) (public string, private []byte, err error) {
	var key crypto.Signer
	var p []byte
	switch a {
	case RSA:
		k, err := rsa.GenerateKey(rand.Reader, rsaBits)
		if err != nil {
			return "", nil, fmt.Errorf("generate key: %w", err)
		}
		key = k
		// RFC 6376 §3.6.1 with erratum 3017: a SubjectPublicKeyInfo, which
		// is what every verifier reads.
		if p, err = x509.MarshalPKIXPublicKey(&k.PublicKey); err != nil {
			return "", nil, fmt.Errorf("encode key: %w", err)
		}
	case Ed25519:
		pub, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return "", nil, fmt.Errorf("generate key: %w", err)
		}
		key, p = k, pub // RFC 8463 §4: the octets alone
	default:
		return "", nil, ErrAlgorithm
	}
	if private, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return "", nil, fmt.Errorf("encode key: %w", err)
	}
	return base64.StdEncoding.EncodeToString(p), private, nil
}

// signingKey is an active key with its private part.
type signingKey struct {
	domain, selector string
	algorithm        Algorithm
	private          crypto.Signer
}

// parsePrivate reads a private key and checks that it is of that algorithm.
func parsePrivate(a Algorithm, der []byte) (crypto.Signer, error) {
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("read private key: %w", err)
	}
	switch key := k.(type) {
	case *rsa.PrivateKey:
		if a == RSA {
			return key, nil
		}
	case ed25519.PrivateKey:
		if a == Ed25519 {
			return key, nil
		}
	}
	return nil, fmt.Errorf("private key is %T: %w", k, ErrAlgorithm)
}
