package sasl

import (
	"errors"
	"strings"
	"testing"
)

func TestParseOAuthBearer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, in string
		want     BearerToken
		bad      bool
	}{
		// RFC 7628 §4.1
		{name: "of the RFC", in: "n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01",
			want: BearerToken{"user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="}},
		{name: "no authzid", in: "n,,\x01auth=Bearer abc\x01\x01", want: BearerToken{"", "abc"}},
		{name: "y", in: "y,,\x01auth=bearer abc\x01\x01", want: BearerToken{"", "abc"}},
		{name: "escapes", in: "n,a=a=2Cb=3Dc,\x01auth=Bearer abc\x01\x01", want: BearerToken{"a,b=c", "abc"}},
		{name: "unknown pairs", in: "n,,\x01auth=Bearer abc\x01future=\x01\x01", want: BearerToken{"", "abc"}},
		{name: "asking where", in: "n,a=user@example.com,\x01auth=\x01\x01", want: BearerToken{"user@example.com", ""}},
		{name: "empty", in: "", bad: true},
		{name: "dummy", in: "\x01", bad: true},
		{name: "channel binding", in: "p=tls-exporter,,\x01auth=Bearer abc\x01\x01", bad: true},
		{name: "two tokens", in: "n,,\x01auth=Bearer abc\x01auth=Bearer def\x01\x01", bad: true},
		{name: "no token", in: "n,,\x01host=x\x01\x01", bad: true},
		{name: "another scheme", in: "n,,\x01auth=Basic abc\x01\x01", bad: true},
		{name: "no end", in: "n,,\x01auth=Bearer abc\x01", bad: true},
		{name: "more behind the end", in: "n,,\x01auth=Bearer abc\x01\x01x", bad: true},
		{name: "wrong escape", in: "n,a=a=2c,\x01auth=Bearer abc\x01\x01", bad: true},
		{name: "header of XOAUTH2", in: "user=a\x01auth=Bearer abc\x01\x01", bad: true},
		{name: "NUL", in: "n,a=a\x00,\x01auth=Bearer abc\x01\x01", bad: true},
		{name: "not UTF-8", in: "n,a=\xff,\x01auth=Bearer abc\x01\x01", bad: true},
	} {
		got, err := ParseOAuthBearer([]byte(tt.in))
		if tt.bad != errors.Is(err, ErrMalformed) || !tt.bad && got != tt.want {
			t.Errorf("%s: %q: got %+v, %v, want %+v", tt.name, tt.in, got, err, tt.want)
		}
	}
}

func TestParseXOAuth2(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, in string
		want     BearerToken
		bad      bool
	}{
		{name: "as described", in: "user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\x01\x01",
			want: BearerToken{"someuser@example.com", "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"}},
		{name: "no name", in: "user=\x01auth=Bearer x\x01\x01", want: BearerToken{"", "x"}},
		{name: "no user", in: "auth=Bearer x\x01\x01", bad: true},
		{name: "one octet 1", in: "user=a\x01auth=Bearer x\x01", bad: true},
		{name: "empty", in: "", bad: true},
	} {
		got, err := ParseXOAuth2([]byte(tt.in))
		if tt.bad != errors.Is(err, ErrMalformed) || !tt.bad && got != tt.want {
			t.Errorf("%s: %q: got %+v, %v, want %+v", tt.name, tt.in, got, err, tt.want)
		}
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	if got, want := string(OAuthBearerFailure("invalid_token", "mail", "https://id.example/.well-known/openid-configuration")),
		`{"status":"invalid_token","scope":"mail","openid-configuration":"https://id.example/.well-known/openid-configuration"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := string(XOAuth2Failure("401", "")), `{"status":"401","schemes":"Bearer"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseExternal(t *testing.T) {
	t.Parallel()
	for in, ok := range map[string]bool{"": true, "alice@corp.example": true, "a\x00b": false, "\xff": false} {
		got, err := ParseExternal([]byte(in))
		if ok && (err != nil || got != in) || !ok && !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

// FuzzBearer: what is taken from a response was sent in it, and nothing else.
func FuzzBearer(f *testing.F) {
	for _, s := range []string{
		"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4=\x01\x01",
		"y,,\x01auth=Bearer abc\x01\x01", "n,a=a=2Cb=3Dc,\x01auth=Bearer abc\x01\x01", "\x01", "n,,\x01\x01\x01",
		"user=someuser@example.com\x01auth=Bearer ya29.vF9\x01\x01", "user=\x01auth=Bearer \x01\x01", "user=a\x01=\x01auth=\x01\x01",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, parse := range map[string]func([]byte) (BearerToken, error){"OAUTHBEARER": ParseOAuthBearer, "XOAUTH2": ParseXOAuth2} {
			got, err := parse(b)
			if err != nil {
				if !errors.Is(err, ErrMalformed) {
					t.Errorf("%s: %q: %v", name, b, err)
				}
				if got.Token != "" {
					t.Errorf("%s: %q: a token beside an error", name, b)
				}
				continue
			}
			if !strings.Contains(string(b), got.Token) || strings.ContainsAny(got.Token+got.Authzid, "\x00\x01") || len(got.Authzid) > len(b) {
				t.Errorf("%s: %q: %+v", name, b, got)
			}
		}
		if authzid, err := ParseExternal(b); err == nil && authzid != string(b) {
			t.Errorf("EXTERNAL: %q: %q", b, authzid)
		}
	})
}
