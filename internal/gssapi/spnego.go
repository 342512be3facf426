package gssapi

import (
	"bytes"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// The mechanisms of RFC 4178, contents of their OIDs.
var (
	spnegoOID = []byte{0x2b, 0x06, 0x01, 0x05, 0x05, 0x02}                         // 1.3.6.1.5.5.2
	kerberos  = krb5OID[2:]                                                        // 1.2.840.113554.1.2.2
	microsoft = []byte{0x2a, 0x86, 0x48, 0x82, 0xf7, 0x12, 0x01, 0x02, 0x02}       // 1.2.840.48018.1.2.2: as Windows 2000 wrote it, and all Windows since
	ntlm      = []byte{0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0a} // 1.3.6.1.4.1.311.2.2.10
)

// maxMechanisms bounds what a client may offer; Windows offers four.
const maxMechanisms = 32

// errNoTicket is a client that has no ticket for us, and says so by offering
// something else.
var errNoTicket = errors.New("client offers NTLM: it has no ticket for us; is the name of the host in the domain's list of services, and trusted by the browser?")

// AcceptNegotiated judges a token of SPNEGO (RFC 4178), or one of Kerberos without
// it, which some clients send. What the client likes best must be Kerberos, with its
// token: all browsers do so when they have a ticket, and nothing of a negotiation has
// to be kept then. Reply is for the client in any case. Errors are *[TokenError].
func (a *Acceptor) AcceptNegotiated(token []byte, d Door) (*Accepted, error) {
	if len(token) > MaxToken {
		return nil, flaw(FlawMalformed, "token of %d octets", len(token))
	}
	if bytes.HasPrefix(token, []byte("NTLMSSP\x00")) {
		return nil, flaw(FlawMalformed, "%w", errNoTicket)
	}
	mechanism, inner, err := readNegotiation(token)
	if err != nil {
		return nil, flaw(FlawMalformed, "%w", err)
	}
	if mechanism == nil {
		return a.Accept(token, d)
	}
	x, err := a.Accept(inner, d)
	if err != nil {
		return nil, err
	}
	x.Reply = answerNegotiation(mechanism, x.Reply)
	return x, nil
}

// readNegotiation reads a NegTokenInit (RFC 4178 §4.2.1): the mechanism that the
// client likes best, and its token. The mechanism is nil for a token that is none.
func readNegotiation(token []byte) (mechanism, inner []byte, err error) {
	errRead := errors.New("not a token of SPNEGO")
	s := cryptobyte.String(token)
	var all, oid, init cryptobyte.String
	if !s.ReadASN1(&all, asn1.Tag(0x60)) || !s.Empty() || !all.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) {
		return nil, nil, errRead
	}
	if !bytes.Equal(oid, spnegoOID) {
		return nil, nil, nil
	}
	var list, mechs, octets cryptobyte.String
	context := func(n uint8) asn1.Tag { return asn1.Tag(n).Constructed().ContextSpecific() }
	if !all.ReadASN1(&init, context(0)) || !all.Empty() || !init.ReadASN1(&init, asn1.SEQUENCE) ||
		!init.ReadASN1(&list, context(0)) || !list.ReadASN1(&mechs, asn1.SEQUENCE) || !list.Empty() {
		return nil, nil, errRead
	}
	var best cryptobyte.String
	for n := 0; !mechs.Empty(); n++ {
		var m cryptobyte.String
		if n == maxMechanisms || !mechs.ReadASN1(&m, asn1.OBJECT_IDENTIFIER) {
			return nil, nil, errRead
		}
		if n == 0 {
			best = m
		}
	}
	if !init.SkipOptionalASN1(context(1)) { // flags, which nobody protects
		return nil, nil, errRead
	}
	switch {
	case bytes.Equal(best, ntlm):
		return nil, nil, errNoTicket
	case !bytes.Equal(best, kerberos) && !bytes.Equal(best, microsoft):
		return nil, nil, errors.New("client likes another mechanism than Kerberos best")
	case !init.ReadASN1(&octets, context(2)) || !octets.ReadASN1(&octets, asn1.OCTET_STRING):
		return nil, nil, errors.New("client has sent no ticket with its offer")
	}
	return best, octets, nil
}

// answerNegotiation is the NegTokenResp (RFC 4178 §4.2.2) that accepts the mechanism
// which the client likes best: then no checksum over the list is needed (§5).
func answerNegotiation(mechanism, reply []byte) []byte {
	var b cryptobyte.Builder
	context := func(n uint8) asn1.Tag { return asn1.Tag(n).Constructed().ContextSpecific() }
	b.AddASN1(context(1), func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(context(0), func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.ENUM, func(b *cryptobyte.Builder) { b.AddUint8(0) }) // accept-completed
			})
			b.AddASN1(context(1), func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(mechanism) })
			})
			if reply != nil {
				b.AddASN1(context(2), func(b *cryptobyte.Builder) { b.AddASN1OctetString(reply) })
			}
		})
	})
	return b.BytesOrPanic()
}
