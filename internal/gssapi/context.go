package gssapi

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/crypto/etype"
	"github.com/jcmturner/gokrb5/v8/iana/chksumtype"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// The flags of a context that we ask for, in the authenticator's checksum (RFC
// 4121 §4.1.1.1). A DC offers the layers that they name.
const contextFlags = 2 /* mutual */ | 4 /* replay */ | 8 /* sequence */ | 16 /* confidentiality */ | 32 /* integrity */

// Types of the tokens that make a context, RFC 4121 §4.1.
const (
	tokenAPReq = 0x0100
	tokenAPRep = 0x0200
)

// krb5OID is 1.2.840.113554.1.2.2 in DER.
var krb5OID = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02}

// Exchange is a context of which the first token was made.
type Exchange struct {
	Token   []byte // for the server
	session types.EncryptionKey
	auth    types.Authenticator
}

// Initiate gets a ticket for a service and makes the first token. The instance is
// the host, and after it perhaps the domain: ldap/HOST/DOMAIN is a name that only
// a domain controller of DOMAIN may have. The KDC's no is a [RefusedError].
func (i *Initiator) Initiate(ctx context.Context, service string, instance ...string) (*Exchange, error) {
	t, err := i.ticket(ctx, service, instance...)
	if err != nil {
		return nil, err
	}
	return i.begin(t, contextFlags, nil)
}

// begin makes the first token with a ticket. binding is what the channel is bound to
// (RFC 5929), nil for nothing.
func (i *Initiator) begin(t ticket, wants uint32, binding []byte) (*Exchange, error) {
	auth, err := types.NewAuthenticator(i.key.realm, i.cname)
	if err != nil {
		return nil, err
	}
	now := i.now().UTC()
	auth.CTime, auth.Cusec = now.Truncate(time.Second), now.Nanosecond()/1000
	if err := auth.GenerateSeqNumberAndSubKey(t.key.KeyType, keySizes[t.key.KeyType]); err != nil {
		return nil, err
	}
	// The checksum is none: it carries the flags, and the channel binding.
	sum := make([]byte, 24)
	binary.LittleEndian.PutUint32(sum, 16)
	if binding != nil {
		copy(sum[4:], bindingHash(binding))
	}
	binary.LittleEndian.PutUint32(sum[20:], wants)
	auth.Cksum = types.Checksum{CksumType: chksumtype.GSSAPI, Checksum: sum}
	x := &Exchange{session: t.key, auth: auth}
	return x, x.seal(t.Ticket, wants)
}

// seal encrypts the authenticator and makes the token.
func (x *Exchange) seal(t messages.Ticket, wants uint32) error {
	req, err := messages.NewAPReq(t, x.session, x.auth)
	if err != nil {
		return err
	}
	if wants&flagMutual != 0 {
		types.SetFlag(&req.APOptions, flags.APOptionMutualRequired)
	}
	b, err := req.Marshal()
	if err != nil {
		return err
	}
	x.Token = frame(tokenAPReq, b)
	return nil
}

// Complete takes the server's answer, which proves that it has the key of the
// service (RFC 4120 §3.2.5), and returns the context.
func (x *Exchange) Complete(token []byte) (*Context, error) {
	id, body, err := unframe(token)
	if err != nil {
		return nil, err
	}
	if id != tokenAPRep {
		var k messages.KRBError
		if k.Unmarshal(body) == nil {
			return nil, fmt.Errorf("server refuses the ticket: %w", k)
		}
		return nil, fmt.Errorf("token of type %04x is not the answer to a ticket", id)
	}
	var rep messages.APRep
	if err := rep.Unmarshal(body); err != nil {
		return nil, fmt.Errorf("answer to the ticket: %w", err)
	}
	plain, err := decrypt(rep.EncPart, x.session, keyusage.AP_REP_ENCPART)
	if err != nil {
		return nil, fmt.Errorf("answer to the ticket: %w", err)
	}
	var part messages.EncAPRepPart
	if err := part.Unmarshal(plain); err != nil {
		return nil, fmt.Errorf("answer to the ticket: %w", err)
	}
	if !part.CTime.Equal(x.auth.CTime) || part.Cusec != x.auth.Cusec {
		return nil, errors.New("answer to the ticket is to another one")
	}
	key, subkeyed := x.auth.SubKey, false
	if part.Subkey.KeyType != 0 {
		key, subkeyed = part.Subkey, true
	}
	// Old libraries wrote the number with a sign; it has 32 bits (RFC 4121
	// §4.2.6.2 extends it with zeros).
	return newContext(key, subkeyed, uint64(x.auth.SeqNumber), uint64(uint32(part.SequenceNumber)))
}

// Context protects the messages between two who have found each other.
type Context struct {
	key      types.EncryptionKey
	etype    etype.EType
	subkeyed bool // key is one that the acceptor chose
	acceptor bool // we are the acceptor
	send     uint64
	receive  uint64
}

// A Side is one of the two who have a context.
type Side bool

// The sides. The initiator is the client.
const (
	InitiatorSide Side = false
	AcceptorSide  Side = true
)

// NewContext returns a context of an AES key of 16 or 32 octets that both have
// by other means than Kerberos, as in tests. Messages are numbered from 0.
func NewContext(key []byte, side Side) (*Context, error) {
	k := types.EncryptionKey{KeyValue: key}
	for _, etype := range aes {
		if keySizes[etype] == len(key) {
			k.KeyType = etype
		}
	}
	c, err := newContext(k, false, 0, 0)
	if err != nil {
		return nil, err
	}
	c.acceptor = bool(side)
	return c, nil
}

func newContext(key types.EncryptionKey, subkeyed bool, send, receive uint64) (*Context, error) {
	if !isUsable(key) {
		return nil, fmt.Errorf("server chose a key of encryption type %d, not AES", key.KeyType)
	}
	e, err := crypto.GetEtype(key.KeyType)
	if err != nil {
		return nil, err
	}
	return &Context{key: key, etype: e, subkeyed: subkeyed, send: send, receive: receive}, nil
}

// The header of a wrap token, RFC 4121 §4.2.6.2: type, flags, filler, extra
// count, right rotation count, sequence number.
const (
	headerSize         = 16
	wrapSentByAcceptor = 1
	wrapSealed         = 2
	wrapAcceptorSubkey = 4
	// Overhead is by how many octets a sealed token is at most longer than its
	// message: two headers, confounder and checksum.
	Overhead = 2*headerSize + 16 + 24
)

// Seal returns the token that carries p encrypted.
func (c *Context) Seal(p []byte) ([]byte, error) {
	h := c.header(wrapSealed)
	_, sealed, err := c.etype.EncryptMessage(c.key.KeyValue, concat(p, h), usage(c.acceptor))
	if err != nil {
		return nil, err
	}
	return concat(h, sealed), nil
}

// Sign returns the token that carries p in clear, with a checksum.
func (c *Context) Sign(p []byte) ([]byte, error) {
	h := c.header(0)
	sum, err := c.etype.GetChecksumHash(c.key.KeyValue, concat(p, h), usage(c.acceptor))
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint16(h[4:], uint16(len(sum)))
	return concat(h, p, sum), nil
}

// header begins the next token.
func (c *Context) header(kind byte) []byte {
	h := make([]byte, headerSize)
	h[0], h[1], h[2], h[3] = 0x05, 0x04, kind, 0xff
	if c.acceptor {
		h[2] |= wrapSentByAcceptor
	}
	if c.subkeyed {
		h[2] |= wrapAcceptorSubkey
	}
	binary.BigEndian.PutUint64(h[8:], c.send)
	c.send++
	return h
}

// Open checks the peer's next token and returns its message, and whether that
// was encrypted. A token that is not the next one is an error: over a stream
// nothing is lost or overtaken, so somebody has taken one out or put one in.
func (c *Context) Open(token []byte) (p []byte, sealed bool, err error) {
	if len(token) < headerSize || token[0] != 0x05 || token[1] != 0x04 || token[3] != 0xff {
		return nil, false, errors.New("not a wrap token")
	}
	h := bytes.Clone(token[:headerSize])
	switch {
	case (h[2]&wrapSentByAcceptor != 0) == c.acceptor:
		return nil, false, errors.New("token is our own, sent back")
	case (h[2]&wrapAcceptorSubkey != 0) != c.subkeyed:
		return nil, false, errors.New("token uses another key")
	case binary.BigEndian.Uint64(h[8:]) != c.receive:
		return nil, false, errors.New("token is out of order")
	}
	extra, rotation := int(binary.BigEndian.Uint16(h[4:])), int(binary.BigEndian.Uint16(h[6:]))
	data := token[headerSize:]
	if n := len(data); n > 0 && rotation%n != 0 {
		// Windows and Samba rotate, so that the checksum stands in front (RFC
		// 4121 §4.2.5).
		data = concat(data[rotation%n:], data[:rotation%n])
	}
	h[6], h[7] = 0, 0
	sealed = h[2]&wrapSealed != 0
	if sealed {
		p, err = c.unseal(h, data, extra)
	} else {
		p, err = c.verify(h, data, extra)
	}
	if err != nil {
		return nil, sealed, err
	}
	c.receive++
	return p, sealed, nil
}

func (c *Context) unseal(h, data []byte, extra int) ([]byte, error) {
	plain, err := decrypt(types.EncryptedData{Cipher: data}, c.key, usage(!c.acceptor))
	if err != nil {
		return nil, err
	}
	end := len(plain) - headerSize - extra
	if end < 0 || !bytes.Equal(plain[len(plain)-headerSize:], h) {
		return nil, errors.New("header within the token differs")
	}
	return plain[:end], nil
}

func (c *Context) verify(h, data []byte, extra int) ([]byte, error) {
	if extra != c.etype.GetHMACBitLength()/8 || extra > len(data) {
		return nil, errors.New("token has no checksum")
	}
	p, sum := data[:len(data)-extra], data[len(data)-extra:]
	h[4], h[5] = 0, 0
	if !c.etype.VerifyChecksum(c.key.KeyValue, concat(p, h), sum, usage(!c.acceptor)) {
		return nil, errors.New("checksum of the token is wrong")
	}
	return p, nil
}

// usage is the key usage number of RFC 4121 §2.
func usage(fromAcceptor bool) uint32 {
	if fromAcceptor {
		return keyusage.GSSAPI_ACCEPTOR_SEAL
	}
	return keyusage.GSSAPI_INITIATOR_SEAL
}

// concat returns all of parts in a new slice.
func concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// frame adds the header of RFC 2743 §3.1.
func frame(id uint16, body []byte) []byte {
	return asn1tools.AddASNAppTag(concat(krb5OID, []byte{byte(id >> 8), byte(id)}, body), 0)
}

// unframe takes it off.
func unframe(b []byte) (id uint16, body []byte, err error) {
	var raw asn1.RawValue
	rest, err := asn1.Unmarshal(b, &raw)
	if err != nil || len(rest) != 0 || raw.Class != asn1.ClassApplication || raw.Tag != 0 {
		return 0, nil, errors.New("not a GSS-API token")
	}
	body, ok := bytes.CutPrefix(raw.Bytes, krb5OID)
	if !ok || len(body) < 2 {
		return 0, nil, errors.New("token of another mechanism than Kerberos")
	}
	return binary.BigEndian.Uint16(body), body[2:], nil
}
