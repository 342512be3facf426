package apppassword

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"dirpost/internal/logging"
)

// The form: 16 characters of secret and 4 of check, in groups of 4.
const (
	secretSize = 16
	size       = secretSize + groupSize
	groupSize  = 4
	// maxTyped bounds what is looked at: dashes of three octets between all
	// characters are more than anybody types.
	maxTyped = 128
)

// alphabet has no i, l, o and u: what looks like a digit is read as one.
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

var encoding = base32.NewEncoding(alphabet).WithPadding(base32.NoPadding)

// generate makes a password.
func generate() logging.Secret {
	var random [secretSize * 5 / 8]byte
	rand.Read(random[:]) // never fails: it ends the process instead
	secret := encoding.EncodeToString(random[:])
	return logging.Secret(dashed(secret + check(secret)))
}

// check returns the check group of a secret. It has no key: a program that looks
// for leaked passwords may compute it, and a stranger who does has gained nothing.
func check(secret string) string {
	sum := sha256.Sum256([]byte("dirpost app password " + secret))
	return encoding.EncodeToString(sum[:])[:groupSize]
}

// dashed writes a bare password in groups.
func dashed(bare string) string {
	var b strings.Builder
	for i := 0; i < len(bare); i += groupSize {
		if i > 0 {
			b.WriteByte('-')
		}
		b.WriteString(bare[i : i+groupSize])
	}
	return b.String()
}

// Recognise reports whether what somebody typed as a password has the form of an
// app password. If so it is one, or was one, and no other system may be asked
// about it.
func Recognise(typed string) bool {
	_, ok := parse(typed)
	return ok
}

// parse returns the bare form, lower case without separators, of what somebody
// typed; ok is false for what is no app password by form and check group.
func parse(typed string) (bare string, ok bool) {
	if len(typed) > maxTyped {
		return "", false
	}
	b := make([]byte, 0, size)
	for _, r := range typed {
		c, digit := fold(r)
		switch {
		case !digit && separates(r):
			continue
		case !digit, len(b) == size:
			return "", false
		}
		b = append(b, c)
	}
	if len(b) != size || check(string(b[:secretSize])) != string(b[secretSize:]) {
		return "", false
	}
	return string(b), true
}

// fold returns the character of the alphabet that r means.
func fold(r rune) (c byte, ok bool) {
	if r >= 'A' && r <= 'Z' {
		r += 'a' - 'A'
	}
	switch r {
	case 'i', 'l':
		r = '1'
	case 'o':
		r = '0'
	}
	return byte(r), r < 0x80 && strings.ContainsRune(alphabet, r)
}

// separates reports whether r may stand between characters: spaces and dashes, and
// what telephones and text programs make of them.
func separates(r rune) bool {
	switch r {
	case ' ', '\t', '-', 0xA0, 0x202F, 0x2212:
		return true
	}
	return r >= 0x2010 && r <= 0x2015
}
