package message

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// describe fills in what the fields of h say about p; typ/subtype is what a
// part without Content-Type has here.
func (p *Part) describe(h Header, typ, subtype string) {
	p.Type, p.Subtype, p.Encoding = typ, subtype, "7bit"
	for i, f := range h.fields {
		name := h.raw[f.start:f.name]
		if len(name) < 8 || !equalFoldASCII(name[:8], "content-") {
			continue
		}
		switch intern(name[8:]) {
		case "type":
			p.contentType(h.valueAt(i))
		case "transfer-encoding":
			if e := token(skipCFWS(h.valueAt(i))); len(e) > 0 {
				p.Encoding = intern(e)
			}
		case "id":
			p.ID = string(h.valueAt(i))
		case "description":
			p.Description = string(h.valueAt(i))
		case "md5":
			p.MD5 = string(h.valueAt(i))
		case "disposition":
			v := skipCFWS(h.valueAt(i))
			if d := token(v); len(d) > 0 {
				p.Disposition = intern(d)
				p.DispositionParam = params(v[len(d):])
			}
		case "language":
			p.Language = languages(h.valueAt(i))
		case "location":
			p.Location = string(h.valueAt(i))
		}
	}
}

// contentType takes a Content-Type value. One that cannot be understood is
// text/plain (RFC 2045 §5.2).
func (p *Part) contentType(v []byte) {
	v = skipCFWS(v)
	typ := token(v)
	rest := skipCFWS(v[len(typ):])
	if len(typ) > 0 && len(rest) > 0 && rest[0] == '/' {
		rest = skipCFWS(rest[1:])
		if sub := token(rest); len(sub) > 0 {
			p.Type, p.Subtype, p.Params = intern(typ), intern(sub), params(rest[len(sub):])
			return
		}
	}
	p.Type, p.Subtype, p.Params = "text", "plain", nil
	if len(typ) > 0 && intern(typ) == "text" {
		p.Params = params(rest)
	}
}

// opaque makes p a part whose structure is not looked into.
func (p *Part) opaque() { p.Type, p.Subtype = "application", "octet-stream" }

// param returns the value of a parameter of the content type, as written.
func (p *Part) param(name string) string {
	for _, a := range p.Params {
		if a.Name == name {
			return a.Value
		}
	}
	return ""
}

// token takes a token of RFC 2045 §5.1 from the front of v.
func token(v []byte) []byte {
	for i, c := range v {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
			return v[:i]
		}
	}
	return v
}

// skipCFWS skips white space and comments (RFC 5322 §3.2.2).
func skipCFWS(v []byte) []byte {
	for len(v) > 0 {
		switch {
		case isSpace(v[0]):
			v = v[1:]
		case v[0] == '(':
			v = v[commentLen(v):]
		default:
			return v
		}
	}
	return v
}

// commentLen returns the length of the comment that v begins with. One that
// does not end takes all the rest: looking for its end again and again would
// be quadratic.
func commentLen(v []byte) int {
	depth := 0
	for i := 0; i < len(v); i++ {
		switch v[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		case '\\':
			i++
		}
	}
	return len(v)
}

// params reads parameters: *(";" attribute "=" value), RFC 2045 §5.1. What
// people write is taken too: values with spaces or specials without quotes,
// parameters without semicolon before them or with nothing between two.
func params(v []byte) []Param {
	var list []Param
	for {
		for v = skipCFWS(v); len(v) > 0 && (v[0] == ';' || v[0] == ','); v = skipCFWS(v) {
			v = v[1:]
		}
		name := token(v)
		if len(name) == 0 {
			n := bytes.IndexByte(v, ';')
			if n < 0 {
				return list
			}
			v = v[n:]
			continue
		}
		v = skipCFWS(v[len(name):])
		if len(v) == 0 || v[0] != '=' {
			continue
		}
		v = skipCFWS(v[1:])
		var value string
		value, v = paramValue(v)
		if list == nil {
			list = make([]Param, 0, 2)
		}
		list = append(list, Param{intern(name), value})
	}
}

// paramValue takes a value: a quoted string, or all up to the next semicolon.
func paramValue(v []byte) (string, []byte) {
	if len(v) > 0 && v[0] == '"' {
		if s, n := unquote(v); n > 0 {
			return string(s), v[n:]
		}
		v = v[1:] // no end: up to the semicolon
	}
	n := bytes.IndexByte(v, ';')
	if n < 0 {
		n = len(v)
	}
	value := v[:n]
	for i := 1; i < len(value); i++ {
		if value[i] == '(' && isSpace(value[i-1]) {
			if commentLen(value[i:]) == len(trim(value[i:])) {
				value = value[:i]
			}
			break
		}
	}
	return string(trim(value)), v[n:]
}

// unquote returns the value of the quoted string that v begins with and its
// length, 0 if it does not end (RFC 5322 §3.2.4).
func unquote(v []byte) (value []byte, n int) {
	escaped := false
	for i := 1; i < len(v); i++ {
		switch v[i] {
		case '\\':
			escaped = true
			i++
		case '"':
			if !escaped {
				return v[1:i], i + 1
			}
			value = make([]byte, 0, i)
			for j := 1; j < i; j++ {
				if v[j] == '\\' && j+1 < i {
					j++
				}
				value = append(value, v[j])
			}
			return value, i + 1
		}
	}
	return nil, 0
}

// languages reads a Content-Language (RFC 3282).
func languages(v []byte) []string {
	var list []string
	for v = skipCFWS(v); len(v) > 0; v = skipCFWS(v) {
		t := token(v)
		if len(t) > 0 {
			list = append(list, string(t))
			v = v[len(t):]
		} else {
			v = v[1:]
		}
	}
	return list
}

// intern returns b in lower case, without allocating for what nearly every
// message says.
func intern(b []byte) string {
	var low [32]byte
	if len(b) > len(low) {
		return strings.ToLower(string(b))
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		low[i] = c
	}
	return internExact(low[:len(b)])
}

// internExact returns b as a string, without allocating for the words that
// occur in nearly every message.
func internExact(b []byte) string {
	switch string(b) {
	case "type":
		return "type"
	case "text":
		return "text"
	case "plain":
		return "plain"
	case "html":
		return "html"
	case "multipart":
		return "multipart"
	case "mixed":
		return "mixed"
	case "alternative":
		return "alternative"
	case "related":
		return "related"
	case "signed":
		return "signed"
	case "report":
		return "report"
	case "message":
		return "message"
	case "rfc822":
		return "rfc822"
	case "application":
		return "application"
	case "octet-stream":
		return "octet-stream"
	case "pdf":
		return "pdf"
	case "image":
		return "image"
	case "png":
		return "png"
	case "jpeg":
		return "jpeg"
	case "charset":
		return "charset"
	case "boundary":
		return "boundary"
	case "name":
		return "name"
	case "filename":
		return "filename"
	case "format":
		return "format"
	case "delsp":
		return "delsp"
	case "7bit":
		return "7bit"
	case "8bit":
		return "8bit"
	case "base64":
		return "base64"
	case "quoted-printable":
		return "quoted-printable"
	case "transfer-encoding":
		return "transfer-encoding"
	case "disposition":
		return "disposition"
	case "attachment":
		return "attachment"
	case "inline":
		return "inline"
	case "id":
		return "id"
	case "description":
		return "description"
	case "language":
		return "language"
	case "location":
		return "location"
	case "md5":
		return "md5"
	case "us-ascii":
		return "us-ascii"
	case "utf-8":
		return "utf-8"
	}
	return string(b)
}

// isASCII reports whether all octets are below 128, eight at a time.
func isASCII(p []byte) bool {
	for len(p) >= 32 {
		if (binary.LittleEndian.Uint64(p)|binary.LittleEndian.Uint64(p[8:])|
			binary.LittleEndian.Uint64(p[16:])|binary.LittleEndian.Uint64(p[24:]))&0x8080808080808080 != 0 {
			return false
		}
		p = p[32:]
	}
	for _, c := range p {
		if c >= 0x80 {
			return false
		}
	}
	return true
}
