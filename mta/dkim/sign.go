package dkim

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"dirpost/internal/message"
)

// signedFields are signed wherever they occur (RFC 6376 §5.4.1). What changes
// on the way (Received, Return-Path) is not among them.
var signedFields = []string{
	"from", "to", "cc", "subject", "date", "reply-to", "message-id", "mime-version", "content-type",
	"sender", "in-reply-to", "references", "content-transfer-encoding",
	"resent-from", "resent-to", "resent-cc", "resent-date", "resent-message-id",
	"list-id", "list-help", "list-unsubscribe", "list-unsubscribe-post", "list-subscribe", "list-post", "list-owner", "list-archive",
}

// overSigned is how many of signedFields are signed once more than they occur:
// what readers see, and what says how they see it.
const overSigned = 9

// sign returns a DKIM-Signature field over header and body hash by key.
func sign(key *signingKey, header message.Header, body [sha256.Size]byte, now time.Time) ([]byte, error) {
	return signFields(key, header, signedNames(header), body, now)
}

// signFields is sign over the fields of these names: the value of h=.
func signFields(key *signingKey, header message.Header, names []string, body [sha256.Size]byte, now time.Time) ([]byte, error) {
	data := signedData(header, names)
	field := "DKIM-Signature: v=1; a=" + string(key.algorithm) + "; c=relaxed/relaxed;\r\n" +
		"\td=" + key.domain + "; s=" + key.selector + "; t=" + strconv.FormatInt(now.Unix(), 10) + ";\r\n" +
		wrap("\th=", strings.Join(names, ":"), ':') + ";\r\n" +
		"\tbh=" + base64.StdEncoding.EncodeToString(body[:]) + ";\r\n\tb="
	// RFC 6376 §3.7: the field itself is signed last, with an empty b= and
	// without its line end.
	data = relaxedField(data, message.Field{Name: "DKIM-Signature", Raw: []byte(field)})
	digest := sha256.Sum256(data)
	hash := crypto.SHA256
	if key.algorithm == Ed25519 {
		hash = 0 // RFC 8463 §3: the digest is signed as a message
	}
	sig, err := key.private.Sign(rand.Reader, digest[:], hash)
	if err != nil {
		return nil, fmt.Errorf("sign with %s._domainkey.%s: %w", key.selector, key.domain, err)
	}
	return []byte(field + strings.TrimPrefix(wrap("\tb=", base64.StdEncoding.EncodeToString(sig), 0), "\tb=") + "\r\n"), nil
}

// byName returns the fields of a header by their name in lower case, each from
// the top.
func byName(header message.Header) map[string][]message.Field {
	all := make(map[string][]message.Field)
	for f := range header.Fields() {
		name := strings.ToLower(f.Name)
		all[name] = append(all[name], f)
	}
	return all
}

// signedNames returns the names of the fields of a header that are signed.
func signedNames(header message.Header) (names []string) {
	fields := byName(header)
	for i, name := range signedFields {
		n := len(fields[name])
		if i < overSigned {
			n++
		}
		for range n {
			names = append(names, name)
		}
	}
	return names
}

// signedData returns the canonical text of the fields of these names. Fields of
// one name are taken from the bottom, and a name without one that is left stands
// for none, as verifiers do it (RFC 6376 §5.4.2).
func signedData(header message.Header, names []string) []byte {
	fields := byName(header)
	data := make([]byte, 0, 2048)
	for _, name := range names {
		if left := fields[name]; len(left) > 0 {
			data = append(relaxedField(data, left[len(left)-1]), '\r', '\n')
			fields[name] = left[:len(left)-1]
		}
	}
	return data
}

// wrap breaks text into lines of at most 76 characters behind the separator,
// or anywhere if there is none.
func wrap(prefix, text string, separator byte) string {
	var b strings.Builder
	b.WriteString(prefix)
	column := len(prefix) + 7 // a tab is eight
	for text != "" {
		n := 1
		if separator != 0 {
			if n = strings.IndexByte(text, separator) + 1; n == 0 {
				n = len(text)
			}
		}
		if column+n > 76 {
			b.WriteString("\r\n\t ")
			column = 9
		}
		b.WriteString(text[:n])
		text, column = text[n:], column+n
	}
	return b.String()
}
