package ldap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"
)

// netlogon is what a domain controller says of itself and of the client that
// asks: NETLOGON_SAM_LOGON_RESPONSE_EX (MS-ADTS §6.3.1.9).
type netlogon struct {
	flags          uint32
	forest, domain string // DNS names
	host           string
	netbios        string // of the domain
	site           string // of the domain controller
	clientSite     string // that the client's address belongs to, "" for none
}

// Flags of netlogon (MS-ADTS §6.3.1.2).
const (
	flagPDC      = 0x001
	flagGC       = 0x004
	flagWritable = 0x100
)

const (
	// maxDatagram bounds an answer, in octets; real ones have about 200.
	maxDatagram = 4096
	// repeatPing is after how long a question is asked again: datagrams get lost.
	repeatPing = 500 * time.Millisecond
)

// ping asks a domain controller of domain over connectionless LDAP (MS-ADTS
// §6.3.3), again and again until ctx is done. It says who is asked, and nothing
// secret.
func ping(ctx context.Context, addr netip.AddrPort, domain string) (netlogon, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", addr.String())
	if err != nil {
		return netlogon{}, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	id := rand.N[int32](1<<30) + 1
	question, buf := netlogonQuestion(id, domain), make([]byte, maxDatagram)
	for ctx.Err() == nil {
		if err := c.SetDeadline(time.Now().Add(repeatPing)); err != nil {
			return netlogon{}, err
		}
		if _, err := c.Write(question); err != nil {
			return netlogon{}, err
		}
		for {
			n, err := c.Read(buf)
			if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
				break
			}
			if err != nil {
				return netlogon{}, err
			}
			// What is no answer to this question is ignored, as in the DNS.
			if answer, err := parseNetlogon(buf[:n], id); err == nil && strings.EqualFold(answer.domain, domain) {
				return answer, nil
			}
		}
	}
	return netlogon{}, fmt.Errorf("no answer to a netlogon ping: %w", context.Cause(ctx))
}

// The tags of BER that CLDAP needs (RFC 4511 §5.1).
const (
	tagBoolean    = 0x01
	tagInteger    = 0x02
	tagOctets     = 0x04
	tagEnumerated = 0x0a
	tagSequence   = 0x30
	tagSet        = 0x31
	tagSearch     = 0x63
	tagEntry      = 0x64
	tagAnd        = 0xa0
	tagEquality   = 0xa3
)

// netlogonQuestion is a search of the root DSE for the attribute netlogon.
func netlogonQuestion(id int32, domain string) []byte {
	equal := func(attribute, value string) []byte {
		return tlv(tagEquality, tlv(tagOctets, []byte(attribute)), tlv(tagOctets, []byte(value)))
	}
	const version = "\x06\x00\x00\x00" // V5 and V5EX
	zero := []byte{0}
	return tlv(tagSequence,
		tlv(tagInteger, binary.BigEndian.AppendUint32(nil, uint32(id))),
		tlv(tagSearch,
			tlv(tagOctets), tlv(tagEnumerated, zero), tlv(tagEnumerated, zero), // root DSE alone, no aliases
			tlv(tagInteger, zero), tlv(tagInteger, zero), tlv(tagBoolean, zero),
			tlv(tagAnd, equal("DnsDomain", domain), equal("NtVer", version)),
			tlv(tagSequence, tlv(tagOctets, []byte("netlogon")))))
}

// tlv writes one element of BER.
func tlv(tag byte, values ...[]byte) []byte {
	n := 0
	for _, v := range values {
		n += len(v)
	}
	out := []byte{tag, byte(n)}
	if n >= 0x80 {
		out = []byte{tag, 0x82, byte(n >> 8), byte(n)}
	}
	for _, v := range values {
		out = append(out, v...)
	}
	return out
}

// readTLV takes one element with a tag from the front of b.
func readTLV(b []byte, tag byte) (value, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != tag {
		return nil, nil, false
	}
	n, head := int(b[1]), 2
	if n >= 0x80 {
		octets := n & 0x7f
		if octets == 0 || octets > 4 || len(b) < 2+octets {
			return nil, nil, false
		}
		n, head = 0, 2+octets
		for _, c := range b[2:head] {
			n = n<<8 | int(c)
		}
	}
	if n < 0 || n > len(b)-head {
		return nil, nil, false
	}
	return b[head : head+n], b[head+n:], true
}

var errNetlogon = errors.New("no answer to a netlogon ping")

// parseNetlogon reads the datagram that answers question id: a search entry with
// one attribute with one value.
func parseNetlogon(b []byte, id int32) (netlogon, error) {
	message, _, ok := readTLV(b, tagSequence)
	number, message, ok2 := readTLV(message, tagInteger)
	if !ok || !ok2 || len(number) == 0 || len(number) > 4 {
		return netlogon{}, errNetlogon
	}
	got := int64(0)
	for _, c := range number {
		got = got<<8 | int64(c)
	}
	if got != int64(id) {
		return netlogon{}, errNetlogon
	}
	value := message
	for _, tag := range []byte{tagEntry, tagOctets, tagSequence, tagSequence, tagOctets, tagSet, tagOctets} {
		v, rest, ok := readTLV(value, tag)
		if !ok {
			return netlogon{}, errNetlogon
		}
		if value = v; tag == tagOctets && len(rest) > 0 { // the DN, then the name of the attribute
			value = rest
		}
	}
	return parseLogonResponse(value)
}

// parseLogonResponse reads the value of the attribute.
func parseLogonResponse(b []byte) (netlogon, error) {
	const response, unknownUser, names = 23, 25, 24
	if len(b) < names {
		return netlogon{}, errNetlogon
	}
	if op := binary.LittleEndian.Uint16(b); op != response && op != unknownUser {
		return netlogon{}, fmt.Errorf("%w: operation %d", errNetlogon, op)
	}
	n := netlogon{flags: binary.LittleEndian.Uint32(b[4:])}
	var server, user string
	at := names
	for _, to := range []*string{&n.forest, &n.domain, &n.host, &n.netbios, &server, &user, &n.site, &n.clientSite} {
		var ok bool
		if *to, at, ok = compressedName(b, at); !ok {
			return netlogon{}, fmt.Errorf("%w: damaged name", errNetlogon)
		}
	}
	return n, nil
}

// maxName bounds a name, in octets (RFC 1035 §2.3.4).
const maxName = 255

// compressedName reads a name as the DNS writes it (RFC 1035 §4.1.4), relative to
// b. Pointers lead backwards, so that there is an end to it.
func compressedName(b []byte, at int) (name string, next int, ok bool) {
	var out []byte
	next = -1
	for {
		if at >= len(b) {
			return "", 0, false
		}
		n := int(b[at])
		switch {
		case n == 0:
			if next < 0 {
				next = at + 1
			}
			return string(out), next, true
		case n >= 0xc0:
			if at+1 >= len(b) {
				return "", 0, false
			}
			to := (n&0x3f)<<8 | int(b[at+1])
			if to >= at {
				return "", 0, false
			}
			if next < 0 {
				next = at + 2
			}
			at = to
		case n > 63 || at+1+n > len(b) || len(out)+1+n > maxName:
			return "", 0, false
		default:
			if len(out) > 0 {
				out = append(out, '.')
			}
			out = append(out, b[at+1:at+1+n]...)
			at += 1 + n
		}
	}
}
