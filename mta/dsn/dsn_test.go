package dsn

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/message"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var now = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

func address(t testing.TB, s string) envelope.Address {
	t.Helper()
	a, err := envelope.ParseAddress(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return a
}

// report returns a report about a small message of alice's.
func report(t testing.TB, header, body string, rcpts ...Recipient) *Report {
	return &Report{
		ReportingMTA: "mail.corp.example",
		From:         address(t, "postmaster@corp.example"),
		To:           envelope.ReversePathOf(address(t, "alice@corp.example")),
		Date:         now,
		Recipients:   rcpts,
		QueueID:      123456789,
		Arrival:      now.Add(-time.Hour),
		Header:       message.ParseHeader([]byte(header)),
		Body:         strings.NewReader(body),
		BodySize:     int64(len(body)),
	}
}

const (
	lunchHeader = "Received: from [192.0.2.7] by mail.corp.example\r\n\twith ESMTPSA id 1\r\nFrom: alice@corp.example\r\nTo: bob@example.net\r\nSubject: =?utf-8?Q?Lunch_=E2=98=BA?=\r\nDate: Sat, 21 Nov 2026 09:00:00 +0000\r\nMessage-ID: <lunch@corp.example>\r\n\r\n"
	lunchBody   = "Shall we?\r\n"
)

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := "testdata/" + name + ".want"
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// compose composes r and holds what is true of every report.
func compose(t *testing.T, r *Report) ([]byte, *message.Parsed) {
	t.Helper()
	var b bytes.Buffer
	if err := Compose(&b, r); err != nil {
		t.Fatal(err)
	}
	s := message.NewScanner(message.Limits{})
	s.Write(b.Bytes())
	p := s.Close()
	if bad := p.Defects &^ (message.Defect8Bit | message.Defect8BitHeader); bad != 0 {
		t.Errorf("report with defects %v", bad)
	}
	if got := p.Header.Get("Auto-Submitted"); got != "auto-replied" {
		t.Errorf("Auto-Submitted: %q", got)
	}
	if n := len(p.Root.Children); p.Root.Subtype != "report" || n != 3 {
		t.Fatalf("%s of %d parts", p.Root.Subtype, n)
	}
	return b.Bytes(), p
}

func TestGolden(t *testing.T) {
	t.Parallel()
	failed := func(t *testing.T) Recipient {
		return Recipient{Address: address(t, "bob@example.net"), Action: Failed, Status: "5.1.1",
			Diagnostic: "550 5.1.1 <bob@example.net>: User unknown", RemoteMTA: "mx.example.net", LastAttempt: now}
	}
	for _, tt := range []struct {
		name   string
		report func(t *testing.T) *Report
	}{
		{"01-failed", func(t *testing.T) *Report { return report(t, lunchHeader, lunchBody, failed(t)) }},
		{"02-failed-headers-only", func(t *testing.T) *Report {
			r := report(t, lunchHeader, lunchBody, failed(t))
			r.Return, r.EnvID = envelope.ReturnHeaders, "order 7"
			return r
		}},
		{"03-delayed", func(t *testing.T) *Report {
			return report(t, lunchHeader, lunchBody, Recipient{Address: address(t, "carol@example.org"), Action: Delayed, Status: "4.4.1",
				Diagnostic: "connection timed out", LastAttempt: now, WillRetryUntil: now.Add(96 * time.Hour)})
		}},
		{"04-delivered", func(t *testing.T) *Report {
			return report(t, lunchHeader, lunchBody,
				Recipient{Address: address(t, "bob@corp.example"), Original: "b.jones@corp.example", OriginalType: "rfc822", Action: Delivered, Status: "2.1.5"},
				Recipient{Address: address(t, "carol@example.org"), Action: Relayed, RemoteMTA: "mx.example.org"})
		}},
		{"05-several", func(t *testing.T) *Report {
			return report(t, lunchHeader, lunchBody,
				Recipient{Address: address(t, "late@example.org"), Action: Delayed, Status: "4.2.2", WillRetryUntil: now.Add(time.Hour)},
				failed(t),
				Recipient{Address: address(t, "dora@corp.example"), Original: "sales@corp.example", Action: Failed, Status: "5.2.2"})
		}},
		{"06-international", func(t *testing.T) *Report {
			r := report(t, "From: 王伟 <王伟@例子.example>\r\nSubject: 会议\r\n\r\n", "明天\r\n",
				Recipient{Address: address(t, "李娜@例子.example"), Original: "李娜@例子.example", OriginalType: "utf-8", Action: Failed, Status: "5.1.1",
					Diagnostic: "550 没有这个人", RemoteMTA: "mx.example"})
			r.To = envelope.ReversePathOf(address(t, "王伟@例子.example"))
			r.Body8Bit = true
			return r
		}},
		{"07-hostile", func(t *testing.T) *Report {
			r := report(t, "Subject: a\r\n b =?utf-8?Q?=0D=0ABcc:_x@y.example?=\r\nMessage-ID: <a@b>\r\n (x)\r\n\r\n", lunchBody,
				Recipient{Address: address(t, "bob@example.net"), Original: "x\r\nBcc: y", OriginalType: "rfc822\r\nX: y", Action: Failed, Status: "5.1.1\r\nX: y",
					Diagnostic: "550-first\r\n550 \x00\x1b[31msecond \xff Ü\r\n\r\n--=_", RemoteMTA: "mx\r\nX: y"})
			r.EnvID = "a\r\nX: y"
			return r
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, p := compose(t, tt.report(t))
			golden(t, tt.name, got)
			for _, name := range []string{"Bcc", "X"} {
				if p.Header.Has(name) || strings.Contains(string(got), "\n"+name+":") {
					t.Errorf("field %s got in", name)
				}
			}
		})
	}
}

func TestNullReversePath(t *testing.T) {
	t.Parallel()
	r := report(t, lunchHeader, lunchBody, Recipient{Address: address(t, "bob@example.net"), Action: Failed})
	r.To = envelope.ReversePath{}
	if err := Compose(io.Discard, r); !errors.Is(err, ErrNullReversePath) {
		t.Errorf("Compose to <>: %v", err)
	}
	if err := Compose(io.Discard, report(t, lunchHeader, lunchBody)); err == nil {
		t.Error("Compose without recipients: no error")
	}
}

// RFC 3461 §4.3, and what is too large returns by its header.
func TestReturned(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		action Action
		ret    envelope.Return
		size   int64
		want   string
	}{
		{"small", Failed, envelope.ReturnDefault, 100, "message/rfc822"},
		{"larger", Failed, envelope.ReturnDefault, 100 << 10, "text/rfc822-headers"},
		{"larger, asked for", Failed, envelope.ReturnFull, 100 << 10, "message/rfc822"},
		{"too large, asked for", Failed, envelope.ReturnFull, 2 << 20, "text/rfc822-headers"},
		{"headers asked for", Failed, envelope.ReturnHeaders, 100, "text/rfc822-headers"},
		{"delayed", Delayed, envelope.ReturnFull, 100, "text/rfc822-headers"},
		{"delivered", Delivered, envelope.ReturnFull, 100, "text/rfc822-headers"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			body := strings.Repeat("0123456789abcdef\r\n", int(tt.size/18)+1)[:tt.size]
			r := report(t, lunchHeader, body, Recipient{Address: address(t, "bob@example.net"), Action: tt.action})
			r.Return = tt.ret
			got, p := compose(t, r)
			part := p.Root.Children[2]
			if kind := part.Type + "/" + part.Subtype; kind != tt.want {
				t.Fatalf("third part is %s, want %s", kind, tt.want)
			}
			want := lunchHeader
			if part.Embedded != nil {
				want += body
			}
			start := p.HeaderSize + part.BodyOffset
			if s := string(got[start : start+part.BodySize]); strings.TrimRight(s, "\r\n") != strings.TrimRight(want, "\r\n") {
				t.Errorf("returned %d octets, want %d", len(s), len(want))
			}
		})
	}
}

func TestNeedsUTF8(t *testing.T) {
	t.Parallel()
	rcpt := Recipient{Address: address(t, "李娜@例子.example"), Action: Failed}
	if r := report(t, lunchHeader, lunchBody, rcpt); r.NeedsUTF8() {
		t.Error("an international recipient alone asks for SMTPUTF8")
	}
	if r := report(t, "Subject: 会议\r\n\r\n", lunchBody, rcpt); !r.NeedsUTF8() {
		t.Error("an international header asks for no SMTPUTF8")
	}
}

// A broken body is an error: the caller tries the report again.
func TestBodyError(t *testing.T) {
	t.Parallel()
	r := report(t, lunchHeader, lunchBody, Recipient{Address: address(t, "bob@example.net"), Action: Failed})
	fail := errors.New("database away")
	r.Body = failingReader{fail}
	if err := Compose(io.Discard, r); !errors.Is(err, fail) {
		t.Errorf("Compose = %v, want %v", err, fail)
	}
}

type failingReader struct{ err error }

func (f failingReader) ReadAt([]byte, int64) (int, error) { return 0, f.err }

// Half a body is no body; and a report can be composed again.
func TestShortBody(t *testing.T) {
	t.Parallel()
	r := report(t, lunchHeader, lunchBody, Recipient{Address: address(t, "bob@example.net"), Action: Failed})
	first, _ := compose(t, r)
	if again, _ := compose(t, r); !bytes.Equal(first, again) {
		t.Error("composed again it is another report")
	}
	r.BodySize++
	if err := Compose(io.Discard, r); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Compose of a short body: %v", err)
	}
}

// Whatever others said, the report is three parts and its fields are ours.
func FuzzCompose(f *testing.F) {
	f.Add("550 5.1.1 no", "mx.example", "rfc822", "x@y", "5.1.1", "envid", "Subject: x\r\n\r\n")
	f.Add("a\r\n\r\n--=_\r\n", "\x00", "\xff", "王", "5.1", "\r", "no field\r\nSubject: =?utf-8?B?DQo=?=\r\n")
	f.Fuzz(func(t *testing.T, diagnostic, remote, typ, original, status, envID, header string) {
		r := report(t, header, lunchBody, Recipient{Address: address(t, "bob@example.net"), Original: original, OriginalType: typ,
			Action: Failed, Status: status, Diagnostic: diagnostic, RemoteMTA: remote})
		r.EnvID, r.Return = envID, envelope.ReturnHeaders
		var b bytes.Buffer
		if err := Compose(&b, r); err != nil {
			t.Fatal(err)
		}
		s := message.NewScanner(message.Limits{})
		s.Write(b.Bytes())
		p := s.Close()
		if len(p.Root.Children) != 3 || p.Header.Len() < 8 || p.Header.Len() > 10 {
			t.Fatalf("report is %s", p.Root.AppendBodyStructure(nil, false))
		}
		part := p.Root.Children[1]
		start := p.HeaderSize + part.BodyOffset
		blocks := strings.Split(strings.TrimRight(string(b.Bytes()[start:start+part.BodySize]), "\r\n"), "\r\n\r\n")
		if len(blocks) != 2 {
			t.Fatalf("%d blocks in %q", len(blocks), blocks)
		}
		h := message.ParseHeader([]byte(blocks[1] + "\r\n\r\n"))
		for field := range h.Fields() {
			switch field.Name {
			case "Original-Recipient", "Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code":
			default:
				t.Fatalf("field %q in %q", field.Raw, blocks[1])
			}
		}
	})
}

// What a moderator has to say stands by itself, and the report says whose words they
// are.
func TestModerated(t *testing.T) {
	t.Parallel()
	b, _ := compose(t, report(t, lunchHeader, lunchBody, Recipient{
		Address: address(t, "sales@corp.example"), Action: Failed, Status: "5.7.2", Moderated: true,
		Diagnostic: "Please do not ask everybody. Ask the canteen, which knows the menu of the whole week and of the next.",
	}))
	golden(t, "08-moderated", b)
	b, _ = compose(t, report(t, lunchHeader, lunchBody, Recipient{
		Address: address(t, "bob@elsewhere.example"), Action: Failed, Status: "5.7.1", Returned: true,
		Diagnostic: "Not to be sent outside.",
	}))
	golden(t, "09-returned", b)
}
