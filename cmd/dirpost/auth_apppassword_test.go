package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/textproto"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/go-ldap/ldap/v3"
	"github.com/xdg-go/scram"
)

// appPassword makes an app password by the command.
func (s *system) appPassword(args ...string) appPasswordJSON {
	s.t.Helper()
	var j appPasswordJSON
	out := s.command(0, append([]string{"auth", "app-password", "create", "--json"}, args...)...)
	if i := strings.Index(out, "{"); i < 0 || json.Unmarshal([]byte(out[i:]), &j) != nil || j.Password == "" {
		s.t.Fatalf("create says %q", out)
	}
	return j
}

// imap opens an IMAP session by PLAIN with another password than that of the domain.
func (s *system) imap(who, password string) (*imapclient.Client, error) {
	c, err := imapclient.DialTLS(s.addr["imaps"], &imapclient.Options{TLSConfig: s.tls()})
	if err != nil {
		return nil, err
	}
	s.t.Cleanup(func() { _ = c.Close() })
	if err := c.Authenticate(sasl.NewPlainClient("", who, password)); err != nil {
		return nil, err
	}
	_, err = c.Select("INBOX", nil).Wait()
	return c, err
}

// ends waits for the end of a session.
func (s *system) ends(c *imapclient.Client) {
	s.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for c.Noop().Wait() == nil {
		if time.Now().After(deadline) {
			s.t.Error("the session goes on")
			return
		}
		time.Sleep(5 * time.Millisecond) // a client can only look
	}
}

// TestAppPasswordCommand: made, listed, restricted, revoked, with sessions on it.
func TestAppPasswordCommand(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.change("\n[auth]\n", "\n[auth]\ninside = [\"10.0.0.0/8\"]\n") // this host is outside
	s.start()
	var out, log bytes.Buffer
	if code := run(t.Context(), []string{"dirpost", "--config", s.config, "auth", "app-password", "create", "alice", "--name", "Phone"}, streams{nil, &out, &log}); code != 0 {
		t.Fatalf("create: exit status %d: %s%s", code, out.String(), log.String())
	}
	phone := strings.TrimSuffix(out.String(), "\n")
	if !regexp.MustCompile(`^([0-9a-z]{4}-){4}[0-9a-z]{4}$`).MatchString(phone) || strings.Contains(log.String(), phone) || !strings.Contains(log.String(), "cannot be shown again") {
		t.Errorf("create prints %q and says %q", out.String(), log.String())
	}
	scanner := s.appPassword("alice@corp.example", "--name", "Scanner", "--service", "submission", "--expires", "365d")
	if len(scanner.Services) != 1 || scanner.Expires == nil || scanner.Person == "" {
		t.Errorf("%+v", scanner)
	}
	for _, bad := range [][]string{
		{"create", "alice", "--name", "phone"}, {"create", "alice"}, {"create", "nobody", "--name", "x"}, {"create", "office@corp.example", "--name", "x"},
		{"create", "alice", "--name", "x", "--service", "http"}, {"create", "alice", "--name", "x", "--expires", "soon"},
		{"revoke", "alice", "Tablet"}, {"revoke", "alice"}, {"revoke", "alice", "Phone", "--all"},
	} {
		s.command(1, append([]string{"auth", "app-password"}, bad...)...)
	}

	c, err := s.imap("alice", phone)
	if err != nil {
		t.Fatalf("IMAP with the phone's: %v", err)
	}
	tablet := s.appPassword("alice", "--name", "Tablet").Password
	other, err := s.imap("alice", tablet)
	if err != nil {
		t.Fatalf("IMAP with the tablet's: %v", err)
	}
	if _, err := s.imap("alice", scanner.Password); err == nil || !strings.Contains(err.Error(), "Not authorized") {
		t.Errorf("IMAP with the scanner's: %v", err)
	}
	sender, err := smtp.DialTLS(s.addr["submissions"], s.tls())
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	if err := sender.Auth(sasl.NewPlainClient("", "alice", scanner.Password)); err != nil {
		t.Errorf("submission with the scanner's: %v", err)
	}
	var walk bytes.Buffer
	if code := run(t.Context(), []string{"dirpost", "--config", s.config, "auth", "test", "alice", "--from", "203.0.113.7", "--password"}, streams{strings.NewReader(phone + "\n"), &walk, &walk}); code != 0 || !strings.Contains(walk.String(), `the app password "Phone"`) || strings.Contains(walk.String(), phone) {
		t.Errorf("auth test: exit status %d: %s", code, walk.String())
	}
	if list := s.command(0, "auth", "app-password", "list", "alice"); !regexp.MustCompile(`(?m)Phone +imap pop3 sieve submission`).MatchString(list) || !strings.Contains(list, "Scanner") || strings.Contains(list, phone) {
		t.Errorf("list:\n%s", list)
	}

	if out := s.command(0, "auth", "app-password", "revoke", "alice", "PHONE"); !strings.Contains(out, "1 revoked") {
		t.Errorf("revoke: %s", out)
	}
	s.ends(c)
	if err := other.Noop().Wait(); err != nil {
		t.Errorf("the session of another password ended: %v", err)
	}
	if _, err := s.imap("alice", phone); err == nil {
		t.Error("a revoked password is taken")
	}
	// Disabled in the directory: sessions end, and nothing is taken any more.
	disable := ldap.NewModifyRequest(s.person("alice"), nil)
	disable.Replace("dirpostEnabled", []string{"nologin"})
	if err := s.admin().Modify(disable); err != nil {
		t.Fatal(err)
	}
	s.ends(other)
	if _, err := s.imap("alice", tablet); err == nil || !strings.Contains(err.Error(), "CONTACTADMIN") {
		t.Errorf("an app password of somebody who is disabled: %v", err)
	}
	if out := s.command(0, "auth", "app-password", "revoke", "alice", "--all"); !strings.Contains(out, "2 revoked") {
		t.Errorf("revoke --all: %s", out)
	}
	if out := s.command(0, "auth", "app-password", "list", "alice", "--json"); strings.Contains(out, "{") {
		t.Errorf("list after that: %s", out)
	}
}

// TestAppPasswordClients: programs of others, outside, with an app password.
func TestAppPasswordClients(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.change("\n[auth]\n", "\n[auth]\ninside = [\"10.0.0.0/8\"]\n") // this host is outside
	s.start()
	pass := s.appPassword("bob", "--name", "programs").Password
	gsasl := func(ok bool, args ...string) {
		t.Helper()
		out, err := s.client("gsasl", append([]string{"--client", "--verbose", "--no-client-first", "--x509-ca-file=" + s.cert.CAFile, "--hostname=localhost", "--authentication-id=bob", "--authorization-id="}, args...)...)
		if (err == nil) != ok {
			t.Errorf("gsasl %q: %v\n%s", args, err, out)
		}
	}
	for _, with := range [][]string{
		{"--imap", "--connect=localhost:" + s.port("imap"), "--starttls"},
		{"--smtp", "--connect=localhost:" + s.port("submission"), "--starttls"},
	} {
		for _, mech := range []string{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"} {
			args := append([]string{"--mechanism=" + mech}, with...)
			if mech == "SCRAM-SHA-256" {
				args = append(args, "--no-cb")
			}
			gsasl(true, append(args, "--password="+pass)...)
			gsasl(false, append(args, "--password="+s.slapd.UserPassword+"x")...)
		}
		gsasl(true, append(with, "--password="+pass)...) // the one that it likes best
		tls12 := append([]string{"--mechanism=SCRAM-SHA-256-PLUS", "--priority=NORMAL:-VERS-TLS1.3"}, with...)
		gsasl(true, append(tls12, "--password="+strings.ReplaceAll(pass, "-", ""))...)
	}

	file := filepath.Join(s.dir, "mail.eml")
	if err := os.WriteFile(file, []byte("From: bob@corp.example\r\nTo: bob@corp.example\r\nSubject: by curl\r\n\r\nText.\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	curl := func(url string, args ...string) string {
		t.Helper()
		out, err := s.client("curl", append([]string{"-sS", "--max-time", "30", "--cacert", s.cert.CAFile, "-u", "bob:" + pass, url}, args...)...)
		if err != nil {
			t.Errorf("curl %s: %v: %s", url, err, out)
		}
		return out
	}
	curl("smtp://localhost:"+s.port("submission"), "--ssl-reqd", "--mail-from", "bob@corp.example", "--mail-rcpt", "bob@corp.example", "-T", file)
	if out := curl("imaps://localhost:"+s.port("imaps")+"/INBOX;UID=1", "--login-options", "AUTH=PLAIN"); !strings.Contains(out, "Subject: by curl") {
		t.Errorf("bob's first message: %s", out)
	}
	if out := curl("pop3s://localhost:" + s.port("pop3s") + "/1"); !strings.Contains(out, "Subject: by curl") {
		t.Errorf("bob's first message by POP3: %s", out)
	}

	maildir := filepath.Join(s.dir, "mail") + "/"
	if err := os.Mkdir(maildir, 0o700); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(s.dir, "mbsyncrc")
	if err := os.WriteFile(config, fmt.Appendf(nil, `IMAPAccount corp
Host localhost
Port %s
User bob
Pass %q
SSLType IMAPS
CertificateFile %s

IMAPStore far
Account corp

MaildirStore near
Path %s
Inbox %sINBOX

Channel all
Far :far:
Near :near:
Patterns INBOX
Create Near
SyncState *
`, s.port("imaps"), pass, s.cert.CAFile, maildir, maildir), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := s.client("mbsync", "-c", config, "-a"); err != nil {
		t.Errorf("mbsync: %v: %s", err, out)
	}
	if got, err := filepath.Glob(maildir + "INBOX/*/*"); err != nil || len(got) != 1 {
		t.Errorf("mbsync fetched %d messages, want 1 (%v)", len(got), err)
	}
}

// TestScramPOP3: SCRAM over POP3, whose success carries no data: the server's own proof
// comes before it (RFC 5034 §4), and a client can give up in between.
func TestScramPOP3(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.change("\n[auth]\n", "\n[auth]\ninside = [\"10.0.0.0/8\"]\n") // this host is outside
	s.start()
	pass := s.appPassword("carol", "--name", "Telephone", "--service", "pop3").Password
	login := func(pass string, giveUp bool) error {
		c := &pop3Client{textproto.NewConn(s.dialFrom("127.0.0.1", "pop3s"))}
		if err := c.answer(); err != nil {
			t.Fatal(err)
		}
		client, err := scram.SHA256.NewClient("carol", pass, "")
		if err != nil {
			t.Fatal(err)
		}
		conv, message, line := client.NewConversation(), "", "AUTH SCRAM-SHA-256 "
		for !conv.Done() {
			response, err := conv.Step(message)
			if err != nil {
				t.Fatal(err)
			}
			if giveUp && conv.Done() {
				return c.command("*")
			}
			if err := c.text.PrintfLine("%s%s", line, base64.StdEncoding.EncodeToString([]byte(response))); err != nil {
				return err
			}
			if conv.Done() {
				break
			}
			answer, err := c.text.ReadLine()
			if err != nil {
				return err
			}
			challenge, ok := strings.CutPrefix(answer, "+ ")
			if !ok {
				return errors.New(answer)
			}
			b, err := base64.StdEncoding.DecodeString(challenge)
			if err != nil {
				t.Fatal(err)
			}
			message, line = string(b), ""
		}
		if !conv.Valid() {
			t.Error("the server does not prove that it knows the password")
		}
		return c.answer()
	}
	if err := login(pass, false); err != nil {
		t.Errorf("right: %v", err)
	}
	if err := login(pass+"0", false); err == nil || !strings.Contains(err.Error(), "-ERR [AUTH]") {
		t.Errorf("wrong: %v", err)
	}
	if err := login(pass, true); err == nil || !strings.Contains(err.Error(), "-ERR") {
		t.Errorf("given up at the end: %v", err)
	}
}
