package main

import (
	"os/exec"
	"strings"
	"testing"

	"dirpost/internal/blob"
	"dirpost/internal/store"
	"dirpost/mta/queue"
)

const plain = "From: friend@partner.example\r\nTo: bob@corp.example\r\nSubject: plain\r\nMessage-ID: <plain@partner.example>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n\r\nHello.\r\n..dot\r\n"

// TestEndToEnd: what comes in by SMTP is read by IMAP, byte for byte behind the
// trace fields, and survives a restart.
func TestEndToEnd(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	stop := s.start()
	if err := s.deliver("friend@partner.example", []string{"bob@corp.example"}, plain); err != nil {
		t.Fatalf("deliver: %v", err)
	}
	check := func(when string) {
		got := s.read(s.login("bob"), "INBOX")
		if len(got) != 1 || !strings.HasSuffix(got[0], plain) || !strings.HasPrefix(got[0], "Return-Path: <friend@partner.example>\r\n") {
			t.Errorf("%s: INBOX of bob: %q", when, got)
		}
	}
	check("at once")
	stop()
	s.start()
	check("after a restart")
}

// TestWho: who gets mail at which address, and who may send.
func TestWho(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	for _, c := range []struct {
		name, from string
		to         string
		want       string // of the error; "" none
	}{
		{"person", "friend@partner.example", "carol@corp.example", ""},
		{"case does not matter", "friend@partner.example", "CAROL@Corp.Example", ""},
		{"subaddress", "friend@partner.example", "carol+lists@corp.example", ""},
		{"list", "friend@partner.example", "sales@corp.example", ""},
		{"alias", "friend@partner.example", "a.example@corp.example", ""},
		{"disabled people get mail", "friend@partner.example", "dave@corp.example", ""},
		{"shared mailbox", "friend@partner.example", "office@corp.example", ""},
		{"postmaster", "friend@partner.example", "postmaster@corp.example", ""},
		{"abuse", "friend@partner.example", "abuse@corp.example", ""},
		{"null reverse-path", "", "bob@corp.example", ""},
		{"nobody", "friend@partner.example", "nobody@corp.example", "550"},
		{"list for colleagues", "friend@partner.example", "engineering@corp.example", "550"},
		{"relay", "friend@partner.example", "someone@elsewhere.example", "550"},
	} {
		err := s.deliver(c.from, []string{c.to}, strings.Replace(plain, "<plain@", "<"+strings.ReplaceAll(c.name, " ", "-")+"@", 1))
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) && !strings.Contains(err.Error(), "5.") {
			t.Errorf("%s: from %s to %s: %v, want %q", c.name, c.from, c.to, err, c.want)
		}
	}
	for _, c := range []struct {
		name, who, from, to string
		fails               bool
	}{
		{"own address", "alice", "alice@corp.example", "bob@corp.example", false},
		{"alias", "alice", "a.example@corp.example", "bob@corp.example", false},
		{"shared address by right", "alice", "office@corp.example", "bob@corp.example", false},
		{"list for colleagues", "alice", "alice@corp.example", "engineering@corp.example", false},
		{"somebody else's", "alice", "bob@corp.example", "bob@corp.example", true},
		{"outside address", "alice", "alice@elsewhere.example", "bob@corp.example", true},
		{"disabled", "dave", "dave@corp.example", "bob@corp.example", true},
	} {
		msg := "From: " + c.from + "\r\nSubject: x\r\n\r\nx\r\n"
		if err := s.submit(c.who, c.from, []string{c.to}, msg); (err != nil) != c.fails {
			t.Errorf("submit, %s: %s as %s: %v", c.name, c.who, c.from, err)
		}
	}
	for who, want := range map[string]int{"wangwei": 1, "carol": 4} {
		if got := s.read(s.login(who), "INBOX"); len(got) != want {
			t.Errorf("%s has %d messages, want %d", who, len(got), want)
		}
	}
	if got := s.read(s.login("alice"), "Shared/office@corp.example"); len(got) != 1 {
		t.Errorf("office@ has %d messages, want 1", len(got))
	}
}

// TestSendmail: mail of a script, with recipients in the header, by the local
// socket; what is refused is said by the exit code.
func TestSendmail(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	send := func(stdin string, args ...string) (int, string) {
		var out strings.Builder
		code := sendmail(t.Context(), append([]string{"/usr/sbin/sendmail", "-C", s.config}, args...), streams{strings.NewReader(stdin), &out, &out})
		return code, out.String()
	}
	for _, c := range []struct {
		name  string
		stdin string
		args  []string
		code  int
	}{
		{"from the header", "To: bob@corp.example\nCc: carol@corp.example\nBcc: alice@corp.example\nSubject: cron\n\nline\n.\nnot seen\n", []string{"-t"}, 0},
		{"named", "Subject: named\n\nline\n.\nseen\n", []string{"-oi", "-f", "alice@corp.example", "bob"}, 0},
		{"no header", "just text\n", []string{"bob@corp.example"}, 0},
		{"nobody", "Subject: x\n\nx\n", []string{"bob@corp.example", "nobody@corp.example"}, exNoUser},
		{"no recipients", "Subject: x\n\nx\n", []string{"-t"}, exUsage},
		{"unknown option", "", []string{"-Z"}, exUsage},
	} {
		if code, out := send(c.stdin, c.args...); code != c.code {
			t.Errorf("%s: exit %d, want %d: %s", c.name, code, c.code, out)
		}
	}
	got := s.read(s.login("bob"), "INBOX")
	if len(got) != 3 {
		t.Fatalf("bob has %d messages, want 3: %q", len(got), got)
	}
	if strings.Contains(got[0], "not seen") || strings.Contains(got[0], "Bcc") || !strings.HasSuffix(got[0], "\r\nline\r\n") {
		t.Errorf("first: %q", got[0])
	}
	if !strings.Contains(got[1], ".\r\nseen\r\n") || !strings.Contains(got[1], "Return-Path: <alice@corp.example>") {
		t.Errorf("second: %q", got[1])
	}
	if !strings.HasSuffix(got[2], "\r\n\r\njust text\r\n") || !strings.Contains(got[2], "\r\nMessage-ID: ") {
		t.Errorf("third: %q", got[2])
	}
	if code, _ := send("EHLO me\r\nNOOP\r\nQUIT\r\n", "-bs"); code != 0 {
		t.Errorf("-bs: exit %d", code)
	}
	if code, out := send("EHLO me\nMAIL FROM:<alice@corp.example>\nRCPT TO:<bob@corp.example>\nDATA\nSubject: lines of a pipe\n\nx\n.\nQUIT\n", "-bs"); code != 0 || !strings.Contains(out, "queued as") {
		t.Errorf("-bs with lines of a pipe: exit %d: %s", code, out)
	}
}

// TestHealth asks /healthz and /metrics as an operator does.
func TestHealth(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	for path, want := range map[string]string{"/healthz": "ok", "/metrics": "dirpost_"} {
		out, err := exec.CommandContext(t.Context(), "curl", "-sS", "--cacert", s.cert.CAFile, "https://"+s.addr["https"]+path).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v: %s", path, err, out)
		}
	}
}

// TestSink: in the demo nothing leaves; it ends in a mailbox of ours.
func TestSink(t *testing.T) {
	t.Parallel()
	s := newSystem(t, `sink = "outbound@corp.example"`)
	s.start()
	if err := s.submit("alice", "alice@corp.example", []string{"someone@elsewhere.example"}, "From: alice@corp.example\r\nSubject: out\r\n\r\nx\r\n"); err != nil {
		t.Fatal(err)
	}
	got := s.await("erik", "Shared/outbound@corp.example", 1)
	if !strings.Contains(got[0], "Subject: out\r\n") || !strings.Contains(got[0], "Delivered-To: ") {
		t.Errorf("outbound@: %q", got)
	}
}

// TestPurge: the server's role may take away what is past its time.
func TestPurge(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	db, err := openDatabase(t.Context(), s.file, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	q := queue.New(db, queue.Config{})
	if _, err := store.New(db, blob.New(db), noHints{}, testLog(t)).Purge(t.Context(), s.file.retention(), q.References); err != nil {
		t.Error(err)
	}
}
