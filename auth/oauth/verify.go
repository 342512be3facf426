package oauth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// The error codes of RFC 6750 §3.1.
const (
	statusInvalid = "invalid_token"
	statusScope   = "insufficient_scope"
)

// Refusal says that a token was judged, and why it does not count. Any other error
// means that it was not judged.
type Refusal struct {
	Class  string // a word for the audit
	Status string // error code of RFC 6750 §3.1
	Detail string // for the log; nothing of the token but times
}

// Error says so.
func (r *Refusal) Error() string { return "token refused: " + r.Detail }

// Token is what a good token says.
type Token struct {
	Issuer  string
	Subject string    // sub, for the audit
	Name    string    // the claim that names the person
	Expires time.Time // zero where the issuer did not say
	Until   time.Time // when a session must end; zero: with the connection

	issuer *issuer
}

// issuer is an Issuer with its state.
type issuer struct {
	c          Issuer
	algorithms []jose.SignatureAlgorithm
	keys       *keySet
	asked      *introspector // nil: tokens are judged by keys
}

// Verifier judges tokens.
type Verifier struct {
	issuers []*issuer
	now     func() time.Time
	metrics *metrics
}

// New returns a Verifier for the tokens of issuers, which must be valid and have
// different names. It asks nobody yet.
func New(issuers []Issuer) (*Verifier, error) {
	v := &Verifier{now: time.Now}
	opaque := 0
	for n, c := range issuers {
		c = c.withDefaults()
		if err := c.Validate(); err != nil {
			return nil, fmt.Errorf("issuer %d: %w", n+1, err)
		}
		if v.issuer(c.Issuer) != nil {
			return nil, fmt.Errorf("issuer %s is named twice", c.Issuer)
		}
		client := newClient(c)
		i := &issuer{c: c, keys: newKeySet(loader(c, client))}
		for _, a := range c.Algorithms {
			i.algorithms = append(i.algorithms, jose.SignatureAlgorithm(a))
		}
		if c.Introspection != "" {
			i.asked = newIntrospector(c, client)
			opaque++
		}
		v.issuers = append(v.issuers, i)
	}
	if opaque > 1 {
		return nil, errors.New("more than one issuer with introspection: a token that does not say whose it is would be shown to the wrong one")
	}
	v.metrics = newMetrics(v)
	return v, nil
}

func (v *Verifier) issuer(name string) *issuer {
	for _, i := range v.issuers {
		if i.c.Issuer == name {
			return i
		}
	}
	return nil
}

// Verify judges a token. A *Refusal means that it does not count, any other error
// that it could not be judged now.
func (v *Verifier) Verify(ctx context.Context, token string) (*Token, error) {
	t, err := v.verify(ctx, token)
	v.metrics.count(err)
	return t, err
}

func (v *Verifier) verify(ctx context.Context, token string) (*Token, error) {
	if token == "" || len(token) > MaxToken || !isToken(token) {
		return nil, &Refusal{Class: "syntax", Status: statusInvalid, Detail: fmt.Sprintf("of %d octets, or with octets that no token has", len(token))}
	}
	iss, signed := issuerOf(token)
	i := v.issuer(iss)
	if !signed {
		for _, other := range v.issuers {
			if other.asked != nil {
				i = other
			}
		}
	}
	switch {
	case i == nil && signed:
		return nil, &Refusal{Class: "issuer", Status: statusInvalid, Detail: "of an issuer that is not configured"}
	case i == nil:
		return nil, &Refusal{Class: "syntax", Status: statusInvalid, Detail: "no signed JWT, and no issuer to ask about it"}
	case i.asked != nil:
		c, err := i.asked.ask(ctx, token, v.now())
		if err != nil {
			return nil, err
		}
		return i.check(c, true, v.now())
	}
	c, err := i.open(ctx, token)
	if err != nil {
		return nil, err
	}
	return i.check(c, false, v.now())
}

// isToken reports whether s is a b64token (RFC 6750 §2.1).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte("-._~+/=", c) < 0 {
			return false
		}
	}
	return true
}

// issuerOf reads who a token says its issuer is, which nothing has proved yet.
// signed is whether it looks like a JWT with a signature at all.
func issuerOf(token string) (iss string, signed bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || !strings.HasPrefix(parts[0], "eyJ") {
		return "", false
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", true
	}
	c, err := parseClaims(b)
	if err != nil {
		return "", true
	}
	return c.text("iss"), true
}

// open checks the signature of a token and returns its claims.
func (i *issuer) open(ctx context.Context, token string) (claims, error) {
	refuse := func(class, detail string) (claims, error) {
		return nil, &Refusal{Class: class, Status: statusInvalid, Detail: detail}
	}
	jws, err := jose.ParseSignedCompact(token, i.algorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return refuse("algorithm", "with a signature that cannot be read, or of a kind that is not allowed")
	}
	h := jws.Signatures[0].Protected
	typ, _ := h.ExtraHeaders[jose.HeaderType].(string)
	switch strings.TrimPrefix(strings.ToLower(typ), "application/") {
	case "at+jwt": // RFC 9068 §2.1
	case "jwt", "":
		if i.c.Typed {
			return refuse("type", "not declared an access token (at+jwt)")
		}
	default:
		return refuse("type", "of another type than an access token")
	}
	payload, err := i.verify(ctx, jws, h)
	if err != nil {
		return nil, err
	}
	c, err := parseClaims(payload)
	if err != nil {
		return refuse("syntax", "with claims that cannot be read")
	}
	return c, nil
}

// verify returns what a token says when one of the issuer's keys has signed it. A
// key may have been replaced by another of the same name, or by one without any, so
// that a wrong signature is a reason to look again too.
func (i *issuer) verify(ctx context.Context, jws *jose.JSONWebSignature, h jose.Header) ([]byte, error) {
	for {
		keys, loaded, err := i.keys.find(ctx, h.KeyID, jose.SignatureAlgorithm(h.Algorithm))
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if payload, err := jws.Verify(key.Key); err == nil {
				return payload, nil
			}
		}
		again, err := i.keys.again(ctx, loaded)
		if err != nil && h.KeyID == "" {
			return nil, err
		}
		if !again {
			return nil, &Refusal{Class: "signature", Status: statusInvalid, Detail: "with a wrong signature"}
		}
	}
}

// Discovery returns the URL of the metadata of the first issuer, and its scopes:
// what a client is told that has no good token (RFC 7628 §3.2.2).
func (v *Verifier) Discovery() (metadata, scope string) {
	if len(v.issuers) == 0 {
		return "", ""
	}
	c := v.issuers[0].c
	if u := discovery(c)[0]; isHTTPS(u) {
		metadata = u
	}
	return metadata, strings.Join(c.Scope, " ")
}

// Run keeps the keys of all issuers fresh until ctx ends, so that no login has to
// wait for them.
func (v *Verifier) Run(ctx context.Context) error {
	tick := time.NewTicker(RetryEvery)
	defer tick.Stop()
	for {
		for _, i := range v.issuers {
			s := i.keys.state()
			if i.asked != nil || v.now().Sub(s.loaded) < RefreshEvery/2 {
				continue
			}
			if err := i.keys.refresh(ctx, s.tried); err != nil {
				return nil // ctx has ended
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Status is how it stands with one issuer.
type Status struct {
	Issuer string
	Keys   int       // how many are known
	Loaded time.Time // when they were fetched; zero: never
	Err    error     // how the last request ended
}

// Check asks every issuer for its keys, or whether it answers about tokens, and
// says how that went.
func (v *Verifier) Check(ctx context.Context) []Status {
	var all []Status
	for _, i := range v.issuers {
		if i.asked != nil {
			all = append(all, Status{Issuer: i.c.Issuer, Err: i.asked.check(ctx)})
			continue
		}
		err := i.keys.refresh(ctx, i.keys.state().tried)
		s := i.keys.state()
		if err == nil {
			err = s.err
		}
		all = append(all, Status{Issuer: i.c.Issuer, Keys: s.count, Loaded: s.loaded, Err: err})
	}
	return all
}
