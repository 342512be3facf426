package factor

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" // what apps have (RFC 6238 §1.2)
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// secretSize is that of the hash (RFC 4226 §4, R6), in octets.
	secretSize = 20
	digits     = 6
	step       = 30 * time.Second
	// drift is how many steps a clock may be off, both ways (RFC 6238 §5.2).
	drift = 1
)

// newSecret returns a secret for an app.
func newSecret() []byte {
	b := make([]byte, secretSize)
	rand.Read(b) // never fails (crypto/rand)
	return b
}

// base32Text is the alphabet of secrets and codes.
var base32Text = base32.StdEncoding.WithPadding(base32.NoPadding)

// SecretText is a secret to be typed into an app, in groups of four.
func SecretText(secret []byte) string { return grouped(base32Text.EncodeToString(secret), " ") }

// grouped puts sep after each four characters.
func grouped(text, sep string) string {
	var parts []string
	for len(text) > 4 {
		parts, text = append(parts, text[:4]), text[4:]
	}
	return strings.Join(append(parts, text), sep)
}

// URI tells an app all that it needs: whose account of which issuer it is, and the
// secret.
func URI(issuer, account string, secret []byte) string {
	q := url.Values{"secret": {base32Text.EncodeToString(secret)}, "issuer": {issuer}, "algorithm": {"SHA1"}, "digits": {strconv.Itoa(digits)}, "period": {strconv.Itoa(int(step / time.Second))}}
	// Apps take %20 for a space, and not all of them +.
	return "otpauth://totp/" + url.PathEscape(issuer) + ":" + url.PathEscape(account) + "?" + strings.ReplaceAll(q.Encode(), "+", "%20")
}

// code is the code of a step, RFC 4226 §5.3.
func code(secret []byte, step int64, digits int) string {
	h := hmac.New(sha1.New, secret)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(step)))
	sum := h.Sum(nil)
	offset := sum[len(sum)-1] & 0xf
	n := binary.BigEndian.Uint32(sum[offset:]) & 0x7fffffff
	mod := uint32(1)
	for range digits {
		mod *= 10
	}
	return fmt.Sprintf("%0*d", digits, n%mod)
}

// match returns the step, of those around now, whose code it is.
func match(secret []byte, given string, now time.Time) (at int64, ok bool) {
	current := now.Unix() / int64(step/time.Second)
	for n := int64(-drift); n <= drift; n++ {
		if subtle.ConstantTimeCompare([]byte(code(secret, current+n, digits)), []byte(given)) == 1 {
			at, ok = current+n, true
		}
	}
	return at, ok
}

// isCode reports whether what was typed is a code of an app and no other one.
func isCode(given string) bool {
	return len(given) == digits && strings.Trim(given, "0123456789") == ""
}
