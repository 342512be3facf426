//go:build acceptance

package main

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/internal/testenv"
)

// welcome is mail for a person whose Thunderbird is about to be set up.
func (s *system) welcome(address string) {
	s.t.Helper()
	msg := "From: Friend <friend@partner.example>\r\nTo: " + address + "\r\nSubject: Welcome\r\nDate: " + time.Now().Format(time.RFC1123Z) + "\r\n\r\nYou have found it.\r\n"
	if err := s.deliver("friend@partner.example", []string{address}, msg); err != nil {
		s.t.Fatal(err)
	}
}

// expect checks that somebody reads that mail and sends an answer.
func (b *thunderbird) expect(to string) {
	b.t.Helper()
	b.open("Welcome", "You have found it.")
	b.send(to, "Reply", "It was easy.")
}

// TestAcceptanceThunderbirdTicket: who has a ticket of the domain types a name and an
// address, and no password at all.
func TestAcceptanceThunderbirdTicket(t *testing.T) {
	s := newSSO(t, "thea")
	ip := s.forThunderbird(s.host)
	s.change("\n[auth]\n", "\n[autoconfig]\nmethods = [\"ticket\", \"password\"]\n[auth]\n")
	s.start()
	s.eventually("thea is known", func() bool { return s.node.live.Snapshot().ByLogin("thea") != nil })
	s.kinit()
	s.welcome("thea@corp.example")
	env := slices.DeleteFunc(slices.Clone(s.env), func(e string) bool {
		return strings.HasPrefix(e, "LD_PRELOAD=") || strings.HasPrefix(e, "HOME=")
	})
	b := newThunderbird(t, ip, s.cert.CAFile, nil, env...)
	b.setUp("Thea Example", "thea@corp.example", "")
	b.expect("thea@corp.example")
	s.eventually("she has logged in by ticket to read and to send", func() bool {
		return strings.Count(s.logs.String(), "mech=GSSAPI") >= 2
	})
	if strings.Contains(s.logs.String(), "mech=PLAIN") {
		t.Error("a password was used")
	}
}

// TestAcceptanceThunderbirdToken: with the add-on that the server has for it,
// Thunderbird gets tokens of the company's issuer, and no password is typed into it.
func TestAcceptanceThunderbirdToken(t *testing.T) {
	s, issuer := newTokenSystem(t)
	ip := s.forThunderbird("mail.corp.example")
	login := &signOn{t: t, token: func() string { return issuer.Token(map[string]any{"directory_id": s.uuid("alice")}) }}
	login.start()
	s.change("\n[auth]\n", fmt.Sprintf("\n[autoconfig]\nmethods = [\"token\", \"password\"]\n[autoconfig.oauth]\nauthorization_endpoint = %q\ntoken_endpoint = %q\nclient_id = \"thunderbird\"\nscope = [\"mail\"]\n[auth]\n",
		login.URL+"/authorize", login.URL+"/token"))
	s.start()
	s.welcome("alice@corp.example")
	b := newThunderbird(t, ip, s.cert.CAFile, map[string]any{"ExtensionSettings": map[string]any{"login@mail.corp.example": map[string]any{
		"installation_mode": "force_installed", "install_url": "https://mail.corp.example/thunderbird.xpi",
	}}})
	b.window("mail:3pane")
	b.until("the add-on is installed", func() error {
		var known bool
		err := b.script(&known, `
const { OAuth2Providers } = ChromeUtils.importESModule("resource:///modules/OAuth2Providers.sys.mjs");
return !!OAuth2Providers.getHostnameDetails("mail.corp.example", "imap")`)
		if err == nil && !known {
			err = fmt.Errorf("the issuer is not known")
		}
		return err
	})
	b.setUp("Alice Example", "alice@corp.example", "")
	b.expect("bob@corp.example")
	s.await("bob", "INBOX", 1)
	if !strings.Contains(s.logs.String(), "proof=token") {
		t.Error("no token was used")
	}
}

// signOn is the company's page for logging in, of somebody who has done so already
// today, and hands out tokens (RFC 6749 §4.1, RFC 7636).
type signOn struct {
	*httptest.Server
	t     *testing.T
	token func() string

	mu        sync.Mutex // guards challenge
	challenge string     // of the last request
}

func (o *signOn) start() {
	cert := testenv.Certificate(o.t)
	o.Server = httptest.NewUnstartedServer(o)
	o.TLS = &tls.Config{Certificates: []tls.Certificate{cert.TLS}}
	o.StartTLS()
	o.t.Cleanup(o.Close)
}

func (o *signOn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		o.t.Error(err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch r.URL.Path {
	case "/authorize":
		o.challenge = r.Form.Get("code_challenge")
		if r.Form.Get("client_id") != "thunderbird" || r.Form.Get("scope") != "mail" || r.Form.Get("login_hint") != "alice@corp.example" || o.challenge == "" {
			o.t.Errorf("asked for a code by %s", r.Form.Encode())
		}
		http.Redirect(w, r, r.Form.Get("redirect_uri")+"?"+url.Values{"code": {"one"}, "state": {r.Form.Get("state")}}.Encode(), http.StatusFound)
	case "/token":
		sum := sha256.Sum256([]byte(r.Form.Get("code_verifier")))
		if r.Form.Get("code") != "one" || base64.RawURLEncoding.EncodeToString(sum[:]) != o.challenge {
			o.t.Errorf("asked for a token by %s", r.Form.Encode())
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(map[string]any{"access_token": o.token(), "refresh_token": "again", "token_type": "Bearer", "expires_in": 3600, "scope": "mail"}); err != nil {
			o.t.Error(err)
		}
	default:
		http.NotFound(w, r)
	}
}
