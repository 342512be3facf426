package dovecot

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	client := netip.MustParseAddr("192.0.2.7")
	for name, tt := range map[string]struct {
		in   string
		want line
	}{
		"version":          {"VERSION\t1\t1", line{kind: kindVersion, major: 1, minor: 1}},
		"version and more": {"VERSION\t1\t2\tfuture", line{kind: kindVersion, major: 1, minor: 2}},
		"pid":              {"CPID\t4711", line{kind: kindPID, id: 4711}},
		"Postfix": {"AUTH\t1\tPLAIN\tservice=smtp\tnologin\tlip=192.0.2.1\trip=192.0.2.7\tsecured\tresp=AGEAYg==",
			line{kind: kindAuth, id: 1, auth: start{mech: "PLAIN", service: "smtp", client: client, secured: true, response: []byte("\x00a\x00b")}}},
		"Exim": {"AUTH\t1\tLOGIN\tservice=smtp\tsecured\trip=192.0.2.7\tlip=192.0.2.1\tnologin\tresp=",
			line{kind: kindAuth, id: 1, auth: start{mech: "LOGIN", service: "smtp", client: client, secured: true}}},
		"no response":       {"AUTH\t4294967295\tlogin\tservice=SMTP", line{kind: kindAuth, id: 1<<32 - 1, auth: start{mech: "LOGIN", service: "smtp"}}},
		"empty response":    {"AUTH\t2\tPLAIN\tresp==", line{kind: kindAuth, id: 2, auth: start{mech: "PLAIN", response: []byte{}}}},
		"mapped address":    {"AUTH\t2\tPLAIN\trip=::ffff:192.0.2.7", line{kind: kindAuth, id: 2, auth: start{mech: "PLAIN", client: client}}},
		"unreadable client": {"AUTH\t2\tPLAIN\trip=unknown", line{kind: kindAuth, id: 2, auth: start{mech: "PLAIN"}}},
		"escapes": {"AUTH\t2\tPLAIN\tsession=a\x01tb\x011\x010\x01n\x01r\x01x\tfinal-resp-ok",
			line{kind: kindAuth, id: 2, auth: start{mech: "PLAIN", session: "a\tb\x01\x00\n\rx", final: true}}},
		"cont":       {"CONT\t2\tYQ==", line{kind: kindCont, id: 2, data: []byte("a")}},
		"empty cont": {"CONT\t2", line{kind: kindCont, id: 2, data: []byte{}}},
		"cancel":     {"CANCEL\t2", line{kind: kindCancel, id: 2}},
	} {
		got, err := parse([]byte(tt.in))
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, tt.want)
		}
	}
	for name, in := range map[string]string{
		"nothing": "", "unknown": "REQUEST\t1\t2", "no version": "VERSION\t1", "words": "VERSION\tone\ttwo", "no pid": "CPID\t",
		"no id": "AUTH\t\tPLAIN", "negative": "AUTH\t-1\tPLAIN", "too large": "AUTH\t4294967296\tPLAIN", "no mechanism": "AUTH\t1", "no name": "AUTH\t1\t",
		"no base64": "AUTH\t1\tPLAIN\tresp=?", "a parameter behind the response": "AUTH\t1\tPLAIN\tresp=YQ==\tsecured", "sloppy base64": "CONT\t1\tYR==", "CR": "CONT\t1\tYQ==\r",
	} {
		if l, err := parse([]byte(in)); !errors.Is(err, errProtocol) {
			t.Errorf("%s: %+v, %v", name, l, err)
		} else if strings.Contains(err.Error(), "YQ") {
			t.Errorf("%s: the error shows what was said: %v", name, err)
		}
	}
}

// FuzzParse: whatever comes, parameters are what stands between tabs, and a
// response never makes one.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"VERSION\t1\t0", "CPID\t1", "CANCEL\t3", "CONT\t1\tAGEAYg==",
		"AUTH\t1\tPLAIN\tservice=smtp\tnologin\tlip=127.0.0.1\trip=::1\tsecured\tresp=AGEAYg==",
		"AUTH\t1\tLOGIN\tsession=\x01\x01t\x01", "AUTH\t1\tPLAIN\tresp=YQ==\tsecured", "\x01\t\t",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		l, err := parse(b)
		if !bytes.Equal(b, before) {
			t.Error("the input was changed")
		}
		if (err != nil) != (l.kind == 0) || err != nil && !errors.Is(err, errProtocol) {
			t.Errorf("%q: %+v, %v", b, l, err)
		}
		head, response, there := bytes.Cut(b, []byte("\tresp="))
		if l.auth.secured && !bytes.Contains(head, []byte("secured")) {
			t.Errorf("%q: secured by the response", b)
		}
		if l.auth.response != nil && (!there || base64.StdEncoding.DecodedLen(len(response)) < len(l.auth.response)) {
			t.Errorf("%q: a response from nowhere", b)
		}
		if got := unescape([]byte(escape(string(b)))); got != string(b) {
			t.Errorf("%q comes back as %q", b, got)
		}
		if strings.ContainsAny(escape(string(b)), "\t\r\n\x00") {
			t.Errorf("%q is no single parameter", b)
		}
	})
}
