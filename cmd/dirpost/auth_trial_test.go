package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// TestAuthTest: a login, walked through for the administrator.
func TestAuthTest(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	wantAll := func(out string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(out, p) {
				t.Errorf("it does not say %q:\n%s", p, out)
			}
		}
	}
	wantAll(s.command(0, "auth", "test", "alice"), "nobody has said which networks are inside", "PLAIN LOGIN", "uid=alice,", "imap is allowed", "The login works.")
	wantAll(s.command(1, "auth", "test", "nobody"), "NO  name", "535 5.7.8", "NO [AUTHENTICATIONFAILED]")
	wantAll(s.command(1, "auth", "test", "dave", "--protocol", "pop3"), "the account is disabled", "NO [CONTACTADMIN]")
	wantAll(s.command(1, "auth", "test", "office@corp.example"), "NO  name")
	wantAll(s.command(1, "auth", "test", "alice", "--clear"), "no TLS", "538 5.7.11")
	wantAll(s.command(1, "auth", "test", "alice", "--as", "bob"), "alice may not act as bob", "NO [AUTHORIZATIONFAILED]")
	wantAll(s.command(1, "auth", "test", "alice", "--protocol", "nntp"), "is none of imap, pop3")
	wantAll(s.command(1, "auth", "test", "alice", "--from", "here"), "is no address")

	judged := func(password string) (x tried, code int) {
		var out, log bytes.Buffer
		code = run(t.Context(), []string{"dirpost", "--config", s.config, "auth", "test", "alice", "--password", "--json"}, streams{strings.NewReader(password + "\n"), &out, &log})
		if strings.Contains(out.String()+log.String(), password) {
			t.Errorf("it tells the password: %s%s", out.String(), log.String())
		}
		if err := json.Unmarshal(out.Bytes(), &x); err != nil {
			t.Errorf("%v: %s%s", err, out.String(), log.String())
		}
		return x, code
	}
	if x, code := judged(s.slapd.UserPassword); code != 0 || !x.Works || x.Answer != nil {
		t.Errorf("right: exit status %d, %+v", code, x)
	}
	if x, code := judged("not-the-right-one"); code != 1 || x.Works || x.Answer == nil || !strings.HasPrefix(x.Answer.SMTP, "535 5.7.8") || x.Steps[len(x.Steps)-1].Name != "password" {
		t.Errorf("wrong: exit status %d, %+v", code, x)
	}

	s.change("[auth]\n", "[auth]\ninside = [\"10.0.0.0/8\"]\nmasters = [\"it@corp.example\"]\n")
	wantAll(s.command(1, "auth", "test", "alice@corp.example", "--from", "203.0.113.7"), "outside: the password of the domain is not taken", "SCRAM-SHA-256", "uid=alice,", "NO  password", "with an app password it would go on")
	wantAll(s.command(0, "auth", "test", "erik", "--as", "bob", "--protocol", "submission", "--from", "10.1.2.3"), "inside: the password of the domain is taken", "bob@corp.example, as one of the masters")
}
