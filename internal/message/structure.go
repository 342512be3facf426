package message

import "strconv"

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
	switch len(p.Language) {
	case 0:
		dst = append(dst, " NIL"...)
	case 1:
		dst = append(dst, ' ')
		dst = appendString(dst, p.Language[0])
	default:
		for i, l := range p.Language {
			if i == 0 {
				dst = append(dst, " ("...)
			} else {
				dst = append(dst, ' ')
			}
			dst = appendString(dst, l)
		}
		dst = append(dst, ')')
	}
	dst = append(dst, ' ')
	return appendNString(dst, p.Location)
}

func appendParams(dst []byte, list []Param) []byte {
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

func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }
