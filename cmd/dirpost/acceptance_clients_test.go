//go:build acceptance

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dirpost/internal/testenv"

	"github.com/emersion/go-imap/v2"
)

// TestAcceptancePython: a longer life of a mailbox.
func TestAcceptancePython(t *testing.T) {
	s := newSystem(t, "")
	s.start()
	out, err := s.client("python3", "testdata/acceptance.py", "localhost", s.port("submission"), s.port("imaps"), s.port("pop3s"), s.cert.CAFile, "bob", s.slapd.UserPassword)
	if err != nil || !strings.Contains(out, "life: ok") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestAcceptanceMsmtp submits by msmtp, and is told of what is refused.
func TestAcceptanceMsmtp(t *testing.T) {
	s := newSystem(t, "")
	s.start()
	password := mustWrite(t, filepath.Join(s.dir, "password"), s.slapd.UserPassword+"\n", 0o600)
	send := func(port, starttls, from, to, msg string) (string, error) {
		cmd := exec.CommandContext(t.Context(), testenv.Need(t, "msmtp"), "--file=", "--host=localhost", "--port="+port, "--tls=on", "--tls-starttls="+starttls,
			"--tls-trust-file="+s.cert.CAFile, "--auth=plain", "--user=alice", "--passwordeval=cat "+password, "--from="+from, "--", to)
		cmd.Stdin = strings.NewReader(msg)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	msg := "From: alice@corp.example\nTo: bob@corp.example\nSubject: by msmtp\n\nText.\n.\n..\nend\n"
	for port, starttls := range map[string]string{s.port("submission"): "on", s.port("submissions"): "off"} {
		if out, err := send(port, starttls, "alice@corp.example", "bob@corp.example", msg); err != nil {
			t.Errorf("msmtp: %v: %s", err, out)
		}
	}
	for _, m := range s.await("bob", "INBOX", 2) {
		if !strings.HasSuffix(m, "\r\n\r\nText.\r\n.\r\n..\r\nend\r\n") {
			t.Errorf("bob has %q", m)
		}
	}
	if out, err := send(s.port("submission"), "on", "carol@corp.example", "bob@corp.example", msg); err == nil {
		t.Errorf("msmtp sends as carol: %s", out)
	}
	if out, err := send(s.port("submission"), "on", "alice@corp.example", "nobody@corp.example", msg); err == nil || !strings.Contains(out, "5.1.1") {
		t.Errorf("msmtp sends to nobody: %v: %s", err, out)
	}
}

// TestAcceptanceFetchmail drains a mailbox by POP3 and by IMAP.
func TestAcceptanceFetchmail(t *testing.T) {
	s := newSystem(t, "")
	s.start()
	for i, c := range []struct{ protocol, port, tls string }{
		{"pop3", s.port("pop3s"), "ssl"}, {"pop3", s.port("pop3"), `sslproto "auto"`},
		{"imap", s.port("imaps"), "ssl"}, {"imap", s.port("imap"), `sslproto "auto"`},
	} {
		var want []string
		for n := range 20 {
			msg := fmt.Sprintf("From: friend@partner.example\r\nSubject: %d\r\nMessage-ID: <f-%d-%d@partner.example>\r\n\r\nText %d.\r\n.\r\n", n, i, n, n)
			if err := s.deliver("friend@partner.example", []string{"bob@corp.example"}, msg); err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprintf("Message-ID: <f-%d-%d@partner.example>", i, n))
		}
		box := filepath.Join(s.dir, fmt.Sprintf("box%d", i))
		config := mustWrite(t, filepath.Join(s.dir, "fetchmailrc"), fmt.Sprintf("set idfile %q\npoll localhost protocol %s port %s timeout 30\n  user \"bob\" password %q is root here %s sslcertck sslcertfile %q no keep fetchall\n  mda \"cat >>%s\"\n",
			filepath.Join(s.dir, "ids"), c.protocol, c.port, s.slapd.UserPassword, c.tls, s.cert.CAFile, box), 0o600)
		cmd := exec.CommandContext(t.Context(), testenv.Need(t, "fetchmail"), "-f", config, "--nodetach", "--nosyslog", "--pidfile", filepath.Join(s.dir, "fetchmail.pid"))
		cmd.Env = append(cmd.Environ(), "FETCHMAILHOME="+s.dir, "HOME="+s.dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("fetchmail, %s on %s: %v: %s", c.protocol, c.port, err, out)
			continue
		}
		got, err := os.ReadFile(box)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range want {
			if n := strings.Count(string(got), id+"\n"); n != 1 {
				t.Errorf("%s on %s: %s came %d times", c.protocol, c.port, id, n)
			}
		}
		if left := s.read(s.login("bob"), "INBOX"); len(left) != 0 {
			t.Errorf("%s on %s: %d messages are left", c.protocol, c.port, len(left))
		}
	}
}

// TestAcceptanceMutt sends with an attachment, and deletes by IMAP.
func TestAcceptanceMutt(t *testing.T) {
	s := newSystem(t, "")
	s.start()
	config := mustWrite(t, filepath.Join(s.dir, "muttrc"), fmt.Sprintf(`set smtp_url = "smtp://alice@localhost:%s/"
set smtp_pass = %q
set imap_pass = %q
set from = "alice@corp.example"
set use_from = yes
set envelope_from_address = "alice@corp.example"
set use_envelope_from = yes
set hostname = "corp.example"
set ssl_starttls = yes
set ssl_force_tls = yes
set ssl_verify_host = yes
set certificate_file = %q
set record = ""
set delete = yes
set header_cache = ""
set charset = "utf-8"
`, s.port("submission"), s.slapd.UserPassword, s.slapd.UserPassword, s.cert.CAFile), 0o600)
	attachment := mustWrite(t, filepath.Join(s.dir, "data.bin"), strings.Repeat("\x00\x01\xff octets", 500), 0o600)
	mutt := func(stdin string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), testenv.Need(t, "mutt"), append([]string{"-n", "-F", config}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		cmd.Env = append(cmd.Environ(), "HOME="+s.dir, "TERM=xterm", "LANG=C.UTF-8")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("mutt %v: %v: %s", args, err, out)
		}
	}
	mutt("Grüße.\n.\nEnd.\n", "-s", "von mutt: 你好", "-a", attachment, "--", "bob@corp.example")
	got := s.await("bob", "INBOX", 1)
	if !strings.Contains(got[0], `filename="data.bin"`) || !strings.Contains(got[0], "=?utf-8?") {
		t.Errorf("bob has %.2000q", got[0])
	}
	// To read, mutt wants a terminal: script makes one.
	cmd := exec.CommandContext(t.Context(), testenv.Need(t, "script"), "-qec",
		fmt.Sprintf(`%s -n -F %s -f imaps://bob@localhost:%s/INBOX -e 'push "<save-message>=Archive<enter>y<delete-pattern>~A<enter><quit>"' -e 'set folder=imaps://bob@localhost:%s/ confirmcreate=no confirmappend=no'`,
			testenv.Need(t, "mutt"), config, s.port("imaps"), s.port("imaps")), "/dev/null")
	cmd.Env = append(cmd.Environ(), "HOME="+s.dir, "TERM=xterm", "LANG=C.UTF-8")
	cmd.Stdin = strings.NewReader("")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("mutt reads: %v: %q", err, out)
	}
	c := s.login("bob")
	if inbox, archive := len(s.read(c, "INBOX")), len(s.read(c, "Archive")); inbox != 0 || archive != 1 {
		t.Errorf("INBOX has %d and Archive %d messages, want 0 and 1: %q", inbox, archive, out)
	}
}

// TestAcceptanceMbsync changes both sides at random, over some rounds; in the end
// both have the same messages with the same flags.
func TestAcceptanceMbsync(t *testing.T) {
	s := newSystem(t, "")
	s.start()
	maildir := mustMkdir(t, filepath.Join(s.dir, "mail"), -1) + "/"
	config := mustWrite(t, filepath.Join(s.dir, "mbsyncrc"), fmt.Sprintf(`IMAPAccount corp
Host localhost
Port %s
User bob
Pass %q
SSLType IMAPS
CertificateFile %s
AuthMechs LOGIN

IMAPStore far
Account corp

MaildirStore near
Path %s
Inbox %sINBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns INBOX Archive Drafts
Create Both
Expunge Both
SyncState *
`, s.port("imaps"), s.slapd.UserPassword, s.cert.CAFile, maildir, maildir), 0o600)
	sync := func() {
		t.Helper()
		if out, err := s.client("mbsync", "-c", config, "-a"); err != nil {
			t.Fatalf("mbsync: %v: %s", err, out)
		}
	}
	here := func() []string {
		files, err := filepath.Glob(maildir + "INBOX/[cn]*/*")
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	c := s.login("bob")
	random := rand.New(rand.NewPCG(1, 2))
	next := 0
	for round := range 6 {
		for range 10 { // there: new ones
			next++
			if err := s.deliver("friend@partner.example", []string{"bob@corp.example"}, fmt.Sprintf("Subject: there %d\r\nMessage-ID: <there-%d@partner.example>\r\n\r\nText.\r\n", next, next)); err != nil {
				t.Fatal(err)
			}
		}
		sync()
		files := here()
		slices.Sort(files)
		box, err := c.Select("INBOX", nil).Wait()
		if err != nil || int(box.NumMessages) != len(files) {
			t.Fatalf("round %d: %d messages there and %d here: %v", round, box.NumMessages, len(files), err)
		}
		// There: flags on one half of the sequence, some gone; here: the same with
		// others, chosen by their subjects so that the sides do not meet.
		found, err := c.UIDSearch(&imap.SearchCriteria{}, nil).Wait()
		if err != nil {
			t.Fatal(err)
		}
		for _, uid := range found.AllUIDs() {
			flag := imap.Flag("")
			switch random.IntN(8) {
			case 0:
				flag = imap.FlagFlagged
			case 1:
				flag = imap.FlagAnswered
			case 2:
				flag = imap.FlagDeleted
			}
			if flag != "" {
				if err := c.Store(imap.UIDSetNum(uid), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{flag}}, nil).Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := c.Expunge().Close(); err != nil {
			t.Fatal(err)
		}
		for i, f := range files {
			name, _, _ := strings.Cut(filepath.Base(f), ":")
			switch random.IntN(8) {
			case 0:
				err = os.Rename(f, maildir+"INBOX/cur/"+name+":2,S")
			case 1:
				err = os.Remove(f)
			case 2:
				err = os.WriteFile(fmt.Sprintf("%sINBOX/cur/17%08d.%d_%d.here:2,S", maildir, round, round, i), fmt.Appendf(nil, "Subject: here %d %d\nMessage-ID: <here-%d-%d@corp.example>\n\nText.\n", round, i, round, i), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		sync()
		sync() // what the first has propagated is expunged by now
	}
	there := make(map[string]bool)
	for _, m := range s.read(c, "INBOX") {
		_, rest, _ := strings.Cut(m, "Message-ID: ")
		id, _, _ := strings.Cut(rest, "\r\n")
		if there[id] {
			t.Errorf("%s is there twice", id)
		}
		there[id] = true
	}
	files := here()
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), "Message-ID: ")
		id, _, _ := strings.Cut(rest, "\n")
		if !there[id] {
			t.Errorf("%s is here, but not there", id)
		}
	}
	if len(files) != len(there) || len(there) == 0 {
		t.Errorf("%d messages here, %d there", len(files), len(there))
	}
	t.Logf("after 6 rounds both sides have the same %d messages", len(there))
}
