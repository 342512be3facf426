package imapd

import (
	"strings"
	"unicode/utf8"

	"dirpost/mra/imapd/wire"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/ianaindex"
)

// errCharset lists what every client can use (RFC 9051 §6.4.4).
var errCharset = no("BADCHARSET (US-ASCII UTF-8)", "Charset not supported")

// recode turns the texts of a program into UTF-8. Without CHARSET they are
// US-ASCII, but clients send UTF-8 too, and no other reading of it makes sense.
func recode(s *wire.Search) error {
	var enc encoding.Encoding
	switch s.Charset {
	case "", "US-ASCII", "UTF-8":
	default:
		var err error
		if enc, err = ianaindex.MIME.Encoding(s.Charset); err != nil || enc == nil {
			return errCharset
		}
	}
	return recodeKey(&s.Key, enc)
}

func recodeKey(k *wire.SearchKey, enc encoding.Encoding) error {
	for i := range k.Keys {
		if err := recodeKey(&k.Keys[i], enc); err != nil {
			return err
		}
	}
	if enc != nil {
		text, err := enc.NewDecoder().String(k.Text)
		if err != nil {
			return bad("Search text is not in its charset")
		}
		k.Text = text
	}
	if !utf8.ValidString(k.Text) || !utf8.ValidString(k.Field) || strings.IndexByte(k.Text, 0) >= 0 {
		return bad("Search text is not in its charset")
	}
	return nil
}
