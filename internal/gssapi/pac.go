package gssapi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/adtype"
	"github.com/jcmturner/gokrb5/v8/iana/chksumtype"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// certifiedSID reads the SID of the account from the privilege attribute certificate
// in a ticket ([MS-PAC]), which the KDC has signed with our key. "" is a ticket
// without one. Clients may put what they like into a ticket beside what the KDC puts
// there, so the first certificate must be a good one.
func certifiedSID(part messages.EncTicketPart, key types.EncryptionKey) (string, error) {
	for _, ad := range part.AuthorizationData {
		if ad.ADType != adtype.ADIfRelevant {
			continue
		}
		var inner types.AuthorizationData
		if err := inner.Unmarshal(ad.ADData); err != nil {
			return "", fmt.Errorf("what the ticket says of the account: %w", err)
		}
		for _, ad := range inner {
			if ad.ADType != adtype.ADWin2KPAC {
				continue
			}
			sid, err := readPAC(ad.ADData, key, part.AuthTime)
			if err != nil {
				return "", fmt.Errorf("certificate of the account in the ticket: %w", err)
			}
			return sid, nil
		}
	}
	return "", nil
}

// Types of the buffers of a PAC, [MS-PAC] §2.4.
const (
	pacLogonInfo       = 1
	pacServerSignature = 6
	pacKDCSignature    = 7
	pacClientInfo      = 10
)

// maxPACBuffers is far above the dozen that there are.
const maxPACBuffers = 64

var errPAC = errors.New("is damaged")

// readPAC checks the signature of the KDC, and that the certificate belongs to the
// ticket, and returns the SID of the account; "" where the certificate does not say
// it, as those of MIT Kerberos.
func readPAC(b []byte, key types.EncryptionKey, authTime time.Time) (string, error) {
	buffers, unsigned, err := splitPAC(b)
	if err != nil {
		return "", err
	}
	signature := buffers[pacServerSignature]
	want, size := signatureType(key.KeyType)
	if len(signature) < 4+size || int32(binary.LittleEndian.Uint32(signature)) != want {
		return "", errors.New("is not signed with our key")
	}
	e, err := crypto.GetEtype(key.KeyType)
	if err != nil {
		return "", err
	}
	if !e.VerifyChecksum(key.KeyValue, unsigned, signature[4:4+size], keyusage.KERB_NON_KERB_CKSUM_SALT) {
		return "", errors.New("is not signed with our key")
	}
	info := buffers[pacClientInfo] // [MS-PAC] §2.7: time of authentication, name
	if len(info) < 10 {
		return "", errPAC
	}
	if at := int64(binary.LittleEndian.Uint64(info)); at != toFileTime(authTime) {
		return "", errors.New("is that of another ticket")
	}
	logon, ok := buffers[pacLogonInfo]
	if !ok {
		return "", nil
	}
	return logonSID(logon)
}

// signatureType is the checksum that goes with a type of key, and how many octets it
// has.
func signatureType(etype int32) (sum int32, size int) {
	switch etype {
	case etypeID.AES128_CTS_HMAC_SHA1_96:
		return chksumtype.HMAC_SHA1_96_AES128, 12
	case etypeID.AES128_CTS_HMAC_SHA256_128:
		return chksumtype.HMAC_SHA256_128_AES128, 16
	case etypeID.AES256_CTS_HMAC_SHA384_192:
		return chksumtype.HMAC_SHA384_192_AES256, 24
	}
	return chksumtype.HMAC_SHA1_96_AES256, 12
}

// signatureSize is how many octets of a signature there are behind its type; an
// identifier of a read-only controller may follow, which is signed too.
func signatureSize(sum int32) uint64 {
	switch sum {
	case chksumtype.HMAC_SHA1_96_AES128, chksumtype.HMAC_SHA1_96_AES256:
		return 12
	case chksumtype.HMAC_SHA384_192_AES256:
		return 24
	}
	return 16 // HMAC-MD5, SHA-256
}

// toFileTime is t in tenths of a microsecond since 1601.
func toFileTime(t time.Time) int64 {
	const secondsTo1970 = 11644473600
	return (t.Unix() + secondsTo1970) * 1e7
}

// splitPAC returns the buffers of a PAC by type, the first of each, and what is
// signed: all of it with zeros for the signatures ([MS-PAC] §2.8.1).
func splitPAC(b []byte) (buffers map[uint32][]byte, unsigned []byte, err error) {
	if len(b) < 8 || binary.LittleEndian.Uint32(b[4:]) != 0 {
		return nil, nil, errPAC
	}
	n := binary.LittleEndian.Uint32(b)
	if n > maxPACBuffers || len(b) < 8+16*int(n) {
		return nil, nil, errPAC
	}
	buffers, unsigned = make(map[uint32][]byte, n), append([]byte(nil), b...)
	for i := range int(n) {
		h := b[8+16*i:]
		kind, size, at := binary.LittleEndian.Uint32(h), uint64(binary.LittleEndian.Uint32(h[4:])), binary.LittleEndian.Uint64(h[8:])
		if at > uint64(len(b)) || size > uint64(len(b))-at {
			return nil, nil, errPAC
		}
		if _, ok := buffers[kind]; ok {
			continue
		}
		buffers[kind] = b[at : at+size]
		if (kind == pacServerSignature || kind == pacKDCSignature) && size > 4 {
			length := signatureSize(int32(binary.LittleEndian.Uint32(b[at:])))
			clear(unsigned[at+4 : at+min(size, 4+length)])
		}
	}
	return buffers, unsigned, nil
}

// logonSID reads the SID of the account from KERB_VALIDATION_INFO ([MS-PAC] §2.5), as
// NDR writes it ([C706] §14): headers, the structure with pointers in it, and then
// what they point to, in order.
func logonSID(b []byte) (string, error) {
	const (
		headers   = 20  // of the type, of the structure, and the pointer to it
		structure = 216 // octets
		strings1  = 48  // EffectiveName and five others
		userID    = 100
		groups    = 108 // count, pointer
		strings2  = 136 // LogonServer, LogonDomainName
		domainSID = 152 // pointer
	)
	if len(b) < headers+structure || b[0] != 1 || b[1] != 0x10 { // version 1, little-endian
		return "", errPAC
	}
	info := b[headers : headers+structure]
	r := ndr{b: b[headers+structure:]}
	word := func(at int) uint32 { return binary.LittleEndian.Uint32(info[at:]) }
	for i := range 6 {
		r.text(word(strings1 + 8*i + 4))
	}
	if word(groups+4) != 0 {
		r.skip(uint64(r.uint32()) * 8)
	}
	for i := range 2 {
		r.text(word(strings2 + 8*i + 4))
	}
	if word(domainSID) == 0 {
		return "", nil
	}
	sid := r.sid()
	if r.bad {
		return "", errPAC
	}
	if word(userID) == 0 { // [MS-PAC] §2.5: an account of a domain that has no such numbers
		return "", nil
	}
	return fmt.Sprintf("%s-%d", sid, word(userID)), nil
}

// ndr reads what pointers point to; bad is set when it ends early.
type ndr struct {
	b   []byte
	bad bool
}

func (r *ndr) skip(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *ndr) uint32() uint32 {
	if v := r.skip(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

// text passes over a string that pointer points to: size, offset, length in UTF-16,
// and filler up to a word.
func (r *ndr) text(pointer uint32) {
	if pointer == 0 {
		return
	}
	r.uint32()
	r.uint32()
	r.skip((uint64(r.uint32())*2 + 3) &^ 3)
}

// sid reads a security identifier ([MS-DTYP] §2.4.2.3), before which stands how many
// numbers it has.
func (r *ndr) sid() string {
	n := r.uint32()
	h := r.skip(8)
	if n > 15 || len(h) < 8 || h[0] != 1 || uint32(h[1]) != n {
		r.bad = true
		return ""
	}
	var s strings.Builder
	fmt.Fprintf(&s, "S-1-%d", uint64(binary.BigEndian.Uint16(h[2:]))<<32|uint64(binary.BigEndian.Uint32(h[4:])))
	for range n {
		fmt.Fprintf(&s, "-%d", r.uint32())
	}
	return s.String()
}
