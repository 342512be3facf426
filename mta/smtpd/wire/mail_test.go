package wire

import (
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"dirpost/internal/envelope"
)

func code(err error) int {
	if err == nil {
		return 250
	}
	return envelope.StatusOf(err).Code
}

func TestParseMail(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   string
		code int
		want envelope.Envelope
	}{
		{"FROM:<>", 250, envelope.Envelope{}},
		{"from:<> SIZE=0", 250, envelope.Envelope{}},
		{"FROM:<> size=18446744073709551615", 250, envelope.Envelope{Size: math.MaxInt64}},
		{"FROM:<> SIZE=000000000000000000042", 501, envelope.Envelope{}}, // 21 digits
		{"FROM:<> SIZE=", 501, envelope.Envelope{}},
		{"FROM:<> SIZE=1e3", 501, envelope.Envelope{}},
		{"FROM:<> BODY=8bitmime SMTPUTF8 RET=full", 250, envelope.Envelope{Body: envelope.Body8BitMIME, SMTPUTF8: true, Return: envelope.ReturnFull}},
		{"FROM:<> BODY", 501, envelope.Envelope{}},
		{"FROM:<> BODY=BINARYMIME", 555, envelope.Envelope{}},
		{"FROM:<> ENVID=a+3Db", 250, envelope.Envelope{EnvID: "a=b"}},
		{"FROM:<> ENVID=a+3db", 250, envelope.Envelope{EnvID: "a=b"}},
		{"FROM:<> ENVID=a+3", 501, envelope.Envelope{}},
		{"FROM:<> ENVID=a=b", 501, envelope.Envelope{}},
		{"FROM:<> ENVID=a+0D+0A", 501, envelope.Envelope{}},
		{"FROM:<> ENVID=a+00", 501, envelope.Envelope{}},
		{"FROM:<> ENVID=" + strings.Repeat("x", 101), 501, envelope.Envelope{}},
		{"FROM:<> RET=HDRS RET=FULL", 501, envelope.Envelope{}},
		{"FROM:<> AUTH=<>", 250, envelope.Envelope{}},
		{"FROM:<> AUTH=e+3Dmc2@example.com", 250, envelope.Envelope{}},
		{"FROM:<> AUTH=", 501, envelope.Envelope{}},
		{"FROM:<> AUTH=a+0Ab", 501, envelope.Envelope{}},
		{"FROM:<> -X=1", 501, envelope.Envelope{}},
		{"FROM:<> X\x01=1", 501, envelope.Envelope{}},
		{"FROM:<> X=\x7f", 501, envelope.Envelope{}},
		{"FROM:<> MT-PRIORITY=3", 555, envelope.Envelope{}},
		{"FROM:<>\tSIZE=1", 501, envelope.Envelope{}},
		{"FROM:<>,SIZE=1", 501, envelope.Envelope{}},
		{"FROM:<> SIZE=1,BODY=7BIT", 501, envelope.Envelope{}},
		{"FROM <>", 501, envelope.Envelope{}},
		{"FROM:", 501, envelope.Envelope{}},
		{"FROM:<", 501, envelope.Envelope{}},
		{"FROM:<>>", 501, envelope.Envelope{}},
		{"FROM:<<>>", 501, envelope.Envelope{}},
		{"TO:<>", 501, envelope.Envelope{}},
		{"", 501, envelope.Envelope{}},
	} {
		got, err := ParseMail(tt.in, true)
		if code(err) != tt.code {
			t.Errorf("ParseMail(%q): %v, want %d", tt.in, err, tt.code)
			continue
		}
		if err == nil && (got.Size != tt.want.Size || got.Body != tt.want.Body || got.SMTPUTF8 != tt.want.SMTPUTF8 || got.Return != tt.want.Return || got.EnvID != tt.want.EnvID || !got.ReversePath.IsNull()) {
			t.Errorf("ParseMail(%q) = %+v, want %+v", tt.in, got, tt.want)
		}
	}
}

func TestParseRcpt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in        string
		utf8      bool
		code      int
		typ, orig string
		notify    envelope.Notify
	}{
		{in: "TO:<a@b.example>", code: 250},
		{in: "TO:<Postmaster>", code: 250},
		{in: "TO:<POSTMASTER> NOTIFY=never", code: 250, notify: envelope.NotifyNever},
		{in: "TO:<someone>", code: 501},
		{in: "TO:<a@b.example> NOTIFY=SUCCESS,DELAY,FAILURE", code: 250, notify: envelope.NotifySuccess | envelope.NotifyDelay | envelope.NotifyFailure},
		{in: "TO:<a@b.example> NOTIFY=SUCCESS,SUCCESS", code: 501},
		{in: "TO:<a@b.example> NOTIFY=,SUCCESS", code: 501},
		{in: "TO:<a@b.example> NOTIFY=NEVER NOTIFY=NEVER", code: 501},
		{in: "TO:<a@b.example> ORCPT=RFC822;a+40b", code: 250, typ: "rfc822", orig: "a@b"},
		{in: "TO:<a@b.example> ORCPT=rfc822;", code: 501},
		{in: "TO:<a@b.example> ORCPT=rfc822", code: 501},
		{in: "TO:<a@b.example> ORCPT=rfc822;a+0Ab", code: 501},
		{in: "TO:<a@b.example> ORCPT=rfc822;" + strings.Repeat("x", 500), code: 501},
		{in: "TO:<a@b.example> ORCPT=utf-8;\u738b@b.example", code: 553},
		{in: "TO:<a@b.example> ORCPT=utf-8;\u738b@b.example", utf8: true, code: 250, typ: "utf-8", orig: "\u738b@b.example"},
		{in: `TO:<a@b.example> ORCPT=utf-8;\x{738B}@b.example`, code: 250, typ: "utf-8", orig: "\u738b@b.example"},
		{in: `TO:<a@b.example> ORCPT=utf-8;\x{D}\x{A}X`, code: 501},
		{in: `TO:<a@b.example> ORCPT=utf-8;\x{D800}`, code: 501},
		{in: `TO:<a@b.example> ORCPT=utf-8;\x{110000}`, code: 501},
		{in: `TO:<a@b.example> ORCPT=utf-8;\x{`, code: 501},
		{in: `TO:<a@b.example> ORCPT=utf-8;\y`, code: 501},
		{in: "TO:<a@b.example> SIZE=1", code: 555},
		{in: "TO:<\u738b@b.example>", code: 553},
		{in: "TO:<a@\u738b.example>", code: 553},
		{in: "TO:<\xff@b.example>", utf8: true, code: 501},
		{in: "TO:<a@b.example", code: 501},
		{in: "TO:a@b.example", code: 501},
		{in: "TO:<a@b.example>x", code: 501},
	} {
		got, err := ParseRcpt(tt.in, "corp.example", tt.utf8)
		if code(err) != tt.code {
			t.Errorf("ParseRcpt(%q): %v, want %d", tt.in, err, tt.code)
			continue
		}
		if err == nil && (got.OriginalType != tt.typ || got.Original != tt.orig || got.Notify != tt.notify) {
			t.Errorf("ParseRcpt(%q) = %+v", tt.in, got)
		}
	}
}

func TestParseBDAT(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   string
		size int64
		last bool
		ok   bool
	}{
		{"0", 0, false, true}, {"0 LAST", 0, true, true}, {"12 last", 12, true, true}, {"12  LAST", 12, true, true},
		{"999999999999999999", 999999999999999999, false, true}, {"9999999999999999999", 0, false, false},
		{"", 0, false, false}, {"-1", 0, false, false}, {"+1", 0, false, false}, {"1.5", 0, false, false}, {"0x1", 0, false, false},
		{"1 FIRST", 0, false, false}, {"LAST", 0, false, false}, {"1 LAST 2", 0, false, false}, {"1\tLAST", 0, false, false}, {" 1", 0, false, false},
	} {
		size, last, err := ParseBDAT(tt.in)
		if (err == nil) != tt.ok || size != tt.size || last != tt.last && tt.ok {
			t.Errorf("ParseBDAT(%q) = %d, %v, %v", tt.in, size, last, err)
		}
	}
}

// Whatever a client sends, what comes out can stand in reports and log lines.
func FuzzParseMail(f *testing.F) {
	for _, s := range []string{
		"FROM:<a@b.example> SIZE=1 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb AUTH=<>", "FROM:<>",
		"FROM:<@x.example:\"a b\"@[IPv6:::1]> ENVID=+41", "TO:<a@b.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+40b",
		`TO:<\u738b@b.example> ORCPT=utf-8;\x{738B}@b`, "TO:<Postmaster>",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if env, err := ParseMail(s, true); err == nil {
			if !printable(env.EnvID) || env.Size < 0 {
				t.Errorf("ParseMail(%q) = %+v", s, env)
			}
			if !env.SMTPUTF8 && strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) >= 0 {
				t.Errorf("ParseMail(%q): octets beyond ASCII without SMTPUTF8", s)
			}
			checkAddress(t, s, env.ReversePath.String())
		} else if st := envelope.StatusOf(err); st.Code < 500 || st.Code > 559 {
			t.Errorf("ParseMail(%q): %v", s, err)
		}
		if r, err := ParseRcpt(s, "corp.example", true); err == nil {
			if strings.ContainsAny(r.Original, "\r\n\x00") || !utf8.ValidString(r.Original) {
				t.Errorf("ParseRcpt(%q) = %+v", s, r)
			}
			checkAddress(t, s, r.Address.String())
		}
	})
}

// checkAddress parses what is written on the wire again.
func checkAddress(t *testing.T, in, addr string) {
	t.Helper()
	if addr == "" {
		return
	}
	a, err := envelope.ParseAddress(addr)
	if err != nil || a.String() != addr {
		t.Errorf("%q gives %q, which is read as %q, %v", in, addr, a, err)
	}
}
