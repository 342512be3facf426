package message

import (
	"slices"
	"strconv"
	"strings"
)

// AppendBodyStructure appends the body structure of p to dst: BODYSTRUCTURE
// if extended, else BODY (RFC 9051 §7.5.2). 8-bit text becomes literals, as in
// Envelope.
func (p *Part) AppendBodyStructure(dst []byte, extended bool) []byte {
	dst = append(dst, '(')
	if p.Type == "multipart" {
		dst = p.appendMultipart(dst, extended)
	} else {
		dst = p.appendLeaf(dst, extended)
	}
	return append(dst, ')')
}

func (p *Part) appendMultipart(dst []byte, extended bool) []byte {
	for _, c := range p.Children {
		dst = c.AppendBodyStructure(dst, extended)
	}
	if len(p.Children) == 0 {
		// The grammar asks for at least one part.
		empty := Part{Type: "text", Subtype: "plain", Encoding: "7bit"}
		dst = empty.AppendBodyStructure(dst, extended)
	}
	dst = append(dst, ' ')
	dst = appendString(dst, p.Subtype)
	if !extended {
		return dst
	}
	dst = append(dst, ' ')
	dst = appendParams(dst, p.Params)
	return p.appendExtension(dst)
}

func (p *Part) appendLeaf(dst []byte, extended bool) []byte {
	dst = appendString(dst, p.Type)
	dst = append(dst, ' ')
	dst = appendString(dst, p.Subtype)
	dst = append(dst, ' ')
	if p.Type == "text" && p.param("charset") == "" {
		// RFC 2045 §5.2: text without charset is us-ascii. Dovecot says so,
		// too; some clients take NIL for a charset of their own.
		dst = appendParams(dst, append([]Param{{"charset", "us-ascii"}}, p.Params...))
	} else {
		dst = appendParams(dst, p.Params)
	}
	dst = append(dst, ' ')
	dst = appendNString(dst, p.ID)
	dst = append(dst, ' ')
	dst = appendNString(dst, p.Description)
	dst = append(dst, ' ')
	dst = appendString(dst, p.Encoding)
	dst = append(dst, ' ')
	dst = appendInt(dst, p.BodySize)
	switch {
	case p.Embedded != nil:
		dst = append(dst, ' ')
		dst = append(dst, p.Embedded.Envelope...)
		dst = append(dst, ' ')
		dst = p.Embedded.Root.AppendBodyStructure(dst, extended)
		dst = append(dst, ' ')
		dst = appendInt(dst, p.BodyLines)
	case p.Type == "text":
		dst = append(dst, ' ')
		dst = appendInt(dst, p.BodyLines)
	}
	if !extended {
		return dst
	}
	dst = append(dst, ' ')
	dst = appendNString(dst, p.MD5)
	return p.appendExtension(dst)
}

// appendExtension appends body-fld-dsp, body-fld-lang and body-fld-loc.
func (p *Part) appendExtension(dst []byte) []byte {
	if p.Disposition == "" {
		dst = append(dst, " NIL"...)
	} else {
		dst = append(dst, " ("...)
		dst = appendString(dst, p.Disposition)
		dst = append(dst, ' ')
		dst = appendParams(dst, p.DispositionParam)
		dst = append(dst, ')')
	}
	if len(p.Language) == 0 {
		dst = append(dst, " NIL"...)
	}
	for i, l := range p.Language {
		if i == 0 {
			dst = append(dst, " ("...)
		} else {
			dst = append(dst, ' ')
		}
		dst = appendString(dst, l)
		if i == len(p.Language)-1 {
			dst = append(dst, ')')
		}
	}
	dst = append(dst, ' ')
	return appendNString(dst, p.Location)
}

func appendParams(dst []byte, list []Param) []byte {
	list = joinParams(list)
	if len(list) == 0 {
		return append(dst, "NIL"...)
	}
	for i, a := range list {
		if i == 0 {
			dst = append(dst, '(')
		} else {
			dst = append(dst, ' ')
		}
		dst = appendString(dst, a.Name)
		dst = append(dst, ' ')
		dst = appendString(dst, a.Value)
	}
	return append(dst, ')')
}

// maxJoin bounds the work of joinParams, which compares names with each other.
const maxJoin = 100

// joinParams joins the pieces of parameters that were cut (RFC 2231 §3), as
// Dovecot does: many clients look for "name" and "name*" only. What is encoded
// stays encoded. A list that no honest program writes is left alone.
func joinParams(list []Param) []Param {
	if len(list) > maxJoin || !slices.ContainsFunc(list, func(a Param) bool { return strings.HasSuffix(a.Name, "*0") || strings.HasSuffix(a.Name, "*0*") }) {
		return list
	}
	joined := make([]Param, 0, len(list))
	for _, a := range list {
		name, piece, cut := strings.Cut(a.Name, "*")
		switch {
		case !cut || piece == "":
			joined = append(joined, a)
		case piece == "0" || piece == "0*":
			if pieces := paramPieces(list, name); !slices.ContainsFunc(joined, func(b Param) bool { return b.Name == name || b.Name == name+"*" }) {
				joined = append(joined, pieces)
			}
		}
	}
	return joined
}

// paramPieces joins name*0, name*1… of list; the result is called name* if any
// of them is encoded.
func paramPieces(list []Param, name string) Param {
	plain, encoded := "", ""
	isEncoded := false
	for i := 0; ; i++ {
		n := name + "*" + strconv.Itoa(i)
		at := slices.IndexFunc(list, func(a Param) bool { return a.Name == n || a.Name == n+"*" })
		switch {
		case at < 0 && isEncoded:
			return Param{name + "*", encoded}
		case at < 0:
			return Param{name, plain}
		case strings.HasSuffix(list[at].Name, "*"):
			isEncoded = true
			encoded += list[at].Value
		default:
			plain += list[at].Value
			encoded += percentEncode(list[at].Value)
		}
	}
}

func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }
