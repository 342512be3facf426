package oauth

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// MaxToken bounds one token, in octets. Those of Entra ID with 200 groups have
	// 8 KiB.
	MaxToken = 12 << 10
	// MaxKeys bounds the keys of one issuer that are looked at.
	MaxKeys = 64
	// RefreshEvery is how often the keys of an issuer are fetched again.
	RefreshEvery = time.Hour
	// RetryEvery is the least time between two requests for the keys of one issuer.
	RetryEvery = 30 * time.Second
	// KeepKeys is how long keys are used that could not be fetched again.
	KeepKeys = 24 * time.Hour
)

// Match says what the claim that names the person holds.
type Match string

// The ways to find the person.
const (
	MatchID      Match = "id"      // objectGUID or entryUUID, as text or as the 16 octets of Active Directory in base64
	MatchSID     Match = "sid"     // objectSid, S-1-5-21-…
	MatchLogin   Match = "login"   // a login name: UPN, uid, DOMAIN\user
	MatchAddress Match = "address" // an address, which the issuer says it has verified
)

// Issuer is one authorization server whose tokens count.
type Issuer struct {
	// Issuer is what the tokens say in iss, octet by octet.
	Issuer string
	// Discovery is the URL of the issuer's metadata; by default that of OpenID
	// Connect Discovery below Issuer, or that of RFC 8414.
	Discovery string
	// Keys is the https URL or the absolute path of the key set; by default what the
	// metadata say.
	Keys string
	// Audience are our names: aud must have one of them.
	Audience []string
	// Scope are the scopes that a token must have, all of them.
	Scope []string
	// Algorithms are those of signatures that count; by default all that are
	// asymmetric.
	Algorithms []string
	// Claim names the person, by Match. The defaults are sub and MatchLogin.
	Claim string
	Match Match
	// Directories are those whose people may log in by this issuer.
	Directories []string
	// Typed takes only tokens that say that they are access tokens (RFC 9068 §2.1).
	Typed bool
	// Skew is by how much our clock and that of the issuer may differ; default 1 min.
	Skew time.Duration
	// EndSessions ends a session with its token. Otherwise a session lasts as long as
	// the connection and the account do.
	EndSessions bool

	// Introspection is the https URL that is asked about tokens (RFC 7662), instead
	// of judging them by keys, as ClientID with ClientSecret.
	Introspection string
	ClientID      string
	ClientSecret  string
	// Remember is for how long an answer counts; default 30 s.
	Remember time.Duration

	// Roots are the authorities of the issuer's certificates; nil: the system's.
	Roots *x509.CertPool
}

// Algorithms are the signatures that may count: asymmetric ones only, so that no
// public key is ever taken for a shared one (RFC 8725 §3.1).
func Algorithms() []string {
	return []string{
		string(jose.RS256), string(jose.RS384), string(jose.RS512),
		string(jose.PS256), string(jose.PS384), string(jose.PS512),
		string(jose.ES256), string(jose.ES384), string(jose.ES512),
		string(jose.EdDSA),
	}
}

func (c Issuer) withDefaults() Issuer {
	if c.Claim == "" {
		c.Claim = "sub"
	}
	if c.Match == "" {
		c.Match = MatchLogin
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = Algorithms()
	}
	if c.Skew == 0 {
		c.Skew = time.Minute
	}
	if c.Remember == 0 {
		c.Remember = 30 * time.Second
	}
	return c
}

// Validate reports what is wrong with c, in the words of the configuration.
func (c Issuer) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if u, err := url.Parse(c.Issuer); err != nil || u.Host == "" {
		bad("issuer: %q is no URL: write what the tokens have in iss", c.Issuer)
	} else if u.Scheme != "https" && c.Discovery == "" && c.Keys == "" && c.Introspection == "" {
		bad("issuer: %q is no https URL, so discovery, keys or introspection must say where to ask", c.Issuer)
	}
	for key, s := range map[string]string{"discovery": c.Discovery, "introspection": c.Introspection} {
		if s != "" && !isHTTPS(s) {
			bad("%s: %q is no https URL", key, s)
		}
	}
	if c.Keys != "" && !isHTTPS(c.Keys) && !filepath.IsAbs(c.Keys) {
		bad("keys: %q is neither an https URL nor an absolute path", c.Keys)
	}
	if len(c.Audience) == 0 || slices.Contains(c.Audience, "") {
		bad("audience: name what the tokens for this mail server have in aud; without it, tokens for any other application of the issuer would open mailboxes")
	}
	for _, s := range c.Scope {
		if s == "" || strings.ContainsAny(s, " \t\"\\") {
			bad("scope: %q is no scope", s)
		}
	}
	for _, a := range c.Algorithms {
		if !slices.Contains(Algorithms(), a) {
			bad("algorithms: %q is none of %s", a, strings.Join(Algorithms(), ", "))
		}
	}
	if c.Match != "" && !slices.Contains([]Match{MatchID, MatchSID, MatchLogin, MatchAddress}, c.Match) {
		bad("match: %q is none of id, sid, login, address", c.Match)
	}
	if c.Skew < 0 || c.Skew > 5*time.Minute {
		bad("skew: want between 0 and 5m")
	}
	if c.Remember < 0 || c.Remember > 10*time.Minute {
		bad("remember: want between 0 and 10m")
	}
	if (c.Introspection == "") != (c.ClientID == "") {
		bad("introspection: introspection and client_id belong together")
	}
	return errors.Join(errs...)
}

func isHTTPS(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil
}
