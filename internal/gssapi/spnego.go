package gssapi

import (
	"bytes"
	"errors"
	"slices"
	"sync"

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

// The states of a negotiation, as the acceptor tells them (RFC 4178 §4.2.2).
const (
	acceptCompleted  = 0
	acceptIncomplete = 1
	requestMIC       = 3
)

// Negotiation is what an acceptor must know of a client from one message of SPNEGO
// (RFC 4178) to the next. The zero value is one that has not begun. It belongs to a
// connection, whose requests may come at the same time.
type Negotiation struct {
	mu sync.Mutex // guards all below

	expects  expectation
	list     []byte // what the client has offered, in DER
	chosen   bool   // by us: the client likes another mechanism better
	accepted *Accepted
}

// expectation is what the client of a negotiation sends next.
type expectation uint8

const (
	expectsOffer expectation = iota
	expectsTicket
	expectsMIC
)

// Negotiate takes the next token of a client: of SPNEGO, or one of Kerberos without it,
// which some clients send. Nearly all clients like Kerberos best and send its token with
// their offer, so that one message is all. Otherwise Kerberos is chosen from what they
// offer, and where they like another mechanism better both sides show that nobody has
// changed the list (RFC 4178 §5).
//
// The context is nil, and the error too, as long as the client has to go on. reply is for
// the client in any case but that of an error, nil for nothing. Errors are *[TokenError];
// the negotiation then begins anew.
func (a *Acceptor) Negotiate(n *Negotiation, token []byte, d Door) (x *Accepted, reply []byte, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if x, reply, err = a.negotiate(n, token, d); x != nil || err != nil {
		n.expects, n.list, n.accepted = expectsOffer, nil, nil
	}
	return x, reply, err
}

func (a *Acceptor) negotiate(n *Negotiation, token []byte, d Door) (x *Accepted, reply []byte, err error) {
	switch {
	case len(token) > MaxToken:
		return nil, nil, flaw(FlawMalformed, "token of %d octets", len(token))
	case bytes.HasPrefix(token, []byte("NTLMSSP\x00")):
		return nil, nil, flaw(FlawMalformed, "%w", errNoTicket)
	}
	switch {
	case n.expects == expectsTicket && isResponse(token):
		return a.goOn(n, token, d)
	case n.expects == expectsMIC && isResponse(token):
		return n.end(token)
	}
	// Whoever begins anew does.
	n.expects, n.list, n.accepted = expectsOffer, nil, nil
	o, err := readOffer(token)
	if err != nil {
		return nil, nil, flaw(FlawMalformed, "%w", err)
	}
	if o == nil {
		x, err := a.Accept(token, d)
		if err != nil {
			return nil, nil, err
		}
		return x, x.Reply, nil
	}
	if n.chosen = o.choice > 0; n.chosen || o.token == nil {
		n.expects, n.list = expectsTicket, o.list
		state := acceptIncomplete
		if n.chosen {
			state = requestMIC
		}
		return nil, negotiated(state, o.mechanism, nil, nil), nil
	}
	if x, err = a.Accept(o.token, d); err != nil {
		return nil, nil, err
	}
	x.Reply = negotiated(acceptCompleted, o.mechanism, x.Reply, nil)
	return x, x.Reply, nil
}

// goOn takes the ticket of a client that was told to use Kerberos.
func (a *Acceptor) goOn(n *Negotiation, token []byte, d Door) (x *Accepted, reply []byte, err error) {
	inner, mic, err := readResponse(token)
	if err != nil || inner == nil {
		return nil, nil, flaw(FlawMalformed, "client was told to send a ticket: %w", orMissing(err))
	}
	if x, err = a.Accept(inner, d); err != nil {
		return nil, nil, err
	}
	if !n.chosen { // it was the client's own first choice: nothing to protect
		x.Reply = negotiated(acceptCompleted, nil, x.Reply, nil)
		return x, x.Reply, nil
	}
	if mic != nil {
		if err := x.Context.checkMIC(n.list, mic); err != nil {
			return nil, nil, Forged(&x.Peer, err)
		}
	}
	mine, err := x.Context.mic(n.list)
	if err != nil {
		return nil, nil, err
	}
	if mic != nil {
		x.Reply = negotiated(acceptCompleted, nil, x.Reply, mine)
		return x, x.Reply, nil
	}
	n.expects, n.accepted = expectsMIC, x
	return nil, negotiated(acceptIncomplete, nil, x.Reply, mine), nil
}

// end takes the proof of a client that the list is the one that it has sent.
func (n *Negotiation) end(token []byte) (x *Accepted, reply []byte, err error) {
	x = n.accepted
	_, mic, err := readResponse(token)
	if err != nil || mic == nil {
		return nil, nil, flaw(FlawMalformed, "client was told to protect its list of mechanisms: %w", orMissing(err))
	}
	if err := x.Context.checkMIC(n.list, mic); err != nil {
		return nil, nil, Forged(&x.Peer, err)
	}
	x.Reply = negotiated(acceptCompleted, nil, nil, nil)
	return x, x.Reply, nil
}

// orMissing is err, or that something is not there.
func orMissing(err error) error {
	if err == nil {
		return errors.New("it is missing")
	}
	return err
}

// offer is a NegTokenInit (RFC 4178 §4.2.1).
type offer struct {
	list      []byte // MechTypeList, in DER
	choice    int    // which of it we take
	mechanism []byte // that one
	token     []byte // of the first one, nil for none
}

var errNegotiation = errors.New("not a token of SPNEGO")

// contextTag is the tag of a field.
func contextTag(n uint8) asn1.Tag { return asn1.Tag(n).Constructed().ContextSpecific() }

// readOffer reads a NegTokenInit; nil is a token that is none of SPNEGO.
func readOffer(token []byte) (*offer, error) {
	s := cryptobyte.String(token)
	var all, oid, init cryptobyte.String
	if !s.ReadASN1(&all, asn1.Tag(0x60)) || !s.Empty() || !all.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) {
		return nil, errNegotiation
	}
	if !bytes.Equal(oid, spnegoOID) {
		return nil, nil
	}
	var field, list, mechs cryptobyte.String
	if !all.ReadASN1(&init, contextTag(0)) || !all.Empty() || !init.ReadASN1(&init, asn1.SEQUENCE) ||
		!init.ReadASN1(&field, contextTag(0)) || !field.ReadASN1Element(&list, asn1.SEQUENCE) || !field.Empty() {
		return nil, errNegotiation
	}
	o := &offer{list: bytes.Clone(list), choice: -1}
	if !list.ReadASN1(&mechs, asn1.SEQUENCE) {
		return nil, errNegotiation
	}
	noTicket := false
	for n := 0; !mechs.Empty(); n++ {
		var m cryptobyte.String
		if n == maxMechanisms || !mechs.ReadASN1(&m, asn1.OBJECT_IDENTIFIER) {
			return nil, errNegotiation
		}
		if o.choice < 0 && slices.ContainsFunc([][]byte{kerberos, microsoft}, func(k []byte) bool { return bytes.Equal(k, m) }) {
			o.choice, o.mechanism = n, m
		}
		noTicket = noTicket || bytes.Equal(m, ntlm)
	}
	switch {
	case o.choice < 0 && noTicket:
		return nil, errNoTicket
	case o.choice < 0:
		return nil, errors.New("client does not offer Kerberos")
	}
	var has bool
	if !init.SkipOptionalASN1(contextTag(1)) || // flags, which nobody protects
		!init.ReadOptionalASN1(&field, &has, contextTag(2)) {
		return nil, errNegotiation
	}
	if has {
		var octets cryptobyte.String
		if !field.ReadASN1(&octets, asn1.OCTET_STRING) {
			return nil, errNegotiation
		}
		o.token = octets
	}
	return o, nil
}

// isResponse reports whether a token is a NegTokenResp.
func isResponse(token []byte) bool { return len(token) > 0 && token[0] == byte(contextTag(1)) }

// readResponse reads a NegTokenResp of a client (RFC 4178 §4.2.2): the token of the
// mechanism, and the proof that its list was not changed; nil for what is missing.
func readResponse(token []byte) (inner, mic []byte, err error) {
	s := cryptobyte.String(token)
	var all cryptobyte.String
	if !s.ReadASN1(&all, contextTag(1)) || !s.Empty() || !all.ReadASN1(&all, asn1.SEQUENCE) ||
		!all.SkipOptionalASN1(contextTag(0)) || !all.SkipOptionalASN1(contextTag(1)) {
		return nil, nil, errNegotiation
	}
	for _, f := range []struct {
		tag uint8
		to  *[]byte
	}{{2, &inner}, {3, &mic}} {
		var field, octets cryptobyte.String
		var has bool
		if !all.ReadOptionalASN1(&field, &has, contextTag(f.tag)) || has && (!field.ReadASN1(&octets, asn1.OCTET_STRING) || !field.Empty()) {
			return nil, nil, errNegotiation
		}
		if has {
			*f.to = octets
		}
	}
	if !all.Empty() {
		return nil, nil, errNegotiation
	}
	return inner, mic, nil
}

// negotiated is a NegTokenResp (RFC 4178 §4.2.2). What is nil is left out.
func negotiated(state int, mechanism, token, mic []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(contextTag(1), func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(contextTag(0), func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.ENUM, func(b *cryptobyte.Builder) { b.AddUint8(uint8(state)) })
			})
			if mechanism != nil {
				b.AddASN1(contextTag(1), func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(mechanism) })
				})
			}
			for i, octets := range [][]byte{token, mic} {
				if octets != nil {
					b.AddASN1(contextTag(uint8(2+i)), func(b *cryptobyte.Builder) { b.AddASN1OctetString(octets) })
				}
			}
		})
	})
	return b.BytesOrPanic()
}
