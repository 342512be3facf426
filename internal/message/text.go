package message

import (
	"errors"
	"io"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"golang.org/x/text/transform"
)

// Decoded returns a reader of the content of p without its transfer encoding
// (RFC 2045 §6). body is the body of the message that p is part of. Broken
// encoding gives what can be decoded, never an error.
func (p *Part) Decoded(body io.ReaderAt) io.Reader {
	r := io.NewSectionReader(body, p.BodyOffset, p.BodySize)
	switch p.Encoding {
	case "base64":
		return transform.NewReader(r, &base64Decoder{})
	case "quoted-printable":
		return transform.NewReader(r, &quotedPrintableDecoder{})
	}
	return r
}

// TextReader returns a reader of the text of p in UTF-8, HTML without its
// markup. p is a part of type text.
func (p *Part) TextReader(body io.ReaderAt) io.Reader {
	label := p.param("charset")
	r := charsetReader(label, p.Decoded(body))
	if p.Subtype == "html" {
		return newHTMLText(r)
	}
	return r
}

// WriteText writes what SEARCH BODY looks into (RFC 9051 §6.4.4) to w: the
// decoded text of all parts under root, the headers of embedded messages and
// the names of attachments, each on lines of its own. It stops after limit
// octets without an error; errors are those of body and w.
func WriteText(w io.Writer, root *Part, body io.ReaderAt, limit int64) error {
	lw := &limitWriter{w: w, left: limit}
	err := writeText(lw, root, body)
	if errors.Is(err, errLimit) {
		return nil
	}
	return err
}

func writeText(w io.Writer, p *Part, body io.ReaderAt) error {
	if name := p.Filename(); name != "" {
		if _, err := io.WriteString(w, name+"\n"); err != nil {
			return err
		}
	}
	for _, c := range p.Children {
		if err := writeText(w, c, body); err != nil {
			return err
		}
	}
	switch {
	case p.Embedded != nil:
		if err := writeHeaderText(w, p.Embedded.Root, body); err != nil {
			return err
		}
		return writeText(w, p.Embedded.Root, body)
	case p.Type == "text", p.Type == "message":
		if _, err := io.Copy(w, p.TextReader(body)); err != nil {
			return err
		}
		_, err := io.WriteString(w, "\n")
		return err
	}
	return nil
}

// maxHeaderText bounds how much of an embedded header is decoded.
const maxHeaderText = 256 << 10

// writeHeaderText writes the decoded header of the embedded message root.
func writeHeaderText(w io.Writer, root *Part, body io.ReaderAt) error {
	raw := make([]byte, min(root.HeaderSize, maxHeaderText))
	n, err := body.ReadAt(raw, root.HeaderOffset)
	if err != nil && err != io.EOF {
		return err
	}
	return WriteHeaderText(w, ParseHeader(raw[:n]))
}

// WriteHeaderText writes the fields of h, decoded and unfolded, one a line.
func WriteHeaderText(w io.Writer, h Header) error {
	for i, f := range h.fields {
		line := string(h.raw[f.start:f.name]) + ": " + DecodeHeader(string(h.valueAt(i))) + "\n"
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
	}
	return nil
}

var errLimit = errors.New("enough text")

// limitWriter passes left octets on, then fails with errLimit.
type limitWriter struct {
	w    io.Writer
	left int64
}

// Write implements io.Writer.
func (l *limitWriter) Write(p []byte) (int, error) {
	if int64(len(p)) <= l.left {
		l.left -= int64(len(p))
		return l.w.Write(p)
	}
	n, err := l.w.Write(p[:l.left])
	l.left = 0
	if err == nil {
		err = errLimit
	}
	return n, err
}

// base64Decoder decodes base64 as it occurs: octets outside the alphabet are
// dropped (RFC 2045 §6.8), and what follows padding is decoded, too, since
// some programs join encoded pieces.
type base64Decoder struct {
	bits uint32
	n    uint
}

// Reset implements transform.Transformer.
func (d *base64Decoder) Reset() { *d = base64Decoder{} }

// Transform implements transform.Transformer.
func (d *base64Decoder) Transform(dst, src []byte, _ bool) (nDst, nSrc int, err error) {
	for nSrc < len(src) {
		if nDst == len(dst) {
			return nDst, nSrc, transform.ErrShortDst
		}
		c := src[nSrc]
		nSrc++
		if c == '=' {
			d.Reset()
			continue
		}
		v := utf7Value(c)
		if v < 0 {
			continue
		}
		d.bits, d.n = d.bits<<6|uint32(v), d.n+6
		if d.n >= 8 {
			d.n -= 8
			dst[nDst] = byte(d.bits >> d.n)
			nDst++
		}
	}
	return nDst, nSrc, nil
}

// quotedPrintableDecoder decodes quoted-printable as it occurs: an "=" that
// begins nothing stays (RFC 2045 §6.7, note 2).
type quotedPrintableDecoder struct{ transform.NopResetter }

// Transform implements transform.Transformer.
func (d *quotedPrintableDecoder) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	for nSrc < len(src) {
		if nDst == len(dst) {
			return nDst, nSrc, transform.ErrShortDst
		}
		c := src[nSrc]
		if c != '=' {
			dst[nDst] = c
			nDst++
			nSrc++
			continue
		}
		rest := src[nSrc+1:]
		if len(rest) >= 2 && hexValue(rest[0]) >= 0 && hexValue(rest[1]) >= 0 {
			dst[nDst] = byte(hexValue(rest[0])<<4 | hexValue(rest[1]))
			nDst++
			nSrc += 3
			continue
		}
		n, whole := softBreak(rest)
		if !whole && !atEOF && len(rest) < maxSoftBreak {
			return nDst, nSrc, transform.ErrShortSrc
		}
		if n > 0 || len(rest) == 0 {
			nSrc += 1 + n
			continue
		}
		dst[nDst] = '='
		nDst++
		nSrc++
	}
	return nDst, nSrc, nil
}

// maxSoftBreak is the white space, in octets, that may stand in a soft line
// break.
const maxSoftBreak = 80

// softBreak returns the length of the white space and line end that b begins
// with, 0 if that is no line end; whole is false if more octets may change
// the answer.
func softBreak(b []byte) (n int, whole bool) {
	for i, c := range b {
		switch {
		case c == '\n':
			return i + 1, true
		case !isSpace(c):
			return 0, len(b) >= 2 || i > 0 || hexValue(c) < 0
		}
	}
	return 0, false
}

// htmlText reads the text of an HTML document. It uses the tokenizer alone: a
// tree would let nesting cost memory.
type htmlText struct {
	z    *html.Tokenizer
	buf  string
	skip atom.Atom // the element whose text is not shown
	err  error
}

// maxToken bounds one token; a longer one ends the text.
const maxToken = 1 << 20

func newHTMLText(r io.Reader) *htmlText {
	z := html.NewTokenizer(r)
	z.SetMaxBuf(maxToken)
	return &htmlText{z: z}
}

// Read implements io.Reader.
func (h *htmlText) Read(p []byte) (int, error) {
	for h.buf == "" {
		if h.err != nil {
			return 0, h.err
		}
		h.next()
	}
	n := copy(p, h.buf)
	h.buf = h.buf[n:]
	return n, nil
}

// next turns one token into text.
func (h *htmlText) next() {
	switch h.z.Next() {
	case html.ErrorToken:
		h.err = h.z.Err()
		if errors.Is(h.err, html.ErrBufferExceeded) {
			h.err = io.EOF
		}
	case html.TextToken:
		if h.skip == 0 {
			h.buf = string(h.z.Text())
		}
	case html.StartTagToken, html.SelfClosingTagToken:
		name, _ := h.z.TagName()
		switch a := atom.Lookup(name); {
		case a == atom.Script || a == atom.Style:
			h.skip = a
		case !isInline(a):
			h.buf = "\n"
		}
	case html.EndTagToken:
		name, _ := h.z.TagName()
		a := atom.Lookup(name)
		if a == h.skip {
			h.skip = 0
		}
		if !isInline(a) {
			h.buf = "\n"
		}
	}
}

// isInline reports whether text before and after a tag is one word.
func isInline(a atom.Atom) bool {
	switch a {
	case atom.A, atom.B, atom.I, atom.U, atom.S, atom.Em, atom.Strong, atom.Span, atom.Font,
		atom.Small, atom.Big, atom.Sub, atom.Sup, atom.Code, atom.Tt, atom.Mark, atom.Abbr,
		atom.Wbr, atom.Bdi, atom.Bdo, atom.Ins, atom.Del, atom.Kbd, atom.Q, atom.Strike:
		return true
	}
	return false
}

// Filename returns the name of p as an attachment, decoded, "" if it has none.
func (p *Part) Filename() string {
	if name, ok := DecodeParam(p.DispositionParam, "filename"); ok {
		return name
	}
	name, _ := DecodeParam(p.Params, "name")
	return name
}

// DecodeParam returns the value of a parameter in UTF-8: RFC 2231 charsets and
// continuations, and RFC 2047 words, which are wrong there but common. ok is
// false if there is no such parameter.
func DecodeParam(list []Param, name string) (value string, ok bool) {
	if v, ok := extendedParam(list, name); ok {
		return v, true
	}
	for _, a := range list {
		if a.Name == name {
			return DecodeHeader(a.Value), true
		}
	}
	return "", false
}

// extendedParam joins name*, or name*0, name*1*… (RFC 2231 §3, §4).
func extendedParam(list []Param, name string) (string, bool) {
	pieces := make(map[string]string)
	for _, a := range list {
		if rest, ok := strings.CutPrefix(a.Name, name+"*"); ok {
			if _, twice := pieces[rest]; !twice {
				pieces[rest] = a.Value
			}
		}
	}
	if len(pieces) == 0 {
		return "", false
	}
	var charset string
	var octets []byte
	add := func(v string, encoded, first bool) {
		if !encoded {
			octets = append(octets, v...)
			return
		}
		if c := strings.SplitN(v, "'", 3); first && len(c) == 3 {
			charset, v = c[0], c[2]
		}
		octets = append(octets, percentDecode(v)...)
	}
	if v, ok := pieces[""]; ok {
		add(v, true, true)
		return decodeCharset(charset, octets), true
	}
	for i := 0; ; i++ {
		n := string(appendInt(nil, int64(i)))
		if v, ok := pieces[n+"*"]; ok {
			add(v, true, i == 0)
		} else if v, ok := pieces[n]; ok {
			add(v, false, i == 0)
		} else {
			return decodeCharset(charset, octets), i > 0
		}
	}
}

func percentDecode(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && hexValue(s[i+1]) >= 0 && hexValue(s[i+2]) >= 0 {
			out = append(out, byte(hexValue(s[i+1])<<4|hexValue(s[i+2])))
			i += 2
			continue
		}
		out = append(out, s[i])
	}
	return out
}

// percentEncode encodes what may not stand in an extended value (RFC 2231 §7).
func percentEncode(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x80 && len(token([]byte{c})) == 1 && c != '*' && c != '\'' && c != '%' {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte("0123456789ABCDEF"[c>>4])
			b.WriteByte("0123456789ABCDEF"[c&15])
		}
	}
	return b.String()
}
