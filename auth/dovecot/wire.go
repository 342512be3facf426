package dovecot

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxLine bounds a line, without its end: a Kerberos ticket of 12 KiB in base64,
// and room for the rest.
const maxLine = 24 << 10

// errProtocol reports a line that no client sends which means well.
var errProtocol = errors.New("protocol violation")

// kind is the command of a line.
type kind uint8

const (
	kindVersion kind = iota + 1
	kindPID
	kindAuth
	kindCont
	kindCancel
)

// line is what a client has said.
type line struct {
	kind         kind
	major, minor uint32 // kindVersion
	id           uint32 // the request, or of kindPID the process
	auth         start  // kindAuth
	data         []byte // kindCont: the response, never nil
}

// start are the parameters of AUTH.
type start struct {
	mech    string
	service string
	session string     // the client's name for the session of its own client
	client  netip.Addr // of whoever logs in; invalid: not said
	secured bool
	// final says that the last data of the server may come with OK.
	final    bool
	response []byte // nil: no initial response
}

// parse reads a line without its LF. The error is errProtocol, without anything
// of the line: there may be a password in it.
func parse(b []byte) (line, error) {
	name, rest, _ := bytes.Cut(b, []byte{'\t'})
	var l line
	var ok bool
	switch string(name) {
	case "VERSION":
		major, minor, _ := bytes.Cut(rest, []byte{'\t'})
		minor, _, _ = bytes.Cut(minor, []byte{'\t'})
		l.kind = kindVersion
		var okMinor bool
		l.major, ok = number(major)
		l.minor, okMinor = number(minor)
		ok = ok && okMinor
	case "CPID":
		l.kind = kindPID
		l.id, ok = number(rest)
	case "AUTH":
		l.kind = kindAuth
		l.id, l.auth, ok = parseAuth(rest)
	case "CONT":
		id, data, _ := bytes.Cut(rest, []byte{'\t'})
		l.kind = kindCont
		var okData bool
		l.id, ok = number(id)
		l.data, okData = decode(data)
		ok = ok && okData
	case "CANCEL":
		l.kind = kindCancel
		l.id, ok = number(rest)
	}
	if !ok {
		return line{}, fmt.Errorf("%w in %s", errProtocol, printable(name))
	}
	return l, nil
}

// printable is the name of a command for the log.
func printable(name []byte) string {
	const most = 16
	return strconv.QuoteToASCII(string(name[:min(len(name), most)]))
}

func number(b []byte) (uint32, bool) {
	n, err := strconv.ParseUint(string(b), 10, 32)
	return uint32(n), err == nil
}

// parseAuth reads what stands behind AUTH. Parameters that are not known are for
// others. The initial response is the last, and goes to the end of the line: what
// a client's client says can name no parameter behind it.
func parseAuth(b []byte) (id uint32, a start, ok bool) {
	first, rest, found := bytes.Cut(b, []byte{'\t'})
	if id, ok = number(first); !ok || !found {
		return id, a, false
	}
	mech, rest, _ := bytes.Cut(rest, []byte{'\t'})
	a.mech = strings.ToUpper(unescape(mech))
	for len(rest) > 0 {
		if data, isResponse := bytes.CutPrefix(rest, []byte("resp=")); isResponse {
			// Exim says "resp=" where there is none; an empty one is "resp==".
			if len(data) > 0 {
				a.response, ok = decode(data)
			}
			return id, a, ok && a.mech != ""
		}
		var p []byte
		p, rest, _ = bytes.Cut(rest, []byte{'\t'})
		name, value, _ := strings.Cut(unescape(p), "=")
		switch name {
		case "service":
			a.service = strings.ToLower(value)
		case "session":
			a.session = value
		case "rip":
			// One that cannot be read is a client that nobody knows.
			addr, _ := netip.ParseAddr(value)
			a.client = addr.Unmap().WithZone("")
		case "secured":
			a.secured = true
		case "final-resp-ok":
			a.final = true
		}
	}
	return id, a, a.mech != ""
}

// decode reads base64; "" and "=" are empty data (RFC 4954 §4 has "=" for an empty
// initial response, and Postfix passes it on).
func decode(b []byte) ([]byte, bool) {
	if string(b) == "=" {
		return []byte{}, true
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(b)))
	if bytes.ContainsAny(b, "\r\n") { // the decoder would skip them
		return nil, false
	}
	n, err := base64.StdEncoding.Strict().Decode(out, b)
	return out[:n], err == nil
}

// escape makes s one parameter, whatever is in it.
func escape(s string) string { return escaper.Replace(s) }

var escaper = strings.NewReplacer("\x00", "\x010", "\x01", "\x011", "\t", "\x01t", "\r", "\x01r", "\n", "\x01n")

// unescape is the reverse of escape. What is behind a last \001 is missing, and
// nothing stands for it.
func unescape(b []byte) string {
	if bytes.IndexByte(b, 1) < 0 {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != 1 {
			out = append(out, b[i])
			continue
		}
		i++
		if i == len(b) {
			break
		}
		switch b[i] {
		case '0':
			out = append(out, 0)
		case '1':
			out = append(out, 1)
		case 't':
			out = append(out, '\t')
		case 'r':
			out = append(out, '\r')
		case 'n', 'l':
			out = append(out, '\n')
		default:
			out = append(out, b[i])
		}
	}
	return string(out)
}
