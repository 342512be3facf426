package gssapi

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// negotiation writes what a client of SPNEGO begins with: it likes mechanism best,
// and others too.
func negotiation(mechanism, token []byte) []byte {
	var b cryptobyte.Builder
	context := func(n uint8) asn1.Tag { return asn1.Tag(n).Constructed().ContextSpecific() }
	oid := func(b *cryptobyte.Builder, o []byte) {
		b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(o) })
	}
	b.AddASN1(asn1.Tag(0x60), func(b *cryptobyte.Builder) {
		oid(b, spnegoOID)
		b.AddASN1(context(0), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(context(0), func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
						oid(b, mechanism)
						oid(b, kerberos)
						oid(b, ntlm)
					})
				})
				if token != nil {
					b.AddASN1(context(2), func(b *cryptobyte.Builder) { b.AddASN1OctetString(token) })
				}
			})
		})
	})
	return b.BytesOrPanic()
}

// readReply is what a client reads of the answer: the mechanism, and its token.
func readReply(b []byte) (mechanism, token []byte, ok bool) {
	context := func(n uint8) asn1.Tag { return asn1.Tag(n).Constructed().ContextSpecific() }
	s := cryptobyte.String(b)
	var state int
	var part, oid, octets cryptobyte.String
	ok = s.ReadASN1(&s, context(1)) && s.ReadASN1(&s, asn1.SEQUENCE) &&
		s.ReadASN1(&part, context(0)) && part.ReadASN1Enum(&state) && state == 0 &&
		s.ReadASN1(&part, context(1)) && part.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER)
	if ok && !s.Empty() {
		ok = s.ReadASN1(&part, context(2)) && part.ReadASN1(&octets, asn1.OCTET_STRING)
	}
	return oid, octets, ok
}

// TestAcceptNegotiated: browsers wrap their ticket, under either name of Kerberos.
func TestAcceptNegotiated(t *testing.T) {
	t.Parallel()
	for name, mechanism := range map[string][]byte{"Kerberos": kerberos, "Kerberos as Windows calls it": microsoft} {
		for _, wants := range []uint32{contextFlags, 0} {
			r := newIssue()
			r.wants = wants
			x := r.make(t)
			got, err := acceptor(t, mailKey()).AcceptNegotiated(negotiation(mechanism, x.Token), imapDoor)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			oid, token, ok := readReply(got.Reply)
			if !ok || string(oid) != string(mechanism) {
				t.Errorf("%s: answer %x", name, got.Reply)
			}
			client, err := finish(x, token)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			talk(t, name, client, got.Context)
		}
	}
	x := newIssue().make(t)
	if got, err := acceptor(t, mailKey()).AcceptNegotiated(x.Token, imapDoor); err != nil {
		t.Errorf("without negotiation: %v", err)
	} else if _, err := x.Complete(got.Reply); err != nil {
		t.Errorf("without negotiation: %v", err)
	}
	for name, tt := range map[string]struct {
		token []byte
		want  string
	}{
		"NTLM at once":        {[]byte("NTLMSSP\x00\x01\x00\x00\x00"), "no ticket for us"},
		"NTLM":                {negotiation(ntlm, []byte("NTLMSSP\x00")), "no ticket for us"},
		"another mechanism":   {negotiation([]byte{42, 3, 4}, x.Token), "another mechanism"},
		"no token":            {negotiation(kerberos, nil), "no ticket"},
		"nothing":             {nil, "not a token"},
		"nonsense":            {[]byte("hello"), "not a token"},
		"a token of somebody": {negotiation(kerberos, []byte("hello")), "not a GSS-API token"},
		"too long":            {make([]byte, MaxToken+1), "octets"},
	} {
		_, err := acceptor(t, mailKey()).AcceptNegotiated(tt.token, imapDoor)
		e, ok := errors.AsType[*TokenError](err)
		if !ok || e.Flaw != FlawMalformed || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
