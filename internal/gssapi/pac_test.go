package gssapi

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/types"
)

// makePAC writes a certificate as a KDC of Active Directory does.
func makePAC(t testing.TB, key types.EncryptionKey, name, sid string, authTime time.Time) []byte {
	t.Helper()
	info := binary.LittleEndian.AppendUint64(nil, uint64(toFileTime(authTime)))
	wide := utf16LE(name)
	info = append(binary.LittleEndian.AppendUint16(info, uint16(len(wide))), wide...)
	want, size := signatureType(key.KeyType)
	signature := append(binary.LittleEndian.AppendUint32(nil, uint32(want)), make([]byte, size)...)
	buffers := []struct {
		kind uint32
		b    []byte
	}{{pacLogonInfo, makeLogon(name, sid)}, {pacClientInfo, info}, {pacServerSignature, signature}, {pacKDCSignature, signature}}
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(buffers)))
	at := 8 + 16*len(buffers)
	var data []byte
	var server int
	for _, x := range buffers {
		if x.kind == pacServerSignature {
			server = at + len(data) + 4
		}
		b = binary.LittleEndian.AppendUint32(b, x.kind)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(x.b)))
		b = binary.LittleEndian.AppendUint64(b, uint64(at+len(data)))
		data = append(data, x.b...)
		data = append(data, make([]byte, -len(x.b)&7)...)
	}
	b = append(b, data...)
	e, err := crypto.GetEtype(key.KeyType)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := e.GetChecksumHash(key.KeyValue, b, keyusage.KERB_NON_KERB_CKSUM_SALT)
	if err != nil {
		t.Fatal(err)
	}
	copy(b[server:], sum)
	return b
}

func utf16LE(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// makeLogon writes KERB_VALIDATION_INFO with two strings, two groups and a SID.
func makeLogon(name, sid string) []byte {
	parts := strings.Split(sid, "-")[3:]
	rid, _ := strconv.ParseUint(parts[len(parts)-1], 10, 32)
	s := make([]byte, 216)
	put := func(at int, v uint32) { binary.LittleEndian.PutUint32(s[at:], v) }
	put(52, 0x20004) // EffectiveName
	put(60, 0x20008) // FullName
	put(100, uint32(rid))
	put(108, 2)
	put(112, 0x2000c)
	put(148, 0x20010) // LogonDomainName
	put(152, 0x20014)
	b := append([]byte{1, 0x10, 8, 0, 0xcc, 0xcc, 0xcc, 0xcc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0}, s...)
	word := func(v uint32) { b = binary.LittleEndian.AppendUint32(b, v) }
	text := func(v string) {
		n := uint32(len(utf16.Encode([]rune(v))))
		word(n)
		word(0)
		word(n)
		b = append(b, utf16LE(v)...)
		b = append(b, make([]byte, n%2*2)...)
	}
	text(name)
	text("王伟 of Corp") // an odd number of units
	word(2)
	b = append(b, make([]byte, 16)...)
	text("CORP")
	word(uint32(len(parts) - 1))
	b = append(b, 1, byte(len(parts)-1), 0, 0, 0, 0, 0, 5)
	for _, p := range parts[:len(parts)-1] {
		v, _ := strconv.ParseUint(p, 10, 32)
		word(uint32(v))
	}
	return b
}

// swapSID makes the certificate of alice one of somebody else.
func swapSID(t testing.TB, b []byte) []byte {
	t.Helper()
	rid := binary.LittleEndian.AppendUint32(nil, 1105)
	i := bytes.Index(b, rid)
	if i < 0 {
		t.Fatal("the certificate does not have the number")
	}
	b[i]++
	return b
}

// TestReadPAC: what no KDC of ours has signed says nothing, and what is cut off is
// refused.
func TestReadPAC(t *testing.T) {
	t.Parallel()
	key, now := mailKey().key, time.Now().UTC().Truncate(time.Second)
	good := makePAC(t, key, "alice", sidOfAlice, now)
	if sid, err := readPAC(good, key, now); err != nil || sid != sidOfAlice {
		t.Fatalf("%q, %v", sid, err)
	}
	for n := range good {
		if _, err := readPAC(good[:n], key, now); err == nil {
			t.Fatalf("the first %d octets are taken", n)
		}
		bad := bytes.Clone(good)
		bad[n] ^= 0x40
		// The signature of the KDC is not for us.
		if sid, err := readPAC(bad, key, now); err == nil && sid != sidOfAlice {
			t.Fatalf("octet %d may be changed, to %q", n, sid)
		}
	}
	logon := makeLogon("alice", sidOfAlice)
	for n := range logon {
		if sid, err := logonSID(logon[:n]); err == nil {
			t.Fatalf("the first %d octets of the account say %q", n, sid)
		}
	}
}

// FuzzPAC: no certificate breaks the reader.
func FuzzPAC(f *testing.F) {
	key, now := mailKey().key, time.Unix(1700000000, 0)
	good := makePAC(f, key, "alice", sidOfAlice, now)
	f.Add(good)
	f.Add(good[:40])
	f.Add(append(binary.LittleEndian.AppendUint64(nil, 1), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))
	f.Add(makeLogon("", "S-1-5-21-1-2-3-4"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if sid, err := readPAC(b, key, now); err == nil && sid != "" && sid != sidOfAlice {
			t.Errorf("%q", sid)
		}
		if sid, err := logonSID(b); err == nil && sid != "" && !strings.HasPrefix(sid, "S-1-") {
			t.Errorf("%q", sid)
		}
	})
}
