package gssapi

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/types"
)

// A keyEntry is one key of a keytab.
type keyEntry struct {
	realm      string
	components []string
	kvno       uint32
	key        types.EncryptionKey
}

func (e keyEntry) principal() string { return strings.Join(e.components, "/") + "@" + e.realm }

// CheckKeytab reports whether keytab has a key that can be used for principal,
// without the realm, in realm.
func CheckKeytab(keytab []byte, principal, realm string) error {
	_, err := findKey(keytab, principal, realm)
	return err
}

// findKey returns the key with the highest number, and the strongest of these.
// Names are compared without regard to case, as Active Directory does.
func findKey(keytab []byte, principal, realm string) (keyEntry, error) {
	entries, err := parseKeytab(keytab)
	if err != nil {
		return keyEntry{}, err
	}
	var best keyEntry
	var seen []string
	weak := false
	for _, e := range entries {
		if !strings.EqualFold(e.principal(), principal+"@"+realm) {
			seen = append(seen, e.principal())
			continue
		}
		if !isUsable(e.key) || !slices.Contains(aes, e.key.KeyType) {
			weak = true
			continue
		}
		if best.components == nil || e.kvno > best.kvno || e.kvno == best.kvno && e.key.KeyType > best.key.KeyType {
			best = e
		}
	}
	switch {
	case best.components != nil:
		return best, nil
	case weak:
		return keyEntry{}, fmt.Errorf("keytab has no AES key of %s@%s", principal, realm)
	case len(seen) > 0:
		return keyEntry{}, fmt.Errorf("keytab has no key of %s@%s, but of %s", principal, realm, strings.Join(seen[:min(len(seen), 3)], ", "))
	}
	return keyEntry{}, errors.New("keytab is empty")
}

// keySizes are the encryption types that may be used, with the octets of a key. We
// ask for the first two (aes); tickets for us may be of any.
var keySizes = map[int32]int{
	etypeID.AES128_CTS_HMAC_SHA1_96:    16,
	etypeID.AES256_CTS_HMAC_SHA1_96:    32,
	etypeID.AES128_CTS_HMAC_SHA256_128: 16,
	etypeID.AES256_CTS_HMAC_SHA384_192: 32,
}

// newKey makes a key. The library makes one of 24 octets for the last type.
func newKey(etype int32) types.EncryptionKey {
	k := types.EncryptionKey{KeyType: etype, KeyValue: make([]byte, keySizes[etype])}
	_, _ = rand.Read(k.KeyValue) // never fails
	return k
}

func isUsable(k types.EncryptionKey) bool {
	size, ok := keySizes[k.KeyType]
	return ok && len(k.KeyValue) == size
}

// errKeytab never says more: what is in the file is secret.
var errKeytab = errors.New("keytab is damaged, or none")

// parseKeytab reads the format of MIT Kerberos: 5, the version, and records with
// their length in front. A negative length is a hole.
func parseKeytab(b []byte) ([]keyEntry, error) {
	if len(b) < 2 || b[0] != 5 || b[1] != 1 && b[1] != 2 {
		return nil, errKeytab
	}
	r := keytabReader{order: binary.BigEndian, old: b[1] == 1}
	if r.old { // the octet order of the machine that wrote it, in practice this
		r.order = binary.LittleEndian
	}
	b = b[2:]
	var entries []keyEntry
	for len(b) >= 4 {
		n := int64(int32(r.order.Uint32(b)))
		b = b[4:]
		if n == 0 {
			break // padding up to the end
		}
		hole := n < 0
		if hole {
			n = -n
		}
		if n > int64(len(b)) {
			return nil, errKeytab
		}
		if !hole {
			r.b, r.bad = b[:n], false
			e := r.entry()
			if r.bad {
				return nil, errKeytab
			}
			entries = append(entries, e)
		}
		b = b[n:]
	}
	return entries, nil
}

// keytabReader reads the fields of one record; bad is set when it ends early.
type keytabReader struct {
	b     []byte
	order binary.ByteOrder
	old   bool
	bad   bool
}

func (r *keytabReader) take(n int) []byte {
	if n > len(r.b) {
		r.bad = true
		return make([]byte, min(n, 4))
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *keytabReader) uint16() int    { return int(r.order.Uint16(r.take(2))) }
func (r *keytabReader) uint32() uint32 { return r.order.Uint32(r.take(4)) }
func (r *keytabReader) data() []byte   { return r.take(r.uint16()) }

func (r *keytabReader) entry() keyEntry {
	var e keyEntry
	n := r.uint16()
	if r.old {
		n-- // counts the realm
	}
	e.realm = string(r.data())
	for i := 0; i < n && !r.bad; i++ {
		e.components = append(e.components, string(r.data()))
	}
	if !r.old {
		r.take(4) // type of the name
	}
	r.take(4) // time
	e.kvno = uint32(r.take(1)[0])
	e.key.KeyType = int32(r.uint16())
	e.key.KeyValue = append([]byte(nil), r.data()...)
	if len(r.b) >= 4 { // larger numbers stand at the end
		if kvno := r.uint32(); kvno != 0 {
			e.kvno = kvno
		}
	}
	r.bad = r.bad || n < 1
	return e
}
