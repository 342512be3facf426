package testenv

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Issuer is an authorization server over HTTPS on a loopback address: metadata, key
// set and introspection. It signs what a test tells it to.
type Issuer struct {
	URL    string // also the issuer's name
	Pool   *x509.CertPool
	CAFile string // PEM

	t testing.TB

	mu       sync.Mutex // guards what follows
	keys     []jose.JSONWebKey
	raw      []byte                    // instead of the key set
	override http.HandlerFunc          // instead of everything
	opaque   map[string]map[string]any // tokens of introspection
	requests map[string]int            // by path
}

// NewIssuer starts an issuer with one RSA key, "rsa-1". It ends with the test.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	cert := Certificate(t)
	i := &Issuer{t: t, Pool: cert.Pool, CAFile: cert.CAFile, requests: map[string]int{}, opaque: map[string]map[string]any{}}
	s := httptest.NewUnstartedServer(i)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert.TLS}}
	s.Config.ErrorLog = quiet()
	s.StartTLS()
	t.Cleanup(s.Close)
	i.URL = s.URL
	i.Rotate("rsa-1", jose.RS256)
	return i
}

// NewKey returns a private key for signatures of a kind.
func NewKey(t testing.TB, kid string, alg jose.SignatureAlgorithm) jose.JSONWebKey {
	t.Helper()
	var key crypto.PrivateKey
	var err error
	switch alg {
	case jose.ES256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return jose.JSONWebKey{Key: key, KeyID: kid, Algorithm: string(alg), Use: "sig"}
}

// Rotate makes a new key the only one of the issuer.
func (i *Issuer) Rotate(kid string, alg jose.SignatureAlgorithm) {
	i.SetKeys(NewKey(i.t, kid, alg))
}

// SetKeys makes these private keys those of the issuer, the first one signs.
func (i *Issuer) SetKeys(keys ...jose.JSONWebKey) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys, i.raw = keys, nil
}

// SetKeySet makes the issuer send this instead of its key set.
func (i *Issuer) SetKeySet(raw []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.raw = raw
}

// Handle answers all requests in the issuer's place; nil: it answers again itself.
func (i *Issuer) Handle(h http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.override = h
}

// Requests returns how often a path was asked for.
func (i *Issuer) Requests(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.requests[path]
}

// Claims returns those of a good access token for audience "dirpost", valid for an
// hour, with changes; a nil value takes a claim away.
func (i *Issuer) Claims(changes map[string]any) map[string]any {
	now := time.Now().Unix()
	c := map[string]any{"iss": i.URL, "aud": "dirpost", "sub": "alice", "iat": now, "exp": now + 3600, "scope": "openid mail"}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

// Token signs the claims of Claims with the issuer's first key.
func (i *Issuer) Token(changes map[string]any) string {
	i.t.Helper()
	i.mu.Lock()
	key := i.keys[0]
	i.mu.Unlock()
	return SignToken(i.t, key, "at+jwt", i.Claims(changes))
}

// SignToken signs claims with any key.
func SignToken(t testing.TB, key jose.JSONWebKey, typ string, claims map[string]any) string {
	t.Helper()
	opts := &jose.SignerOptions{}
	if typ != "" {
		opts.WithType(jose.ContentType(typ))
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Answer makes introspection answer for a token (RFC 7662); nil: it is not active.
func (i *Issuer) Answer(token string, claims map[string]any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if claims == nil {
		delete(i.opaque, token)
		return
	}
	i.opaque[token] = claims
}

// The client of the introspection endpoint.
const (
	IssuerClient = "mail"
	IssuerSecret = "s p:cial+secret"
)

// ServeHTTP implements http.Handler.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.requests[r.URL.Path]++
	override, raw := i.override, i.raw
	set := jose.JSONWebKeySet{}
	for _, k := range i.keys {
		set.Keys = append(set.Keys, k.Public())
	}
	i.mu.Unlock()
	send := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			i.t.Log(err)
		}
	}
	switch {
	case override != nil:
		override(w, r)
	case r.URL.Path == "/.well-known/openid-configuration":
		send(map[string]string{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
	case r.URL.Path == "/keys" && raw != nil:
		_, _ = w.Write(raw)
	case r.URL.Path == "/keys":
		send(set)
	case r.URL.Path == "/introspect":
		id, secret, _ := r.BasicAuth()
		if id != IssuerClient || secret != "s+p%3Acial%2Bsecret" || r.Method != http.MethodPost { // RFC 6749 §2.3.1
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		i.mu.Lock()
		claims := i.opaque[r.PostFormValue("token")]
		i.mu.Unlock()
		if claims == nil {
			claims = map[string]any{"active": false}
		}
		send(claims)
	default:
		http.NotFound(w, r)
	}
}
