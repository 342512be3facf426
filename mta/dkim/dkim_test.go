package dkim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"dirpost/internal/message"

	"github.com/emersion/go-msgauth/dkim"
)

var now = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

const (
	testHeader = "Received: by mail.corp.example; Sat, 21 Nov 2026 10:00:00 +0000\r\n" +
		"From: Alice \t Example\r\n  <alice@corp.example>\r\nTO : bob@example.net\r\nSubject:  Lunch  \r\n" +
		"Date: Sat, 21 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@corp.example>\r\nX-Other: not signed\r\n" +
		"Comments: a\r\nReferences: <0@corp.example>\r\n <00@corp.example>\r\n\r\n"
	testBody = "Shall  we?\t\r\n\r\n \r\nyes \r\n\r\n\r\n"
)

// newKey makes a key outside the database.
func newKey(t testing.TB, a Algorithm) (*signingKey, Key) {
	t.Helper()
	public, der, err := generate(a)
	if err != nil {
		t.Fatal(err)
	}
	private, err := parsePrivate(a, der)
	if err != nil {
		t.Fatal(err)
	}
	selector := DefaultSelector(a, now)
	return &signingKey{domain: "corp.example", selector: selector, algorithm: a, private: private},
		Key{Domain: "corp.example", Selector: selector, Algorithm: a, PublicKey: public}
}

func hashOf(body string) [32]byte {
	h := NewBodyHash()
	io.WriteString(h, body)
	return h.Sum()
}

// signed returns the message with its signature in front.
func signed(t testing.TB, k *signingKey, header, body string) string {
	t.Helper()
	field, err := sign(k, message.ParseHeader([]byte(header)), hashOf(body), now)
	if err != nil {
		t.Fatal(err)
	}
	var h message.Header
	if err := h.PrependLines(field); err != nil {
		t.Fatalf("signature %q: %v", field, err)
	}
	for line := range strings.SplitSeq(string(field), "\r\n") {
		if len(line) > 78 {
			t.Errorf("line of %d characters: %q", len(line), line)
		}
	}
	return string(field) + header + body
}

// verify has go-msgauth verify msg and returns the first thing that is wrong.
func verify(msg string, keys ...Key) error {
	found, err := dkim.VerifyWithOptions(strings.NewReader(msg), &dkim.VerifyOptions{
		LookupTXT: func(name string) ([]string, error) {
			for _, k := range keys {
				if k.RecordName() == strings.TrimSuffix(name, ".") {
					return []string{k.RecordText()}, nil
				}
			}
			return nil, errors.New("no record " + name)
		},
	})
	if err != nil {
		return err
	}
	if len(found) != len(keys) {
		return fmt.Errorf("%d signatures, want %d", len(found), len(keys))
	}
	for _, v := range found {
		if v.Err != nil {
			return v.Err
		}
	}
	return nil
}

func TestSign(t *testing.T) {
	t.Parallel()
	for _, a := range []Algorithm{RSA, Ed25519} {
		k, public := newKey(t, a)
		for _, body := range []string{testBody, "", "\r\n", "\r\n\r\n", " \r\n", "no line end", "8-bit \xff\r\n", strings.Repeat("long line ", 1000) + "\r\n"} {
			if err := verify(signed(t, k, testHeader, body), public); err != nil {
				t.Errorf("%s, body %.20q: %v", a, body, err)
			}
		}
	}
}

// What readers see can neither be changed nor added to; what changes on the
// way may.
func TestSignedFields(t *testing.T) {
	t.Parallel()
	k, public := newKey(t, Ed25519)
	msg := signed(t, k, testHeader, testBody)
	for _, tt := range []struct {
		name  string
		alter func(string) string
		valid bool
	}{
		{"nothing", func(m string) string { return m }, true},
		{"another Received", func(m string) string { return "Received: x\r\n" + m }, true},
		{"unsigned field", func(m string) string { return strings.Replace(m, "not signed", "changed", 1) }, true},
		{"white space", func(m string) string { return strings.Replace(m, "Subject:  Lunch  ", "subject: Lunch", 1) }, true},
		{"folding", func(m string) string { return strings.Replace(m, "Alice \t Example\r\n  <", "Alice Example <", 1) }, true},
		{"empty lines at the end", func(m string) string { return m + "\r\n\r\n" }, true},
		{"subject", func(m string) string { return strings.Replace(m, "Lunch", "Dinner", 1) }, false},
		{"body", func(m string) string { return strings.Replace(m, "yes", "no", 1) }, false},
		{"body goes on", func(m string) string { return m + "more\r\n" }, false},
		{"second From", func(m string) string { return "From: mallory@example.org\r\n" + m }, false},
		{"second From below", func(m string) string {
			return strings.Replace(m, "X-Other:", "From: mallory@example.org\r\nX-Other:", 1)
		}, false},
		{"second Subject", func(m string) string { return "Subject: Dinner\r\n" + m }, false},
		{"first Reply-To", func(m string) string { return "Reply-To: mallory@example.org\r\n" + m }, false},
		{"first Content-Type", func(m string) string { return "Content-Type: text/html\r\n" + m }, false},
		{"fields in other order", func(m string) string {
			return strings.Replace(strings.Replace(m, "Subject:  Lunch  \r\n", "", 1), "X-Other", "Subject: Lunch\r\nX-Other", 1)
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			altered := tt.alter(msg)
			if altered == msg && tt.name != "nothing" {
				t.Fatal("nothing was altered")
			}
			if err := verify(altered, public); (err == nil) != tt.valid {
				t.Errorf("valid %t (%v), want %t", err == nil, err, tt.valid)
			}
		})
	}
}

// Fields that occur twice are signed from the bottom up (RFC 6376 §5.4.2).
func TestSignRepeatedFields(t *testing.T) {
	t.Parallel()
	k, public := newKey(t, Ed25519)
	msg := signed(t, k, "From: a@corp.example\r\nTo: b@x.example\r\nList-Id: 1\r\nTo: c@x.example\r\nList-Id: 2\r\n\r\n", testBody)
	if err := verify(msg, public); err != nil {
		t.Error(err)
	}
	if err := verify(strings.Replace(msg, "To: b", "To: d", 1), public); err == nil {
		t.Error("the first To could be changed")
	}
}

// RFC 6376 §3.4.5, examples of relaxed canonicalisation.
func TestCanonical(t *testing.T) {
	t.Parallel()
	h := message.ParseHeader([]byte("A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n"))
	var got []byte
	for f := range h.Fields() {
		got = append(relaxedField(got, f), '\r', '\n')
	}
	if want := "a:X\r\nb:Y Z\r\n"; string(got) != want {
		t.Errorf("header %q, want %q", got, want)
	}
	for _, tt := range []struct{ in, want string }{
		{" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n"},
		{"", ""},
		{"\r\n\r\n", ""},
		{" \t\r\n", ""},
		{"a", "a\r\n"},
		{"a ", "a\r\n"},
		{"a\r\n\r\n\r\nb", "a\r\n\r\n\r\nb\r\n"},
		{"a b  c\td", "a b c d\r\n"},
		{"a\rb\r", "a\rb\r\r\n"},
		{"  a", " a\r\n"},
	} {
		for size := 1; size <= len(tt.in)+1; size++ {
			got, want := NewBodyHash(), NewBodyHash()
			for rest := tt.in; rest != ""; {
				n := min(size, len(rest))
				io.WriteString(got, rest[:n])
				rest = rest[n:]
			}
			want.sum.Write([]byte(tt.want)) // as it is
			if got.Sum() != want.Sum() {
				t.Errorf("body %q in pieces of %d is not %q", tt.in, size, tt.want)
			}
		}
	}
}

// Any message is signed so that go-msgauth finds the signature good.
func FuzzSign(f *testing.F) {
	k, public := newKey(f, Ed25519)
	f.Add("From: a@b\r\nSubject:x \t y\r\n z\r\n", testBody)
	f.Add("subject : \r\nFrom:a\r\nFrom: b\r\n\t\r\n", " \r\n a\t \r\n\r\n")
	f.Fuzz(func(t *testing.T, header, body string) {
		// What leaves has CRLF only, and a header of fields.
		var fields strings.Builder
		for f := range message.ParseHeader([]byte(canonical(header))).Fields() {
			if f.Name != "" && !strings.ContainsAny(f.Name, ";") && !bytes.ContainsAny(f.Raw, "\v\f\x00\u0085\u00a0") {
				fields.Write(f.Raw)
			}
		}
		msg := signed(t, k, "From: a@b.example\r\n"+fields.String()+"\r\n", canonical(body))
		if err := verify(msg, public); err != nil {
			t.Fatalf("%q: %v", msg, err)
		}
	})
}

func canonical(s string) string {
	var b strings.Builder
	w := message.NewCanonicalWriter(&b)
	io.WriteString(w, s)
	w.Close()
	return b.String()
}

// python3-dkim, which has no line in common with us or go-msgauth, finds both
// signatures good.
func TestPythonDKIM(t *testing.T) {
	t.Parallel()
	python := pythonDKIM(t)
	rsaKey, rsaPublic := newKey(t, RSA)
	edKey, edPublic := newKey(t, Ed25519)
	header := strings.Replace(testHeader, "TO :", "TO:", 1) // it does not read the obsolete form
	for _, body := range []string{testBody, "", "no line end", "Grüße \r\n"} {
		msg := signed(t, edKey, header, body)
		msg = strings.TrimSuffix(signed(t, rsaKey, header, body), header+body) + msg
		cmd := exec.CommandContext(t.Context(), python, "testdata/verify.py",
			rsaPublic.RecordName()+"="+rsaPublic.RecordText(), edPublic.RecordName()+"="+edPublic.RecordText())
		cmd.Stdin = strings.NewReader(msg)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("python3-dkim: %v\n%s", err, out)
		}
		if want := "rsa-sha256 True\ned25519-sha256 True\n"; string(out) != want {
			t.Errorf("body %q: python3-dkim says %q, want %q", body, out, want)
		}
	}
}

// pythonDKIM returns a Python that has python3-dkim: the system's own, where
// the package puts it, or another that is first on the path.
func pythonDKIM(t *testing.T) string {
	t.Helper()
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		if exec.CommandContext(t.Context(), python, "-c", "import dkim, nacl").Run() == nil {
			return python
		}
	}
	t.Fatal("python3-dkim or python3-nacl is missing: install the packages of deploy/packages-test.txt")
	return ""
}

func TestRecord(t *testing.T) {
	t.Parallel()
	_, k := newKey(t, RSA)
	if got := k.RecordName(); got != "202611r._domainkey.corp.example" {
		t.Errorf("RecordName() = %q", got)
	}
	if got := k.RecordText(); !strings.HasPrefix(got, "v=DKIM1; k=rsa; h=sha256; p=MII") {
		t.Errorf("RecordText() = %q", got)
	}
	line := k.ZoneLine()
	if joined := strings.ReplaceAll(line, `" "`, ""); !strings.Contains(joined, `"`+k.RecordText()+`"`) {
		t.Errorf("ZoneLine() = %s", line)
	}
	for s := range strings.SplitSeq(line, `" "`) {
		if len(s) > 255+len(k.RecordName())+20 {
			t.Errorf("string of %d octets", len(s))
		}
	}
}

func BenchmarkSign(b *testing.B) {
	for _, a := range []Algorithm{RSA, Ed25519} {
		b.Run(string(a), func(b *testing.B) {
			k, _ := newKey(b, a)
			h := message.ParseHeader([]byte(testHeader))
			body := hashOf(testBody)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := sign(k, h, body, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkBodyHash(b *testing.B) {
	for name, line := range map[string]string{"text": "Shall we have lunch at noon? The place at the corner has a table.\r\n", "base64": strings.Repeat("QUFB", 19) + "\r\n"} {
		b.Run(name, func(b *testing.B) {
			body := []byte(strings.Repeat(line, 60))
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				h := NewBodyHash()
				h.Write(body)
				h.Sum()
			}
		})
	}
}
