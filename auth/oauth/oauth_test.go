package oauth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/testenv"
)

// verifier returns one for the tokens of i, changed.
func verifier(t *testing.T, i *testenv.Issuer, change func(*Issuer)) *Verifier {
	t.Helper()
	c := Issuer{Issuer: i.URL, Audience: []string{"dirpost"}, Directories: []string{"corp"}, Roots: i.Pool}
	if change != nil {
		change(&c)
	}
	v, err := New([]Issuer{c})
	if err != nil {
		t.Fatal(err)
	}
	return v
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

// What RFC 8725 and RFC 9068 warn of, one by one.
func TestVerify(t *testing.T) {
	t.Parallel()
	i := testenv.NewIssuer(t)
	ec, rsaKey := testenv.NewKey(t, "ec-1", jose.ES256), testenv.NewKey(t, "rsa-1", jose.RS256)
	i.SetKeys(rsaKey, ec)
	v := verifier(t, i, nil)
	now := time.Now().Unix()
	stranger := testenv.NewKey(t, "rsa-1", jose.RS256)
	for _, tt := range []struct {
		name, token, want string
	}{
		{"good", i.Token(nil), "good"},
		{"ES256", testenv.SignToken(t, ec, "at+jwt", i.Claims(nil)), "good"},
		{"application/at+jwt", testenv.SignToken(t, rsaKey, "application/at+jwt", i.Claims(nil)), "good"},
		{"JWT, as Entra ID and Keycloak", testenv.SignToken(t, rsaKey, "JWT", i.Claims(nil)), "good"},
		{"no type", testenv.SignToken(t, rsaKey, "", i.Claims(nil)), "good"},
		{"several audiences", i.Token(map[string]any{"aud": []string{"x", "dirpost"}}), "good"},
		{"clocks off by half a minute", i.Token(map[string]any{"iat": now + 30, "nbf": now + 30}), "good"},
		{"a moment ago", i.Token(map[string]any{"exp": now - 30}), "good"},
		{"Bearer of Keycloak", i.Token(map[string]any{"typ": "Bearer"}), "good"},

		{"key of a stranger with a known name", testenv.SignToken(t, stranger, "at+jwt", i.Claims(nil)), "signature"},
		{"alg none", unsigned(`{"alg":"none","typ":"at+jwt"}`, i), "algorithm"},
		{"alg NONE", unsigned(`{"alg":"NONE"}`, i), "algorithm"},
		{"no alg", unsigned(`{"typ":"at+jwt"}`, i), "algorithm"},
		{"shared key", testenv.SignToken(t, jose.JSONWebKey{Key: []byte(strings.Repeat("k", 32)), KeyID: "rsa-1", Algorithm: "HS256"}, "at+jwt", i.Claims(nil)), "algorithm"},
		{"RSA signature by the name of an EC key", testenv.SignToken(t, jose.JSONWebKey{Key: rsaKey.Key, KeyID: "ec-1", Algorithm: "RS256"}, "at+jwt", i.Claims(nil)), "key"},
		{"another algorithm than the key is for", testenv.SignToken(t, jose.JSONWebKey{Key: rsaKey.Key, KeyID: "rsa-1", Algorithm: "PS256"}, "at+jwt", i.Claims(nil)), "key"},
		{"unknown key", testenv.SignToken(t, jose.JSONWebKey{Key: stranger.Key, KeyID: "other", Algorithm: "RS256"}, "at+jwt", i.Claims(nil)), "key"},
		{"own key in the header", withJWK(t, stranger, i), "signature"},
		{"critical header", critical(t, rsaKey, i), "signature"},

		{"other issuer", i.Token(map[string]any{"iss": "https://evil.example"}), "issuer"},
		{"issuer with a slash more", i.Token(map[string]any{"iss": i.URL + "/"}), "issuer"},
		{"issuer by another case of the name", i.Token(map[string]any{"iss": nil, "ISS": i.URL}), "issuer"},
		{"other audience", i.Token(map[string]any{"aud": "webshop"}), "audience"},
		{"no audience", i.Token(map[string]any{"aud": nil}), "audience"},
		{"expired", i.Token(map[string]any{"exp": now - 90}), "expired"},
		{"no end", i.Token(map[string]any{"exp": nil}), "times"},
		{"end is text", i.Token(map[string]any{"exp": "tomorrow"}), "times"},
		{"end is beyond all times", i.Token(map[string]any{"exp": 1e300}), "times"},
		{"not yet", i.Token(map[string]any{"nbf": now + 3600}), "not-yet"},
		{"clock off by an hour", i.Token(map[string]any{"iat": now + 3600}), "not-yet"},
		{"no person", i.Token(map[string]any{"sub": nil}), "claim"},
		{"person is a number", i.Token(map[string]any{"sub": 7}), "claim"},
		{"ID token", i.Token(map[string]any{"at_hash": "x"}), "type"},
		{"logout token", testenv.SignToken(t, rsaKey, "logout+jwt", i.Claims(nil)), "type"},
		{"refresh token of Keycloak", i.Token(map[string]any{"typ": "Refresh"}), "type"},
		{"bound to a key", i.Token(map[string]any{"cnf": map[string]string{"jkt": "x"}}), "bound"},

		{"empty", "", "syntax"},
		{"12 KiB and more", i.Token(map[string]any{"groups": strings.Repeat("g", 12<<10)}), "syntax"},
		{"12 KiB", i.Token(map[string]any{"groups": strings.Repeat("g", 8<<10)}), "good"},
		{"opaque", "2YotnFZFEjr1zCsicMWpAA", "syntax"},
		{"line break", i.Token(nil) + "\r\n", "syntax"},
		{"cut off", i.Token(nil)[:200], "syntax"},
		{"no base64", "eyJhbGciOiJSUzI1NiJ9.!.x", "syntax"},
		{"dots", "eyJ..", "issuer"},
		{"encrypted", "eyJhbGciOiJSU0EtT0FFUCJ9.a.b.c.d", "syntax"},
	} {
		_, err := v.Verify(t.Context(), tt.token)
		if got := class(err); got != tt.want {
			t.Errorf("%s: %s (%v), want %s", tt.name, got, err, tt.want)
		}
		if err != nil && tt.token != "" && strings.Contains(err.Error(), tt.token) {
			t.Errorf("%s: the token stands in the error", tt.name)
		}
	}
	if n := i.Requests("/keys"); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
}

func unsigned(header string, i *testenv.Issuer) string {
	e := base64.RawURLEncoding
	return e.EncodeToString([]byte(header)) + "." + e.EncodeToString(fmt.Appendf(nil, `{"iss":%q,"aud":"dirpost","sub":"alice","exp":9999999999}`, i.URL)) + "."
}

// withJWK brings the key along that the token is signed with.
func withJWK(t *testing.T, key jose.JSONWebKey, i *testenv.Issuer) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key.Key}, &jose.SignerOptions{EmbedJWK: true})
	return sign(t, signer, err, i)
}

func critical(t *testing.T, key jose.JSONWebKey, i *testenv.Issuer) string {
	t.Helper()
	opts := (&jose.SignerOptions{}).WithHeader("exp", 1).WithCritical("exp")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, opts)
	return sign(t, signer, err, i)
}

func sign(t *testing.T, signer jose.Signer, err error, i *testenv.Issuer) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(fmt.Appendf(nil, `{"iss":%q,"aud":"dirpost","sub":"alice","exp":9999999999}`, i.URL))
	if err != nil {
		t.Fatal(err)
	}
	s, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConfigured(t *testing.T) {
	t.Parallel()
	i := testenv.NewIssuer(t)
	jwt := func() string {
		return testenv.SignToken(t, testenv.NewKey(t, "x", jose.RS256), "JWT", i.Claims(nil))
	}
	for _, tt := range []struct {
		name   string
		change func(*Issuer)
		token  string
		want   string
	}{
		{"scope", func(c *Issuer) { c.Scope = []string{"mail"} }, i.Token(nil), "good"},
		{"scp of Entra ID", func(c *Issuer) { c.Scope = []string{"Mail.Use"} }, i.Token(map[string]any{"scope": nil, "scp": "User.Read Mail.Use"}), "good"},
		{"scp of Okta", func(c *Issuer) { c.Scope = []string{"mail"} }, i.Token(map[string]any{"scope": nil, "scp": []string{"mail"}}), "good"},
		{"no scope", func(c *Issuer) { c.Scope = []string{"mail", "more"} }, i.Token(nil), "scope"},
		{"algorithm not wanted", func(c *Issuer) { c.Algorithms = []string{"ES256"} }, i.Token(nil), "algorithm"},
		{"type wanted", func(c *Issuer) { c.Typed = true }, i.Token(nil), "good"},
		{"type missing", func(c *Issuer) { c.Typed = true }, jwt(), "type"},
		{"address", func(c *Issuer) { c.Claim, c.Match = "email", MatchAddress }, i.Token(map[string]any{"email": "a@b.example", "email_verified": true}), "good"},
		{"address not verified", func(c *Issuer) { c.Claim, c.Match = "email", MatchAddress }, i.Token(map[string]any{"email": "a@b.example", "email_verified": "true"}), "claim"},
	} {
		_, err := verifier(t, i, tt.change).Verify(t.Context(), tt.token)
		if got := class(err); got != tt.want {
			t.Errorf("%s: %s (%v), want %s", tt.name, got, err, tt.want)
		}
	}
	v := verifier(t, i, func(c *Issuer) { c.EndSessions, c.Scope = true, []string{"mail"} })
	good, err := v.Verify(t.Context(), i.Token(nil))
	if err != nil || good.Until.IsZero() || !good.Until.Equal(good.Expires) {
		t.Errorf("%+v, %v", good, err)
	}
	if metadata, scope := v.Discovery(); metadata != i.URL+"/.well-known/openid-configuration" || scope != "mail" {
		t.Errorf("%s %s", metadata, scope)
	}
}

// An issuer that changes its keys is followed; strangers with keys that nobody has
// do not make us ask each time; an issuer that is away is no reason to refuse.
func TestRotation(t *testing.T) {
	t.Parallel()
	i := testenv.NewIssuer(t)
	v := verifier(t, i, nil)
	var mu sync.Mutex
	now := time.Now()
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	pass := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	set := v.issuers[0].keys
	set.now = clock
	check := func(what, token, want string) {
		t.Helper()
		if _, err := v.Verify(t.Context(), token); class(err) != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	first := i.Token(nil)
	check("first key", first, "good")
	i.Rotate("rsa-2", jose.RS256)
	second := i.Token(nil)
	check("new key, at once after the last request", second, "key")
	pass(RetryEvery)
	check("new key", second, "good")
	check("old key", first, "key")
	for range 100 {
		check("a key of nobody", testenv.SignToken(t, testenv.NewKey(t, "nobody", jose.ES256), "", i.Claims(nil)), "key")
	}
	if n := i.Requests("/keys"); n != 2 {
		t.Errorf("the keys were fetched %d times", n)
	}

	i.Handle(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	pass(RefreshEvery + time.Second)
	check("issuer away, known key", second, "good")
	i.Rotate("rsa-3", jose.RS256)
	third := i.Token(nil)
	check("issuer away, unknown key", third, "error")
	pass(RetryEvery)
	check("issuer away, unknown key, asked again", third, "error")
	pass(KeepKeys)
	check("issuer away for a day", second, "error")
	i.Handle(nil)
	pass(RetryEvery)
	check("issuer back", third, "good")
	check("issuer back, key gone", second, "key")

	i.Rotate("", jose.RS256) // keys without names
	pass(RetryEvery)
	check("no kid", i.Token(nil), "good")
	nameless := i.Token(nil)
	i.Rotate("", jose.RS256)
	check("no kid, at once after the last request", i.Token(nil), "signature")
	pass(RetryEvery)
	check("no kid, another key", i.Token(nil), "good")
	check("no kid, the key before", nameless, "signature")
	pass(RetryEvery)
	i.Handle(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	check("no kid, issuer away", nameless, "error")
}

// However many come at once, with keys of nobody and with good ones, the issuer is
// asked once; and a key set that moves is followed by its metadata.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	i := testenv.NewIssuer(t)
	v := verifier(t, i, nil)
	good, bad := i.Token(nil), testenv.SignToken(t, testenv.NewKey(t, "nobody", jose.ES256), "", i.Claims(nil))
	var wg sync.WaitGroup
	for n := range 1000 {
		wg.Go(func() {
			token, want := good, "good"
			if n%2 == 0 {
				token, want = bad, "key"
			}
			if _, err := v.Verify(t.Context(), token); class(err) != want {
				t.Errorf("%v, want %s", err, want)
			}
		})
	}
	wg.Wait()
	if n := i.Requests("/keys"); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}

	set, err := keySetOf(i)
	if err != nil {
		t.Fatal(err)
	}
	i.Handle(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, i.URL, i.URL+"/moved")
		case "/moved":
			_, _ = w.Write(set)
		default:
			http.NotFound(w, r)
		}
	})
	now := time.Now().Add(RefreshEvery)
	v.issuers[0].keys.now = func() time.Time { return now }
	if _, err := v.Verify(t.Context(), good); err != nil || i.Requests("/moved") != 1 {
		t.Errorf("moved: %v, asked %d times", err, i.Requests("/moved"))
	}
}

// Whatever an issuer sends instead of keys, nothing is accepted, nothing is refused
// for good, and no more is read than there may be.
func TestHostileIssuer(t *testing.T) {
	t.Parallel()
	private := testenv.NewKey(t, "rsa-1", jose.RS256)
	for name, answer := range map[string]http.HandlerFunc{
		"an endless key set": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":["`))
			for range 1 << 12 {
				if _, err := w.Write([]byte(strings.Repeat("x", 1<<10))); err != nil {
					return
				}
			}
		},
		"too many keys": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"keys":[%s{}]}`, strings.Repeat(`{},`, MaxKeys))
		},
		"no keys": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
		"shared key": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[{"kty":"oct","kid":"rsa-1","k":"c2VjcmV0"}]}`))
		},
		"a private key": func(w http.ResponseWriter, _ *http.Request) {
			b, err := private.MarshalJSON()
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintf(w, `{"keys":[%s]}`, b)
		},
		"weak key": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[{"kty":"RSA","kid":"rsa-1","n":"` + strings.Repeat("q", 171) + `","e":"AQAB"}]}`))
		},
		"HTML": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>Sign in")) },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://127.0.0.1:1/keys", http.StatusFound)
		},
		"forbidden": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
	} {
		i := testenv.NewIssuer(t)
		token := i.Token(nil)
		i.Handle(answer)
		v := verifier(t, i, func(c *Issuer) { c.Keys = i.URL + "/keys" })
		_, err := v.Verify(t.Context(), token)
		if class(err) != "error" {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: %v", name, err)
		if s := v.Check(t.Context()); len(s) != 1 || s[0].Err == nil {
			t.Errorf("%s: check says %+v", name, s)
		}
	}
}

// Metadata must be those of the issuer, and name a key set by HTTPS.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	i := testenv.NewIssuer(t)
	for name, tt := range map[string]struct {
		body string
		good bool
	}{
		"its own":          {`{"issuer":"ISSUER","jwks_uri":"ISSUER/keys"}`, true},
		"of AD FS":         {`{"issuer":"https://adfs.example/adfs","access_token_issuer":"ISSUER","jwks_uri":"ISSUER/keys"}`, true},
		"another's":        {`{"issuer":"https://evil.example","jwks_uri":"ISSUER/keys"}`, false},
		"keys in clear":    {`{"issuer":"ISSUER","jwks_uri":"http://127.0.0.1/keys"}`, false},
		"keys in a file":   {`{"issuer":"ISSUER","jwks_uri":"/etc/passwd"}`, false},
		"no keys":          {`{"issuer":"ISSUER"}`, false},
		"no JSON":          {`<html>`, false},
		"endless metadata": {strings.Repeat(" ", maxAnswer+1), false},
	} {
		set, err := keySetOf(i)
		if err != nil {
			t.Fatal(err)
		}
		i.Handle(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/.well-known/oauth-authorization-server": // RFC 8414 §3: where OpenID Connect is not spoken
				_, _ = w.Write([]byte(strings.ReplaceAll(tt.body, "ISSUER", i.URL)))
			case "/keys":
				_, _ = w.Write(set)
			default:
				http.NotFound(w, r)
			}
		})
		_, err = verifier(t, i, nil).Verify(t.Context(), i.Token(nil))
		if tt.good != (err == nil) || !tt.good && class(err) != "error" {
			t.Errorf("%s: %v", name, err)
		}
		i.Handle(nil)
	}
}

// keySetOf returns the key set of i as it sends it.
func keySetOf(i *testenv.Issuer) ([]byte, error) {
	return get(context.Background(), newClient(Issuer{Roots: i.Pool}), i.URL+"/keys", maxKeySet)
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	i := testenv.NewIssuer(t)
	set, err := keySetOf(i)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, set, 0o600); err != nil {
		t.Fatal(err)
	}
	asked := i.Requests("/keys")
	v := verifier(t, i, func(c *Issuer) { c.Keys = path })
	if _, err := v.Verify(t.Context(), i.Token(nil)); err != nil {
		t.Error(err)
	}
	if i.Requests("/keys") != asked {
		t.Error("the issuer was asked")
	}
}

// The certificate of the issuer is checked.
func TestUntrustedIssuer(t *testing.T) {
	t.Parallel()
	i := testenv.NewIssuer(t)
	v := verifier(t, i, func(c *Issuer) { c.Roots = nil })
	if _, err := v.Verify(t.Context(), i.Token(nil)); class(err) != "error" || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
}

func TestIntrospection(t *testing.T) {
	t.Parallel()
	i := testenv.NewIssuer(t)
	v := verifier(t, i, func(c *Issuer) {
		c.Introspection, c.ClientID, c.ClientSecret = i.URL+"/introspect", testenv.IssuerClient, testenv.IssuerSecret
		c.Claim = "username"
	})
	start := time.Now()
	now := start
	v.now = func() time.Time { return now }
	good := map[string]any{"active": true, "aud": "dirpost", "username": "alice", "exp": start.Add(time.Hour).Unix()}
	i.Answer("opaque-1", good)
	i.Answer("webshop", map[string]any{"active": true, "aud": "webshop", "username": "alice"})
	i.Answer("old", map[string]any{"active": true, "aud": "dirpost", "username": "alice", "exp": start.Add(-time.Hour).Unix()})
	i.Answer("elsewhere", map[string]any{"active": true, "aud": "dirpost", "username": "alice", "iss": "https://evil.example"})
	i.Answer("short", map[string]any{"active": true, "aud": "dirpost", "username": "alice", "exp": start.Add(2 * time.Second).Unix()})
	for token, want := range map[string]string{
		"opaque-1": "good", "unknown": "inactive", "webshop": "audience", "old": "expired", "elsewhere": "issuer", "short": "good",
		i.Token(nil): "inactive", // what the issuer has signed but does not stand by
	} {
		if _, err := v.Verify(t.Context(), token); class(err) != want {
			t.Errorf("%.20s: %v, want %s", token, err, want)
		}
	}
	asked := i.Requests("/introspect")
	i.Answer("opaque-1", nil)
	if _, err := v.Verify(t.Context(), "opaque-1"); err != nil || i.Requests("/introspect") != asked {
		t.Errorf("not remembered: %v", err)
	}
	now = start.Add(31 * time.Second)
	if _, err := v.Verify(t.Context(), "opaque-1"); class(err) != "inactive" {
		t.Errorf("revoked: %v", err)
	}
	now = start.Add(2 * time.Minute)
	i.Handle(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	if _, err := v.Verify(t.Context(), "opaque-1"); class(err) != "error" || strings.Contains(err.Error(), "opaque-1") {
		t.Errorf("issuer away: %v", err)
	}
	i.Handle(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"error":"server_error"}`)) })
	if _, err := v.Verify(t.Context(), "opaque-1"); class(err) != "error" {
		t.Errorf("no answer: %v", err)
	}
	if s := v.Check(t.Context()); s[0].Err == nil {
		t.Errorf("check says %+v", s)
	}
	i.Handle(nil)
	if s := v.Check(t.Context()); s[0].Err != nil {
		t.Errorf("check says %+v", s)
	}
}

// However many tokens are asked about, only so many answers are kept.
func TestIntrospectionIsBounded(t *testing.T) {
	t.Parallel()
	x := newIntrospector(Issuer{}, nil)
	now := time.Now()
	for n := range maxRemembered + 1000 {
		var key [32]byte
		key[0], key[1], key[2] = byte(n), byte(n>>8), byte(n>>16)
		x.remember(key, answer{until: now.Add(time.Minute)}, now)
	}
	if len(x.answers) != maxRemembered {
		t.Errorf("%d are kept", len(x.answers))
	}
}

func TestPerson(t *testing.T) {
	t.Parallel()
	address := func(s string) envelope.Address {
		a, err := envelope.ParseAddress(s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	alice := &directory.Entry{Key: "corp:6b29fc40-ca47-1067-b31d-00dd010662da", Directory: "corp", DN: "cn=alice", Kind: directory.KindPerson,
		Primary: address("alice@corp.example"), Logins: []string{"alice", `corp\alice`}, SID: "S-1-5-21-1-2-3-1104"}
	bob := &directory.Entry{Key: "branch:7b29fc40-ca47-1067-b31d-00dd010662da", Directory: "branch", DN: "cn=bob", Kind: directory.KindPerson,
		Primary: address("bob@corp.example"), Logins: []string{"bob"}, SID: "S-1-5-21-9-9-9-9"}
	s := directory.NewSnapshot([]string{"corp.example"}, []*directory.Entry{alice, bob})
	for _, tt := range []struct {
		match Match
		name  string
		want  bool
	}{
		{MatchID, "6b29fc40-ca47-1067-b31d-00dd010662da", true},
		{MatchID, "{6B29FC40-CA47-1067-B31D-00DD010662DA}", true},
		{MatchID, "QPwpa0fKZxCzHQDdAQZi2g==", true},              // the octets of objectGUID
		{MatchID, "7b29fc40-ca47-1067-b31d-00dd010662da", false}, // another directory
		{MatchID, "", false},
		{MatchID, "alice", false},
		{MatchSID, "S-1-5-21-1-2-3-1104", true},
		{MatchSID, "s-1-5-21-1-2-3-1104", true},
		{MatchSID, "S-1-5-21-9-9-9-9", false},
		{MatchSID, "", false},
		{MatchLogin, `CORP\Alice`, true},
		{MatchLogin, "bob", false},
		{MatchLogin, "nobody", false},
		{MatchAddress, "Alice@corp.example", true},
		{MatchAddress, "bob@corp.example", false},
		{MatchAddress, "alice", false},
	} {
		tok := &Token{Name: tt.name, issuer: &issuer{c: Issuer{Match: tt.match, Directories: []string{"corp"}}}}
		if e := tok.Person(s); (e != nil) != tt.want || e != nil && e.Key != alice.Key {
			t.Errorf("%s %q: %v", tt.match, tt.name, e)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := Issuer{Issuer: "https://id.example", Audience: []string{"dirpost"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Issuer){
		"issuer":        func(c *Issuer) { c.Issuer = "id.example" },
		"http":          func(c *Issuer) { c.Issuer = "http://id.example" },
		"discovery":     func(c *Issuer) { c.Discovery = "http://id.example/x" },
		"keys":          func(c *Issuer) { c.Keys = "keys.json" },
		"audience":      func(c *Issuer) { c.Audience = nil },
		"scope":         func(c *Issuer) { c.Scope = []string{"a b"} },
		"algorithms":    func(c *Issuer) { c.Algorithms = []string{"HS256"} },
		"match":         func(c *Issuer) { c.Match = "mail" },
		"skew":          func(c *Issuer) { c.Skew = time.Hour },
		"remember":      func(c *Issuer) { c.Remember = time.Hour },
		"introspection": func(c *Issuer) { c.Introspection = "https://id.example/i" },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New([]Issuer{good, good}); err == nil {
		t.Error("the same issuer twice")
	}
}

// Run fetches the keys before anybody needs them.
func TestRun(t *testing.T) {
	t.Parallel()
	i := testenv.NewIssuer(t)
	v := verifier(t, i, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- v.Run(ctx) }()
	for i.Requests("/keys") == 0 || v.issuers[0].keys.state().count == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(v.Collectors()) == 0 {
		t.Error("no metrics")
	}
}

// FuzzToken: no text is a good token, and every one is judged.
func FuzzToken(f *testing.F) {
	path := filepath.Join(f.TempDir(), "keys.json")
	key := testenv.NewKey(f, "k", jose.ES256)
	public, err := key.Public().MarshalJSON()
	if err != nil {
		f.Fatal(err)
	}
	if err := os.WriteFile(path, fmt.Appendf(nil, `{"keys":[%s]}`, public), 0o600); err != nil {
		f.Fatal(err)
	}
	v, err := New([]Issuer{{Issuer: "https://id.example", Audience: []string{"dirpost"}, Keys: path}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJkaXJwb3N0Iiwic3ViIjoiYWxpY2UiLCJleHAiOjk5OTk5OTk5OTl9.")
	f.Add("eyJhbGciOiJFUzI1NiIsImtpZCI6ImsifQ.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUifQ.AAAA")
	f.Add("eyJhbGciOiJFUzI1NiIsImNyaXQiOlsiYjY0Il0sImI2NCI6ZmFsc2V9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUifQ.AAAA")
	f.Add("opaque")
	f.Fuzz(func(t *testing.T, token string) {
		_, err := v.Verify(t.Context(), token)
		var no *Refusal
		if !errors.As(err, &no) {
			t.Errorf("%q: %v", token, err)
		}
	})
}

// FuzzKeySet: whatever an issuer sends, only strong public keys come out of it.
func FuzzKeySet(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"RSA","n":"AQAB","e":"AQAB"},null,7,{"kty":"EC","crv":"P-256","x":"","y":""}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseKeySet(b)
		if (err == nil) != (len(keys) > 0) || len(keys) > MaxKeys {
			t.Errorf("%q: %d keys, %v", b, len(keys), err)
		}
		for _, k := range keys {
			if !k.IsPublic() || !strong(k) {
				t.Errorf("%q: %v", b, k)
			}
		}
	})
}
