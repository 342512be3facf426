package oauth

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"time"
)

// claims are those of a token, or of an answer about one. Names count octet by
// octet, other than in structs of encoding/json.
type claims map[string]json.RawMessage

func parseClaims(b []byte) (claims, error) {
	var c claims
	if err := json.Unmarshal(b, &c); err != nil || c == nil {
		return nil, errors.New("claims are no JSON object")
	}
	return c, nil
}

func (c claims) has(name string) bool { _, ok := c[name]; return ok }

// text returns a claim that is a string, "" for none.
func (c claims) text(name string) string {
	var s string
	if err := json.Unmarshal(c[name], &s); err != nil {
		return ""
	}
	return s
}

// list returns a claim that is a string or an array of them.
func (c claims) list(name string) []string {
	var list []string
	if json.Unmarshal(c[name], &list) == nil {
		return list
	}
	if s := c.text(name); s != "" {
		return []string{s}
	}
	return nil
}

// yes reports whether a claim is true.
func (c claims) yes(name string) bool {
	var b bool
	return json.Unmarshal(c[name], &b) == nil && b
}

// time returns a claim that is a NumericDate (RFC 7519 §2); the zero time if there
// is none, false if it is no date.
func (c claims) time(name string) (time.Time, bool) {
	raw, ok := c[name]
	if !ok || string(raw) == "null" {
		return time.Time{}, true
	}
	var f float64
	if err := json.Unmarshal(raw, &f); err != nil || math.IsNaN(f) || f < 0 || f > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(int64(f), 0), true
}

// scopes returns what the token is for: scope of RFC 9068 §2.2.3, scp of Entra ID
// and Okta.
func (c claims) scopes() []string {
	var all []string
	for _, name := range []string{"scope", "scp"} {
		for _, s := range c.list(name) {
			all = append(all, strings.Fields(s)...)
		}
	}
	return all
}

// check judges the claims of a token of the issuer i, whose signature is right or
// which the issuer has answered for. introspected are claims of such an answer,
// where iss need not be.
func (i *issuer) check(c claims, introspected bool, now time.Time) (*Token, error) {
	refuse := func(class, detail string) (*Token, error) {
		return nil, &Refusal{Class: class, Status: statusInvalid, Detail: detail}
	}
	if iss := c.text("iss"); iss != i.c.Issuer && !(introspected && !c.has("iss")) {
		return refuse("issuer", "of another issuer")
	}
	if !slices.ContainsFunc(c.list("aud"), func(a string) bool { return slices.Contains(i.c.Audience, a) }) {
		return refuse("audience", "not meant for this server")
	}
	exp, ok1 := c.time("exp")
	nbf, ok2 := c.time("nbf")
	iat, ok3 := c.time("iat")
	switch {
	case !ok1 || !ok2 || !ok3 || exp.IsZero() && !introspected:
		return refuse("times", "without an end, or with a time that is none")
	case !exp.IsZero() && !now.Before(exp.Add(i.c.Skew)):
		return refuse("expired", "expired at "+exp.UTC().Format(time.RFC3339))
	case now.Before(nbf.Add(-i.c.Skew)):
		return refuse("not-yet", "not valid before "+nbf.UTC().Format(time.RFC3339))
	case now.Before(iat.Add(-i.c.Skew)):
		return refuse("not-yet", "issued at "+iat.UTC().Format(time.RFC3339)+", which is to come: compare the clocks")
	}
	if err := purpose(c); err != nil {
		return nil, err
	}
	if have := c.scopes(); slices.ContainsFunc(i.c.Scope, func(s string) bool { return !slices.Contains(have, s) }) {
		return nil, &Refusal{Class: "scope", Status: statusScope, Detail: "without the scope " + strings.Join(i.c.Scope, " ")}
	}
	person := c.text(i.c.Claim)
	if person == "" {
		return refuse("claim", "without the claim "+i.c.Claim)
	}
	if i.c.Match == MatchAddress && !c.yes("email_verified") {
		return refuse("claim", "with an address that the issuer has not verified")
	}
	t := &Token{Issuer: i.c.Issuer, Subject: c.text("sub"), Name: person, Expires: exp, issuer: i}
	if i.c.EndSessions {
		t.Until = exp
	}
	return t, nil
}

// purpose refuses what is no access token, and one that only the holder of a key
// may use (RFC 8725 §3.12).
func purpose(c claims) error {
	for _, name := range []string{"at_hash", "c_hash", "s_hash", "events"} {
		if c.has(name) {
			return &Refusal{Class: "type", Status: statusInvalid, Detail: "an ID token or an event, no access token"}
		}
	}
	// Keycloak says in typ what a token is for.
	if typ := c.text("typ"); typ != "" && !strings.EqualFold(typ, "Bearer") {
		return &Refusal{Class: "type", Status: statusInvalid, Detail: "of another type than Bearer"}
	}
	if c.has("cnf") {
		return &Refusal{Class: "bound", Status: statusInvalid, Detail: "bound to a key of the client, which mail has no way to show"}
	}
	return nil
}
