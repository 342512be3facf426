package apppassword

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"time"
)

// keySize is the size of keys in octets, that of SHA-256.
const keySize = sha256.Size

// Factors are what all app passwords have in common, and what every exchange of SCRAM
// begins with.
type Factors struct {
	Salt       []byte
	Iterations int
}

// Candidate is one app password of a person in one spelling.
type Candidate struct {
	Password  *Password
	StoredKey []byte // RFC 5802 §3
	ServerKey []byte
}

// spelling are the keys of one way to type a password.
type spelling struct{ stored, server []byte }

// derive computes the keys for a password as typed (RFC 5802 §3). It is ASCII, so
// preparing it by SASLprep changes nothing.
func derive(typed string, f *Factors) (spelling, error) {
	salted, err := pbkdf2.Key(sha256.New, typed, f.Salt, f.Iterations, keySize)
	if err != nil { // only in FIPS mode, for salts that are too short
		return spelling{}, err
	}
	client := mac(salted, "Client Key")
	stored := sha256.Sum256(client)
	return spelling{stored[:], mac(salted, "Server Key")}, nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// record is what the database says about one person, as the memory of a Store
// keeps it.
type record struct {
	passwords []password
	until     time.Time // then it is read again
}

// password is one of them.
type password struct {
	Password
	dashed, bare spelling
}

// live returns the passwords that have not expired.
func (r *record) live(now time.Time) []password {
	return slices.DeleteFunc(slices.Clone(r.passwords), func(p password) bool { return p.Expired(now) })
}

// find returns the password whose bare spelling has these keys.
func (r *record) find(k spelling, now time.Time) (*Password, bool) {
	var found *Password
	for _, p := range r.live(now) {
		if subtle.ConstantTimeCompare(p.bare.stored, k.stored) == 1 {
			found = &p.Password
		}
	}
	return found, found != nil
}
