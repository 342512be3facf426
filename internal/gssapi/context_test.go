package gssapi

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// pair is the two ends of a context.
func pair(t testing.TB, etype int32, subkeyed bool) (initiator, acceptor *Context) {
	t.Helper()
	key := types.EncryptionKey{KeyType: etype, KeyValue: bytes.Repeat([]byte{7}, keySizes[etype])}
	i, err := newContext(key, subkeyed, 1000, 2000)
	if err != nil {
		t.Fatal(err)
	}
	a, err := newContext(key, subkeyed, 2000, 1000)
	if err != nil {
		t.Fatal(err)
	}
	a.acceptor = true
	return i, a
}

// rotate turns the data of a token to the right, as RFC 4121 §4.2.5 lets a sender
// do and Windows and Samba do.
func rotate(token []byte, by int) []byte {
	out := bytes.Clone(token)
	binary.BigEndian.PutUint16(out[6:], uint16(by))
	data := token[headerSize:]
	at := len(data) - by%len(data)
	copy(out[headerSize:], concat(data[at:], data[:at]))
	return out
}

func TestWrap(t *testing.T) {
	t.Parallel()
	for etype := range keySizes {
		for _, subkeyed := range []bool{false, true} {
			i, a := pair(t, etype, subkeyed)
			for n, p := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("0123456789abcdef"), 5000)} {
				token, err := i.Seal(p)
				if err != nil {
					t.Fatal(err)
				}
				if len(token) > len(p)+Overhead {
					t.Errorf("type %d: %d octets more, want at most %d", etype, len(token)-len(p), Overhead)
				}
				if got, sealed, err := a.Open(rotate(token, 28*n)); err != nil || !sealed || !bytes.Equal(got, p) {
					t.Errorf("type %d, sealed %d octets: %d octets, %v", etype, len(p), len(got), err)
				}
				if token, err = a.Sign(p); err != nil {
					t.Fatal(err)
				}
				if got, sealed, err := i.Open(rotate(token, 12*n)); err != nil || sealed || !bytes.Equal(got, p) {
					t.Errorf("type %d, signed %d octets: %d octets, %v", etype, len(p), len(got), err)
				}
			}
		}
	}
}

// TestOpenRefuses: whatever somebody underway does to a token is seen.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	change := func(at int, x byte) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= x; return b }
	}
	tests := []struct {
		name   string
		change func([]byte) []byte
		want   string
	}{
		{"empty", func([]byte) []byte { return nil }, "not a wrap token"},
		{"header alone", func(b []byte) []byte { return b[:headerSize] }, ""},
		{"cut off", func(b []byte) []byte { return b[:len(b)-1] }, ""},
		{"longer", func(b []byte) []byte { return append(b, 0) }, ""},
		{"another type", change(0, 1), "not a wrap token"},
		{"our own", change(2, wrapSentByAcceptor), "sent back"},
		{"another key", change(2, wrapAcceptorSubkey), "another key"},
		{"not sealed any more", change(2, wrapSealed), ""},
		{"extra count", change(5, 1), ""},
		{"rotation", change(7, 1), ""},
		{"number", change(15, 1), "out of order"},
		{"data", change(20, 1), ""},
		{"checksum", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, ""},
	}
	for _, tt := range tests {
		i, a := pair(t, 18, true)
		token, err := a.Seal([]byte("a message"))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := i.Open(tt.change(bytes.Clone(token))); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		// What was refused counts for nothing; the token itself counts once.
		if _, _, err := i.Open(token); err != nil {
			t.Errorf("%s: the right token afterwards: %v", tt.name, err)
		}
		if _, _, err := i.Open(token); err == nil {
			t.Errorf("%s: the right token twice", tt.name)
		}
	}
}

// answer makes the server's answer to x.
func answer(t testing.TB, x *Exchange, key types.EncryptionKey, change func(*messages.EncAPRepPart)) []byte {
	t.Helper()
	part := messages.EncAPRepPart{CTime: x.auth.CTime, Cusec: x.auth.Cusec, SequenceNumber: 5}
	change(&part)
	plain, err := asn1.Marshal(part)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := crypto.GetEncryptedData(asn1tools.AddASNAppTag(plain, asnAppTag.EncAPRepPart), key, keyusage.AP_REP_ENCPART, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := asn1.Marshal(messages.APRep{PVNO: 5, MsgType: msgtype.KRB_AP_REP, EncPart: sealed})
	if err != nil {
		t.Fatal(err)
	}
	return frame(tokenAPRep, asn1tools.AddASNAppTag(b, asnAppTag.APREP))
}

// exchange begins a context with a session key of our own.
func exchange(t testing.TB) *Exchange {
	t.Helper()
	auth, err := types.NewAuthenticator("CORP.EXAMPLE", types.PrincipalName{NameString: []string{"svc-mail"}})
	if err != nil {
		t.Fatal(err)
	}
	auth.CTime = auth.CTime.Truncate(1e9)
	if err := auth.GenerateSeqNumberAndSubKey(18, 32); err != nil {
		t.Fatal(err)
	}
	return &Exchange{session: types.EncryptionKey{KeyType: 18, KeyValue: bytes.Repeat([]byte{1}, 32)}, auth: auth}
}

// TestComplete: only who could open the ticket may answer, and only to it (RFC
// 4120 §3.2.5).
func TestComplete(t *testing.T) {
	t.Parallel()
	x := exchange(t)
	same := func(*messages.EncAPRepPart) {}
	if c, err := x.Complete(answer(t, x, x.session, same)); err != nil || c.receive != 5 || c.subkeyed {
		t.Errorf("right answer: %v", err)
	}
	subkey := types.EncryptionKey{KeyType: 17, KeyValue: bytes.Repeat([]byte{2}, 16)}
	if c, err := x.Complete(answer(t, x, x.session, func(p *messages.EncAPRepPart) { p.Subkey = subkey })); err != nil || !c.subkeyed {
		t.Errorf("with a key of the server: %v", err)
	}
	other := types.EncryptionKey{KeyType: 18, KeyValue: bytes.Repeat([]byte{9}, 32)}
	for name, token := range map[string][]byte{
		"nothing":             nil,
		"not a token":         []byte("hello"),
		"our own token":       frame(tokenAPReq, []byte{1, 2, 3}),
		"another mechanism":   asn1tools.AddASNAppTag([]byte{6, 1, 1, 2, 0}, 0),
		"who has another key": answer(t, x, other, same),
		"to another ticket":   answer(t, x, x.session, func(p *messages.EncAPRepPart) { p.Cusec++ }),
		"to an older ticket":  answer(t, x, x.session, func(p *messages.EncAPRepPart) { p.CTime = p.CTime.Add(-1e9) }),
		"RC4": answer(t, x, x.session, func(p *messages.EncAPRepPart) {
			p.Subkey = types.EncryptionKey{KeyType: 23, KeyValue: make([]byte, 16)}
		}),
	} {
		if _, err := x.Complete(token); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzOpen: no token breaks the reader, and none that it did not get from its
// peer is taken.
func FuzzOpen(f *testing.F) {
	i, a := pair(f, 18, false)
	sealed, err := a.Seal([]byte("sealed"))
	if err != nil {
		f.Fatal(err)
	}
	a.send = 2000
	signed, err := a.Sign([]byte("signed"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add(signed)
	f.Add(rotate(sealed, 28))
	f.Add(sealed[:headerSize])
	f.Add(sealed[:headerSize+20])
	f.Fuzz(func(t *testing.T, token []byte) {
		c := *i
		p, _, err := c.Open(token)
		if err == nil && string(p) != "sealed" && string(p) != "signed" {
			t.Errorf("took %q", p)
		}
	})
}

// FuzzReply: no answer of a KDC or a server breaks us, and none that was made
// without the key is taken.
func FuzzReply(f *testing.F) {
	x := exchange(f)
	f.Add(answer(f, x, types.EncryptionKey{KeyType: 18, KeyValue: bytes.Repeat([]byte{9}, 32)}, func(*messages.EncAPRepPart) {}))
	short, err := asn1.Marshal(messages.APRep{PVNO: 5, MsgType: msgtype.KRB_AP_REP, EncPart: types.EncryptedData{EType: 18, Cipher: []byte{1}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(frame(tokenAPRep, asn1tools.AddASNAppTag(short, asnAppTag.APREP)))
	rep := messages.ASRep{KDCRepFields: messages.KDCRepFields{PVNO: 5, MsgType: msgtype.KRB_AS_REP, CRealm: "R",
		CName:   types.PrincipalName{NameString: []string{"a"}},
		Ticket:  messages.Ticket{TktVNO: 5, Realm: "R", SName: types.PrincipalName{NameString: []string{"krbtgt", "R"}}, EncPart: types.EncryptedData{EType: 18, Cipher: []byte{1}}},
		EncPart: types.EncryptedData{EType: 18, Cipher: []byte{2}}}}
	b, err := rep.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	refused := messages.NewKRBError(types.PrincipalName{NameString: []string{"krbtgt"}}, "R", 37, "skew")
	if b, err = refused.Marshal(); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	i, err := NewInitiator(Account{Principal: "MAIL$", Realm: "CORP.EXAMPLE", Keytab: keytabOf(entryOf("MAIL$", 1, 18, 32)), KDCs: []string{"x"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = i.refusal(b)
		if _, err := x.Complete(b); err == nil {
			t.Error("took the answer of who has no key")
		}
		var as messages.ASRep
		if as.Unmarshal(b) == nil {
			if _, err := i.open(as.KDCRepFields, messages.KDCReqBody{Realm: "R"}, i.key.key, keyusage.AS_REP_ENCPART); err == nil {
				t.Error("took a ticket of who has no key")
			}
		}
		var tgs messages.TGSRep
		if tgs.Unmarshal(b) == nil {
			if _, err := i.open(tgs.KDCRepFields, messages.KDCReqBody{Realm: "R"}, i.key.key, keyusage.TGS_REP_ENCPART_SESSION_KEY); err == nil {
				t.Error("took a ticket of who has no key")
			}
		}
	})
}
