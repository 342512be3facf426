package message

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"testing"
)

// testdata/dovecot.json holds what Dovecot 2.3.19 says about each message of
// testdata (doveadm fetch "imap.envelope imap.bodystructure"), octets as
// Latin-1. Strings are compared by value: Dovecot writes literals more often.
//
// notDovecot names the messages that we describe otherwise, with the reason.
var notDovecot = map[string]string{
	"03-nested BODYSTRUCTURE":          "the line end before a delimiter belongs to it (RFC 2046 §5.1.1), not to the epilogue",
	"05-no-boundary BODYSTRUCTURE":     "a multipart without boundary is shown as the text that it is",
	"13-encoded-message BODYSTRUCTURE": "a message in base64 is shown as an attachment that can be decoded",
	"15-addresses ENVELOPE":            "an address list goes on behind what is broken",
	"16-outlook ENVELOPE":              "Outlook separates addresses by semicolons",
	"16-outlook BODYSTRUCTURE":         "encodings are in lower case",
	"18-content-types BODYSTRUCTURE":   "types and names are in lower case, and never empty",
	"21-message-global BODYSTRUCTURE":  "RFC 9051 §7.5.2 describes the message inside message/global, too",
	"raw-10-gbk ENVELOPE":              "8-bit text comes out as UTF-8",
}

func TestDovecot(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/dovecot.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]struct{ Envelope, Structure string }
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	for name, msg := range emlFiles(t) {
		want, ok := all[name]
		if !ok {
			t.Errorf("%s: nothing from Dovecot", name)
			continue
		}
		p, _ := scan(msg, Limits{}, whole)
		for _, tt := range []struct {
			item, want string
			got        []byte
		}{
			{"ENVELOPE", want.Envelope, p.Header.Envelope(nil)},
			{"BODYSTRUCTURE", want.Structure, p.Root.AppendBodyStructure(nil, true)},
		} {
			var theirs []byte
			for _, r := range tt.want {
				theirs = append(theirs, byte(r))
			}
			a, b := canonicalIMAP(t, tt.got), canonicalIMAP(t, theirs)
			reason := notDovecot[name+" "+tt.item]
			if a == b && reason != "" {
				t.Errorf("%s: %s is as Dovecot's, though %s", name, tt.item, reason)
			}
			if a != b && reason == "" {
				t.Errorf("%s: %s\n%s\nDovecot:\n%s", name, tt.item, a, b)
			}
		}
	}
}

// canonicalIMAP writes every string in one form.
func canonicalIMAP(t *testing.T, b []byte) string {
	t.Helper()
	var out []byte
	for len(b) > 0 {
		if b[0] != '"' && b[0] != '{' {
			out, b = append(out, b[0]), b[1:]
			continue
		}
		rest, err := parseIMAP(b)
		if err != nil {
			t.Fatal(err)
		}
		token := b[:len(b)-len(rest)]
		if b[0] == '{' {
			token = token[bytes.IndexByte(token, '\n')+1:]
		} else {
			token, _ = unquote(token)
		}
		out = append(out, fmt.Sprint(strconv.Quote(string(token)))...)
		b = rest
	}
	return string(out)
}
