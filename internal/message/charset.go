package message

import (
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
	"golang.org/x/text/transform"
)

// charsetOf returns the decoder for a charset label, nil if the label says
// nothing: then the text is UTF-8 or, where it is not, what guessCharset says. known is false for
// labels nobody can name.
func charsetOf(label string) (e encoding.Encoding, known bool) {
	label = strings.ToLower(strings.Trim(label, " \t\"'"))
	if i := strings.IndexByte(label, '*'); i >= 0 {
		label = label[:i] // RFC 2231 §5: a language
	}
	switch label {
	case "", "us-ascii", "ascii", "ansi_x3.4-1968", "default", "unknown-8bit", "x-unknown", "unknown", "binary":
		return nil, true
	case "utf-8", "utf8", "utf-8mb4", "utf8mb4", "utf_8", "x-utf-8":
		return unicode.UTF8, true
	// Mail that says GB2312 is GBK, or GB18030, which holds both.
	case "gb2312", "gb_2312-80", "gbk", "gb18030", "x-gbk", "cp936", "ms936", "windows-936", "euc-cn", "x-euc-cn", "gb2312_charset":
		return simplifiedchinese.GB18030, true
	case "hz", "hz-gb-2312":
		return simplifiedchinese.HZGB2312, true
	case "big5", "big-5", "cp950", "ms950", "windows-950", "x-x-big5", "big5-hkscs", "big5hkscs":
		return traditionalchinese.Big5, true
	case "cp932", "ms932", "windows-31j", "windows-932", "shift-jis", "shift_jis", "sjis", "x-sjis", "ms_kanji":
		return japanese.ShiftJIS, true
	case "iso-2022-jp", "iso-2022-jp-ms", "iso-2022-jp-1", "iso-2022-jp-2", "cp50220", "cp50221", "cp50222", "csiso2022jp":
		return japanese.ISO2022JP, true
	case "euc-jp", "eucjp", "x-euc-jp", "eucjp-ms", "cp51932":
		return japanese.EUCJP, true
	case "cp949", "ms949", "windows-949", "uhc", "euc-kr", "euckr", "ks_c_5601-1987", "ks_c_5601", "ksc5601", "ksc_5601", "iso-ir-149":
		return korean.EUCKR, true
	// What says Latin 1 is windows-1252: the octets 128-159 are no controls.
	case "iso-8859-1", "iso8859-1", "iso_8859-1", "8859_1", "latin1", "latin-1", "iso-8859-1-windows-3.1-latin-1", "cp1252", "windows1252", "ansi":
		return charmap.Windows1252, true
	case "iso-8859-8-i", "iso-8859-8-e":
		return charmap.ISO8859_8, true
	case "cp1250":
		return charmap.Windows1250, true
	case "cp1251", "win-1251", "windows1251":
		return charmap.Windows1251, true
	case "cp874", "tis-620", "tis620", "iso-8859-11":
		return charmap.Windows874, true
	case "utf-16", "utf16":
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM), true
	case "utf-32", "utf32":
		return utf32.UTF32(utf32.BigEndian, utf32.UseBOM), true
	case "utf-32le":
		return utf32.UTF32(utf32.LittleEndian, utf32.IgnoreBOM), true
	case "utf-32be":
		return utf32.UTF32(utf32.BigEndian, utf32.IgnoreBOM), true
	case "utf-7", "utf7", "unicode-1-1-utf-7", "x-unicode-2-0-utf-7", "csunicode11utf7":
		return utf7{}, true
	}
	if e, err := htmlindex.Get(label); err == nil && e != encoding.Replacement {
		return e, true
	}
	if e, err := ianaindex.MIME.Encoding(label); err == nil && e != nil {
		return e, true
	}
	return nil, false
}

// decodeCharset returns b, written in the charset of that label, as UTF-8.
// It never fails: octets that have no meaning become U+FFFD.
func decodeCharset(label string, b []byte) string {
	e, _ := charsetOf(label)
	if (e == nil || e == unicode.UTF8) && utf8.Valid(b) {
		return string(b)
	}
	if e == nil {
		e = guessCharset(b)
	}
	out, err := e.NewDecoder().Bytes(b)
	if err != nil {
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	return string(out)
}

// KnownCharset reports whether text of this charset label can be decoded; for
// SEARCH CHARSET (RFC 9051 §6.4.4) and body tests.
func KnownCharset(label string) bool { _, known := charsetOf(label); return known }

// DecodeCharset returns text written in the charset of that label as UTF-8.
func DecodeCharset(label, text string) string { return decodeCharset(label, []byte(text)) }

// guessCharset says in what b is written when nobody told and it is no UTF-8:
// GB18030 if its high octets come in pairs as Chinese text has them, else
// windows-1252.
func guessCharset(b []byte) encoding.Encoding {
	pairs := 0
	for i := 0; i < len(b); i++ {
		if b[i] < 0x80 {
			continue
		}
		// Rows 16-87 of GB 2312 are the ideographs, rows 1-9 its symbols.
		if i+1 == len(b) || b[i] < 0xA1 || b[i] > 0xF7 || b[i] > 0xA9 && b[i] < 0xB0 || b[i+1] < 0xA1 || b[i+1] == 0xFF {
			return charmap.Windows1252
		}
		pairs++
		i++
	}
	if pairs < 2 {
		return charmap.Windows1252
	}
	return simplifiedchinese.GB18030
}

// charsetReader returns a reader of r in UTF-8.
func charsetReader(label string, r io.Reader) io.Reader {
	e, _ := charsetOf(label)
	if e == nil {
		return &guessReader{r: r}
	}
	return transform.NewReader(r, e.NewDecoder())
}

// guessReader passes UTF-8 on and decides at the first octets that are not
// what the rest is written in.
type guessReader struct {
	r      io.Reader
	buf    []byte // undecoded
	then   io.Reader
	atEnd  error
	passed int // octets of buf known to be UTF-8
}

// guessOn is how many octets guessCharset is shown.
const guessOn = 8 << 10

// Read implements io.Reader.
func (g *guessReader) Read(p []byte) (int, error) {
	for {
		if g.then != nil {
			return g.then.Read(p)
		}
		if g.passed > 0 {
			n := copy(p, g.buf[:g.passed])
			g.buf, g.passed = g.buf[n:], g.passed-n
			return n, nil
		}
		if g.atEnd != nil && len(g.buf) == 0 {
			return 0, g.atEnd
		}
		g.fill()
		n := validPrefix(g.buf)
		rest := g.buf[n:]
		if len(rest) > 0 && (utf8.FullRune(rest) || g.atEnd != nil) && n == 0 {
			g.then = transform.NewReader(io.MultiReader(strings.NewReader(string(g.buf)), &endReader{g.r, g.atEnd}), guessCharset(g.buf).NewDecoder())
			continue
		}
		g.passed = n
	}
}

// endReader is r, unless it is known to have ended with err.
type endReader struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (e *endReader) Read(p []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	return e.r.Read(p)
}

// fill reads until buf has enough to guess on.
func (g *guessReader) fill() {
	buf := make([]byte, guessOn)
	n := copy(buf, g.buf)
	for n < len(buf) && g.atEnd == nil {
		var m int
		m, g.atEnd = g.r.Read(buf[n:])
		n += m
	}
	g.buf = buf[:n]
}

// validPrefix returns the length of the longest prefix of b that is UTF-8.
func validPrefix(b []byte) int {
	if utf8.Valid(b) {
		return len(b)
	}
	n := 0
	for n < len(b) {
		if b[n] < utf8.RuneSelf {
			n++
			continue
		}
		r, size := utf8.DecodeRune(b[n:])
		if r == utf8.RuneError && size == 1 {
			return n
		}
		n += size
	}
	return n
}
