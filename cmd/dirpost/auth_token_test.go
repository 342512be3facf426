package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"dirpost/internal/testenv"
)

// newTokenSystem is newSystem with an issuer whose tokens name people by entryUUID.
func newTokenSystem(t *testing.T) (*system, *testenv.Issuer) {
	t.Helper()
	issuer := testenv.NewIssuer(t)
	return newSystem(t, fmt.Sprintf("[[auth.oauth]]\nissuer = %q\naudience = [\"dirpost\"]\nscope = [\"mail\"]\nca = %q\nclaim = \"directory_id\"\nmatch = \"id\"\n",
		issuer.URL, issuer.CAFile)), issuer
}

// TestTokenClients: curl and the client library log in with a token everywhere, by
// both mechanisms, and are told when it does not count.
func TestTokenClients(t *testing.T) {
	t.Parallel()
	s, issuer := newTokenSystem(t)
	s.start()
	alice := issuer.Token(map[string]any{"directory_id": s.uuid("alice"), "sub": "7"})
	expired := issuer.Token(map[string]any{"directory_id": s.uuid("alice"), "exp": 1})
	for token, want := range map[string]string{alice: "ok  person", expired: "NO  token", "opaque": "NO  token"} {
		var out lockedBuffer
		code := run(t.Context(), []string{"dirpost", "auth", "token", "--config", s.config}, streams{strings.NewReader(token + "\n"), &out, &out})
		if (code == 0) != (token == alice) || !strings.Contains(out.String(), want) || len(token) > 20 && strings.Contains(out.String(), token) {
			t.Errorf("auth token: %d, %s", code, out.String())
		}
	}
	file := filepath.Join(s.dir, "mail.eml")
	if err := os.WriteFile(file, []byte("From: alice@corp.example\r\nTo: bob@corp.example\r\nSubject: by token\r\n\r\nText.\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mech := range []string{"OAUTHBEARER", "XOAUTH2"} {
		for name, args := range map[string][]string{
			"IMAP":          {"imaps://localhost:" + s.port("imaps") + "/INBOX", "-X", "STATUS INBOX (MESSAGES)"},
			"IMAP STARTTLS": {"imap://localhost:" + s.port("imap") + "/INBOX", "--ssl-reqd", "-X", "STATUS INBOX (MESSAGES)"},
			"POP3":          {"pop3s://localhost:" + s.port("pop3s")},
			"submission":    {"smtps://localhost:" + s.port("submissions"), "--mail-from", "alice@corp.example", "--mail-rcpt", "bob@corp.example", "-T", file},
		} {
			curl := func(user, token string) (string, error) {
				return s.client("curl", append([]string{"-sS", "--max-time", "30", "--cacert", s.cert.CAFile, "--oauth2-bearer", token, "-u", user + ":", "--login-options", "AUTH=" + mech}, args...)...)
			}
			if out, err := curl("alice@corp.example", alice); err != nil {
				t.Errorf("curl %s %s: %v: %s", mech, name, err, out)
			}
			for what, c := range map[string][2]string{"an expired token": {"alice@corp.example", expired}, "somebody else's mail": {"bob@corp.example", alice}} {
				if out, err := curl(c[0], c[1]); err == nil || !strings.Contains(out, "curl: (67)") { // CURLE_LOGIN_DENIED
					t.Errorf("curl %s %s, %s: %v: %s", mech, name, what, err, out)
				}
			}
		}
	}

	c, err := smtp.DialTLS(s.addr["submissions"], s.tls())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Auth(sasl.NewOAuthBearerClient(&sasl.OAuthBearerOptions{Username: "alice@corp.example", Token: alice, Host: "localhost", Port: 465})); err != nil {
		t.Errorf("go-sasl: %v", err)
	}
	ic, err := imapclient.DialTLS(s.addr["imaps"], &imapclient.Options{TLSConfig: s.tls()})
	if err != nil {
		t.Fatal(err)
	}
	defer ic.Close()
	err = ic.Authenticate(sasl.NewOAuthBearerClient(&sasl.OAuthBearerOptions{Username: "alice@corp.example", Token: expired}))
	if err == nil || !strings.Contains(err.Error(), "invalid_token") {
		t.Errorf("go-sasl is not told why: %v", err)
	}
}

// TestTokenIssuerAway: while the issuer is away whom it speaks for is our trouble; the
// password goes on.
func TestTokenIssuerAway(t *testing.T) {
	t.Parallel()
	s, issuer := newTokenSystem(t)
	issuer.Handle(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	s.start()
	out, err := s.client("curl", "-sSv", "--max-time", "30", "--cacert", s.cert.CAFile, "--oauth2-bearer", issuer.Token(map[string]any{"directory_id": s.uuid("alice")}), "-u", "alice:",
		"smtps://localhost:"+s.port("submissions"), "--mail-from", "alice@corp.example", "--mail-rcpt", "bob@corp.example", "-X", "NOOP")
	if err == nil || !strings.Contains(out, "454 4.7.0") {
		t.Errorf("%v: %s", err, out)
	}
	s.login("alice")
	if report := s.command(1, "doctor", "--only=logins"); !strings.Contains(report, "issuer "+issuer.URL) || !strings.Contains(report, "502") {
		t.Errorf("doctor says %s", report)
	}
	issuer.Handle(nil)
	if report := s.command(2, "doctor", "--only=logins"); !strings.Contains(report, "1 keys") {
		t.Errorf("doctor says %s", report)
	}
}
