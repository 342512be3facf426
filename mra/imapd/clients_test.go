package imapd

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dirpost/internal/testenv"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// port is where the fixture listens.
func (f *fixture) port() string { return f.addr[strings.LastIndexByte(f.addr, ':')+1:] }

// run runs a program and returns what it printed.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, testenv.Need(t, name), args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// go-imap's client over STARTTLS.
func TestImapclient(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(_ *Config, b *bridge) { b.clearOK = false })
	if err := f.given(t, "p1", "INBOX: message mime"); err != nil {
		t.Fatal(err)
	}
	exists := make(chan uint32, 10)
	c, err := imapclient.DialStartTLS(f.addr, &imapclient.Options{TLSConfig: f.tls, UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(d *imapclient.UnilateralDataMailbox) {
			if d.NumMessages != nil {
				exists <- *d.NumMessages
			}
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login("p1", password).Wait(); err != nil {
		t.Fatal(err)
	}
	sel, err := c.Select("INBOX", nil).Wait()
	if err != nil || sel.NumMessages != 1 || sel.UIDNext != 2 {
		t.Fatalf("SELECT: %+v, %v", sel, err)
	}
	got, err := c.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{Envelope: true, BodyStructure: &imap.FetchItemBodyStructure{Extended: true},
		BodySection: []*imap.FetchItemBodySection{{Peek: true}, {Part: []int{2, 1}}}}).Collect()
	if err != nil || len(got) != 1 {
		t.Fatalf("FETCH: %v, %v", got, err)
	}
	if got[0].Envelope.Subject != "Müsli" || got[0].BodyStructure.MediaType() != "multipart/mixed" {
		t.Errorf("FETCH: %+v %v", got[0].Envelope, got[0].BodyStructure.MediaType())
	}
	if b := got[0].FindBodySection(&imap.FetchItemBodySection{Part: []int{2, 1}}); string(b) != "plain part" {
		t.Errorf("part 2.1 is %q", b)
	}
	raw := []byte("Subject: x\r\n\r\nbody\r\n")
	ap := c.Append("INBOX", int64(len(raw)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagFlagged}})
	ap.Write(raw)
	ap.Close()
	if data, err := ap.Wait(); err != nil || data.UID != 2 {
		t.Fatalf("APPEND: %+v, %v", data, err)
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{Flag: []imap.Flag{imap.FlagFlagged}}, &imap.SearchOptions{ReturnAll: true}).Wait()
	if err != nil || !slices.Equal(found.AllUIDs(), []imap.UID{2}) {
		t.Fatalf("SEARCH: %+v, %v", found, err)
	}
	if cp, err := c.Copy(imap.UIDSetNum(2), "Archive").Wait(); err != nil || cp.DestUIDs.String() != "1" {
		t.Fatalf("COPY: %+v, %v", cp, err)
	}
	if mv, err := c.Move(imap.UIDSetNum(2), "Trash").Wait(); err != nil || mv == nil {
		t.Fatalf("MOVE: %+v, %v", mv, err)
	}
	boxes, err := c.List("", "%", &imap.ListOptions{ReturnStatus: &imap.StatusOptions{NumMessages: true}, ReturnSpecialUse: true}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range boxes {
		if b.Mailbox == "Trash" && (*b.Status.NumMessages != 1 || !slices.Contains(b.Attrs, imap.MailboxAttrTrash)) {
			t.Errorf("LIST: %+v", b)
		}
	}
	idle, err := c.Idle()
	if err != nil {
		t.Fatal(err)
	}
	for len(exists) > 0 {
		<-exists
	}
	if err := f.given(t, "p1", "INBOX: message plain"); err != nil {
		t.Fatal(err)
	}
	select {
	case n := <-exists:
		if n != 2 {
			t.Errorf("EXISTS %d in IDLE", n)
		}
	case <-time.After(30 * time.Second):
		t.Error("IDLE told nothing")
	}
	if err := idle.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Logout().Wait(); err != nil {
		t.Error(err)
	}
}

// Python's imaplib, which reads every response with its own grammar.
func TestImaplib(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	if err := f.given(t, "p1", "INBOX: 3 messages"); err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("testdata/client.py")
	if err != nil {
		t.Fatal(err)
	}
	if out := run(t, t.TempDir(), "python3", script, f.port(), "p1", password); !strings.HasSuffix(out, "all well\n") {
		t.Error(out)
	}
}

// curl reads and appends.
func TestCurl(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	if err := f.given(t, "p1", "INBOX: message plain"); err != nil {
		t.Fatal(err)
	}
	dir, url := t.TempDir(), "imap://127.0.0.1:"+f.port()+"/"
	curl := func(args ...string) string {
		return run(t, dir, "curl", append([]string{"-sS", "--user", "p1:" + password}, args...)...)
	}
	if out := curl(url); !strings.Contains(out, `"/" INBOX`) {
		t.Errorf("LIST: %s", out)
	}
	raw, err := os.ReadFile("testdata/plain.eml")
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n"))
	if out := curl(url + "INBOX;UID=1"); out != string(want) {
		t.Errorf("message: %q, want %q", out, want)
	}
	if out := curl(url + "INBOX?SUBJECT%20plain"); out != "* SEARCH 1\r\n" {
		t.Errorf("SEARCH: %q", out)
	}
	file := filepath.Join(dir, "new.eml")
	if err := os.WriteFile(file, want, 0o600); err != nil {
		t.Fatal(err)
	}
	curl("-T", file, url+"Drafts")
	if out := curl(url+"Drafts", "-X", "FETCH 1 RFC822.SIZE"); !strings.Contains(out, fmt.Sprintf("RFC822.SIZE %d", len(want))) {
		t.Errorf("appended: %s", out)
	}
}

// mbsync keeps a Maildir and the account alike, in both directions.
func TestMbsync(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	if err := f.given(t, "p1", "INBOX: 5 messages"); err != nil {
		t.Fatal(err)
	}
	if err := f.given(t, "p1", "Work: message mime \\Seen \\Flagged"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	rc := fmt.Sprintf(`IMAPAccount a
Host 127.0.0.1
Port %s
User p1
Pass %s
SSLType None
AuthMechs LOGIN

IMAPStore far
Account a

MaildirStore near
Path %s/mail/
Inbox %s/mail/INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Patterns * !Shared*
Create Both
Remove Both
Expunge Both
SyncState *
`, f.port(), password, dir, dir)
	if err := os.WriteFile(filepath.Join(dir, "rc"), []byte(rc), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "mail"), 0o700); err != nil {
		t.Fatal(err)
	}
	sync := func() { run(t, dir, "mbsync", "-c", "rc", "-a") }
	count := func(pattern string) int {
		m, err := filepath.Glob(filepath.Join(dir, "mail", pattern))
		if err != nil {
			t.Fatal(err)
		}
		return len(m)
	}
	sync()
	if n := count("INBOX/*/*"); n != 5 {
		t.Fatalf("INBOX has %d messages near", n)
	}
	if n := count("Work/cur/*FS"); n != 1 {
		t.Fatalf("Work has %d messages near with its flags", n)
	}
	// A new message near, one deleted near, one new and one flagged far.
	mails, _ := filepath.Glob(filepath.Join(dir, "mail/INBOX/*/*"))
	if err := os.Remove(mails[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "mail/Work/new/1.2.x"), []byte("Subject: near\n\nnear\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.given(t, "p1", "Sent: message plain \\Seen"); err != nil {
		t.Fatal(err)
	}
	sync()
	sync() // finds nothing to do
	a, err := f.account(t.Context(), "p1")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int64{"INBOX": 4, "Work": 2, "Sent": 1} {
		mb, err := f.store.MailboxByName(t.Context(), a.ID, name)
		if err != nil || mb.Messages != want {
			t.Errorf("%s has %d messages far, want %d; %v", name, mb.Messages, want, err)
		}
		if n := count(name + "/*/*"); n != int(want) {
			t.Errorf("%s has %d messages near, want %d", name, n, want)
		}
	}
}
