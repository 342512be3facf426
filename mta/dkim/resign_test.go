package dkim

import (
	"io"
	"strings"
	"testing"
	"time"

	"dirpost/internal/message"
	"dirpost/internal/seal"
	"dirpost/internal/testenv"
)

// TestResign: signatures of ours are made anew for what is sent; what only looks
// like one does not become one.
func TestResign(t *testing.T) {
	t.Parallel()
	k, pass := node(t, testenv.Database(t), seal.GenerateKey())
	rsa, ed := create(t, k, "r1", RSA), create(t, k, "e1", Ed25519)
	msg := "Received: by mail.corp.example; Sat, 21 Nov 2026 10:00:01 +0000\r\n" + signatures(t, k, "corp.example")
	pass(time.Minute)
	resign := func(before string) string {
		t.Helper()
		header, body, _ := strings.Cut(before, "\r\n\r\n")
		h := message.ParseHeader([]byte(header + "\r\n\r\n"))
		after := h
		if err := after.Append("Content-Transfer-Encoding", "quoted-printable"); err != nil {
			t.Fatal(err)
		}
		write := func(s string) func(io.Writer) error {
			return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
		}
		const converted = "other=\r\n text\r\n"
		after, err := k.Resign(t.Context(), h, write(body), after, write(converted))
		if err != nil {
			t.Fatal(err)
		}
		return string(after.Bytes()) + converted
	}
	got := resign(msg)
	if err := verify(got, rsa, ed); err != nil {
		t.Errorf("converted: %v in\n%s", err, got)
	}
	if !strings.HasPrefix(got, "Received: ") || strings.Count(got, "DKIM-Signature:") != 2 {
		t.Errorf("not in their place: %s", got)
	}
	// A list has put its fields on top since it was signed.
	if got := resign("Delivered-To: list@corp.example\r\nList-Id: <list.corp.example>\r\n" + msg); verify(got, rsa, ed) != nil {
		t.Errorf("by a list: %v in\n%s", verify(got, rsa, ed), got)
	}
	for name, forged := range map[string]string{
		"another subject":  strings.Replace(msg, "Lunch", "Money", 1),
		"another body":     strings.Replace(msg, "Shall  we?", "We shall.", 1),
		"another sender":   strings.Replace(msg, "Alice", "Mallory", 1),
		"no signature":     strings.Replace(msg, "\tb=", "\tb=AAAA", 2),
		"a second From":    "From: mallory@corp.example\r\n" + msg,
		"fewer fields":     strings.NewReplacer("from:from:", "from:").Replace(msg),
		"other time":       strings.ReplaceAll(msg, "t=1", "t=2"),
		"unknown selector": strings.NewReplacer("s=r1", "s=r2", "s=e1", "s=e2").Replace(msg),
		"garbage":          "DKIM-Signature: d=corp.example; t=x\r\nDKIM-Signature: =;;=\r\nDKIM-Signature:\r\n" + testHeader + testBody,
	} {
		if got := resign(forged); verify(got, rsa, ed) == nil {
			t.Errorf("%s: a forged signature was made a good one: %s", name, got)
		}
	}
}
