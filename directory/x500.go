package directory

import (
	"encoding/hex"
	"strings"
)

// imceaex begins the local-part in which Exchange puts an address of its own, so
// that it can travel through the Internet: replies to old mail carry it.
const imceaex = "IMCEAEX-"

// decodeIMCEAEX returns the address of Exchange in a local-part such as
// IMCEAEX-_O=EXAMPLE_OU=FIRST+20GROUP_CN=RECIPIENTS_CN=ALICE: "_" is "/", and
// "+" with two hexadecimal digits any other octet ([MS-OXCMAIL] §2.1.3.1.2.1
// calls it encapsulation). False for any other local-part.
func decodeIMCEAEX(local string) (address string, ok bool) {
	if len(local) <= len(imceaex) || !strings.EqualFold(local[:len(imceaex)], imceaex) {
		return "", false
	}
	text := local[len(imceaex):]
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '_':
			b = append(b, '/')
		case '+':
			if i+3 > len(text) {
				return "", false
			}
			raw, err := hex.DecodeString(text[i+1 : i+3])
			if err != nil {
				return "", false
			}
			b = append(b, raw[0])
			i += 2
		default:
			b = append(b, c)
		}
	}
	address = FoldX500(string(b))
	return address, address != ""
}
