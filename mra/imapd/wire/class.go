package wire

// charClass is a set of character classes of RFC 9051 §9.
type charClass uint8

const (
	atomChar    charClass = 1 << iota // ATOM-CHAR
	astringChar                       // ASTRING-CHAR: ATOM-CHAR and "]"
	tagChar                           // ASTRING-CHAR without "+"
	listChar                          // list-wildcards
	digitChar
	nameChar // letters, digits and ".-=": names of data items
)

// charClasses holds the classes of each octet. It is never written after its
// initialisation.
var charClasses = func() (t [256]charClass) {
	for c := byte(0x21); c < 0x7f; c++ {
		switch c {
		case '(', ')', '{', '"', '\\', '*', '%':
		case ']':
			t[c] |= astringChar | tagChar
		case '+':
			t[c] |= atomChar | astringChar
		default:
			t[c] |= atomChar | astringChar | tagChar
		}
		switch {
		case c == '*', c == '%':
			t[c] |= listChar
		case '0' <= c && c <= '9':
			t[c] |= digitChar | nameChar
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '.', c == '-', c == '=':
			t[c] |= nameChar
		}
	}
	return t
}()
