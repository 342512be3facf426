package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dirpost/internal/testenv"

	"github.com/emersion/go-imap/v2"
)

// client runs a program of others against s, and returns what it printed.
func (s *system) client(program string, args ...string) (string, error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, testenv.Need(s.t, program), args...).CombinedOutput()
	return string(out), err
}

// port returns the port of a listener.
func (s *system) port(name string) string {
	_, port, err := net.SplitHostPort(s.addr[name])
	if err != nil {
		s.t.Fatal(err)
	}
	return port
}

// TestPython: smtplib, imaplib and poplib.
func TestPython(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	out, err := s.client("python3", "testdata/clients.py", "localhost", s.port("submission"), s.port("imaps"), s.port("pop3"), s.cert.CAFile, "bob", s.slapd.UserPassword)
	if err != nil || !strings.Contains(out, "python: ok") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestSwaksAndCurl: swaks submits, curl submits and reads.
func TestSwaksAndCurl(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	if out, err := s.client("swaks", "--server", "127.0.0.1", "--port", s.port("submission"), "-tls", "--auth", "LOGIN", "--auth-user", "alice",
		"--auth-password", s.slapd.UserPassword, "--from", "alice@corp.example", "--to", "sales@corp.example", "--header", "Subject: by swaks"); err != nil {
		t.Errorf("swaks submits: %v: %s", err, out)
	}
	if out, err := s.client("swaks", "--server", "127.0.0.1", "--port", s.port("smtp"), "--from", "friend@partner.example", "--to", "someone@elsewhere.example"); err == nil {
		t.Errorf("port 25 relays: %s", out)
	}
	file := filepath.Join(s.dir, "mail.eml")
	if err := os.WriteFile(file, []byte("From: bob@corp.example\r\nTo: alice@corp.example\r\nSubject: by curl\r\n\r\nText.\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	curl := func(user, url string, args ...string) string {
		out, err := s.client("curl", append([]string{"-sS", "--max-time", "30", "--cacert", s.cert.CAFile, "-u", user + ":" + s.slapd.UserPassword, url}, args...)...)
		if err != nil {
			t.Errorf("curl %s: %v: %s", url, err, out)
		}
		return out
	}
	curl("bob", "smtps://localhost:"+s.port("submissions"), "--mail-from", "bob@corp.example", "--mail-rcpt", "alice@corp.example", "-T", file)
	curl("bob", "smtp://localhost:"+s.port("submission"), "--ssl-reqd", "--mail-from", "bob@corp.example", "--mail-rcpt", "alice@corp.example", "-T", file)
	if out := curl("alice", "imaps://localhost:"+s.port("imaps")+"/INBOX", "-X", "STATUS INBOX (MESSAGES)"); !strings.Contains(out, "MESSAGES 3") {
		t.Errorf("alice's INBOX: %s", out)
	}
	if out := curl("alice", "imap://localhost:"+s.port("imap")+"/INBOX;UID=1", "--ssl-reqd"); !strings.Contains(out, "Subject: by swaks\r\n") {
		t.Errorf("alice's first message: %s", out)
	}
	if out := curl("alice", "pop3s://localhost:"+s.port("pop3s")+"/3"); !strings.Contains(out, "Subject: by curl\r\n") {
		t.Errorf("alice's third message by POP3: %s", out)
	}
	curl("alice", "imaps://localhost:"+s.port("imaps")+"/Drafts", "-T", file)
	if out := curl("alice", "imaps://localhost:"+s.port("imaps"), "-X", `LIST "" *`); !strings.Contains(out, "Drafts") || !strings.Contains(out, "Shared/office@corp.example") {
		t.Errorf("alice's mailboxes: %s", out)
	}
}

// TestMbsync synchronises two ways with a Maildir: what is new, changed and
// deleted on one side is so on the other.
func TestMbsync(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	maildir := filepath.Join(s.dir, "mail") + "/"
	if err := os.Mkdir(maildir, 0o700); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(s.dir, "mbsyncrc")
	text := fmt.Sprintf(`IMAPAccount corp
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
Patterns * !Shared* !Users*
Create Both
Expunge Both
SyncState *
`, s.port("imaps"), s.slapd.UserPassword, s.cert.CAFile, maildir, maildir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sync := func() {
		t.Helper()
		if out, err := s.client("mbsync", "-c", config, "-a"); err != nil {
			t.Fatalf("mbsync: %v: %s", err, out)
		}
	}
	for i := range 3 {
		if err := s.deliver("friend@partner.example", []string{"bob@corp.example"}, fmt.Sprintf("Subject: number %d\r\nMessage-ID: <%d@partner.example>\r\n\r\nText %d.\r\n", i, i, i)); err != nil {
			t.Fatal(err)
		}
	}
	sync()
	local := func() []string {
		files, err := filepath.Glob(maildir + "INBOX/*/*")
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	files := local()
	if len(files) != 3 {
		t.Fatalf("mbsync fetched %d messages, want 3", len(files))
	}
	// Here: one deleted, one flagged, one new.
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	name, _, _ := strings.Cut(filepath.Base(files[1]), ":")
	if err := os.Rename(files[1], maildir+"INBOX/cur/"+name+":2,FS"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(maildir+"INBOX/cur/1700000000.1_1.here:2,S", []byte("Subject: written here\n\nText.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sync()
	c := s.login("bob")
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil || box.NumMessages != 3 {
		t.Fatalf("the server has %d messages, %v; want 3", box.NumMessages, err)
	}
	flagged, err := c.UIDSearch(&imap.SearchCriteria{Flag: []imap.Flag{imap.FlagFlagged, imap.FlagSeen}}, nil).Wait()
	if err != nil || len(flagged.AllUIDs()) != 1 {
		t.Fatalf("%d flagged messages, %v; want 1", len(flagged.AllUIDs()), err)
	}
	written, err := c.UIDSearch(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "written here"}}}, nil).Wait()
	if err != nil || len(written.AllUIDs()) != 1 {
		t.Fatalf("%d messages from here, %v; want 1", len(written.AllUIDs()), err)
	}
	// There: one deleted.
	if err := c.Store(imap.UIDSetNum(flagged.AllUIDs()...), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Expunge().Close(); err != nil {
		t.Fatal(err)
	}
	sync()
	if files := local(); len(files) != 2 {
		t.Errorf("here are %d messages, want 2: %v", len(files), files)
	}
	if _, err := os.Stat(maildir + "Archive"); err != nil {
		t.Errorf("no mailbox Archive here: %v", err)
	}
}
