package wire

import "bytes"

// maxVerb is longer than any verb of ours.
const maxVerb = 12

// Verb is the first word of a command line in upper case; words that are longer
// than any verb give the zero Verb.
type Verb [maxVerb]byte

// String returns the verb as text.
func (v Verb) String() string { return string(bytes.TrimRight(v[:], "\x00")) }

// VerbOf returns the Verb that s, in upper case, stands for.
func VerbOf(s string) (v Verb) {
	copy(v[:], s)
	return v
}

// Split cuts a command line, without its CRLF, into verb and argument. Verbs are
// not case sensitive (RFC 5321 §2.4). White space around the argument is dropped:
// trailing blanks must be tolerated (RFC 5321 §4.1.1).
func Split(line []byte) (v Verb, arg []byte) {
	line = bytes.TrimRight(line, " \t")
	n := bytes.IndexAny(line, " \t")
	if n < 0 {
		n = len(line)
	}
	if n <= maxVerb {
		for i, c := range line[:n] {
			if 'a' <= c && c <= 'z' {
				c -= 'a' - 'A'
			}
			v[i] = c
		}
	}
	return v, bytes.TrimLeft(line[n:], " \t")
}
