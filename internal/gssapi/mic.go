package gssapi

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
)

// micHeader is the size of the header of a MIC token: type, flags, filler, sequence
// number (RFC 4121 §4.2.6.1).
const micHeader = 16

// mic returns the token that proves that we have seen p, without p in it.
func (c *Context) mic(p []byte) ([]byte, error) {
	h := []byte{0x04, 0x04, 0, 0xff, 0xff, 0xff, 0xff, 0xff}
	if c.acceptor {
		h[2] |= wrapSentByAcceptor
	}
	if c.subkeyed {
		h[2] |= wrapAcceptorSubkey
	}
	h = binary.BigEndian.AppendUint64(h, c.send)
	sum, err := c.etype.GetChecksumHash(c.key.KeyValue, concat(p, h), micUsage(c.acceptor))
	if err != nil {
		return nil, err
	}
	c.send++
	return concat(h, sum), nil
}

// checkMIC checks the peer's next token of that kind.
func (c *Context) checkMIC(p, token []byte) error {
	if len(token) < micHeader || !bytes.Equal(token[:2], []byte{0x04, 0x04}) || !bytes.Equal(token[3:8], bytes.Repeat([]byte{0xff}, 5)) {
		return errors.New("not a MIC token")
	}
	h, sum := token[:micHeader], token[micHeader:]
	switch {
	case (h[2]&wrapSentByAcceptor != 0) == c.acceptor:
		return errors.New("token is our own, sent back")
	case (h[2]&wrapAcceptorSubkey != 0) != c.subkeyed:
		return errors.New("token uses another key")
	case binary.BigEndian.Uint64(h[8:]) != c.receive:
		return errors.New("token is out of order")
	case !c.etype.VerifyChecksum(c.key.KeyValue, concat(p, h), sum, micUsage(!c.acceptor)):
		return errors.New("checksum of the list of mechanisms is wrong")
	}
	c.receive++
	return nil
}

// micUsage is the key usage number of RFC 4121 §2.
func micUsage(fromAcceptor bool) uint32 {
	if fromAcceptor {
		return keyusage.GSSAPI_ACCEPTOR_SIGN
	}
	return keyusage.GSSAPI_INITIATOR_SIGN
}
