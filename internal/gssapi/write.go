package gssapi

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A KeytabEntry says for what a keytab has a key, and nothing of the key.
type KeytabEntry struct {
	Principal string // without realm
	Realm     string
	KVNO      uint32
	Etype     int32 // encryption type, RFC 3961 §8
	Usable    bool  // AES, and as long as it should be
}

// ReadKeytab lists what is in a keytab.
func ReadKeytab(keytab []byte) ([]KeytabEntry, error) {
	entries, err := parseKeytab(keytab)
	if err != nil {
		return nil, err
	}
	all := make([]KeytabEntry, 0, len(entries))
	for _, e := range entries {
		all = append(all, KeytabEntry{Principal: strings.Join(e.components, "/"), Realm: e.realm, KVNO: e.kvno, Etype: e.key.KeyType, Usable: isUsable(e.key)})
	}
	return all, nil
}

// MakeKeytab returns a keytab with the AES keys of an account: its own name and
// its services have the same ones, made of its password and the salt that the KDC
// told ([Salt]). at is when the password was set; some readers take the newest key
// and not that with the highest number.
func MakeKeytab(realm string, principals []string, password, salt string, kvno uint32, at time.Time) ([]byte, error) {
	b := []byte{5, 2}
	for _, etype := range aes {
		key, err := derivation{etype: etype, salt: salt}.key(password)
		if err != nil {
			return nil, err
		}
		for _, p := range principals {
			b = appendEntry(b, keyEntry{realm: realm, components: strings.Split(p, "/"), kvno: kvno, key: key}, at)
		}
	}
	return b, nil
}

// JoinKeytabs returns one keytab with the keys of all.
func JoinKeytabs(all ...[]byte) ([]byte, error) {
	out := []byte{5, 2}
	for _, k := range all {
		if _, err := parseKeytab(k); err != nil {
			return nil, err
		}
		if k[1] != 2 {
			return nil, fmt.Errorf("keytab of version %d cannot be joined with others", k[1])
		}
		k = k[2:]
		for len(k) >= 4 { // what parseKeytab has seen
			n := int64(int32(binary.BigEndian.Uint32(k)))
			if n == 0 {
				break
			}
			size := 4 + max(n, -n)
			if n > 0 {
				out = append(out, k[:size]...)
			}
			k = k[size:]
		}
	}
	return out, nil
}

// The types of a name in a keytab, RFC 4120 §6.2.
const (
	namePrincipal = 1
	nameService   = 3 // with a host
)

// appendEntry writes one record of version 2, as MIT Kerberos does.
func appendEntry(b []byte, e keyEntry, at time.Time) []byte {
	data := func(to []byte, s []byte) []byte {
		return append(binary.BigEndian.AppendUint16(to, uint16(len(s))), s...)
	}
	r := binary.BigEndian.AppendUint16(nil, uint16(len(e.components)))
	r = data(r, []byte(e.realm))
	for _, c := range e.components {
		r = data(r, []byte(c))
	}
	kind := uint32(namePrincipal)
	if len(e.components) > 1 {
		kind = nameService
	}
	r = binary.BigEndian.AppendUint32(r, kind)
	r = binary.BigEndian.AppendUint32(r, uint32(at.Unix()))
	r = append(r, byte(e.kvno))
	r = binary.BigEndian.AppendUint16(r, uint16(e.key.KeyType))
	r = data(r, e.key.KeyValue)
	r = binary.BigEndian.AppendUint32(r, e.kvno) // above 255 the octet is not enough
	return slices.Concat(b, binary.BigEndian.AppendUint32(nil, uint32(len(r))), r)
}
