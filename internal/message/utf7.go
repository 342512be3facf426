package message

import (
	"encoding/base64"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/transform"
)

// utf7 is the charset UTF-7 (RFC 2152), for reading only. Nobody should write
// it, but mail of old systems does.
type utf7 struct{}

// NewDecoder implements encoding.Encoding.
func (utf7) NewDecoder() *encoding.Decoder { return &encoding.Decoder{Transformer: &utf7Decoder{}} }

// NewEncoder implements encoding.Encoding; it writes UTF-8.
func (utf7) NewEncoder() *encoding.Encoder { return encoding.Nop.NewEncoder() }

// utf7Decoder holds the state within "+…-".
type utf7Decoder struct {
	shifted bool
	empty   bool   // nothing since the "+"
	bits    uint32 // not used yet
	n       uint   // how many
	high    rune   // first half of a surrogate pair
}

// Reset implements transform.Transformer.
func (d *utf7Decoder) Reset() { *d = utf7Decoder{} }

// Transform implements transform.Transformer.
func (d *utf7Decoder) Transform(dst, src []byte, _ bool) (nDst, nSrc int, err error) {
	for nSrc < len(src) {
		if len(dst)-nDst < 2*utf8.UTFMax {
			return nDst, nSrc, transform.ErrShortDst
		}
		c := src[nSrc]
		nSrc++
		if !d.shifted {
			switch {
			case c == '+':
				*d = utf7Decoder{shifted: true, empty: true}
			case c < utf8.RuneSelf:
				dst[nDst] = c
				nDst++
			default:
				nDst += utf8.EncodeRune(dst[nDst:], utf8.RuneError)
			}
			continue
		}
		if v := utf7Value(c); v >= 0 {
			d.empty = false
			d.bits, d.n = d.bits<<6|uint32(v), d.n+6
			if d.n >= 16 {
				d.n -= 16
				nDst += d.unit(dst[nDst:], rune(d.bits>>d.n&0xffff))
			}
			continue
		}
		if d.high != 0 {
			nDst += utf8.EncodeRune(dst[nDst:], utf8.RuneError)
		}
		empty := d.empty
		d.Reset()
		switch {
		case c != '-':
			nSrc-- // the first octet of plain text ends it, too
		case empty:
			dst[nDst] = '+'
			nDst++
		}
	}
	return nDst, nSrc, nil
}

// unit appends a UTF-16 code unit.
func (d *utf7Decoder) unit(dst []byte, u rune) int {
	if d.high != 0 {
		r := utf16.DecodeRune(d.high, u)
		d.high = 0
		n := utf8.EncodeRune(dst, r)
		if r == utf8.RuneError && u < 0xd800 {
			n += utf8.EncodeRune(dst[n:], u)
		}
		return n
	}
	if u >= 0xd800 && u < 0xdc00 {
		d.high = u
		return 0
	}
	return utf8.EncodeRune(dst, u)
}

func utf7Value(c byte) int {
	switch {
	case 'A' <= c && c <= 'Z':
		return int(c - 'A')
	case 'a' <= c && c <= 'z':
		return int(c-'a') + 26
	case '0' <= c && c <= '9':
		return int(c-'0') + 52
	case c == '+':
		return 62
	case c == '/':
		return 63
	}
	return -1
}

// base64Lenient decodes what is left of base64 after everything that is not in
// its alphabet has been dropped (RFC 2045 §6.8); padding ends it.
func base64Lenient(b []byte) []byte {
	clean := make([]byte, 0, len(b))
	for _, c := range b {
		if c == '=' && len(clean)%4 > 1 {
			break
		}
		if utf7Value(c) >= 0 {
			clean = append(clean, c)
		}
	}
	if len(clean)%4 == 1 {
		clean = clean[:len(clean)-1]
	}
	out := make([]byte, base64.RawStdEncoding.DecodedLen(len(clean)))
	n, _ := base64.RawStdEncoding.Decode(out, clean)
	return out[:n]
}
