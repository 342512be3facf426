package auth

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"dirpost/auth/oauth"
	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/testenv"
)

// tokens returns a bridge that takes those of i.
func tokens(t *testing.T, i *testenv.Issuer, change func(*oauth.Issuer)) (*Bridge, *directory.Live, *events) {
	t.Helper()
	c := oauth.Issuer{Issuer: i.URL, Audience: []string{"dirpost"}, Scope: []string{"mail"}, Directories: []string{"corp"}, Roots: i.Pool}
	if change != nil {
		change(&c)
	}
	v, err := oauth.New([]oauth.Issuer{c})
	if err != nil {
		t.Fatal(err)
	}
	live, log := directory.NewLive(directory.NewSnapshot([]string{"corp.example"}, people())), &events{}
	return New(Config{FailureTime: time.Nanosecond}, live, Parts{Tokens: v}, log), live, log
}

// say runs an exchange with these responses and returns the last challenge.
func say(t *testing.T, b *Bridge, c Conn, mech string, responses ...[]byte) (challenge string, id *Identity, err error) {
	t.Helper()
	x, err := b.Start(t.Context(), c, mech)
	if err != nil {
		return "", nil, err
	}
	for _, r := range responses {
		next, done, err := x.Next(t.Context(), r)
		if err != nil {
			return challenge, nil, err
		}
		if challenge = string(next); done {
			return challenge, x.Identity(), nil
		}
	}
	return challenge, nil, nil
}

func bearer(mech, user, token string) []byte {
	if mech == "XOAUTH2" {
		return []byte("user=" + user + "\x01auth=Bearer " + token + "\x01\x01")
	}
	if user != "" {
		user = "a=" + user
	}
	return []byte("n," + user + ",\x01host=mail.corp.example\x01port=993\x01auth=Bearer " + token + "\x01\x01")
}

// RFC 7628 §3.2.2: what the client is told is JSON, after which it must send
// something before the exchange fails.
func TestTokens(t *testing.T) {
	t.Parallel()
	i := testenv.NewIssuer(t)
	b, _, log := tokens(t, i, nil)
	told := map[string]string{
		"OAUTHBEARER": `{"status":"STATUS","scope":"mail","openid-configuration":"` + i.URL + `/.well-known/openid-configuration"}`,
		"XOAUTH2":     `{"status":"401","schemes":"Bearer","scope":"mail"}`,
	}
	for _, tt := range []struct {
		name, user, token string
		want              error
		status            string // what the client is told: "" nothing
		reason            string
	}{
		{"good", "alice@corp.example", i.Token(nil), nil, "", ""},
		{"no name", "", i.Token(nil), nil, "", ""},
		{"by another name", `CORP\alice`, i.Token(nil), nil, "", ""},
		{"somebody else's mail", "bob@corp.example", i.Token(nil), ErrAuthorization, "", "authzid"},
		{"disabled", "dave", i.Token(map[string]any{"sub": "dave"}), ErrDisabled, "", "disabled"},
		{"another protocol", "web", i.Token(map[string]any{"sub": "web"}), ErrAuthorization, "", "service"},
		{"nobody", "alice@corp.example", i.Token(map[string]any{"sub": "mallory"}), ErrCredentials, "invalid_token", "unknown"},
		{"expired", "alice@corp.example", i.Token(map[string]any{"exp": 1}), ErrCredentials, "invalid_token", "token-expired"},
		{"without scope", "alice@corp.example", i.Token(map[string]any{"scope": "openid"}), ErrCredentials, "insufficient_scope", "token-scope"},
		{"no token", "alice@corp.example", "", ErrCredentials, "invalid_token", "token-syntax"},
	} {
		for _, mech := range []string{"OAUTHBEARER", "XOAUTH2"} {
			log.lines = nil
			challenge, id, err := say(t, b, client, mech, bearer(mech, tt.user, tt.token))
			if tt.status != "" {
				if want := strings.Replace(told[mech], "STATUS", tt.status, 1); challenge != want || err != nil || id != nil {
					t.Errorf("%s %s: told %q, %v, want %q", mech, tt.name, challenge, err, want)
				}
				_, id, err = say(t, b, client, mech, bearer(mech, tt.user, tt.token), []byte{1})
			}
			if tt.want == nil && (err != nil || id == nil || id.Person != "corp:alice" || id.Proof != ProofToken || id.Mechanism != mech) ||
				tt.want != nil && envelope.StatusOf(err) != envelope.StatusOf(tt.want) {
				t.Errorf("%s %s: %+v, %v", mech, tt.name, id, err)
			}
			line := strings.Join(log.lines, "\n")
			if tt.reason != "" && !strings.Contains(line, "reason="+tt.reason) && !strings.Contains(line, `reason="`+tt.reason+`"`) {
				t.Errorf("%s %s: %s", mech, tt.name, line)
			}
			if tt.token != "" && strings.Contains(line, tt.token[:40]) {
				t.Errorf("%s %s: the token stands in the log: %s", mech, tt.name, line)
			}
		}
	}
}

// A mechanism is offered where a token would be taken, and nowhere in clear.
func TestTokensOffered(t *testing.T) {
	t.Parallel()
	i := testenv.NewIssuer(t)
	b, _, _ := tokens(t, i, nil)
	if got := strings.Join(b.Mechanisms(client), " "); !strings.Contains(got, "OAUTHBEARER XOAUTH2") {
		t.Error(got)
	}
	clear := client
	clear.TLS = false
	if _, _, err := say(t, b, clear, "OAUTHBEARER"); !errors.Is(err, ErrPolicy) {
		t.Error(err)
	}
	b.cfg.PlaintextLoopback = true
	clear.Client = netip.MustParseAddr("127.0.0.1")
	if got := strings.Join(b.Mechanisms(clear), " "); got != "PLAIN LOGIN" {
		t.Errorf("in clear from this host: %s", got)
	}
	off, _, _, _ := newBridge(Config{})
	if got := strings.Join(off.Mechanisms(client), " "); got != "PLAIN LOGIN" {
		t.Errorf("without an issuer: %s", got)
	}
}

// An issuer that is away is our trouble, whatever the token is.
func TestTokensIssuerAway(t *testing.T) {
	t.Parallel()
	i := testenv.NewIssuer(t)
	token := i.Token(nil)
	i.Handle(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	b, _, log := tokens(t, i, nil)
	challenge, _, err := say(t, b, client, "OAUTHBEARER", bearer("OAUTHBEARER", "alice", token))
	if !envelope.StatusOf(err).IsTemporary() || challenge != "" || !strings.Contains(log.lines[0], "reason=issuer") {
		t.Errorf("%q, %v, %s", challenge, err, log.lines)
	}
}

// Exchanges that do not go as they should end, and cost nothing afterwards.
func TestTokensHalfDone(t *testing.T) {
	t.Parallel()
	i := testenv.NewIssuer(t)
	b, _, log := tokens(t, i, nil)
	bad := bearer("OAUTHBEARER", "alice", "x")
	for name, responses := range map[string][][]byte{
		"nothing to begin with":      {nil, bad, {1}, {1}},
		"a token instead of octet 1": {bad, bearer("OAUTHBEARER", "alice", i.Token(nil))},
		"garbage":                    {[]byte("\x01\x01\x01")},
		"empty":                      {{}},
		"13 KiB":                     {[]byte(strings.Repeat("x", 13<<10))},
	} {
		if _, id, err := say(t, b, client, "OAUTHBEARER", responses...); err == nil || id != nil {
			t.Errorf("%s: %v, %v", name, id, err)
		}
	}
	log.lines = nil
	for range 2000 {
		if _, _, err := say(t, b, client, "OAUTHBEARER", bad); err != nil {
			t.Fatal(err)
		}
	}
	if len(log.lines) != 2000 {
		t.Errorf("%d lines of 2000 refusals that nobody waited for", len(log.lines))
	}
	if len(b.watches) != 0 {
		t.Error("sessions are left")
	}
}

// The session of a token ends with it only if the administrator wants that, and with
// the person in any case.
func TestTokensEnd(t *testing.T) {
	t.Parallel()
	i := testenv.NewIssuer(t)
	key := testenv.NewKey(t, "rsa-1", jose.RS256)
	i.SetKeys(key)
	for _, ends := range []bool{false, true} {
		b, live, _ := tokens(t, i, func(c *oauth.Issuer) { c.EndSessions = ends })
		_, id, err := say(t, b, client, "OAUTHBEARER", bearer("OAUTHBEARER", "", i.Token(nil)))
		if err != nil {
			t.Fatal(err)
		}
		if id.Until.IsZero() == ends {
			t.Errorf("ends %v: until %v", ends, id.Until)
		}
		out := make(chan string, 1)
		defer b.Watch(id, func(reason string) { out <- reason })()
		live.Apply(2, []directory.Change{{Key: "corp:alice", Entry: person("alice", func(e *directory.Entry) { e.Login = directory.StateDisabled })}})
		if reason := <-out; reason != "account disabled" {
			t.Error(reason)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		b, _, _, _ := newBridge(Config{})
		start := time.Now()
		out := make(chan string, 1)
		b.Watch(&Identity{Person: "corp:alice", Until: start.Add(time.Hour)}, func(reason string) { out <- reason })
		b.Watch(&Identity{Person: "corp:alice"}, func(string) { t.Error("the other session ended too") })
		if reason := <-out; reason != "token or certificate expired" || time.Since(start) != time.Hour {
			t.Errorf("%s after %v", reason, time.Since(start))
		}
	})
}
