package gssapi

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/jcmturner/gokrb5/v8/gssapi"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// listOf is a MechTypeList.
func listOf(mechanisms ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, o := range mechanisms {
			b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(o) })
		}
	})
	return b.BytesOrPanic()
}

// offering writes what a client of SPNEGO begins with.
func offering(list, token []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.Tag(0x60), func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(spnegoOID) })
		b.AddASN1(contextTag(0), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(contextTag(0), func(b *cryptobyte.Builder) { b.AddBytes(list) })
				if token != nil {
					b.AddASN1(contextTag(2), func(b *cryptobyte.Builder) { b.AddASN1OctetString(token) })
				}
			})
		})
	})
	return b.BytesOrPanic()
}

// negotiation is the offer of a client that likes mechanism best, and others too.
func negotiation(mechanism, token []byte) []byte {
	return offering(listOf(mechanism, kerberos, ntlm), token)
}

// said is what a client reads of an answer.
type said struct {
	state                 int
	mechanism, token, mic []byte
}

func readAnswer(t *testing.T, b []byte) said {
	t.Helper()
	s := cryptobyte.String(b)
	var part, oid cryptobyte.String
	var a said
	if !s.ReadASN1(&s, contextTag(1)) || !s.ReadASN1(&s, asn1.SEQUENCE) || !s.ReadASN1(&part, contextTag(0)) || !part.ReadASN1Enum(&a.state) {
		t.Fatalf("answer %x", b)
	}
	if s.PeekASN1Tag(contextTag(1)) {
		if !s.ReadASN1(&part, contextTag(1)) || !part.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) {
			t.Fatalf("answer %x", b)
		}
		a.mechanism = oid
	}
	for i, to := range []*[]byte{&a.token, &a.mic} {
		var octets cryptobyte.String
		if s.PeekASN1Tag(contextTag(uint8(2 + i))) {
			if !s.ReadASN1(&part, contextTag(uint8(2+i))) || !part.ReadASN1(&octets, asn1.OCTET_STRING) {
				t.Fatalf("answer %x", b)
			}
			*to = octets
		}
	}
	if !s.Empty() {
		t.Fatalf("answer %x", b)
	}
	return a
}

// going writes what a client goes on with.
func going(token, mic []byte) []byte {
	b := negotiated(acceptIncomplete, nil, token, mic)
	return b
}

// TestNegotiate: browsers wrap their ticket, under either name of Kerberos.
func TestNegotiate(t *testing.T) {
	t.Parallel()
	for name, mechanism := range map[string][]byte{"Kerberos": kerberos, "Kerberos as Windows calls it": microsoft} {
		for _, wants := range []uint32{contextFlags, 0} {
			r := newIssue()
			r.wants = wants
			x := r.make(t)
			got, reply, err := acceptor(t, mailKey()).Negotiate(new(Negotiation), negotiation(mechanism, x.Token), imapDoor)
			if err != nil || got == nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			a := readAnswer(t, reply)
			if a.state != acceptCompleted || !bytes.Equal(a.mechanism, mechanism) || a.mic != nil {
				t.Errorf("%s: answer %+v", name, a)
			}
			client, err := finish(x, a.token)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			talk(t, name, client, got.Context)
		}
	}
	x := newIssue().make(t)
	if _, reply, err := acceptor(t, mailKey()).Negotiate(new(Negotiation), x.Token, imapDoor); err != nil {
		t.Errorf("without negotiation: %v", err)
	} else if _, err := x.Complete(reply); err != nil {
		t.Errorf("without negotiation: %v", err)
	}
	for name, tt := range map[string]struct {
		token []byte
		want  string
	}{
		"NTLM at once":        {[]byte("NTLMSSP\x00\x01\x00\x00\x00"), "no ticket for us"},
		"NTLM":                {offering(listOf(ntlm), []byte("NTLMSSP\x00")), "no ticket for us"},
		"another mechanism":   {offering(listOf([]byte{42, 3, 4}), x.Token), "does not offer Kerberos"},
		"no mechanism":        {offering(listOf(), x.Token), "does not offer Kerberos"},
		"too many":            {offering(listOf(make([][]byte, maxMechanisms+1)...), nil), "not a token"},
		"nothing":             {nil, "not a token"},
		"nonsense":            {[]byte("hello"), "not a token"},
		"a step out of order": {going(x.Token, nil), "not a token"},
		"a token of somebody": {negotiation(kerberos, []byte("hello")), "not a GSS-API token"},
		"too long":            {make([]byte, MaxToken+1), "octets"},
	} {
		_, _, err := acceptor(t, mailKey()).Negotiate(new(Negotiation), tt.token, imapDoor)
		e, ok := errors.AsType[*TokenError](err)
		if !ok || e.Flaw != FlawMalformed || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// TestNegotiateLater: a client that likes Kerberos best and has not sent a ticket yet
// sends it in a second step (RFC 4178 §4.2.2).
func TestNegotiateLater(t *testing.T) {
	t.Parallel()
	a, n, x := acceptor(t, mailKey()), new(Negotiation), newIssue().make(t)
	for range 2 { // whoever begins anew may
		got, reply, err := a.Negotiate(n, negotiation(microsoft, nil), imapDoor)
		if said := readAnswer(t, reply); err != nil || got != nil || said.state != acceptIncomplete || !bytes.Equal(said.mechanism, microsoft) || said.token != nil {
			t.Fatalf("%+v, %v", said, err)
		}
	}
	got, reply, err := a.Negotiate(n, going(x.Token, nil), imapDoor)
	if err != nil || got == nil {
		t.Fatal(err)
	}
	said := readAnswer(t, reply)
	client, err := finish(x, said.token)
	if err != nil || said.state != acceptCompleted || said.mic != nil {
		t.Fatalf("%+v, %v", said, err)
	}
	talk(t, "later", client, got.Context)
	if _, _, err := a.Negotiate(n, going(newIssue().make(t).Token, nil), imapDoor); err == nil {
		t.Error("a step after the last one")
	}
}

// TestNegotiateChosen: from a client that likes another mechanism better Kerberos is
// taken, and both show that the list is the one that was sent (RFC 4178 §5).
func TestNegotiateChosen(t *testing.T) {
	t.Parallel()
	list := listOf([]byte{42, 3, 4}, ntlm, kerberos)
	for name, tt := range map[string]struct {
		wants uint32
		list  []byte // that the client protects
		early bool   // its proof comes with the ticket
		spoil func(mic []byte) []byte
		want  Flaw
	}{
		"proof afterwards":        {wants: contextFlags, list: list},
		"proof with the ticket":   {wants: 0, list: list, early: true},
		"without mutual, later":   {wants: 0, list: list},
		"another list":            {wants: contextFlags, list: listOf(kerberos), want: FlawForged},
		"another list, early":     {wants: 0, list: listOf(kerberos), early: true, want: FlawForged},
		"no proof":                {wants: contextFlags, list: list, spoil: func([]byte) []byte { return nil }, want: FlawMalformed},
		"a proof that is short":   {wants: contextFlags, list: list, spoil: func(m []byte) []byte { return m[:9] }, want: FlawForged},
		"a proof with one bit":    {wants: contextFlags, list: list, spoil: func(m []byte) []byte { m[len(m)-1] ^= 1; return m }, want: FlawForged},
		"a proof of another time": {wants: contextFlags, list: list, spoil: func(m []byte) []byte { m[15] ^= 1; return m }, want: FlawForged},
	} {
		r := newIssue()
		r.wants = tt.wants
		x := r.make(t)
		a, n := acceptor(t, mailKey()), new(Negotiation)
		_, reply, err := a.Negotiate(n, offering(list, []byte("of the first one")), imapDoor)
		if said := readAnswer(t, reply); err != nil || said.state != requestMIC || !bytes.Equal(said.mechanism, kerberos) {
			t.Fatalf("%s: %+v, %v", name, said, err)
		}
		prove := func(c *Context) []byte {
			mic, err := c.mic(tt.list)
			if err != nil {
				t.Fatal(err)
			}
			if tt.spoil != nil {
				mic = tt.spoil(mic)
			}
			return mic
		}
		var client *Context
		var early []byte
		if tt.early {
			if client, err = finish(x, nil); err != nil {
				t.Fatal(err)
			}
			early = prove(client)
		}
		got, reply, err := a.Negotiate(n, going(x.Token, early), imapDoor)
		if err == nil && !tt.early {
			said := readAnswer(t, reply)
			if got != nil || said.state != acceptIncomplete || said.mic == nil {
				t.Fatalf("%s: %+v", name, said)
			}
			if client, err = finish(x, said.token); err != nil {
				t.Fatal(err)
			}
			checkPeer(t, name, client, said.mic, list)
			if err := client.checkMIC(list, said.mic); err != nil {
				t.Errorf("%s: our proof: %v", name, err)
			}
			got, reply, err = a.Negotiate(n, going(nil, prove(client)), imapDoor)
		}
		flaw, _ := errors.AsType[*TokenError](err)
		switch {
		case tt.want != "":
			if flaw == nil || flaw.Flaw != tt.want || got != nil {
				t.Errorf("%s: %v, want %s", name, err, tt.want)
			}
			continue
		case err != nil || got == nil:
			t.Errorf("%s: %v", name, err)
			continue
		}
		said := readAnswer(t, reply)
		if said.state != acceptCompleted {
			t.Errorf("%s: %+v", name, said)
		}
		if tt.early {
			if err := client.checkMIC(list, said.mic); err != nil {
				t.Errorf("%s: our proof: %v", name, err)
			}
		}
		talk(t, name, client, got.Context)
	}
}

// checkPeer has our proof checked by another implementation of RFC 4121 §4.2.6.1.
func checkPeer(t *testing.T, name string, client *Context, mic, list []byte) {
	t.Helper()
	var theirs gssapi.MICToken
	if err := theirs.Unmarshal(mic, true); err != nil {
		t.Errorf("%s: gokrb5: %v", name, err)
		return
	}
	theirs.Payload = list
	if ok, err := theirs.Verify(client.key, micUsage(true)); !ok || err != nil {
		t.Errorf("%s: gokrb5 says %v, %v", name, ok, err)
	}
}

// FuzzNegotiate: whatever comes, in whatever order, lets nobody in without a ticket.
func FuzzNegotiate(f *testing.F) {
	f.Add(negotiation(kerberos, nil), going([]byte("ticket"), nil))
	f.Add(offering(listOf(ntlm, kerberos), []byte("NTLMSSP\x00")), going(nil, []byte("mic")))
	f.Add([]byte("NTLMSSP\x00"), []byte{0xa1, 0})
	var a Acceptor
	f.Fuzz(func(t *testing.T, first, second []byte) {
		n := new(Negotiation)
		for _, token := range [][]byte{first, second, second} {
			if x, _, err := a.Negotiate(n, token, imapDoor); x != nil || err == nil && len(n.list) == 0 {
				t.Errorf("%x, %x: %v", first, second, err)
			}
		}
	})
}
