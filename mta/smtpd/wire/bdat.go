package wire

import (
	"strconv"
	"strings"

	"dirpost/internal/envelope"
)

// ParseBDAT parses the argument of BDAT, "size [LAST]" (RFC 3030 §2). After an
// error nobody knows where the chunk ends, so the connection cannot go on.
func ParseBDAT(arg string) (size int64, last bool, err error) {
	number, word, more := strings.Cut(arg, " ")
	if more {
		if last = strings.EqualFold(strings.TrimLeft(word, " "), "LAST"); !last {
			return 0, false, envelope.Because(statusSyntax.WithText("Syntax: BDAT size [LAST]"), nil)
		}
	}
	if !digits(number) || len(number) > 18 {
		return 0, false, envelope.Because(statusSyntax.WithText("Syntax: BDAT size [LAST]"), nil)
	}
	size, err = strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, false, envelope.Because(statusSyntax.WithText("Syntax: BDAT size [LAST]"), err)
	}
	return size, last, nil
}
