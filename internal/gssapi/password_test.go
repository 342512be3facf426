package gssapi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"dirpost/internal/testenv"
)

// TestPassword: a real KDC takes a password, with the salt that it tells.
func TestPassword(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	try := func(name, password string) error {
		i := initiator(t, s, func(a *Account) {
			a.Principal, a.Realm, a.Keytab, a.Password = name, strings.ToLower(s.Realm), nil, password
		})
		_, err := i.Initiate(t.Context(), "ldap", s.Host, "corp.example")
		return err
	}
	if err := try("Administrator", s.AdminPassword); err != nil {
		t.Error(err)
	}
	for name, tt := range map[string]struct {
		who, want string
		code      int32
		tried     bool
	}{
		"wrong":   {"svc-mail", "the password is wrong", CodePassword, true},
		"unknown": {"nobody", "correct principal or realm", CodeUnknownClient, false},
	} {
		err := try(tt.who, "wrong")
		refused, ok := errors.AsType[*RefusedError](err)
		if !ok || refused.Code != tt.code || refused.Tried != tt.tried || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	salt, err := Salt(t.Context(), Account{Principal: "alice", Realm: s.Realm, KDCs: []string{s.Address + ":88"}})
	if err != nil || salt != "CORP.EXAMPLEalice" {
		t.Errorf("salt %q, %v", salt, err)
	}
}

// TestChooseDerivation: what a KDC says of the making of a key is not
// authenticated, so it can neither make it cheap nor take our time.
func TestChooseDerivation(t *testing.T) {
	t.Parallel()
	i, err := NewInitiator(Account{Principal: "alice", Realm: "corp.example", Password: "x", KDCs: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	rounds := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	tests := []struct {
		name  string
		infos types.ETypeInfo2
		want  derivation
		err   string
	}{
		{"usual", types.ETypeInfo2{{EType: 18, Salt: "S"}, {EType: 17, Salt: "T"}}, derivation{etype: 18, salt: "S"}, ""},
		{"RC4 first", types.ETypeInfo2{{EType: 23}, {EType: 17, Salt: "T"}}, derivation{etype: 17, salt: "T"}, ""},
		{"no salt", types.ETypeInfo2{{EType: 18}}, derivation{etype: 18, salt: "CORP.EXAMPLEalice"}, ""},
		{"iterations", types.ETypeInfo2{{EType: 18, Salt: "S", S2KParams: rounds(8192)}}, derivation{etype: 18, salt: "S", params: "00002000"}, ""},
		{"too few", types.ETypeInfo2{{EType: 18, Salt: "S", S2KParams: rounds(1)}}, derivation{}, "hashed 1 times"},
		{"too many", types.ETypeInfo2{{EType: 18, Salt: "S", S2KParams: rounds(1 << 31)}}, derivation{}, "hashed 2147483648 times"},
		{"odd", types.ETypeInfo2{{EType: 18, Salt: "S", S2KParams: []byte{1}}}, derivation{}, "unknown way"},
		{"RC4 alone", types.ETypeInfo2{{EType: 23}}, derivation{}, "no AES key"},
	}
	for _, tt := range tests {
		b, err := asn1.Marshal(tt.infos)
		if err != nil {
			t.Fatal(err)
		}
		got, err := i.chooseDerivation(types.PADataSequence{{PADataType: 3}, {PADataType: 19, PADataValue: b}})
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %+v, %v, want %+v, %q", tt.name, got, err, tt.want, tt.err)
		}
	}
	if _, err := i.chooseDerivation(nil); err == nil {
		t.Error("a key made of nothing")
	}
}

// TestVerify: a ticket counts when it was made with our key, for the person, with
// the key that the KDC says is in it, and is of this time.
func TestVerify(t *testing.T) {
	t.Parallel()
	ours := entryOf("MAIL$", 3, 18, 32)
	keytab := keytabOf(entryOf("MAIL$", 2, 18, 32), ours)
	i, err := NewInitiator(Account{Principal: "alice", Realm: "CORP.EXAMPLE", Password: "x", KDCs: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	session := types.EncryptionKey{KeyType: 18, KeyValue: bytes.Repeat([]byte{1}, 32)}
	tests := []struct {
		name   string
		change func(part *messages.EncTicketPart, key *types.EncryptionKey, kvno *int)
		want   string
	}{
		{"right", func(*messages.EncTicketPart, *types.EncryptionKey, *int) {}, ""},
		{"no number", func(_ *messages.EncTicketPart, _ *types.EncryptionKey, kvno *int) { *kvno = 0 }, ""},
		{"number of a read-only DC", func(_ *messages.EncTicketPart, _ *types.EncryptionKey, kvno *int) { *kvno |= 7 << 16 }, ""},
		{"another number", func(_ *messages.EncTicketPart, _ *types.EncryptionKey, kvno *int) { *kvno = 4 }, "key number 4"},
		{"another key", func(_ *messages.EncTicketPart, key *types.EncryptionKey, _ *int) {
			key.KeyValue = bytes.Repeat([]byte{9}, 32)
		}, "forged"},
		{"another session key", func(p *messages.EncTicketPart, _ *types.EncryptionKey, _ *int) {
			p.Key.KeyValue = bytes.Repeat([]byte{2}, 32)
		}, "forged"},
		{"another person", func(p *messages.EncTicketPart, _ *types.EncryptionKey, _ *int) {
			p.CName.NameString = []string{"mallory"}
		}, "mallory@"},
		{"another realm", func(p *messages.EncTicketPart, _ *types.EncryptionKey, _ *int) { p.CRealm = "EVIL.EXAMPLE" }, "@EVIL.EXAMPLE"},
		{"old", func(p *messages.EncTicketPart, _ *types.EncryptionKey, _ *int) {
			p.EndTime = time.Now().Add(-time.Hour)
		}, "not of this time"},
		{"of tomorrow", func(p *messages.EncTicketPart, _ *types.EncryptionKey, _ *int) {
			p.StartTime = time.Now().Add(24 * time.Hour)
		}, "not of this time"},
	}
	for _, tt := range tests {
		now := time.Now().UTC().Truncate(time.Second)
		part := messages.EncTicketPart{
			Flags: types.NewKrbFlags(), Key: types.EncryptionKey{KeyType: 18, KeyValue: slices.Clone(session.KeyValue)}, CRealm: "CORP.EXAMPLE",
			CName: types.PrincipalName{NameType: 1, NameString: []string{"ALICE"}}, AuthTime: now, StartTime: now, EndTime: now.Add(time.Hour), RenewTill: now,
		}
		key, kvno := types.EncryptionKey{KeyType: 18, KeyValue: slices.Clone(ours.key.KeyValue)}, 3
		tt.change(&part, &key, &kvno)
		part.StartTime, part.EndTime = part.StartTime.UTC(), part.EndTime.UTC()
		plain, err := asn1.Marshal(part)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := crypto.GetEncryptedData(asn1tools.AddASNAppTag(plain, asnAppTag.EncTicketPart), key, keyusage.KDC_REP_TICKET, kvno)
		if err != nil {
			t.Fatal(err)
		}
		p, err := i.verify(ticket{Ticket: messages.Ticket{EncPart: sealed}, key: session}, keytab)
		switch {
		case tt.want == "" && (err != nil || p.Principal != "ALICE" || p.SID != ""):
			t.Errorf("%s: %+v, %v", tt.name, p, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// statusData are the two forms in which a reason comes with a refusal.
func statusData(t testing.TB, status uint32) (windows, samba []byte) {
	t.Helper()
	value := append(binary.LittleEndian.AppendUint32(nil, status), 0, 0, 0, 0, 1, 0, 0, 0)
	windows, err := asn1.Marshal(kerbErrorData{Type: extendedError, Value: value})
	if err != nil {
		t.Fatal(err)
	}
	samba, err = asn1.Marshal(types.PADataSequence{{PADataType: 3, PADataValue: value}})
	if err != nil {
		t.Fatal(err)
	}
	return windows, samba
}

func TestStatus(t *testing.T) {
	t.Parallel()
	windows, samba := statusData(t, 0xC0000234)
	if a, b := ntStatus(windows), ntStatus(samba); a != 0xC0000234 || b != a {
		t.Errorf("%08x, %08x", a, b)
	}
}

// FuzzStatus: whatever comes with a refusal is a reason or none.
func FuzzStatus(f *testing.F) {
	windows, samba := statusData(f, 0xC0000072)
	f.Add(windows)
	f.Add(samba)
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if ntStatus(b) != 0 && len(b) < 12 {
			t.Errorf("%x says %08x", b, ntStatus(b))
		}
	})
}
