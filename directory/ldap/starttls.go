package ldap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// maxStartTLS bounds the answer to StartTLS, in octets.
const maxStartTLS = 4096

const (
	tagExtendedRequest  = 0x77
	tagExtendedResponse = 0x78
	tagRequestName      = 0x80
	oidStartTLS         = "1.3.6.1.4.1.1466.20037"
)

// startTLS asks for TLS on a fresh connection (RFC 4511 §4.14), and returns when
// the server has agreed. It is done before the library has the connection: the
// library would keep of what goes wrong nothing but the text, and what a stranger
// puts into the clear behind the answer never becomes part of the session.
func startTLS(ctx context.Context, c net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	request := tlv(tagSequence, tlv(tagInteger, []byte{1}), tlv(tagExtendedRequest, tlv(tagRequestName, []byte(oidStartTLS))))
	if _, err := c.Write(request); err != nil {
		return startTLSError(ctx, err)
	}
	message, err := readMessage(c)
	if err != nil {
		return startTLSError(ctx, err)
	}
	code, text, err := extendedResult(message)
	if err != nil {
		return fmt.Errorf("StartTLS: %w", err)
	}
	if code != ldap.LDAPResultSuccess {
		if len(text) > 200 {
			text = text[:200]
		}
		err := fmt.Errorf("the server refuses StartTLS (%s, %q) and gets no password: give it a certificate, or write ldaps:// into urls", ldap.LDAPResultCodeMap[code], strings.ToValidUTF8(text, "?"))
		if isNoTLS(code) {
			return noTLSError{err}
		}
		return err
	}
	return nil
}

// noTLSError is errNoTLS with what the server said.
type noTLSError struct{ error }

// Is implements what errors.Is asks.
func (noTLSError) Is(target error) bool { return target == errNoTLS }

func startTLSError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("StartTLS: %w", err)
}

// readMessage reads one LDAP message and not an octet more.
func readMessage(r io.Reader) ([]byte, error) {
	head := make([]byte, 2, 6)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := int(head[1])
	if n >= 0x80 {
		octets := n & 0x7f
		if octets == 0 || octets > 4 {
			return nil, errors.New("answer is no LDAP message")
		}
		head = head[:2+octets]
		if _, err := io.ReadFull(r, head[2:]); err != nil {
			return nil, err
		}
		n = 0
		for _, c := range head[2:] {
			n = n<<8 | int(c)
		}
	}
	if head[0] != tagSequence || n < 0 || n > maxStartTLS {
		return nil, errors.New("answer is no LDAP message")
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	return body, nil
}

// extendedResult reads the result of an extended response (RFC 4511 §4.12).
func extendedResult(message []byte) (code uint16, text string, err error) {
	_, rest, ok := readTLV(message, tagInteger)
	response, _, ok2 := readTLV(rest, tagExtendedResponse)
	result, rest, ok3 := readTLV(response, tagEnumerated)
	_, rest, ok4 := readTLV(rest, tagOctets)
	diagnostic, _, ok5 := readTLV(rest, tagOctets)
	if !ok || !ok2 || !ok3 || !ok4 || !ok5 || len(result) == 0 || len(result) > 2 {
		return 0, "", errors.New("answer is no extended response")
	}
	for _, c := range result {
		code = code<<8 | uint16(c)
	}
	return code, string(bytes.TrimRight(diagnostic, "\x00")), nil
}
