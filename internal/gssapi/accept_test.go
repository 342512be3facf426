package gssapi

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/adtype"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// sidOfAlice is what the tickets of these tests certify.
const sidOfAlice = "S-1-5-21-1004336348-1177238915-682003330-1105"

// issue is what a KDC is asked for, and what it and the client do wrong.
type issue struct {
	key     keyEntry // of the service
	kvno    int      // 0: that of key
	service string
	realm   string // of the ticket
	client  string
	home    string // realm of the client
	sid     string // "" for a ticket without a certificate
	wants   uint32
	binding []byte
	ticket  func(*messages.EncTicketPart)
	pac     func([]byte) []byte
	auth    func(*types.Authenticator)
	token   func(*messages.APReq)
	now     time.Time     // of the KDC
	ago     time.Duration // when the client made its token
}

// mailKey is the key of our account.
func mailKey() keyEntry {
	e := entryOf("imap/mail.corp.example", 7, 18, 32)
	e.key.KeyValue = bytes.Repeat([]byte{3}, 32)
	return e
}

func newIssue() issue {
	return issue{now: time.Now().UTC().Truncate(time.Second), key: mailKey(), service: "imap/mail.corp.example", realm: "CORP.EXAMPLE", client: "alice", home: "CORP.EXAMPLE", sid: sidOfAlice, wants: contextFlags}
}

// make plays the KDC and the client.
func (r issue) make(t testing.TB) *Exchange {
	t.Helper()
	now := r.now
	cname := types.PrincipalName{NameType: nametype.KRB_NT_PRINCIPAL, NameString: strings.Split(r.client, "/")}
	session := types.EncryptionKey{KeyType: r.key.key.KeyType, KeyValue: bytes.Repeat([]byte{5}, len(r.key.key.KeyValue))}
	part := messages.EncTicketPart{
		Flags: types.NewKrbFlags(), Key: session, CRealm: r.home, CName: cname, Transited: messages.TransitedEncoding{TRType: 1},
		AuthTime: now.Add(-time.Minute), StartTime: now.Add(-time.Minute), EndTime: now.Add(time.Hour), RenewTill: now.Add(time.Hour),
	}
	if r.sid != "" {
		p := makePAC(t, r.key.key, r.client, r.sid, part.AuthTime)
		if r.pac != nil {
			p = r.pac(p)
		}
		part.AuthorizationData = types.AuthorizationData{certificate(t, p)}
	}
	if r.ticket != nil {
		r.ticket(&part)
	}
	plain, err := asn1.Marshal(part)
	if err != nil {
		t.Fatal(err)
	}
	if r.kvno == 0 {
		r.kvno = int(r.key.kvno)
	}
	sealed, err := crypto.GetEncryptedData(asn1tools.AddASNAppTag(plain, asnAppTag.EncTicketPart), r.key.key, keyusage.KDC_REP_TICKET, max(r.kvno, 0))
	if err != nil {
		t.Fatal(err)
	}
	i := &Initiator{key: keyEntry{realm: r.home}, cname: cname, now: func() time.Time { return now.Add(-r.ago) }}
	k := ticket{key: session, Ticket: messages.Ticket{TktVNO: 5, Realm: r.realm, SName: types.PrincipalName{NameType: nametype.KRB_NT_SRV_HST, NameString: strings.Split(r.service, "/")}, EncPart: sealed}}
	x, err := i.begin(k, r.wants, r.binding)
	if err != nil {
		t.Fatal(err)
	}
	if r.auth != nil {
		r.auth(&x.auth)
		if err := x.seal(k.Ticket, r.wants); err != nil {
			t.Fatal(err)
		}
	}
	if r.token != nil {
		x.Token = rewrite(t, x.Token, r.token)
	}
	return x
}

// rewrite changes what is not encrypted.
func rewrite(t testing.TB, token []byte, change func(*messages.APReq)) []byte {
	t.Helper()
	_, body, err := unframe(token)
	if err != nil {
		t.Fatal(err)
	}
	var req messages.APReq
	if err := req.Unmarshal(body); err != nil {
		t.Fatal(err)
	}
	change(&req)
	if body, err = req.Marshal(); err != nil {
		t.Fatal(err)
	}
	return frame(tokenAPReq, body)
}

// certificate wraps a PAC as a KDC does.
func certificate(t testing.TB, pac []byte) types.AuthorizationDataEntry {
	t.Helper()
	b, err := asn1.Marshal(types.AuthorizationData{{ADType: adtype.ADWin2KPAC, ADData: pac}})
	if err != nil {
		t.Fatal(err)
	}
	return types.AuthorizationDataEntry{ADType: adtype.ADIfRelevant, ADData: b}
}

func acceptor(t testing.TB, entries ...keyEntry) *Acceptor {
	t.Helper()
	a := &Acceptor{}
	if err := a.SetKeys(keytabOf(entries...)); err != nil {
		t.Fatal(err)
	}
	return a
}

var imapDoor = Door{Service: "imap"}

// sha2 is a key of our account of RFC 8009.
func sha2(etype int32) keyEntry {
	e := mailKey()
	e.key = types.EncryptionKey{KeyType: etype, KeyValue: bytes.Repeat([]byte{7}, keySizes[etype])}
	return e
}

// TestAccept: client and server have the same context afterwards, with all that a
// client may choose, and the acceptor knows whose it is.
func TestAccept(t *testing.T) {
	t.Parallel()
	account := mailKey()
	account.components = []string{"MAIL$"}
	old := mailKey()
	old.kvno, old.key.KeyValue = 6, bytes.Repeat([]byte{9}, 32)
	small := mailKey()
	small.key = types.EncryptionKey{KeyType: 17, KeyValue: bytes.Repeat([]byte{8}, 16)}
	tests := []struct {
		name   string
		keys   []keyEntry
		change func(*issue)
	}{
		{"as it should be", []keyEntry{mailKey()}, func(*issue) {}},
		{"AES128", []keyEntry{mailKey(), small}, func(r *issue) { r.key = small }},
		{"AES256 with SHA-2", []keyEntry{mailKey(), sha2(20)}, func(r *issue) { r.key = sha2(20) }},
		{"AES128 with SHA-2", []keyEntry{mailKey(), sha2(19)}, func(r *issue) { r.key = sha2(19) }},
		{"the client wants no proof", []keyEntry{mailKey()}, func(r *issue) { r.wants = 0x30 }},
		{"no key of the client's", []keyEntry{mailKey()}, func(r *issue) { r.wants, r.auth = 0, func(a *types.Authenticator) { a.SubKey = types.EncryptionKey{} } }},
		{"an old key", []keyEntry{mailKey(), old}, func(r *issue) { r.key = old }},
		{"no number", []keyEntry{old, mailKey()}, func(r *issue) { r.kvno = -1 }},
		{"the number of a read-only controller", []keyEntry{old, mailKey()}, func(r *issue) { r.kvno = 7 | 5<<16 }},
		{"a wrong number in the keytab", []keyEntry{old, mailKey()}, func(r *issue) { r.kvno = 3 }},
		{"the account's own entry", []keyEntry{account}, func(*issue) {}},
		{"a name that many hosts share", []keyEntry{mailKey()}, func(r *issue) { r.service = "imap/mail.example.com" }},
		{"names in another case", []keyEntry{mailKey()}, func(r *issue) { r.service, r.realm = "IMAP/MAIL.CORP.EXAMPLE", "corp.example" }},
		{"a ticket that is delegated", []keyEntry{mailKey()}, func(r *issue) {
			r.auth = func(a *types.Authenticator) {
				a.Cksum.Checksum[20] |= 1
				a.Cksum.Checksum = append(a.Cksum.Checksum, 1, 0, 2, 0, 'x', 'y')
			}
		}},
		{"no certificate", []keyEntry{mailKey()}, func(r *issue) { r.sid = "" }},
		{"another realm", []keyEntry{mailKey()}, func(r *issue) { r.home = "OTHER.EXAMPLE" }},
		{"clock a little ahead", []keyEntry{mailKey()}, func(r *issue) { r.ago = -4 * time.Minute }},
		{"a token of 30 KiB", []keyEntry{mailKey()}, func(r *issue) {
			r.ticket = func(p *messages.EncTicketPart) {
				p.AuthorizationData = append(p.AuthorizationData, types.AuthorizationDataEntry{ADType: 99, ADData: make([]byte, 30<<10)})
			}
		}},
	}
	for _, tt := range tests {
		r := newIssue()
		tt.change(&r)
		x := r.make(t)
		got, err := acceptor(t, tt.keys...).Accept(x.Token, imapDoor)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if p := got.Peer; p.Principal != r.client || p.Realm != r.home || p.Home != "CORP.EXAMPLE" || p.SID != r.sid || p.Service != r.service || p.Bound || p.Unchecked {
			t.Errorf("%s: %+v", tt.name, p)
		}
		client, err := finish(x, got.Reply)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		talk(t, tt.name, client, got.Context)
	}
}

// finish is the client's end of the context.
func finish(x *Exchange, reply []byte) (*Context, error) {
	if reply != nil {
		return x.Complete(reply)
	}
	key := x.auth.SubKey
	if key.KeyType == 0 {
		key = x.session
	}
	return newContext(key, false, uint64(x.auth.SeqNumber), uint64(x.auth.SeqNumber))
}

// talk sends a message each way.
func talk(t *testing.T, name string, client, server *Context) {
	t.Helper()
	for _, side := range [][2]*Context{{server, client}, {client, server}} {
		for range 2 {
			token, err := side[0].Sign([]byte("offer"))
			if err != nil {
				t.Fatal(err)
			}
			if p, _, err := side[1].Open(token); err != nil || string(p) != "offer" {
				t.Errorf("%s: %q, %v", name, p, err)
			}
		}
	}
}

// TestAcceptRefuses: each thing that can be wrong with a token has its own word, and
// says what to do.
func TestAcceptRefuses(t *testing.T) {
	t.Parallel()
	web := mailKey()
	web.components, web.key.KeyValue = []string{"HTTP", "mail.corp.example"}, bytes.Repeat([]byte{4}, 32)
	keys := []keyEntry{mailKey(), web}
	tests := []struct {
		name   string
		change func(*issue)
		door   Door
		flaw   Flaw
		want   string // part of the error
	}{
		{"another service", func(r *issue) { r.service = "smtp/mail.corp.example" }, imapDoor, FlawService, "ticket is for smtp/mail.corp.example, and this is the service imap"},
		{"another service, renamed", func(r *issue) { r.key = web }, imapDoor, FlawKey, "is the name another account's"},
		{"no service", func(r *issue) { r.service = "imap" }, imapDoor, FlawService, ""},
		{"a ticket-granting ticket", func(r *issue) { r.service = "krbtgt/CORP.EXAMPLE" }, imapDoor, FlawService, ""},
		{"another realm", func(r *issue) { r.realm = "OTHER.EXAMPLE" }, imapDoor, FlawRealm, "ticket is of realm OTHER.EXAMPLE, and our keys are of CORP.EXAMPLE"},
		{"a key that is gone", func(r *issue) { r.key.kvno, r.key.key.KeyValue = 5, bytes.Repeat([]byte{6}, 32) }, imapDoor, FlawKey, "key number 5, which the keytab does not have"},
		{"RC4", func(r *issue) {
			r.token = func(q *messages.APReq) { q.Ticket.EncPart.EType = 23 }
		}, imapDoor, FlawEtype, "encryption type 23"},
		{"a type that the keytab does not have", func(r *issue) { r.token = func(q *messages.APReq) { q.Ticket.EncPart.EType = 20 } }, imapDoor, FlawKey, "no key of encryption type 20"},
		{"session key of RC4", func(r *issue) {
			r.ticket = func(p *messages.EncTicketPart) {
				p.Key = types.EncryptionKey{KeyType: 23, KeyValue: make([]byte, 16)}
			}
		}, imapDoor, FlawEtype, "session key"},
		{"the client wants RC4", func(r *issue) {
			r.auth = func(a *types.Authenticator) {
				a.SubKey = types.EncryptionKey{KeyType: 23, KeyValue: make([]byte, 16)}
			}
		}, imapDoor, FlawEtype, "chose a key"},
		{"an hour behind", func(r *issue) { r.ago = time.Hour }, imapDoor, FlawSkew, "is 1h0m0s behind that of this host, and at most 5m0s are allowed"},
		{"an hour ahead", func(r *issue) { r.ago = -time.Hour }, imapDoor, FlawSkew, "is 1h0m0s ahead of that of this host"},
		{"ended", func(r *issue) {
			r.ticket = func(p *messages.EncTicketPart) { p.EndTime = p.AuthTime.Add(-9 * time.Minute) }
		}, imapDoor, FlawTime, "has ended 10m0s ago"},
		{"not begun", func(r *issue) {
			r.ticket = func(p *messages.EncTicketPart) { p.StartTime = p.AuthTime.Add(time.Hour) }
		}, imapDoor, FlawTime, "begins in"},
		{"not begun, without a beginning", func(r *issue) {
			r.sid = ""
			r.ticket = func(p *messages.EncTicketPart) {
				p.StartTime, p.AuthTime = time.Time{}, p.AuthTime.Add(time.Hour)
			}
		}, imapDoor, FlawTime, "begins in"},
		{"postdated", func(r *issue) {
			r.ticket = func(p *messages.EncTicketPart) { types.SetFlag(&p.Flags, flags.Invalid) }
		}, imapDoor, FlawTime, "not valid yet"},
		{"sent as somebody else", func(r *issue) { r.auth = func(a *types.Authenticator) { a.CName.NameString = []string{"bob"} } }, imapDoor, FlawForged, "ticket of alice@CORP.EXAMPLE is sent as bob@CORP.EXAMPLE"},
		{"sent as from another realm", func(r *issue) { r.auth = func(a *types.Authenticator) { a.CRealm = "OTHER.EXAMPLE" } }, imapDoor, FlawForged, "is sent as alice@OTHER.EXAMPLE"},
		{"who has stolen the ticket", func(r *issue) {
			r.token = func(q *messages.APReq) {
				q.EncryptedAuthenticator.Cipher = bytes.Repeat([]byte{1}, len(q.EncryptedAuthenticator.Cipher))
			}
		}, imapDoor, FlawForged, "authenticator"},
		{"a short authenticator", func(r *issue) {
			r.token = func(q *messages.APReq) { q.EncryptedAuthenticator.Cipher = []byte{1} }
		}, imapDoor, FlawForged, ""},
		{"a short ticket", func(r *issue) { r.token = func(q *messages.APReq) { q.Ticket.EncPart.Cipher = nil } }, imapDoor, FlawKey, ""},
		{"no checksum", func(r *issue) { r.auth = func(a *types.Authenticator) { a.Cksum = types.Checksum{} } }, imapDoor, FlawMalformed, "checksum"},
		{"half a checksum", func(r *issue) { r.auth = func(a *types.Authenticator) { a.Cksum.Checksum = a.Cksum.Checksum[:20] } }, imapDoor, FlawMalformed, "checksum"},
		{"three tokens", func(r *issue) { r.wants |= flagDCE }, imapDoor, FlawMalformed, "three tokens"},
		{"person to person", func(r *issue) {
			r.token = func(q *messages.APReq) { types.SetFlag(&q.APOptions, flags.APOptionUseSessionKey) }
		}, imapDoor, FlawMalformed, "not for a service"},
		{"a certificate of a stranger", func(r *issue) {
			r.pac = func(b []byte) []byte { return swapSID(t, b) }
		}, imapDoor, FlawForged, "not signed with our key"},
		{"a certificate of another ticket", func(r *issue) {
			r.ticket = func(p *messages.EncTicketPart) { p.AuthTime = p.AuthTime.Add(-time.Minute) }
		}, imapDoor, FlawForged, "that of another ticket"},
		{"no certificate at all", func(r *issue) { r.pac = func([]byte) []byte { return []byte("certificate") } }, imapDoor, FlawForged, "damaged"},
		{"bound to another connection", func(r *issue) { r.binding = []byte("tls-server-end-point:other") }, Door{Service: "imap", Bindings: [][]byte{[]byte("tls-server-end-point:ours")}}, FlawBinding, "another TLS connection"},
		{"bound to nothing", func(*issue) {}, Door{Service: "imap", Bindings: [][]byte{[]byte("tls-server-end-point:ours")}, RequireBinding: true}, FlawBinding, "require_channel_binding"},
		{"bound to what we do not know", func(r *issue) { r.binding = []byte("tls-server-end-point:ours") }, Door{Service: "imap", RequireBinding: true}, FlawBinding, ""},
	}
	for _, tt := range tests {
		r := newIssue()
		tt.change(&r)
		a := acceptor(t, keys...)
		a.clock = func() time.Time { return r.now }
		_, err := a.Accept(r.make(t).Token, tt.door)
		e, ok := errors.AsType[*TokenError](err)
		if !ok || e.Flaw != tt.flaw || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s: %s", tt.name, err, tt.flaw, tt.want)
		}
		if ok && e.Flaw == FlawSkew && (e.Skew.Abs()-time.Hour).Abs() > time.Minute {
			t.Errorf("%s: skew %v", tt.name, e.Skew)
		}
	}
	if _, err := new(Acceptor).Accept(newIssue().make(t).Token, imapDoor); err == nil {
		t.Error("accepted without a key")
	}
}

// TestReplay: a token is good once, whatever is changed around what is encrypted, and
// for as long as its time is good.
func TestReplay(t *testing.T) {
	t.Parallel()
	r := newIssue()
	r.ago = -4 * time.Minute
	now := r.now
	a := acceptor(t, mailKey())
	a.clock = func() time.Time { return now }
	token := r.make(t).Token
	if _, err := a.Accept(token, imapDoor); err != nil {
		t.Fatal(err)
	}
	seen := func(token []byte) bool {
		_, err := a.Accept(token, imapDoor)
		e, ok := errors.AsType[*TokenError](err)
		return ok && e.Flaw == FlawReplay
	}
	again := rewrite(t, token, func(q *messages.APReq) { q.Ticket.EncPart.KVNO, q.EncryptedAuthenticator.KVNO = 9, 4 })
	if bytes.Equal(token, again) {
		t.Fatal("nothing was changed")
	}
	for range 8 {
		if !seen(token) || !seen(again) {
			t.Fatalf("taken twice, %v later", now.Sub(r.now))
		}
		now = now.Add(time.Minute)
		fresh := newIssue()
		fresh.now = now.UTC().Truncate(time.Second)
		if _, err := a.Accept(fresh.make(t).Token, imapDoor); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReplaysAreBounded: the memory has an end, and what is in it is kept for as long
// as it must.
func TestReplaysAreBounded(t *testing.T) {
	t.Parallel()
	var r replays
	now := time.Now()
	var b [32]byte
	for n := range 3 * maxReplays {
		binary.BigEndian.PutUint64(b[:], uint64(n))
		if !r.add(b, now) {
			t.Fatal("known")
		}
	}
	if n := len(r.now) + len(r.older); n > 2*maxReplays {
		t.Errorf("%d are kept", n)
	}
	if r.add(b, now.Add(2*maxSkew)) {
		t.Error("forgotten too early")
	}
	if !r.add(b, now.Add(9*maxSkew)) || len(r.older) != 0 {
		t.Error("kept for ever")
	}
}

// TestBinding: what Windows and MIT send of a channel is compared with what ours is.
func TestBinding(t *testing.T) {
	t.Parallel()
	ours := [][]byte{[]byte("tls-server-end-point:old"), []byte("tls-server-end-point:new"), []byte("tls-exporter:x")}
	for _, tt := range []struct {
		name    string
		binding []byte
		door    Door
		bound   bool
	}{
		{"bound", ours[1], Door{Service: "imap", Bindings: ours, RequireBinding: true}, true},
		{"bound by the exporter", ours[2], Door{Service: "imap", Bindings: ours}, true},
		{"not bound", nil, Door{Service: "imap", Bindings: ours}, false},
		{"bound, and ours is not known", ours[0], Door{Service: "imap"}, false},
	} {
		r := newIssue()
		r.binding = tt.binding
		got, err := acceptor(t, mailKey()).Accept(r.make(t).Token, tt.door)
		if err != nil || got.Peer.Bound != tt.bound {
			t.Errorf("%s: %+v, %v", tt.name, got, err)
		}
	}
	if ChannelBindings(nil, nil) != nil || ChannelBindings(&tls.ConnectionState{}, nil) != nil {
		t.Error("a binding to no connection")
	}
	cert := &x509.Certificate{Raw: []byte("certificate"), SignatureAlgorithm: x509.ECDSAWithSHA384}
	if b := EndPoint(cert); len(b) != len("tls-server-end-point:")+48 {
		t.Errorf("%q", b)
	}
	if EndPoint(&x509.Certificate{SignatureAlgorithm: x509.PureEd25519}) != nil {
		t.Error("an end point without a hash")
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client, server := handshake(t, version)
		theirs := ChannelBindings(client, client.PeerCertificates[0])
		ours := ChannelBindings(server, client.PeerCertificates[0])
		if len(theirs) < 2 || !bytes.HasPrefix(theirs[1], []byte("tls-exporter:")) {
			t.Errorf("%x: %q", version, theirs)
		}
		for _, b := range theirs {
			if !slices.ContainsFunc(ours, func(o []byte) bool { return bytes.Equal(o, b) }) {
				t.Errorf("%x: %q is not among ours", version, b)
			}
		}
	}
}

// handshake returns both ends of a TLS connection.
func handshake(t *testing.T, version uint16) (client, server *tls.ConnectionState) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { server = r.TLS }))
	s.StartTLS()
	defer s.Close()
	c := s.Client()
	c.Transport.(*http.Transport).TLSClientConfig.MaxVersion = version
	resp, err := c.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.TLS, server
}

// TestKeysOfServices: what may be offered follows from the keys.
func TestKeysOfServices(t *testing.T) {
	t.Parallel()
	a := &Acceptor{}
	if a.Has("imap") {
		t.Error("a key from nowhere")
	}
	weak := entryOf("pop/mail.corp.example", 1, 23, 16)
	if err := a.SetKeys(keytabOf(mailKey(), weak)); err != nil || !a.Has("IMAP") || a.Has("smtp") || a.Has("pop") {
		t.Errorf("%v", err)
	}
	if err := a.SetKeys([]byte("no keytab")); err == nil || !a.Has("imap") {
		t.Error("a bad keytab has taken the place of a good one")
	}
	if err := a.SetKeys(); err != nil || a.Has("imap") {
		t.Errorf("a key stays: %v", err)
	}
}

// BenchmarkAccept is a login by Kerberos as far as cryptography goes: ticket with a
// certificate, proof for the client, and the two messages of RFC 4752.
func BenchmarkAccept(b *testing.B) {
	r := newIssue()
	a := acceptor(b, mailKey())
	tokens := make([]*Exchange, b.N)
	for i := range tokens {
		tokens[i] = r.make(b)
	}
	b.ResetTimer()
	for _, x := range tokens {
		got, err := a.Accept(x.Token, imapDoor)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := got.Context.Sign([]byte{1, 0, 0, 0}); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzAccept: no token breaks the reader, and none is taken but the one that was
// made, once.
func FuzzAccept(f *testing.F) {
	x := newIssue().make(f)
	f.Add(x.Token)
	f.Add(x.Token[:len(x.Token)/2])
	f.Add(frame(tokenAPReq, nil))
	f.Add(frame(tokenAPRep, []byte{1}))
	f.Add(rewrite(f, x.Token, func(q *messages.APReq) { q.Ticket.SName.NameString = nil }))
	f.Add(rewrite(f, x.Token, func(q *messages.APReq) { q.APOptions = asn1.BitString{} }))
	f.Add(negotiation(kerberos, x.Token))
	f.Add(negotiation(ntlm, []byte("NTLMSSP\x00")))
	a := acceptor(f, mailKey())
	a.clock = func() time.Time { return x.auth.CTime }
	want := slices.Clone(x.Token)
	f.Fuzz(func(t *testing.T, token []byte) {
		// Any token has the same ticket and authenticator in it, or none that opens.
		negotiate := func(token []byte, d Door) (*Accepted, error) {
			x, _, err := a.Negotiate(new(Negotiation), token, d)
			return x, err
		}
		for _, accept := range []func([]byte, Door) (*Accepted, error){a.Accept, negotiate} {
			got, err := accept(token, imapDoor)
			if err == nil && got == nil {
				continue // the client has to go on
			}
			if err != nil {
				if _, ok := errors.AsType[*TokenError](err); !ok {
					t.Errorf("%v", err)
				}
				continue
			}
			if got.Peer.SID != sidOfAlice {
				t.Errorf("%d octets were taken for %d: %+v", len(token), len(want), got.Peer)
			}
		}
	})
}
