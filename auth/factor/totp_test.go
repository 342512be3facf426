package factor

import (
	"bytes"
	"net/url"
	"strings"
	"testing"
	"time"
)

// RFC 6238 appendix B, SHA-1.
func TestCode(t *testing.T) {
	t.Parallel()
	secret := []byte("12345678901234567890")
	for at, want := range map[int64]string{
		59: "94287082", 1111111109: "07081804", 1111111111: "14050471", 1234567890: "89005924", 2000000000: "69279037", 20000000000: "65353130",
	} {
		if got := code(secret, at/30, 8); got != want {
			t.Errorf("code at %d = %s, want %s", at, got, want)
		}
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	secret, now := newSecret(), time.Unix(1_700_000_000, 0)
	current := now.Unix() / 30
	for n := int64(-3); n <= 3; n++ {
		at, ok := match(secret, code(secret, current+n, digits), now)
		if want := n >= -drift && n <= drift; ok != want || ok && at != current+n {
			t.Errorf("code of step %+d: %d, %v", n, at-current, ok)
		}
	}
	for _, bad := range []string{"", "12345", "1234567", "abcdef", strings.Repeat("0", 1000)} {
		if _, ok := match(secret, bad, now); ok {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestURI(t *testing.T) {
	t.Parallel()
	secret := newSecret()
	u, err := url.Parse(URI("Example & Söhne", "wei ?@corp.example", secret))
	if err != nil {
		t.Fatal(err)
	}
	if u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/Example & Söhne:wei ?@corp.example" || u.Query().Get("issuer") != "Example & Söhne" {
		t.Errorf("%s", u)
	}
	raw, err := base32Text.DecodeString(u.Query().Get("secret"))
	if err != nil || !bytes.Equal(raw, secret) {
		t.Errorf("secret %v, %v", raw, err)
	}
	if got := clean(SecretText(secret)); got != u.Query().Get("secret") {
		t.Errorf("text %q", got)
	}
}

func TestName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", " My\r\nphone\x00 ": "My phone", "手机": "手机", strings.Repeat("é", 100): strings.Repeat("é", maxName), "a\xffb": "ab", "x\u202ey": "x y",
	} {
		if got := Name(in); got != want {
			t.Errorf("Name(%q) = %q, want %q", in, got, want)
		}
	}
}
