package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// KeySize is the size of a key in octets.
const KeySize = chacha20poly1305.KeySize

// The sealed form: version, identifier of the key, nonce, ciphertext and tag.
const (
	version    = 1
	idSize     = 4
	headerSize = 1 + idSize + chacha20poly1305.NonceSizeX
)

// Errors of New and Open.
var (
	ErrKey    = errors.New("not a sealing key of 32 octets in base64")
	ErrSealed = errors.New("sealed value is damaged or belongs elsewhere")
	// ErrNoKey reports a value sealed with a key that this node does not have.
	ErrNoKey = errors.New("sealed with another key")
)

// Sealer seals and opens values. It is safe for concurrent use.
type Sealer struct{ keys []key }

type key struct {
	id   [idSize]byte
	aead cipher.AEAD
	raw  []byte
}

// New returns a Sealer. text is what stands in the key file: a key of 32 octets
// in base64 a line; the first one seals, all of them open. Empty lines and
// lines that begin with # do not count.
func New(text []byte) (*Sealer, error) {
	var s Sealer
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		raw, err := base64.StdEncoding.AppendDecode(nil, line)
		if err != nil || len(raw) != KeySize {
			return nil, ErrKey // without the cause, which would quote the key
		}
		aead, err := chacha20poly1305.NewX(raw)
		if err != nil {
			return nil, ErrKey
		}
		sum := sha256.Sum256(append([]byte("dirpost sealing key "), raw...))
		s.keys = append(s.keys, key{id: [idSize]byte(sum[:idSize]), aead: aead, raw: raw})
	}
	if len(s.keys) == 0 {
		return nil, ErrKey
	}
	return &s, nil
}

// GenerateKey returns a new key as it stands in a key file, with its line end.
func GenerateKey() []byte {
	raw := make([]byte, KeySize)
	rand.Read(raw) // never fails (crypto/rand)
	return append(base64.StdEncoding.AppendEncode(nil, raw), '\n')
}

// Seal returns value sealed for purpose, which Open must be given again.
func (s *Sealer) Seal(purpose string, value []byte) []byte {
	k := s.keys[0]
	out := make([]byte, headerSize, headerSize+len(value)+chacha20poly1305.Overhead)
	out[0] = version
	copy(out[1:], k.id[:])
	nonce := out[1+idSize:]
	rand.Read(nonce)
	return k.aead.Seal(out, nonce, value, []byte(purpose))
}

// Open returns the value that was sealed for purpose.
func (s *Sealer) Open(purpose string, sealed []byte) ([]byte, error) {
	if len(sealed) < headerSize+chacha20poly1305.Overhead || sealed[0] != version {
		return nil, ErrSealed
	}
	id := [idSize]byte(sealed[1:])
	for _, k := range s.keys {
		if k.id != id {
			continue
		}
		value, err := k.aead.Open(nil, sealed[1+idSize:headerSize], sealed[headerSize:], []byte(purpose))
		if err != nil {
			return nil, ErrSealed
		}
		return value, nil
	}
	return nil, fmt.Errorf("%w: %x", ErrNoKey, id)
}

// IsCurrent reports whether sealed was made with the first key. Where it was
// not, it should be sealed again before the old key goes.
func (s *Sealer) IsCurrent(sealed []byte) bool {
	return len(sealed) >= headerSize && sealed[0] == version && [idSize]byte(sealed[1:]) == s.keys[0].id
}

// Derive returns a key of 32 octets for purpose from each key, in the order of the
// key file (HKDF with SHA-256, RFC 5869): for hashes in the database that say
// nothing to who has not the file. What is made with the first is found with all.
func (s *Sealer) Derive(purpose string) [][]byte {
	keys := make([][]byte, len(s.keys))
	for i, k := range s.keys {
		// It fails for lengths beyond those of the hash alone.
		keys[i], _ = hkdf.Key(sha256.New, k.raw, nil, "dirpost "+purpose, sha256.Size)
	}
	return keys
}
